//! The guard rails for lists hold for feeds.

use std::time::Duration;

use tapis::control::sources::feeds::fault::Fault;

use super::scene::{Scene, count};
use crate::feeds::{ZONE, blocks, feed, is_blocked, refresh};
use crate::support::client::until;
use crate::support::primary::{Rr, cname, send};
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
    let reason = "5 of 7 records are bad, the first in record 3";
    is_held_until_released(&scene, "bad", reason, "n1.example");
}

#[test]
fn a_rule_on_a_protected_name_is_left_out_whichever_way_it_comes() {
    let scene = Scene::start("\n[guard]\nprotect = \"protect\"");
    std::fs::write(scene.server.path("protect"), "bank.example\n").expect("written");
    let reloaded = scene.server.verb(&["reload"]);
    assert!(reloaded.status.success(), "{}", text(&reloaded));
    let printed = |arguments: &[&str]| text(&scene.server.verb(arguments));
    let why = printed(&["why", "kept.example"]);
    assert!(why.contains("by feed feed\n"), "{why}");
    assert!(why.contains("(block, feed feed, zone:rpz.test)"), "{why}");
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
    let place = "  zone:rpz.test: record ";
    let status = printed(&["status"]);
    assert!(status.contains(place), "{status}");
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

#[test]
fn why_names_the_rules_of_a_feed_that_a_guard_left_out() {
    let scene = Scene::start("\n[guard]\nprotect = \"protect\"\ngrow-percent = 0");
    std::fs::write(scene.server.path("protect"), "bank.shop.example\n").expect("written");
    let reloaded = scene.server.verb(&["reload"]);
    assert!(reloaded.status.success(), "{}", text(&reloaded));
    scene.versions.change(
        &["gone.example"],
        &["bank.shop.example", "*.shop.example", "www.shop.example"],
    );
    refresh(&scene.server);
    let (blocked, others) = (
        ["www.shop.example"],
        ["bank.shop.example", "x.shop.example"],
    );
    blocks(&scene.server, 2, &blocked, &others);
    let why = |name: &str| text(&scene.server.verb(&["why", name]));
    let exact = ": bank.shop.example: it covers bank.shop.example, which is protected\n";
    let below = ": *.shop.example: it covers bank.shop.example, which is protected\n";
    for (name, decision, rules) in [
        ("bank.shop.example", "upstream\n", &[exact, below][..]),
        ("x.shop.example", "upstream\n", &[below]),
        ("www.shop.example", "blocked by feed feed\n", &[below]),
        ("shop.example", "upstream\n", &[]),
    ] {
        let why = why(name);
        assert!(why.starts_with(&format!("{name}: {decision}")), "{why}");
        let lines = why.lines().filter(|line| line.starts_with("  left out: "));
        assert_eq!(lines.count(), rules.len(), "{why}");
        for rule in rules {
            let is_named = why.lines().any(|line| {
                let line = format!("{line}\n");
                line.starts_with("  left out: feed: zone:rpz.test: record ") && line.ends_with(rule)
            });
            assert!(is_named, "{rule} is not in: {why}");
        }
    }
    // Rules on numbers are left out, too. The first thousand rules of all are remembered.
    scene.versions.replace(|zone| {
        zone.records = numbered(3);
        let numbers = (0..1002).map(|number| format!("a.{number}.{ZONE}"));
        zone.records.extend(numbers.map(|name| cname(&name, ".")));
        zone.per_message = 100;
    });
    refresh(&scene.server);
    blocks(&scene.server, 3, &["n0.example"], &["kept.example"]);
    let known = why("a.7");
    assert!(known.contains(": a.7: it is a number"), "{known}");
    let unknown = why("a.1001");
    let number = "  left out: feed: zone:rpz.test: 2 more rules, of which the server knows only the number: whether one of \
                  them matches a.1001 is not known\n";
    assert!(unknown.contains(number), "{unknown}");
}

/// The lines of the log, and the entries of the journal, that have this text.
fn reports(scene: &Scene, text_of_both: &str) -> (usize, usize) {
    let log = scene.server.log();
    let logged = log.lines().filter(|line| line.contains(text_of_both));
    let journal = text(&scene.server.verb(&["journal", "show"]));
    let recorded = journal.lines().filter(|line| line.contains(text_of_both));
    (logged.count(), recorded.count())
}

/// Makes the feed ask its primary, and waits for the end.
fn ask_primary(scene: &Scene) {
    scene.server.verb(&["feed", "refresh", "feed"]);
}

#[test]
fn rules_that_are_left_out_are_logged_only_when_they_are_new() {
    let scene = Scene::start("\n[guard]\nprotect = \"protect\"");
    std::fs::write(scene.server.path("protect"), "bank.example\nshop.example\n").expect("written");
    let reloaded = scene.server.verb(&["reload"]);
    assert!(reloaded.status.success(), "{}", text(&reloaded));
    let bad = Rr {
        rtype: 39,
        ..cname(&format!("d.example.{ZONE}"), "example")
    };
    let protected = cname(&format!("bank.example.{ZONE}"), ".");
    scene
        .versions
        .change_records(Vec::new(), vec![protected, bad]);
    ask_primary(&scene);
    blocks(&scene.server, 2, &["kept.example"], &["bank.example"]);
    for serial in 3..6 {
        scene.versions.change(&[], &[&format!("n{serial}.example")]);
        ask_primary(&scene);
    }
    scene.versions.change(&[], &["shop.example"]);
    ask_primary(&scene);
    scene.versions.replace(|_| {});
    ask_primary(&scene);
    blocks(&scene.server, 7, &["n5.example"], &["shop.example"]);
    let log = scene.server.logged("serial=7");
    for once in [
        "rule=\"bank.example\"",
        "rule=\"shop.example\"",
        "d.example.rpz.test. DNAME",
    ] {
        let lines: Vec<_> = log.lines().filter(|line| line.contains(once)).collect();
        assert_eq!(lines.len(), 1, "{once}: {lines:?}");
    }
}

#[test]
fn changes_that_never_fit_are_logged_and_recorded_once_an_hour() {
    let mut scene = Scene::start("");
    let newest = scene.versions.clone();
    scene.primary.play(move |asked| match asked.serial {
        Some(ours) => {
            let zone = newest.newest();
            let unknown = [cname(&format!("unknown.example.{ZONE}"), ".")];
            let changes = zone.changes(&[(ours, &unknown, zone.serial, &[])]);
            send(zone.messages(asked, &changes))
        }
        None => send(newest.answer(asked)),
    });
    let next = |scene: &Scene, serial: u64| {
        scene.versions.replace(|_| {});
        ask_primary(scene);
        until("the whole zone is in force", || {
            feed(&scene.server)["serial"] == serial
        });
    };
    for serial in 2..6 {
        next(&scene, serial);
    }
    assert_eq!(count(&feed(&scene.server), Fault::BrokenChanges), 4);
    let broken = "the changes do not fit";
    assert_eq!(reports(&scene, broken), (1, 1));
    scene.clock.advance(Duration::from_secs(3601));
    next(&scene, 6);
    assert_eq!(reports(&scene, broken), (2, 2));
    scene.server.logged("unreported=3");
    let journal = text(&scene.server.verb(&["journal", "show"]));
    assert!(
        journal.contains("3 more since the last report"),
        "{journal}"
    );
}

#[test]
fn versions_that_a_guard_rejects_one_after_the_other_are_logged_and_recorded_once() {
    let scene = scene("shrink-percent = 30", 10);
    let held = |serial: u64| {
        ask_primary(&scene);
        until("it is held", || {
            feed(&scene.server)["held"]["serial"] == serial
        });
    };
    for (serial, rules) in [(2, 1), (3, 2), (4, 3)] {
        scene
            .versions
            .replace(|zone| zone.records = numbered(rules));
        held(serial);
    }
    assert_eq!(reports(&scene, "fewer than the 12 in force"), (1, 1));
    scene.versions.replace(|zone| zone.records = numbered(13));
    ask_primary(&scene);
    blocks(&scene.server, 5, &["n12.example"], &[]);
    let recovered = scene.server.logged("version accepted after rejected ones");
    assert!(recovered.contains("unreported=2"), "{recovered}");
    scene.versions.replace(|zone| zone.records = numbered(2));
    held(6);
    assert_eq!(
        reports(&scene, "fewer than the 13 in force"),
        (1, 1),
        "a good version was in force meanwhile"
    );
}

#[test]
fn changes_that_delete_all_rules_do_not_advise_to_accept_a_zone_that_is_then_refused() {
    let scene = Scene::start("");
    scene
        .versions
        .change(&["kept.example", "gone.example"], &[]);
    ask_primary(&scene);
    until("the whole zone is empty", || {
        feed(&scene.server)["primaries"][0]["fault"] == Fault::EmptyZone.name()
    });
    scene.keeps_the_first_version();
    let status = text(&scene.server.verb(&["status"]));
    assert!(!status.contains("--accept"), "{status}");
    assert!(status.contains("set policy = \"disabled\""), "{status}");
}

#[test]
fn changes_and_the_whole_zone_that_a_guard_rejects_alike_are_recorded_once() {
    let scene = scene("shrink-percent = 30", 10);
    let names: Vec<_> = (1..10).map(|number| format!("n{number}.example")).collect();
    let gone: Vec<_> = names.iter().map(String::as_str).collect();
    scene.versions.change(&gone, &[]);
    ask_primary(&scene);
    until("it is held", || feed(&scene.server)["held"]["serial"] == 2);
    assert_eq!(reports(&scene, "fewer than the 12 in force"), (1, 1));
}
