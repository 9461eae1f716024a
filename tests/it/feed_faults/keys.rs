//! Signatures that are wrong or late, and secrets that can't be used.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tapis::control::sources::feeds::fault::Fault;
use tapis::wire::rtype;

use super::scene::{Scene, versions};
use crate::feeds::{ZONE, blocks, config, feed, refresh};
use crate::support::client::until;
use crate::support::primary::{Asked, Step, Zone, send};
use crate::support::server::{Server, text};
use crate::support::signer::{SECRET, Signer};
use crate::support::tls::{Security, authority};

const KEY: &str = "tsig = { name = \"transfer.key\", secret-file = \"feed.key\" }";

fn signer() -> Signer {
    Signer::new("transfer.key")
}

fn signed_scene() -> Scene {
    let versions = versions();
    let newest = versions.clone();
    let usual = move |asked: &Asked| send(signer().sign(asked, newest.answer(asked)));
    Scene::start_with(Security::Plain, versions, usual, |upstream, primary| {
        config(upstream, primary, KEY)
    })
}

/// A version with this number of messages.
fn large(messages: usize) -> Zone {
    let names: Vec<_> = (0..messages - 3)
        .map(|at| format!("n{at}.example"))
        .collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    Zone {
        per_message: 1,
        ..Zone::new(ZONE, 2, &names)
    }
}

/// Signs transfers otherwise than the answer with the serial.
fn signing(set: fn(&mut Signer)) -> impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static {
    move |asked| {
        let mut signer = signer();
        if asked.rtype != rtype::SOA {
            set(&mut signer);
        }
        send(signer.sign(asked, large(800).answer(asked)))
    }
}

#[test]
fn a_wrong_signature_at_message_700() {
    let scene = signed_scene();
    scene.fails(
        Fault::TsigWrong,
        "",
        signing(|signer| signer.wrong_at = Some(700)),
    );
    scene.recovers(Fault::TsigWrong);
}

#[test]
fn a_primary_that_does_not_sign() {
    let scene = signed_scene();
    scene.fails(Fault::TsigWrong, "", |asked| send(large(5).answer(asked)));
    scene.recovers(Fault::TsigWrong);
}

#[test]
fn a_primary_whose_clock_is_wrong() {
    let scene = signed_scene();
    scene.fails(Fault::TsigLate, "", signing(|signer| signer.ahead = 1000));
    scene.recovers(Fault::TsigLate);
}

