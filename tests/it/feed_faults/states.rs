//! The state of a feed in words, and problems of this server that are no faults of primaries.

use std::fs;
use std::process::Command;

use super::guards::numbered;
use super::large::{arrives, compiler, large, stalling, stalls, without_state_dir};
use super::scene::{Scene, versions};
use crate::feeds::{config, feed, is_blocked, refresh};
use crate::support::client::until;
use crate::support::primary::{Gate, Primary, Step, send};
use crate::support::server::{Server, text};
use crate::support::upstream::Upstream;

/// The state that `tapis feed show` has. It is the same in `tapis feed list`.
fn state_of(server: &Server) -> String {
    let shown = text(&server.verb(&["feed", "show", "feed"]));
    let line = shown.lines().find_map(|line| line.strip_prefix("state "));
    line.expect("a state").trim().to_owned()
}

#[test]
fn a_primary_that_has_not_answered_yet_is_being_asked() {
    let scene = Scene::start("");
    until("it is up to date", || {
        state_of(&scene.server) == "up to date"
    });
    let gate = Gate::default();
    let (held, newest) = (gate.clone(), scene.versions.clone());
    scene.primary.play(move |asked| {
        let wait = [Step::Wait(held.clone())];
        wait.into_iter().chain(send(newest.answer(asked))).collect()
    });
    refresh(&scene.server);
    let asking = format!("asking {}", scene.primary.address);
    until("it is asked", || state_of(&scene.server) == asking);
    gate.open();
    until("it has answered", || {
        state_of(&scene.server) == "up to date"
    });
}

#[test]
fn a_version_whose_rules_are_being_compiled_is_shown() {
    let scene = Scene::start("\n[guard]\ngrow-percent = 0");
    let server = &scene.server;
    let gate = stalls(&scene);
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
    assert_eq!(state_of(server), "compiling serial 2");
    signal("CONT");
    until("it is in force", || state_of(server) == "up to date");
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
    let (server, temporary) = without_state_dir(&config(&upstream, &primary, ""));
    until("it fails", || state_of(&server) == "not-written");
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
    let remedy = "create this directory, and let the server's user write to it";
    assert!(shown.contains(remedy), "{shown}");
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
    until("it is in force", || state_of(&server) == "up to date");
    assert!(is_blocked(&server, "n59999.example"));
    assert_eq!(feed(&server)["local"], serde_json::json!([]));
    let log = server.log();
    assert_eq!(log.matches("not-written").count(), 1, "{log}");
}

#[test]
fn a_feed_that_has_no_version_yet_is_no_error_and_no_refusal() {
    let gate = Gate::default();
    let (held, newest) = (gate.clone(), versions());
    let primary = Primary::start(move |asked| {
        let wait = [Step::Wait(held.clone())];
        wait.into_iter().chain(send(newest.answer(asked))).collect()
    });
    let upstream = Upstream::plain();
    let config = config(&upstream, &primary, "");
    let server = Server::start(&config, &[]);
    server.logged("no version yet; the first transfer brings its rules");
    let other = config.clone()
        + &format!(
            "[[feed]]\nname = \"other\"\nzone = \"other.test\"\nprimaries = [\"{}\"]\n",
            primary.address
        );
    fs::write(server.path("tapis.toml"), other).expect("written");
    let reloaded = server.verb(&["reload"]);
    let printed = text(&reloaded);
    assert!(reloaded.status.success(), "{printed}");
    assert!(!printed.contains("rejected"), "{printed}");
    let status = text(&server.verb(&["status"]));
    for feed in ["feed", "other"] {
        let missing = format!("feed {feed}: MISSING, none of its rules is in force\n");
        assert!(status.contains(&missing), "{status}");
    }
    assert!(!server.log().contains("ERROR"), "{}", server.log());
    let journal = text(&server.verb(&["journal", "show"]));
    assert!(journal.contains("generation 1"), "{journal}");
    assert!(!journal.contains("no transfer yet"), "{journal}");
    gate.open();
    until("it is in force", || feed(&server)["serial"] == 1);
}

#[test]
fn status_shows_how_far_the_first_transfer_is_and_then_the_state_of_the_feed() {
    let (gate, newest) = (Gate::default(), versions());
    let held = gate.clone();
    let primary = Primary::start(move |asked| {
        let mut steps = send(newest.answer(asked));
        if asked.rtype == tapis::wire::rtype::AXFR {
            steps.insert(1, Step::Wait(held.clone()));
        }
        steps
    });
    let (nobody, _port) = Primary::unreachable();
    let upstream = Upstream::plain();
    let config = config(&upstream, &primary, "")
        .replace("primaries = [", &format!("primaries = [\"{nobody}\", "));
    let server = Server::start(&config, &[]);
    let status = || text(&server.verb(&["status"]));
    let line = |status: &str| {
        let lines = status.lines();
        let mut lines = lines.skip_while(|line| !line.starts_with("feed feed: "));
        lines.nth(1).expect("a line of the feed").to_owned()
    };
    let progress = format!(
        "  no version yet, transferring 3 records from {}, 0.0 MiB, ",
        primary.address
    );
    until("the transfer is under way", || {
        line(&status()).starts_with(&progress)
    });
    let shown = status();
    assert!(shown.contains("feed feed: MISSING"), "{shown}");
    assert!(
        line(&shown).ends_with(" s, 1 of 2 primaries fails"),
        "{shown}"
    );
    gate.open();
    let state = "  serial 1, up to date, but not all primaries work: unreachable, confirmed ";
    until("it is in force", || line(&status()).starts_with(state));
    let shown = status();
    assert!(
        shown.contains("feed feed: 2 rules, 0 bad records\n"),
        "{shown}"
    );
    assert!(
        line(&shown).ends_with("s ago, 1 of 2 primaries fails"),
        "{shown}"
    );
    // The words are those of the other verbs.
    let state = state_of(&server);
    assert!(line(&shown).contains(&state), "{shown}");
}

#[test]
fn a_zone_whose_transfer_failed_is_not_compiled_in_another_directory() {
    let scene = Scene::start("\n[guard]\ngrow-percent = 0");
    let server = &scene.server;
    large(&scene.versions);
    let gate = Gate::default();
    let stalling = stalling(&scene.versions, [&gate, &gate]);
    scene.primary.play(move |asked| {
        let mut steps = stalling(asked);
        if asked.rtype != tapis::wire::rtype::SOA {
            steps.pop();
            steps.push(Step::Close);
        }
        steps
    });
    refresh(server);
    arrives(server);
    until("the compiler reads it", || compiler(server).is_some());
    // It can't write its image then.
    let (state, away) = (server.path("state"), server.path("away"));
    fs::rename(&state, &away).expect("renamed");
    gate.open();
    until("the transfer fails", || state_of(server) == "cut");
    until("the compiler has ended", || compiler(server).is_none());
    fs::rename(&away, &state).expect("renamed");
    assert!(feed(server)["held"].is_null());
    let newest = scene.versions.clone();
    scene.primary.play(move |asked| send(newest.answer(asked)));
    refresh(server);
    until("it is in force", || feed(server)["serial"] == 2);
    let log = server.log();
    assert_eq!(log.matches("compiling").count(), 2, "{log}");
    assert!(!log.contains("temporary directory"), "{log}");
    assert!(!log.contains("compilation failed"), "{log}");
}
