//! What the operator and the guard rails demand of a feed is met, whatever happens until then.

use std::fs;
use std::time::Duration;

use tapis::control::sources::feeds::fault::Fault;
use tapis::wire::rtype;

use super::large::{large, stalling, without_state_dir};
use super::scene::{Scene, count, versions};
use crate::feeds::{ZONE, blocks, config, feed, is_blocked, refresh};
use crate::support::client::until;
use crate::support::primary::{Gate, Step, cname, send};
use crate::support::server::{Server, text};
use crate::support::upstream::Upstream;

/// Replaces a text in the configuration of the server, and reloads it.
fn reconfigure(server: &Server, from: &str, to: &str) {
    let config = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    assert!(config.contains(from), "{config}");
    let config = config.replace(from, to);
    fs::write(server.path("tapis.toml"), config).expect("written");
    reload(server);
}

fn reload(server: &Server) {
    let reloaded = server.verb(&["reload"]);
    assert!(reloaded.status.success(), "{}", text(&reloaded));
}

#[test]
fn rules_are_checked_against_other_protected_names_although_the_feed_is_changed_before_that() {
    let scene = Scene::start("\n[guard]\nprotect = \"protect\"");
    let server = &scene.server;
    scene.primary.close();
    fs::write(server.path("protect"), "gone.example\n").expect("written");
    reload(server);
    until("it is asked in vain", || {
        count(&feed(server), Fault::Unreachable) > 0
    });
    scene.keeps_the_first_version();
    let other = scene.versions.primary();
    let [before, after] = [scene.primary.address, other.address].map(|address| address.to_string());
    reconfigure(server, &before, &after);
    until("the rule is left out", || {
        !is_blocked(server, "gone.example")
    });
    assert!(is_blocked(server, "kept.example"));
    assert_eq!(feed(server)["serial"], 1);
    server.assert_well();
}

#[test]
fn the_rules_of_a_large_zone_are_checked_against_other_protected_names() {
    let scene = Scene::start("\n[guard]\nprotect = \"protect\"\ngrow-percent = 0");
    let server = &scene.server;
    large(&scene.versions);
    refresh(server);
    until("it is in force", || feed(server)["serial"] == 2);
    fs::write(server.path("protect"), "n7.example\n").expect("written");
    reload(server);
    until("the rule is left out", || !is_blocked(server, "n7.example"));
    assert!(is_blocked(server, "n8.example"));
}

#[test]
fn rules_are_checked_against_other_protected_names_although_the_whole_zone_is_held_at_first() {
    let scene = Scene::start("\n[guard]\nprotect = \"protect\"\nbad-percent = 50");
    let server = &scene.server;
    scene.versions.change(&[], &["second.example"]);
    let newest = scene.versions.clone();
    scene.primary.play(move |asked| {
        let mut zone = newest.newest();
        if asked.rtype == rtype::AXFR {
            let bad = (0..9).map(|number| cname(&format!("n{number}.rpz-nsdname.{ZONE}"), "."));
            zone.records = bad.collect();
        }
        send(zone.answer(asked))
    });
    fs::write(server.path("protect"), "gone.example\n").expect("written");
    reload(server);
    until("it is held", || feed(server)["held"]["serial"] == 2);
    let newest = scene.versions.clone();
    scene.primary.play(move |asked| send(newest.answer(asked)));
    scene.versions.change(&[], &["third.example"]);
    refresh(server);
    until("the changes are in force", || {
        is_blocked(server, "third.example")
    });
    until("the rule is left out", || {
        !is_blocked(server, "gone.example")
    });
    assert!(is_blocked(server, "kept.example") && is_blocked(server, "second.example"));
}

/// Requests the feed many times while it transfers the second version, until the gate is opened.
fn request_often_during_a_transfer(scene: &Scene) -> Gate {
    scene.next_version();
    let gate = Gate::default();
    scene
        .primary
        .play(stalling(&scene.versions, [&gate, &gate]));
    refresh(&scene.server);
    until("a transfer is under way", || {
        scene.primary.types().contains(&rtype::IXFR)
    });
    for _ in 0..20 {
        refresh(&scene.server);
    }
    gate
}

#[test]
fn a_request_for_the_whole_zone_is_met_after_many_others_during_a_transfer() {
    let scene = Scene::start("");
    let gate = request_often_during_a_transfer(&scene);
    let arguments = ["feed", "refresh", "feed", "--whole", "--no-wait"];
    let whole = scene.server.verb(&arguments);
    assert!(whole.status.success(), "{}", text(&whole));
    assert_eq!(scene.whole_transfers(), 1);
    gate.open();
    until("the whole zone is transferred", || {
        scene.whole_transfers() == 2
    });
    scene.has_the_second_version();
}