/// A change of the file, and a part of the error that is reported then.
type Break = (fn(&Path), &'static str);

#[test]
fn a_secret_that_becomes_unusable_after_the_start() {
    let scene = signed_scene();
    let key = scene.server.path("feed.key");
    let breaks: [Break; 3] = [
        (
            |key| fs::set_permissions(key, Permissions::from_mode(0o644)).expect("set"),
            "users other than the server's can read or change this secret",
        ),
        (|key| fs::write(key, "???").expect("written"), "not base64"),
        (
            |key| fs::remove_file(key).expect("removed"),
            "can't be read",
        ),
    ];
    scene.next_version();
    for (make_unusable, reason) in breaks {
        make_unusable(&key);
        refresh(&scene.server);
        until(reason, || {
            let text = feed(&scene.server)["local"][0]["text"].to_string();
            text.contains(reason) && text.contains("feed.key")
        });
        is_no_fault_of_a_primary(&scene.server, "key-unusable");
        scene.keeps_the_first_version();
        // The next one is about a file that only the server can read.
        fs::set_permissions(&key, Permissions::from_mode(0o600)).ok();
    }
    fs::write(&key, SECRET).expect("written");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("set");
    takes_the_second_version(&scene.server);
}

/// Asserts that all outputs have this problem of the server, and no fault of its first primary.
fn is_no_fault_of_a_primary(server: &Server, problem: &str) {
    let status = server.status();
    let found = &status["feeds"][0];
    assert_eq!(found["local"][0]["problem"], problem);
    assert!(found["primaries"][0]["fault"].is_null(), "{found}");
    assert_eq!(found["primaries"][0]["failures"], 0);
    assert_eq!(found["faults"], serde_json::json!([]));
    let reason = found["local"][0]["text"].as_str().expect("a text");
    let reason = format!("{problem}: {reason}");
    let alarms = status["alarms"].as_array().expect("alarms");
    assert!(
        alarms
            .iter()
            .any(|alarm| *alarm == *format!("feed: {reason}")),
        "{alarms:?}"
    );
    let shown = text(&server.verb(&["feed", "show", "feed"]));
    assert!(shown.contains(&format!("problem    {reason}\n")), "{shown}");
    server.logged(&format!("problem=\"{problem}\""));
}

/// The second version comes into force after a refresh, and all is well.
fn takes_the_second_version(server: &Server) {
    let done = server.verb(&["feed", "refresh", "feed"]);
    assert!(done.status.success(), "{}", text(&done));
    blocks(
        server,
        2,
        &["kept.example", "new.example"],
        &["gone.example"],
    );
    assert_eq!(feed(server)["local"], serde_json::json!([]));
    server.assert_well();
}

#[test]
fn certificates_that_can_not_be_read_are_a_problem_of_this_server() {
    let versions = versions();
    let newest = versions.clone();
    let usual = move |asked: &Asked| send(newest.answer(asked));
    let plain = versions.primary();
    let other = plain.address;
    let scene = Scene::start_with(
        Security::tls(b"dot"),
        versions,
        usual,
        |upstream, primary| {
            let usual = format!("\"{}\"", primary.address);
            let tls = format!(
                "{{ address = \"127.0.0.1\", port = {}, tls = \"primary.test\", tls-ca = {:?} }}",
                primary.address.port(),
                authority()
            );
            config(upstream, primary, "").replace(&usual, &tls)
        },
    );
    let server = &scene.server;
    let usual = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    let configure = |more: &str| {
        let known = format!("{:?} }}", authority());
        let config = usual.replace(&known, &format!("\"ca.pem\" }}{more}"));
        fs::write(server.path("tapis.toml"), config).expect("written");
        // It waits for no transfer.
        assert!(server.verb(&["reload"]).status.success());
    };
    scene.next_version();
    configure("");
    until("it is found", || {
        feed(server)["local"][0]["text"]
            .to_string()
            .contains("ca.pem: the certificates can't be read")
    });
    is_no_fault_of_a_primary(server, "tls-unusable");
    scene.keeps_the_first_version();
    let state = |expected: &str| {
        let shown = text(&server.verb(&["feed", "show", "feed"]));
        assert!(
            shown.contains(&format!("state      {expected}\n")),
            "{shown}"
        );
    };
    state("tls-unusable");
    // Another primary works.
    configure(&format!(", \"{other}\""));
    blocks(
        server,
        2,
        &["kept.example", "new.example"],
        &["gone.example"],
    );
    until("it is up to date", || feed(server)["is_current"] == true);
    is_no_fault_of_a_primary(server, "tls-unusable");
    state("up to date, but not all primaries work: tls-unusable");
    let done = server.verb(&["feed", "refresh", "feed"]);
    assert!(done.status.success(), "{}", text(&done));
    fs::copy(authority(), server.path("ca.pem")).expect("copied");
    takes_the_second_version(server);
}

#[test]
fn a_secret_that_anyone_can_read_is_never_used() {
    let scene = signed_scene();
    let asked = scene.primary.asked().len();
    let key = scene.server.path("feed.key");
    fs::set_permissions(&key, Permissions::from_mode(0o604)).expect("set");
    scene.next_version();
    refresh(&scene.server);
    until("it is refused", || {
        feed(&scene.server)["local"][0]["problem"] == "key-unusable"
    });
    assert_eq!(
        scene.primary.asked().len(),
        asked,
        "nothing is signed with it"
    );
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("set");
    refresh(&scene.server);
    blocks(
        &scene.server,
        2,
        &["kept.example", "new.example"],
        &["gone.example"],
    );
}
