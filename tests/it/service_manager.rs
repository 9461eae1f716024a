//! The messages to the service manager, and the unit that is shipped.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::client::{is_blocked, until};
use crate::support::server::{Server, folder, list, preamble, tapis, text};
use crate::support::upstream::Upstream;

/// The longest wait for a message.
const PATIENCE: Duration = Duration::from_secs(30);

/// The socket of a service manager, and a server that it has started with more variables.
fn managed(variables: &[(&str, &str)]) -> (UnixDatagram, Server) {
    let upstream = Upstream::plain();
    let config = format!("{}{}", preamble(upstream.address), list("ads", ""));
    let folder = folder(&config, &[("ads", "a.test\nb.test\n")]);
    let socket = folder.path().join("notify");
    let manager = UnixDatagram::bind(&socket).expect("bound");
    manager
        .set_read_timeout(Some(PATIENCE))
        .expect("a time limit");
    let mut command = tapis();
    command
        .args(["serve", "--config", "tapis.toml"])
        .current_dir(folder.path())
        .env("NOTIFY_SOCKET", socket)
        .envs(variables.iter().copied());
    (manager, Server::run(command, folder))
}

/// The next message that holds `line`. Those before it are returned, too.
fn message(manager: &UnixDatagram, line: &str) -> (String, Vec<String>) {
    let mut before = Vec::new();
    let mut buffer = [0; 4096];
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "no {line} after {before:?}");
        let received = manager.recv(&mut buffer);
        let length = received.unwrap_or_else(|error| panic!("{error}: no {line} after {before:?}"));
        let text = String::from_utf8(buffer[..length].to_vec()).expect("text");
        if text.lines().any(|it| it.starts_with(line)) {
            return (text, before);
        }
        before.push(text);
    }
}

#[test]
fn the_service_manager_hears_of_the_start_each_reload_and_the_stop() {
    let (manager, mut server) = managed(&[]);
    let (ready, before) = message(&manager, "READY=1");
    assert_eq!(before, ["STATUS=Reading the lists\n"]);
    assert!(ready.contains("2 rules of lists"), "{ready}");
    assert!(is_blocked(server.address, "a.test"), "ready means serving");
    for by_signal in [true, false] {
        match by_signal {
            true => server.signal("HUP"),
            false => assert!(server.verb(&["reload"]).status.success()),
        }
        let (reloading, _) = message(&manager, "RELOADING=1");
        let time = reloading
            .lines()
            .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        let time: u64 = time.expect("a time").parse().expect("a number");
        assert!(time > 0);
        let (_, between) = message(&manager, "READY=1");
        assert!(
            between.iter().all(|text| text.starts_with("STATUS=")),
            "{between:?}"
        );
    }
    server.replace("ads", "a.test\nb.test\nc.test\n");
    let (status, between) = message(&manager, "STATUS=Serving generation 2");
    assert!(status.contains("3 rules"), "{status}, {between:?}");
    assert!(
        !between.iter().any(|text| text.contains("RELOADING")),
        "a changed list is no reload: {between:?}"
    );
    server.signal("TERM");
    let (_, between) = message(&manager, "STOPPING=1");
    assert!(
        !between.iter().any(|text| text.contains("WATCHDOG")),
        "nobody asked for signs of life: {between:?}"
    );
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn signs_of_life_are_sent_only_to_a_watchdog_of_this_process() {
    let (manager, server) = managed(&[("WATCHDOG_USEC", "100000")]);
    for _ in 0..3 {
        message(&manager, "WATCHDOG=1");
    }
    drop(server);
    let variables = [("WATCHDOG_USEC", "100000"), ("WATCHDOG_PID", "1")];
    let (manager, mut server) = managed(&variables);
    message(&manager, "READY=1");
    assert!(server.verb(&["reload"]).status.success());
    server.signal("TERM");
    let (_, before) = message(&manager, "STOPPING=1");
    let life = before.iter().filter(|text| text.contains("WATCHDOG"));
    assert_eq!(life.count(), 0, "{before:?}");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn a_service_manager_that_is_gone_is_logged_once_and_hinders_nothing() {
    let upstream = Upstream::plain();
    let config = format!("{}{}", preamble(upstream.address), list("ads", ""));
    let folder = folder(&config, &[("ads", "a.test\n")]);
    let mut command = tapis();
    command
        .args(["serve", "--config", "tapis.toml"])
        .current_dir(folder.path())
        .env("NOTIFY_SOCKET", folder.path().join("nobody"));
    let mut server = Server::run(command, folder);
    assert!(is_blocked(server.address, "a.test"));
    assert!(server.verb(&["reload"]).status.success());
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    until("the end of the log", || server.log().contains("stopped"));
    let log = server.log();
    assert_eq!(log.matches("can't be notified").count(), 1, "{log}");
}

/// The unit as systemd reads it, with the program of this test in place of the installed one.
fn unit() -> (tempfile::TempDir, std::path::PathBuf) {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd/tapis.service");
    let unit = std::fs::read_to_string(shipped).expect("readable");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tapis.service");
    let program = env!("CARGO_BIN_EXE_tapis");
    std::fs::write(&path, unit.replace("/usr/bin/tapis", program)).expect("written");
    (folder, path)
}

#[test]
#[ignore = "needs systemd-analyze"]
fn the_unit_is_valid_and_exposes_little() {
    let (_folder, path) = unit();
    let verify = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&path)
        .output()
        .expect("it ran");
    assert!(verify.status.success(), "{}", text(&verify));
    assert_eq!(text(&verify), "", "no warnings either");
    // The threshold is ten times the exposure level, which is from 0 to 10.
    let security = |path: &Path| {
        Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--threshold=19", "--no-pager"])
            .arg(path)
            .output()
            .expect("it ran")
    };
    let rated = security(&path);
    assert!(rated.status.success(), "{}", text(&rated));
    // The threshold works: without its filter of system calls, the unit is above it.
    let unit = std::fs::read_to_string(&path).expect("readable");
    std::fs::write(&path, unit.replace("SystemCallFilter=", "#")).expect("written");
    assert!(!security(&path).status.success());
}
