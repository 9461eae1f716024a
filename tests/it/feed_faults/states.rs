//! The state of a feed in words, and problems of this server that are no faults of primaries.

use std::fs;
use std::process::Command;

use super::guards::numbered;
use super::resilience::{compiler, large, stalling, stalls};
use super::scene::{Scene, versions};
use crate::feeds::{config, feed, is_blocked, refresh};
use crate::support::client::until;
use crate::support::primary::{Gate, Step, send};
use crate::support::server::{Server, folder, tapis, text};
use crate::support::upstream::Upstream;

/// The state that `tapis feed show` has. It is the same in `tapis feed list`.
fn state(server: &Server) -> String {
    let shown = text(&server.verb(&["feed", "show", "feed"]));
    let line = shown.lines().find_map(|line| line.strip_prefix("state "));
    line.expect("a state").trim().to_owned()
}

#[test]
fn a_primary_that_has_not_answered_yet_is_being_asked() {
    let scene = Scene::start("");
    until("it is up to date", || state(&scene.server) == "up to date");
    let gate = Gate::default();
    let (held, newest) = (gate.clone(), scene.versions.clone());
    scene.primary.play(move |asked| {
        let wait = [Step::Wait(held.clone())];
        wait.into_iter().chain(send(newest.answer(asked))).collect()
    });
    refresh(&scene.server);
    let asking = format!("asking {}", scene.primary.address);
    until("it is asked", || state(&scene.server) == asking);
    gate.open();
    until("it has answered", || state(&scene.server) == "up to date");
}

#[test]
fn a_version_whose_rules_are_being_compiled_is_shown() {
    let scene = Scene::start("\n[guard]\ngrow-percent = 0");
    let server = &scene.server;
    large(&scene.versions);
    let gate = Gate::default();
    scene
        .primary
        .play(stalling(&scene.versions, [&gate, &gate]));
    stalls(server);
    until("the compiler reads it", || compiler(server).is_some());
    let compiler = compiler(server).expect("it runs");
    let signal = |name: &str| {
        let done = Command::new("kill").args(["-s", name, &compiler]).status();
        assert!(done.expect("kill ran").success());
    };
    signal("STOP");
    gate.open();
    until("it has arrived", || feed(server)["compiling"] == 2);
    assert!(feed(server)["transfer"].is_null());
    assert_eq!(state(server), "compiling serial 2");
    signal("CONT");
    until("it is in force", || state(server) == "up to date");
    assert_eq!(feed(server)["serial"], 2);
}

#[test]
fn a_transfer_that_can_not_be_written_is_a_problem_of_this_server() {
    let versions = versions();
    versions.replace(|zone| {
        zone.serial = 1;
        zone.records = numbered(60_000);
        zone.per_message = 500;
    });
    let (upstream, primary) = (Upstream::plain(), versions.primary());
    let config = config(&upstream, &primary, "");
    let folder = folder(&config.replace("[state]\ndir = \"state\"\n", ""), &[]);
    let temporary = folder.path().join("temporary");
    let mut command = tapis();
    command
        .args(["serve", "--config", "tapis.toml"])
        .current_dir(folder.path())
        .env("TMPDIR", &temporary);
    let server = Server::run(command, folder);
    until("it fails", || state(&server) == "not-written");
    let found = feed(&server);
    assert!(found["primaries"][0]["fault"].is_null(), "{found}");
    assert!(found["primaries"][0]["text"].is_null(), "{found}");
    let problem = format!(
        "not-written: {}: the transfer can't be written: ",
        temporary.display()
    );
    let shown = text(&server.verb(&["feed", "show", "feed"]));
    assert!(shown.contains("in force   no version yet\n"), "{shown}");
    assert!(shown.contains(&format!("problem    {problem}")), "{shown}");
    assert!(!shown.contains("in a row"), "{shown}");
    let refreshed = server.verb(&["feed", "refresh", "feed"]);
    assert_eq!(refreshed.status.code(), Some(1));
    let refreshed = text(&refreshed);
    assert!(
        refreshed.contains(&format!("feed: {problem}")),
        "{refreshed}"
    );
    let status = text(&server.verb(&["status"]));
    assert!(
        status.contains(&format!("ALARM feed: {problem}")),
        "{status}"
    );
    fs::create_dir(&temporary).expect("created");
    refresh(&server);
    until("it is in force", || state(&server) == "up to date");
    assert!(is_blocked(&server, "n59999.example"));
    assert_eq!(feed(&server)["local"], serde_json::json!([]));
    let log = server.log();
    assert_eq!(log.matches("not-written").count(), 1, "{log}");
}
