//! Landlock: the server can change only files below its own directories.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::client::{is_blocked, until};
use crate::support::server::{Server, list, preamble, text};
use crate::support::upstream::Upstream;

/// A configuration with a query log at this path. The server writes below its directory only, because its control socket is
/// there.
fn config(upstream: &Upstream, query_log: &str, more: &str) -> String {
    let sections = format!("[query-log]\nfile = \"{query_log}\"\n[process]\n{more}\n");
    preamble(upstream.address) + "[state]\ndir = \"state\"\n" + &sections + &list("ads", "")
}

fn start(upstream: &Upstream, more: &str) -> Server {
    let config = config(upstream, "queries", more);
    Server::start(&config, &[("ads", "blocked.example\n")])
}

/// Whether the kernel restricts the server; if it can't, this is printed. No other reason is accepted.
pub(crate) fn is_in_force(server: &Server) -> bool {
    let report = server.status()["landlock"].clone();
    if let Some(why) = report["unavailable"].as_str() {
        assert!(why.starts_with("the kernel has no Landlock"), "{why}");
        eprintln!("skipped: {why}");
        return false;
    }
    assert_eq!(report["in_force"], true, "{report}");
    let folder = server.folder.path().canonicalize().expect("a folder");
    let below = report["below"].as_array().expect("directories");
    assert!(
        below.iter().any(|path| path.as_str() == folder.to_str()),
        "{report}"
    );
    true
}

#[test]
fn a_reload_that_would_write_elsewhere_is_rejected_with_the_reason_and_others_are_not() {
    let upstream = Upstream::plain();
    let server = start(&upstream, "");
    if !is_in_force(&server) {
        return;
    }
    let shown = text(&server.verb(&["status"]));
    assert!(shown.contains("Landlock: writes only below "), "{shown}");
    let other = tempfile::tempdir().expect("a folder");
    let outside = other.path().join("queries");
    let elsewhere = config(&upstream, outside.to_str().expect("text"), "");
    server.replace("tapis.toml", &elsewhere);
    let reload = server.verb(&["reload"]);
    let report = text(&reload);
    assert_eq!(reload.status.code(), Some(1), "{report}");
    assert!(
        report.contains(
            "[query-log] file: since its start, Landlock lets this server write only below"
        ),
        "{report}"
    );
    assert!(report.contains("restart the server"), "{report}");
    // Below its directories, everything stays possible.
    server.replace("tapis.toml", &config(&upstream, "state/others", ""));
    let reload = server.verb(&["reload"]);
    assert!(reload.status.success(), "{}", text(&reload));
    assert!(is_blocked(server.address, "blocked.example"));
    until("a line", || {
        fs::read_to_string(server.path("state/others")).is_ok_and(|log| !log.is_empty())
    });
    // After a restart, the rejected one is possible, too.
    server.replace("tapis.toml", &elsewhere);
    let mut server = server;
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let server = server.again();
    assert!(is_blocked(server.address, "blocked.example"));
    until("a line", || {
        fs::read_to_string(&outside).is_ok_and(|log| !log.is_empty())
    });
}

#[test]
fn the_kernel_refuses_a_file_that_leads_out_of_the_directories_unless_landlock_is_off() {
    let upstream = Upstream::plain();
    for (more, is_on) in [("", true), ("landlock = false", false)] {
        let server = start(&upstream, more);
        if is_on && !is_in_force(&server) {
            return;
        }
        let other = tempfile::tempdir().expect("a folder");
        let outside = other.path().join("queries");
        fs::write(&outside, "").expect("written");
        fs::remove_file(server.path("queries")).expect("removed");
        symlink(&outside, server.path("queries")).expect("linked");
        // The server opens the file again when it notices that it is another one.
        until("the file is opened", || {
            assert!(is_blocked(server.address, "blocked.example"));
            let is_refused = server.status()["alarms"]
                .to_string()
                .contains("Permission denied");
            let is_written = fs::metadata(&outside).expect("there").len() > 0;
            assert!(!(is_refused && is_written));
            is_refused == is_on && is_written != is_on
        });
        if !is_on {
            assert_eq!(server.status()["landlock"]["in_force"], false);
        }
    }
}