#[test]
fn rules_are_checked_against_other_protected_names_after_many_requests_during_a_transfer() {
    let scene = Scene::start("\n[guard]\nprotect = \"protect\"");
    let server = &scene.server;
    let gate = request_often_during_a_transfer(&scene);
    fs::write(server.path("protect"), "kept.example\n").expect("written");
    reload(server);
    gate.open();
    until("the rule is left out", || {
        !is_blocked(server, "kept.example")
    });
    blocks(server, 2, &["new.example"], &["gone.example"]);
}

#[test]
fn a_request_for_the_whole_zone_is_met_although_the_feed_is_changed_before_that() {
    let scene = Scene::start("");
    let server = &scene.server;
    scene.next_version();
    let gate = Gate::default();
    let (held, newest) = (gate.clone(), scene.versions.clone());
    scene.primary.play(move |asked| {
        let wait = [Step::Wait(held.clone())];
        wait.into_iter().chain(send(newest.answer(asked))).collect()
    });
    let asked = scene.primary.types().len();
    refresh(server);
    until("the primary is asked", || {
        scene.primary.types().len() > asked
    });
    let whole = server.verb(&["feed", "refresh", "feed", "--whole", "--no-wait"]);
    assert!(whole.status.success(), "{}", text(&whole));
    reconfigure(
        server,
        "zone = \"rpz.test\"",
        "zone = \"rpz.test\"\nmax-records = 1000",
    );
    gate.open();
    scene.has_the_second_version();
    assert_eq!(scene.whole_transfers(), 2);
}

#[test]
fn a_changed_feed_keeps_its_counters_and_the_time_of_its_last_confirmation() {
    let mut scene = Scene::start("");
    until("the images are stored", || {
        scene.server.path("state/current").exists()
    });
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let confirmed = |scene: &Scene| feed(&scene.server)["confirmed"].clone();
    // It is not stored so soon after the transfer.
    let transferred = confirmed(&scene);
    scene.clock.advance(hours(5));
    refresh(&scene.server);
    until("it is confirmed", || confirmed(&scene) != transferred);
    scene.primary.close();
    // EXPIRE is 24 hours.
    scene.clock.advance(hours(20));
    refresh(&scene.server);
    let failures = |scene: &Scene| count(&feed(&scene.server), Fault::Unreachable);
    until("it is asked in vain", || failures(&scene) > 1);
    let (known, before) = (confirmed(&scene), failures(&scene));
    reconfigure(
        &scene.server,
        "zone = \"rpz.test\"",
        "zone = \"rpz.test\"\nmax-records = 1000",
    );
    until("it is asked again", || failures(&scene) > before);
    assert_eq!(confirmed(&scene), known);
    assert_eq!(feed(&scene.server)["is_expired"], false);
    scene.clock.advance(hours(5));
    until("it expires", || feed(&scene.server)["is_expired"] == true);
}

#[test]
fn a_zone_that_expires_before_it_is_to_be_refreshed_is_refreshed_earlier() {
    let mut scene = Scene::start("max-age-hours = 1\n");
    scene.primary.play({
        let mut zone = scene.versions.newest();
        zone.refresh_secs = 7200;
        move |asked| send(zone.answer(asked))
    });
    refresh(&scene.server);
    for _ in 0..4 {
        let asked = scene.primary.types().len();
        scene.clock.advance(Duration::from_secs(1801));
        until("it is asked", || scene.primary.types().len() > asked);
        until("it has answered", || {
            feed(&scene.server)["is_current"] == true
        });
    }
    assert_eq!(count(&feed(&scene.server), Fault::Expired), 0);
}

#[test]
fn a_directory_that_can_not_be_written_to_is_a_problem_until_a_transfer_is_written_there() {
    let versions = versions();
    let small = versions.newest();
    let (upstream, primary) = (Upstream::plain(), versions.primary());
    let config = config(&upstream, &primary, "\n[guard]\ngrow-percent = 0");
    let (server, temporary) = without_state_dir(&config);
    until("it is in force", || feed(&server)["serial"] == 1);
    let problem = || feed(&server)["local"][0]["problem"].clone();
    let ask = || server.verb(&["feed", "refresh", "feed"]);
    large(&versions);
    assert!(!ask().status.success());
    assert_eq!(problem(), "not-written");
    let text = feed(&server)["local"][0]["text"].to_string();
    primary.play(move |asked| send(small.answer(asked)));
    ask();
    assert_eq!(feed(&server)["is_current"], true);
    assert_eq!(problem(), "not-written", "nothing was written");
    assert!(text.contains("No such file or directory"), "{text}");
    fs::create_dir(&temporary).expect("created");
    let newest = versions.clone();
    primary.play(move |asked| send(newest.answer(asked)));
    assert!(ask().status.success());
    assert_eq!(feed(&server)["local"], serde_json::json!([]));
    assert!(is_blocked(&server, "n59999.example"));
}
