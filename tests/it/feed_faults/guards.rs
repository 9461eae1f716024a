//! The guard rails for lists hold for feeds.

use tapis::control::sources::feeds::fault::Fault;

use super::scene::{Scene, count};
use crate::feeds::{ZONE, blocks, feed, is_blocked, refresh};
use crate::support::client::until;
use crate::support::primary::{Rr, cname};
use crate::support::server::text;

/// Rules on this number of names.
pub(super) fn numbered(count: usize) -> Vec<Rr> {
    let names = (0..count).map(|number| format!("n{number}.example.{ZONE}"));
    names.map(|name| cname(&name, ".")).collect()
}

/// Asserts that the guard holds the second version until it is released by name.
fn is_held_until_released(scene: &Scene, guard: &str, reason: &str, blocked: &str) {
    let server = &scene.server;
    refresh(server);
    until("it is held", || feed(server)["held"]["serial"] == 2);
    scene.keeps_the_first_version();
    let status = server.status();
    assert_eq!(status["degraded"], true);
    assert_eq!(status["lists"][0]["state"], "held");
    assert_eq!(status["lists"][0]["guards"], serde_json::json!([guard]));
    let why = status["feeds"][0]["held"]["why"].as_str().expect("a text");
    assert!(why.contains(reason), "{why}");
    assert!(
        why.contains(&format!("tapis reload --accept feed:{guard}")),
        "{why}"
    );
    let shown = text(&server.verb(&["feed", "show", "feed"]));
    assert!(shown.contains("state      serial 2 is held\n"), "{shown}");
    assert!(shown.contains(why), "{shown}");
    // It is not transferred again and again.
    let asked = scene.primary.types().len();
    refresh(server);
    until("the serial is asked for", || {
        scene.primary.types().len() > asked
    });
    until("the fetch has ended", || feed(server)["transfer"].is_null());
    assert_eq!(scene.primary.types().len(), asked + 1);

    let others = ["shrunk", "grown", "bad"]
        .into_iter()
        .filter(|other| *other != guard);
    for other in others {
        let report = server.verb(&["reload", "--accept", &format!("feed:{other}")]);
        assert_eq!(report.status.code(), Some(1), "{}", text(&report));
        assert_eq!(server.status()["lists"][0]["state"], "held");
        scene.keeps_the_first_version();
    }
    let released = server.verb(&["reload", "--accept", &format!("feed:{guard}")]);
    assert!(released.status.success(), "{}", text(&released));
    until("serial 2 is in force", || feed(server)["serial"] == 2);
    assert!(is_blocked(server, blocked) && !is_blocked(server, "gone.example"));
    until("it is held no more", || feed(server)["held"].is_null());
    server.assert_well();
}

/// A version with this guard in the way is accepted by its name only.
fn scene(guard: &str, first: usize) -> Scene {
    let scene = Scene::start(&format!("\n[guard]\n{guard}"));
    if first > 0 {
        scene.versions.replace(|zone| {
            zone.serial = 1;
            zone.records.extend(numbered(first));
        });
        let done = scene.server.verb(&["feed", "refresh", "feed", "--whole"]);
        assert!(done.status.success(), "{done:?}");
        let last = format!("n{}.example", first - 1);
        until("the larger version", || is_blocked(&scene.server, &last));
    }
    scene
}

#[test]
fn a_version_that_lost_most_rules_is_held_until_released() {
    let scene = scene("shrink-percent = 30", 10);
    scene.versions.replace(|zone| zone.records = numbered(3));
    is_held_until_released(&scene, "shrunk", "fewer than the 12 in force", "n2.example");
}

#[test]
fn changes_that_take_most_rules_away_are_held_until_released() {
    let scene = scene("shrink-percent = 30", 10);
    let names: Vec<_> = (3..10).map(|number| format!("n{number}.example")).collect();
    let mut gone: Vec<_> = names.iter().map(String::as_str).collect();
    gone.push("gone.example");
    scene.versions.change(&gone, &[]);
    is_held_until_released(&scene, "shrunk", "fewer than the 12 in force", "n2.example");
}

#[test]
fn a_version_that_has_grown_too_much_is_held_until_released() {
    let scene = scene("grow-percent = 100", 0);
    scene.versions.replace(|zone| zone.records = numbered(1500));
    is_held_until_released(
        &scene,
        "grown",
        "750 times the 2 rules in force",
        "n1499.example",
    );
}

#[test]
fn a_version_with_mostly_bad_records_is_held_until_released() {
    let scene = scene("bad-percent = 50", 0);
    scene.versions.replace(|zone| {
        zone.records = numbered(2);
        zone.records.extend((0..5).map(|number| Rr {
            rtype: 39,
            ..cname(&format!("d{number}.{ZONE}"), "example")
        }));
    });
    is_held_until_released(&scene, "bad", "", "n1.example");
}

#[test]
fn a_rule_on_a_protected_name_is_left_out_whichever_way_it_comes() {
    let scene = Scene::start("\n[guard]\nprotect = \"protect\"");
    std::fs::write(scene.server.path("protect"), "bank.example\n").expect("written");
    let reloaded = scene.server.verb(&["reload"]);
    assert!(reloaded.status.success(), "{}", text(&reloaded));
    let left_out = |count: u64| {
        let list = scene.server.status()["lists"][0].clone();
        let counts = list["left_out"].as_array().expect("an array").iter();
        let sum: u64 = counts
            .map(|left| left["count"].as_u64().expect("a number"))
            .sum();
        assert_eq!(sum, count, "{list}");
    };
    scene
        .versions
        .change(&["gone.example"], &["new.example", "bank.example"]);
    refresh(&scene.server);
    blocks(
        &scene.server,
        2,
        &["kept.example", "new.example"],
        &["gone.example", "bank.example"],
    );
    left_out(1);
    scene.versions.replace(|_| {});
    refresh(&scene.server);
    blocks(
        &scene.server,
        3,
        &["kept.example", "new.example"],
        &["gone.example", "bank.example"],
    );
    left_out(1);
    assert_eq!(count(&feed(&scene.server), Fault::WholeZone), 1);
}
