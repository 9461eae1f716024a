//! Digests and signatures prove that a list is the publisher's.

use super::scene::{FIRST, SECOND, Scene};
use crate::support::tls::Security;
use crate::support::web::{Web, page, response, send};

/// A public key, and signatures of [`FIRST`]: with it, with another key, and with another key that claims its number.
const KEY: &str = "RWR0YXBpc3RzdIqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";
const SIGNED: &str = "untrusted comment: a
RUR0YXBpc3RzdG1SyoRnp7LVG5NfxMU9qZaYivoOW9ozP+/qKS9RkfHaziD5K9hrPnQ73s2XvrpL+cYPeYsaWrbhT7Z67+Iq+w4=
trusted comment: timestamp:1
nvJhfakgP6eNBNGz90mgEw45Z8BYLDaDnPZWdtaKyDbck/iOL50E2Z1ZQuKKyr8v81YkZxkoDD1Kc5+9bUUYDA==
";
const BY_OTHER: &str = "untrusted comment: a
RURvdGhydGVzdK5GNAyy+tzL1Ra5yyneQb/VycZyzOxsH5POtZ0TIDeXdRCObIwHuxYROq86hFMiT1TO02gp+QIno5gvWgZXLw8=
trusted comment: timestamp:1
6yOml9lHDOkgWQqTmU/Oy/+2CVLATH3ZKs7+bZ5RUwll0hzug/bTpnUPtMIOyc+hXYmVut1YVI6VBPdr1k7tBA==
";
const FORGED: &str = "untrusted comment: a
RUR0YXBpc3RzdK5GNAyy+tzL1Ra5yyneQb/VycZyzOxsH5POtZ0TIDeXdRCObIwHuxYROq86hFMiT1TO02gp+QIno5gvWgZXLw8=
trusted comment: timestamp:1
6yOml9lHDOkgWQqTmU/Oy/+2CVLATH3ZKs7+bZ5RUwll0hzug/bTpnUPtMIOyc+hXYmVut1YVI6VBPdr1k7tBA==
";

fn serve(web: &Web, list: &'static str, signature: Option<&'static str>, at: &'static str) {
    web.play(move |got, stream| {
        let answer = match (got.path == at, signature) {
            (false, _) => page(list),
            (true, Some(signature)) => page(signature),
            (true, None) => response("404 Not Found", &[], b""),
        };
        send(stream, &answer);
    });
}

#[test]
fn a_list_comes_into_force_only_with_a_signature_by_the_configured_key() {
    let keys = format!("minisign = \"{KEY}\"");
    let scene = Scene::begin(Security::web(), page(""), &keys, "");
    let own = "/ads.txt.minisig";
    serve(&scene.web, FIRST, Some(SIGNED), own);
    assert_eq!(
        scene.refresh(),
        (Some(0), "ads: 2 rules in force now\n".to_owned())
    );
    scene.has(FIRST);
    for (list, signature, detail) in [
        (SECOND, None, "/ads.txt.minisig: status 404"),
        (SECOND, Some(SIGNED), "the file was changed"),
        (FIRST, Some(BY_OTHER), "with another key"),
        (FIRST, Some(FORGED), "the file was changed"),
        (FIRST, Some("<html>"), "not one of minisign"),
    ] {
        serve(&scene.web, list, signature, own);
        scene.fails("signature", detail);
    }
}

#[test]
fn a_signature_may_be_at_another_url() {
    let scene = Scene::start("", "");
    let url = scene.web.url("/keys/ads");
    serve(&scene.web, FIRST, Some(SIGNED), "/keys/ads");
    let text = std::fs::read_to_string(scene.server.path("tapis.toml")).expect("read");
    let keys = format!("\nminisign = \"{KEY}\"\nminisign-url = \"{url}\"\n");
    scene.server.replace("tapis.toml", &(text + &keys));
    assert!(scene.server.verb(&["reload"]).status.success());
    scene.has(FIRST);
    assert_eq!(scene.refresh().0, Some(0));
    let got = scene.web.got();
    assert!(got.iter().any(|got| got.path == "/keys/ads"));
}

#[test]
fn a_pinned_list_accepts_one_file() {
    let digest = "FC0B76B91C62E2E67B65165523E554EA67E88202E05A16B463EFC156BBC3CF15";
    let scene = Scene::start(&format!("sha256 = \"{digest}\""), "");
    scene.web.serve(page(SECOND));
    scene.fails("digest", "it has ");
}
