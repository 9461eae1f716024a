//! Which settings a reload changes while the server serves, and which wait for a restart.

use std::fs;
use std::process::Output;

use serde_json::Value;

use crate::support::server::{Server, list, preamble, text};
use crate::support::upstream::Upstream;

fn start(upstream: &Upstream, more: &str) -> Server {
    let config = preamble(upstream.address) + more + &list("ads", "");
    Server::start(&config, &[("ads", "blocked.example\n")])
}

/// Replaces a part of the configuration, and reloads.
fn change(server: &Server, from: &str, to: &str) -> Output {
    let path = server.path("tapis.toml");
    let config = fs::read_to_string(&path).expect("readable");
    assert!(config.contains(from), "{config}");
    fs::write(path, config.replace(from, to)).expect("written");
    server.verb(&["reload"])
}

/// The same, and all of it is in force.
fn change_live(server: &Server, from: &str, to: &str) {
    let output = change(server, from, to);
    let told = text(&output);
    assert!(
        output.status.success() && !told.contains("restart"),
        "{told}"
    );
    assert_eq!(server.status()["restart"], Value::Array(Vec::new()));
}

#[test]
fn what_needs_a_restart_is_named_key_by_key_until_then() {
    let upstream = Upstream::plain();
    let server = start(&upstream, "");
    let keys = [
        "[server] workers",
        "[state] keep",
        "[state] compile-secs",
        "[journal] path",
    ];
    let more = "[state]\nkeep = 4\ncompile-secs = 60\n[journal]\npath = \"j\"\n[[list]]";
    assert!(change(&server, "[[list]]", more).status.success());
    let output = change(&server, "workers = 2", "workers = 3");
    assert!(output.status.success(), "{}", text(&output));
    for told in [text(&output), text(&server.verb(&["status"]))] {
        for key in keys {
            let line = format!("changed, but in force only after a restart: {key}\n");
            assert!(told.contains(&line), "{key}: {told}");
        }
        assert_eq!(
            told.matches("after a restart").count(),
            keys.len(),
            "{told}"
        );
    }
    let status = server.status();
    assert_eq!(status["restart"], serde_json::json!(keys));
    let server = server.again();
    assert_eq!(server.status()["restart"], Value::Array(Vec::new()));
}
