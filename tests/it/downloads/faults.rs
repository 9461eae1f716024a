//! Each fault of a web server keeps the last good state, and is reported with its name and a remedy.

use std::io::Read;
use std::time::Duration;

use flate2::Compression;
use flate2::read::GzEncoder;

use super::scene::{FIRST, PERMIT, SECOND, Scene, config, list, upstream};
use crate::support::client::until;
use crate::support::server::Server;
use crate::support::tls::Security;
use crate::support::web::{Web, page, response, send};

/// A gzip file of this many zeros.
pub(super) fn zeros(count: u64) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut encoder = GzEncoder::new(std::io::repeat(0).take(count), Compression::best());
    encoder.read_to_end(&mut packed).expect("packed");
    packed
}

#[test]
fn an_answer_that_is_no_list_keeps_the_last_good_state() {
    let scene = Scene::start("", "");
    let html = "<!DOCTYPE html><html><body>gone.example</body></html>";
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsecond.example\n";
    let chunk = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10\r\nsecond.example\n";
    let packed = ["content-encoding: gzip"];
    for (fault, detail, answer) in [
        (
            "status",
            "status 404",
            response("404 Not Found", &[], b"gone"),
        ),
        (
            "status",
            "status 500",
            response("500 Internal Server Error", &[], b""),
        ),
        (
            "not-a-list",
            "text/html",
            response(
                "200 OK",
                &["content-type: text/html; charset=utf-8"],
                SECOND.as_bytes(),
            ),
        ),
        ("not-a-list", "begins like a web page", page(html)),
        (
            "not-a-list",
            "begins like JSON",
            page("{\"error\": \"quota\"}"),
        ),
        ("empty", "no bytes", page("")),
        ("truncated", "", cut.into()),
        ("truncated", "", chunk.into()),
        (
            "truncated",
            "",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n".into(),
        ),
        ("broken", "", response("200 OK", &packed, b"no gzip")),
        (
            "broken",
            "",
            response("200 OK", &packed, &zeros(1000)[..15]),
        ),
        (
            "broken",
            "not offered",
            response("200 OK", &["content-encoding: lzma"], b"x"),
        ),
        ("protocol", "", b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()),
        ("protocol", "", b"".to_vec()),
    ] {
        scene.web.serve(answer);
        scene.fails(fault, detail);
    }
    scene.web.serve(page(SECOND));
    let (code, printed) = scene.refresh();
    assert_eq!((code, &*printed), (Some(0), "ads: 2 rules in force now\n"));
    scene.has(SECOND);
    scene.server.assert_well();
}

#[test]
fn a_list_that_is_too_large_ends_at_the_limit_without_memory() {
    let scene = Scene::start("", "max-mib = 1\nmax-unpacked-mib = 2\n");
    let before = scene.server.peak_kib();
    let bomb = zeros(1 << 30);
    assert!(bomb.len() < 2 << 20);
    let bombs = [
        response("200 OK", &["content-encoding: gzip"], &bomb[..1_000_000]),
        response("200 OK", &[], &bomb[..1_000_000]),
    ];
    for bomb in bombs {
        scene.web.serve(bomb);
        scene.fails("too-large", "more than 2 MiB when it is unpacked");
    }
    scene
        .web
        .serve("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n");
    scene.fails("too-large", "more than 1 MiB as it is transferred");
    scene.web.play(|_, stream| {
        send(stream, b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'a'; 4096]).is_ok() {}
    });
    scene.fails("too-large", "more than 1 MiB as it is transferred");
    let grown = scene.server.peak_kib() - before;
    assert!(grown < 64 << 10, "{grown} KiB");
    let files = std::fs::read_dir(scene.server.path("state/downloads")).expect("a directory");
    assert_eq!(files.count(), 2, "the copy, and the facts about it");
}

