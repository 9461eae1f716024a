//! What is asked of the running server while a new process takes over, and what it leaves.

use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;

use super::deaths::started;
use super::{asked, asked_line, refused, sections, server, take_over};
use crate::metrics::page;
use crate::support::client::{PATIENCE, is_blocked, until};
use crate::support::server::{Server, folder, list, preamble, tapis};
use crate::support::upstream::Upstream;

/// The whole answer to a request.
fn post(folder: &Path, path: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(folder.join("control.sock")).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: tapis\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.to_ascii_lowercase()
}

/// Changes that the control loop does not carry out.
const CHANGES: [(&str, &str); 2] = [
    ("/cache/flush", "{\"scope\":\"all\"}"),
    ("/log", "{\"level\":\"debug\"}"),
];

fn say(link: &mut UnixStream, message: &str) {
    writeln!(link, "{message}").expect("sent");
}

/// This test takes over from a server, up to the copy of the cache.
fn copied(folder: &Path) -> UnixStream {
    let (head, mut link) = asked(folder, "tapis-take-over/1");
    assert!(head.contains(" 101 "), "{head}");
    while !asked_line(&mut link).contains("\"offer\"") {}
    say(&mut link, "{\"prepared\":{\"version\":\"0\"}}");
    while asked_line(&mut link) != "\"cache\"\n" {}
    link
}

#[test]
fn changes_after_the_copy_of_the_cache_are_left_to_the_new_process_and_the_socket_if_it_uses_it() {
    let upstream = Upstream::plain();
    for has_control in [false, true] {
        let mut server = server(&upstream);
        let folder = server.folder.path().to_owned();
        let answers = || CHANGES.map(|(path, body)| post(&folder, path, body));
        for answer in answers() {
            assert!(answer.contains(" 200 "), "{answer}");
        }
        let mut link = copied(&folder);
        for answer in answers() {
            assert!(answer.contains(" 503 "), "{answer}");
            assert!(answer.contains("retry-after: 0"), "{answer}");
        }
        while !asked_line(&mut link).contains("\"parked\"") {}
        say(
            &mut link,
            &format!("{{\"serving\":{{\"has_control\":{has_control}}}}}"),
        );
        while asked_line(&mut link) != "\"drained\"\n" {}
        for answer in answers() {
            assert!(answer.contains(" 503 "), "{answer}");
        }
        say(&mut link, "\"well\"");
        assert_eq!(asked_line(&mut link), "\"end\"\n");
        assert_eq!(server.wait(), Some(0), "{}", server.log());
        assert_eq!(folder.join("control.sock").exists(), has_control);
    }
}

#[test]
fn a_reload_that_is_asked_for_during_a_take_over_is_not_lost() {
    let upstream = Upstream::plain();
    // Before and while the running process is parked. The new one has read its configuration by then.
    for step in ["taking over", "is parked"] {
        let mut old = server(&upstream);
        let folder = old.folder.path().to_owned();
        let mut new = started(&folder);
        new.logged(step);
        new.signal("STOP");
        let config = preamble(upstream.address) + &sections() + &list("more", "");
        old.replace("more", "more.example\n");
        old.replace("tapis.toml", &config);
        old.signal("HUP");
        until("a reload, or that it waits for one", || {
            is_blocked(old.address, "more.example") || old.log().contains("parked: another process")
        });
        new.signal("CONT");
        new.logged("took over");
        assert_eq!(old.wait(), Some(0), "{}", old.log());
        new.address = old.address;
        until("the reload", || is_blocked(new.address, "more.example"));
        assert!(is_blocked(new.address, "blocked.example"));
    }
}

#[test]
fn a_server_that_can_not_tell_the_service_manager_goes_on() {
    let upstream = Upstream::plain();
    let folder = folder(&preamble(upstream.address), &[]);
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("bound");
    let mut command = tapis();
    command
        .args(["serve", "--config", "tapis.toml"])
        .current_dir(folder.path())
        .env("NOTIFY_SOCKET", &path);
    let mut old = Server::run(command, folder);
    let folder = old.folder.path().to_owned();
    drop(manager);
    let report = refused(&folder);
    let report = String::from_utf8_lossy(&report.stderr).into_owned();
    assert!(
        report.contains("the service manager can't be notified"),
        "{report}"
    );
    assert!(!is_blocked(old.address, "free.example"));
    std::fs::remove_file(&path).expect("removed");
    let manager = UnixDatagram::bind(&path).expect("bound");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let new = take_over(&folder);
    assert_eq!(old.wait(), Some(0), "{}", old.log());
    let wanted = format!("MAINPID={}", new.id());
    let mut buffer = [0; 4096];
    loop {
        let length = manager.recv(&mut buffer).expect("a message");
        if String::from_utf8_lossy(&buffer[..length]).contains(&wanted) {
            break;
        }
    }
}

#[test]
fn take_overs_are_counted_and_the_log_says_which_were_refused() {
    let upstream = Upstream::plain();
    let mut old = server(&upstream);
    let folder = old.folder.path().to_owned();
    let counts = |server: &Server| {
        let page = page(server);
        ["succeeded", "failed", "refused"].map(|result| {
            let sample = format!("tapis_take_overs_total{{result=\"{result}\"}} ");
            let value = page.lines().find_map(|line| line.strip_prefix(&sample));
            value.expect("a sample").to_owned()
        })
    };
    assert_eq!(counts(&old), ["0", "0", "0"]);
    drop(asked(&folder, "tapis-take-over/0"));
    old.logged("a take-over was refused");
    drop(asked(&folder, "tapis-take-over/1"));
    old.logged("a take-over failed");
    until("the count", || counts(&old) == ["0", "1", "1"]);
    let mut new = take_over(&folder);
    assert_eq!(old.wait(), Some(0), "{}", old.log());
    std::mem::swap(&mut new.folder, &mut old.folder);
    assert_eq!(counts(&new), ["1", "0", "0"]);
}
