//! Signals during the start and while the server runs.

use std::collections::HashSet;
use std::fs::{self, File};
use std::process::{Child, Command, Stdio};

use crate::support::client::{is_blocked, until};
use crate::support::server::{Server, folder, list, preamble, tapis, text};
use crate::support::upstream::Upstream;
use tempfile::TempDir;

/// The number of servers that are started one after the other. Each is in the tested state only for a moment, which a
/// single signal could miss.
const ROUNDS: usize = 5;

/// A server that has just bound its first socket. With many workers there are many more sockets to
/// bind.
fn starting(upstream: &Upstream) -> (Child, TempDir) {
    let config = preamble(upstream.address).replace("workers = 2", "workers = 64");
    let config = format!("{config}{}", list("ads", ""));
    let folder = folder(&config, &[("ads", "a.test\n")]);
    let log = File::create(folder.path().join("log")).expect("made");
    let mut child = tapis()
        .args(["serve", "--config", "tapis.toml"])
        .current_dir(folder.path())
        .stderr(log)
        .stdout(Stdio::null())
        .spawn()
        .expect("started");
    while !has_bound(child.id()) {
        assert!(
            child.try_wait().expect("known").is_none(),
            "{}",
            log_of(&folder)
        );
    }
    (child, folder)
}

fn log_of(folder: &TempDir) -> String {
    fs::read_to_string(folder.path().join("log")).expect("readable")
}

/// Whether a process has a UDP or TCP socket with a local port.
fn has_bound(id: u32) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{id}/fd")) else {
        return false;
    };
    let links = files
        .flatten()
        .filter_map(|file| fs::read_link(file.path()).ok());
    let links = links.filter_map(|link| {
        let link = link.to_str()?.strip_prefix("socket:[")?;
        Some(link.strip_suffix(']')?.to_owned())
    });
    let own: HashSet<String> = links.collect();
    !own.is_empty()
        && ["udp", "tcp"].iter().any(|protocol| {
            let table = fs::read_to_string(format!("/proc/{id}/net/{protocol}"));
            let table = table.unwrap_or_default();
            let mut lines = table.lines().skip(1);
            lines.any(|line| {
                let inode = line.split_whitespace().nth(9);
                inode.is_some_and(|inode| own.contains(inode))
            })
        })
}

fn send(child: &Child, signal: &str) {
    let sent = Command::new("kill")
        .args(["-s", signal, &child.id().to_string()])
        .status()
        .expect("kill ran");
    assert!(sent.success());
}

#[test]
fn sighup_while_the_server_binds_its_sockets_is_a_reload() {
    let upstream = Upstream::plain();
    for _ in 0..ROUNDS {
        let (mut child, folder) = starting(&upstream);
        send(&child, "HUP");
        until("it reloads", || {
            let log = log_of(&folder);
            let end = child.try_wait().expect("known");
            assert!(end.is_none(), "{end:?}\n{log}");
            log.contains("reloaded")
        });
        let status = tapis()
            .args(["status", "--config", "tapis.toml"])
            .current_dir(folder.path())
            .output()
            .expect("it ran");
        assert!(status.status.success(), "{}", text(&status));
        send(&child, "TERM");
        assert_eq!(child.wait().expect("it ended").code(), Some(0));
    }
}

#[test]
fn sigterm_while_the_server_binds_its_sockets_is_a_clean_end() {
    let upstream = Upstream::plain();
    for signal in ["TERM", "INT"] {
        let (mut child, folder) = starting(&upstream);
        send(&child, signal);
        let end = child.wait().expect("it ended");
        assert_eq!(end.code(), Some(0), "{}", log_of(&folder));
        assert!(!folder.path().join("control.sock").exists());
    }
}

#[test]
fn signals_without_a_meaning_do_not_end_the_server_and_are_logged_once() {
    let upstream = Upstream::plain();
    let config = format!("{}{}", preamble(upstream.address), list("ads", ""));
    let mut server = Server::start(&config, &[("ads", "a.test\n")]);
    for signal in ["USR1", "USR2"] {
        let line = format!("signal=\"SIG{signal}\"");
        for _ in 0..3 {
            server.signal(signal);
            until("it is logged", || server.log().contains(&line));
        }
        assert!(is_blocked(server.address, "a.test"));
        let reloads = || {
            let log = server.log();
            log.lines().filter(|line| line.contains("reloaded")).count()
        };
        let before = reloads();
        server.signal("HUP");
        until("it reloads", || reloads() > before);
        assert_eq!(server.log().matches(&line).count(), 1, "{}", server.log());
    }
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn signals_without_a_meaning_do_not_end_a_starting_server() {
    let upstream = Upstream::plain();
    for signal in ["USR1", "USR2"] {
        let (mut child, folder) = starting(&upstream);
        send(&child, signal);
        until("it serves", || {
            let end = child.try_wait().expect("known");
            assert!(end.is_none(), "{end:?}\n{}", log_of(&folder));
            log_of(&folder).contains("ignored")
        });
        send(&child, "TERM");
        assert_eq!(child.wait().expect("it ended").code(), Some(0));
    }
}
