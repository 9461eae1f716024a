//! A configuration that is empty or truncated, as by a full disk or an editor that writes in place.

use std::fs;

use crate::orders::{PAST, order, target};
use crate::state::end;
use crate::support::client::{is_blocked, until};
use crate::support::server::{Server, folder, list, preamble, text};
use crate::support::upstream::Upstream;

const ALARM: &str = "all 2 orders are gone at once";

/// A server with a list and two orders, and the part of its configuration before them.
fn server(upstream: &Upstream) -> (Server, String, String) {
    let head = preamble(upstream.address) + "[state]\ndir = \"state\"\n";
    let whole = format!("{head}[orders]\npath = \"orders\"\n{}", list("ads", ""));
    let folder = folder(&whole, &[("ads", "ads.example\n")]);
    fs::create_dir(folder.path().join("orders")).expect("made");
    let server = Server::start_in(folder);
    for (id, name) in [("x-1", "one.example"), ("x-2", "two.example")] {
        let text = order(id, PAST, &target(name, "exact"));
        server.replace(&format!("orders/{id}.toml"), &text);
        until("the order", || is_blocked(server.address, name));
    }
    (server, head, whole)
}

#[test]
fn an_emptied_configuration_is_refused_by_a_reload() {
    let upstream = Upstream::plain();
    let (server, ..) = server(&upstream);
    let control = server.path("control.sock").display().to_string();
    for cut_off in ["", "# Nothing.\n", "[server]\n"] {
        server.replace("tapis.toml", cut_off);
        let output = server.verb(&["reload", "--control", &control]);
        assert_eq!(output.status.code(), Some(1), "{cut_off}");
        let report = text(&output);
        assert!(report.contains("tapis.toml holds nothing"), "{report}");
        assert!(is_blocked(server.address, "ads.example"));
        assert!(is_blocked(server.address, "one.example"));
    }
}

#[test]
fn a_configuration_that_is_cut_off_before_its_orders_is_an_alarm() {
    let upstream = Upstream::plain();
    let (server, head, _) = server(&upstream);
    let alarm = format!("[orders]: {ALARM}");
    server.replace("tapis.toml", &head);
    let output = server.verb(&["reload"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains(&alarm), "{}", text(&output));
    let status = text(&server.verb(&["status"]));
    assert!(status.contains(&alarm), "{status}");
    let confirmed = server.verb(&["reload"]);
    assert_eq!(confirmed.status.code(), Some(0), "{}", text(&confirmed));
    server.assert_well();
}

#[test]
fn a_truncated_configuration_at_a_start_or_another_empty_directory_of_orders_is_an_alarm() {
    let upstream = Upstream::plain();
    let (mut server, head, whole) = server(&upstream);
    for (cut_off, place) in [
        (head, "[orders]"),
        (whole.replace("\"orders\"", "\"empty\""), "empty"),
    ] {
        server.replace("tapis.toml", &cut_off);
        let folder = end(server);
        fs::create_dir_all(folder.path().join("empty")).expect("made");
        server = Server::start_in(folder);
        let alarms = server.status()["alarms"].to_string();
        assert!(alarms.contains(&format!("{place}: {ALARM}")), "{alarms}");
        server.replace("tapis.toml", &whole);
        let output = server.verb(&["reload"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        server.assert_well();
        assert!(is_blocked(server.address, "two.example"));
    }
}