#[test]
fn a_server_that_sends_too_slowly_is_given_up() {
    let scene = Scene::start("", "stall-secs = 1\ntimeout-secs = 2\n");
    scene.web.play(|_, stream| drop(stream.read(&mut [0])));
    scene.fails("stalled", "the response took more than 1 s");
    scene.web.play(|_, stream| {
        send(stream, b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(b"a").and_then(|()| stream.flush()).is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    scene.fails("stalled", "bytes arrived in 1 s");
    scene.web.play(|_, stream| {
        send(stream, b"HTTP/1.1 200 OK\r\n\r\n");
        while stream
            .write_all(&[b'a'; 4096])
            .and_then(|()| stream.flush())
            .is_ok()
        {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    scene.fails("timeout", "not complete after 2 s");
}

/// A server whose only list is not downloaded because of this fault.
fn never_starts(
    url: impl Fn(&Web) -> String,
    security: Security,
    downloads: &str,
    fault: &str,
    detail: &str,
) {
    let (web, upstream) = (
        Web::start(security, |_, stream| send(stream, &page(FIRST))),
        upstream(),
    );
    let list = list("ads", &url(&web), "");
    let server = Server::start(&config(&upstream, downloads, &list), &[]);
    until(fault, || {
        server.status()["lists"][0]["download"]["is_current"] == false
    });
    let status = server.status();
    let alarms = status["alarms"].to_string();
    assert!(
        alarms.contains(&format!(": {fault}: ")),
        "{fault}: {alarms}"
    );
    assert!(alarms.contains(detail), "{detail:?} is not in: {alarms}");
    assert_eq!(status["lists"][0]["state"], "missing");
    assert!(alarms.contains("ads: not downloaded yet"), "{alarms}");
}

#[test]
fn a_certificate_that_proves_nothing_is_refused_with_its_fault() {
    let own = |web: &Web| web.url("/ads.txt");
    never_starts(own, Security::expired_web(), PERMIT, "tls", "has expired");
    never_starts(
        own,
        Security::tls(b"http/1.1"),
        PERMIT,
        "tls",
        "an authority that is not known",
    );
    let other = |web: &Web| web.url("/").replace("lists.", "wrong.");
    let permit = "allow-private = [\"127.0.0.0/8\"]\n";
    never_starts(other, Security::web(), permit, "tls", "for another name");
}

#[test]
fn a_url_that_is_not_permitted_is_not_asked() {
    let own = |web: &Web| web.url("/ads.txt");
    never_starts(
        own,
        Security::web(),
        "",
        "private",
        "lists.example is 127.0.0.1",
    );
    let literal = |web: &Web| format!("https://127.0.0.1:{}/", web.port);
    never_starts(literal, Security::web(), "", "private", "127.0.0.1");
    let missing = |_: &Web| "https://missing.example/".to_owned();
    never_starts(
        missing,
        Security::web(),
        "",
        "unreachable",
        "missing.example has no address",
    );
    let closed = |_: &Web| "https://lists.example:1/".to_owned();
    never_starts(
        closed,
        Security::web(),
        PERMIT,
        "unreachable",
        "Connection refused",
    );
}

#[test]
fn a_file_that_can_not_be_written_keeps_the_last_good_state() {
    let (web, upstream) = (Web::start(Security::web(), |_, _| {}), upstream());
    web.serve(page(FIRST));
    let list = list("ads", &web.url("/ads.txt"), "");
    let text = config(&upstream, PERMIT, &list);
    let folder = crate::support::server::folder(&text, &[]);
    // Files of at most 1 MiB: a larger one fails as on a full disk.
    let script = "ulimit -f 2048; exec \"$0\" serve --config tapis.toml";
    let program = env!("CARGO_BIN_EXE_tapis");
    let server = Server::start_by("sh", &["-c", script, program], folder);
    let scene = Scene {
        server,
        web,
        upstream,
    };
    scene.has(FIRST);
    scene.web.serve(page(&"x.example\n".repeat(200_000)));
    scene.fails("not-written", "File too large");
    // The same while it is unpacked.
    let packed = response("200 OK", &["content-encoding: gzip"], &zeros(2 << 20));
    scene.web.serve(packed);
    scene.fails("not-written", "File too large");
    scene.web.serve(page(SECOND));
    assert_eq!(scene.refresh().0, Some(0));
    scene.has(SECOND);
}
