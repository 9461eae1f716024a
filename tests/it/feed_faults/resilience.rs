//! Feeds beside the rest of the server: large transfers that stall or fail, restarts, rollbacks, other protected names.

use std::fs;
use std::process::Command;
use std::time::Duration;

use tapis::control::sources::feeds::fault::Fault;
use tapis::wire::rtype;

use super::guards::numbered;
use super::large::{arrives, compiler, large, spools, stalling, stalls};
use super::scene::{Scene, count, versions};
use crate::feeds::{Versions, ZONE, blocks, config, feed, is_blocked, refresh};
use crate::support::client::until;
use crate::support::primary::{Asked, Gate, Primary, Step, Zone, send};
use crate::support::server::{Server, list, text};
use crate::support::tls::Security;
use crate::support::upstream::Upstream;

/// A large list of this many names, with this one.
fn large_list(name: &str) -> String {
    let names = (0..60_000).map(|number| format!("name-{number}.large.example\n"));
    names.collect::<String>() + name + "\n"
}

#[test]
fn a_large_list_does_not_wait_for_a_large_transfer_that_stalls() {
    let versions = versions();
    let newest = versions.clone();
    let usual = move |asked: &Asked| send(newest.answer(asked));
    let mut scene = Scene::start_with(Security::Plain, versions, usual, |upstream, primary| {
        config(upstream, primary, "") + &list("ads", "") + "[guard]\ngrow-percent = 0\n"
    });
    let server = &scene.server;
    server.replace("ads", &large_list("before.example"));
    let is_listed = |name: &str| crate::support::client::is_blocked(server.address, name);
    until("the list", || is_listed("before.example"));
    large(&scene.versions);
    let [first, second] = [Gate::default(), Gate::default()];
    scene
        .primary
        .play(stalling(&scene.versions, [&first, &second]));
    refresh(server);
    arrives(server);
    until("the compiler reads it", || compiler(server).is_some());
    server.replace("ads", &large_list("after.example"));
    let reloaded = server.verb(&["reload"]);
    assert!(reloaded.status.success(), "{}", text(&reloaded));
    until("the list", || is_listed("after.example"));
    assert!(!is_listed("before.example"));
    assert_eq!(count(&feed(server), Fault::TooSlow), 0, "it still stalls");
    scene.keeps_the_first_version();
    // A slow transfer is no alarm.
    scene.clock.advance(Duration::from_secs(16));
    let records = || feed(server)["transfer"]["records"].as_u64();
    first.open();
    until("more has arrived", || records() >= Some(59_000));
    scene.clock.advance(Duration::from_secs(16));
    scene.server.assert_well();
    second.open();
    blocks(
        server,
        2,
        &["n0.example", "n59999.example"],
        &["kept.example"],
    );
    assert!(is_listed("after.example"));
    until("its file is gone", || spools(server) == 0);
    scene.server.assert_well();
}

#[test]
fn two_large_feeds_do_not_wait_for_each_other() {
    let (stuck, quick) = (versions(), Versions::new(1, &["quick.example"]));
    quick.replace(|zone| {
        zone.serial = 1;
        zone.name = crate::support::primary::name("quick.test");
        zone.records = numbered(60_000);
        for record in &mut zone.records {
            let owner = record.owner.to_string().replace("rpz.test", "quick.test");
            record.owner = crate::support::primary::name(&owner);
        }
        zone.per_message = 500;
    });
    large(&stuck);
    let [gate, start] = [Gate::default(), Gate::default()];
    let slow = Primary::start(stalling(&stuck, [&gate, &gate]));
    let (newest, wait) = (quick.clone(), start.clone());
    let fast = Primary::start(move |asked| {
        let wait = [Step::Wait(wait.clone())];
        wait.into_iter().chain(send(newest.answer(asked))).collect()
    });
    let upstream = Upstream::plain();
    let config = config(&upstream, &slow, "")
        + &format!(
            "[[feed]]\nname = \"quick\"\nzone = \"quick.test\"\nprimaries = [\"{}\"]\n",
            fast.address
        );
    let server = Server::start(&config, &[]);
    arrives(&server);
    until("the compiler reads it", || compiler(&server).is_some());
    start.open();
    until("the other one", || {
        server.status()["feeds"][1]["serial"] == 1
    });
    assert!(is_blocked(&server, "n59999.example"));
    assert!(feed(&server)["serial"].is_null());
    assert_eq!(count(&feed(&server), Fault::TooSlow), 0, "it still stalls");
    gate.open();
    until("both", || feed(&server)["serial"] == 2);
    server.assert_well();
}

#[test]
fn a_large_zone_is_transferred_again_after_its_compiler_was_killed() {
    let mut scene = Scene::start("\n[guard]\ngrow-percent = 0");
    let gate = stalls(&scene);
    let server = &scene.server;
    until("the compiler reads it", || compiler(server).is_some());
    let killed = compiler(server).expect("it runs");
    let done = Command::new("kill").args(["-s", "KILL", &killed]).status();
    assert!(done.expect("kill ran").success());
    until("the list is refused", || {
        let alarm = server.status()["lists"][0]["alarm"].to_string();
        alarm.contains("it is transferred again after a while, when the serial changes")
    });
    scene.keeps_the_first_version();
    gate.open();
    until("the transfer has ended", || {
        feed(server)["transfer"].is_null()
    });
    scene.clock.advance(Duration::from_secs(6));
    blocks(
        server,
        2,
        &["n0.example", "n59999.example"],
        &["kept.example"],
    );
    until("it is held no more", || feed(server)["held"].is_null());
    assert_eq!(
        feed(server)["faults"],
        serde_json::json!([["whole-zone", 2]])
    );
    server.assert_well();
}

#[test]
fn a_large_transfer_that_is_cut_leaves_nothing_behind() {
    let scene = Scene::start("");
    let before = scene.versions.newest();
    large(&scene.versions);
    let cut = scene.versions.clone();
    scene.primary.play(move |asked| {
        let mut steps = send(cut.answer(asked));
        if asked.rtype != rtype::SOA {
            steps.truncate(100);
            steps.push(Step::Close);
        }
        steps
    });
    refresh(&scene.server);
    scene.reports(Fault::Cut, "closed the connection");
    until("its file is gone", || spools(&scene.server) == 0);
    // The primary takes the version back: all is as before.
    scene.primary.play(move |asked| send(before.answer(asked)));
    refresh(&scene.server);
    until("the fault is over", || {
        feed(&scene.server)["primaries"][0]["fault"].is_null()
    });
    scene.keeps_the_first_version();
    scene.server.assert_well();
}

#[test]
fn a_restart_removes_the_files_of_transfers_and_shows_when_the_zone_was_confirmed() {
    let mut scene = Scene::start("");
    let server = &scene.server;
    until("the images are stored", || {
        server.path("state/current").exists()
    });
    until("they have the feed", || {
        feed(server)["confirmed"].is_string()
    });
    let confirmed = feed(server)["confirmed"].clone();
    server.assert_well();
    let gate = stalls(&scene);
    let server = &mut scene.server;
    server.signal("KILL");
    server.wait();
    assert_eq!(spools(server), 1);
    fs::write(server.path("state/notes.txt"), "of the operator").expect("written");
    scene.primary.close();
    let Scene {
        server,
        primary: _primary,
        _upstream,
        ..
    } = scene;
    let server = server.again();
    assert_eq!(spools(&server), 0);
    assert!(server.path("state/notes.txt").exists());
    assert!(is_blocked(&server, "gone.example"), "before any transfer");
    until("it is asked", || {
        count(&feed(&server), Fault::Unreachable) > 0
    });
    let after = feed(&server)["confirmed"].clone();
    let [before, after] = [confirmed, after].map(|at| {
        let at = at.as_str().expect("a time").to_owned();
        at.parse::<jiff::Timestamp>().expect("a time")
    });
    assert!(
        after <= before,
        "no primary has confirmed it since: {after}"
    );
    gate.open();
}

#[test]
fn a_restart_does_not_shorten_the_time_until_a_confirmed_zone_expires() {
    let mut scene = Scene::start("");
    until("the images are stored", || {
        scene.server.path("state/current").exists()
    });
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let asked = scene.primary.types().len();
    scene.clock.advance(hours(20));
    refresh(&scene.server);
    until("it is confirmed", || scene.primary.types().len() > asked);
    let time = |scene: &Scene| {
        let confirmed = feed(&scene.server)["confirmed"].clone();
        let text = confirmed.as_str().expect("a time").to_owned();
        text.parse::<jiff::Timestamp>().expect("a time")
    };
    let now = jiff::Timestamp::now();
    until("it is confirmed", || {
        time(&scene).duration_since(now).as_hours() >= 19
    });
    let confirmed = time(&scene);
    scene.primary.close();
    scene.restart();
    until("it is asked", || {
        count(&feed(&scene.server), Fault::Unreachable) > 0
    });
    // EXPIRE is 24 hours. A confirmation within a quarter of that after one that was stored is not stored.
    let lost = confirmed.duration_since(time(&scene));
    assert!((0..6).contains(&lost.as_hours()), "{lost}");
    scene.clock.advance(hours(23));
    refresh(&scene.server);
    until("it is asked again", || {
        count(&feed(&scene.server), Fault::Unreachable) > 1
    });
    assert_eq!(feed(&scene.server)["is_expired"], false);
    scene.clock.advance(hours(2));
    until("it expires", || feed(&scene.server)["is_expired"] == true);
}

/// Rolls the second version back to the first one, once that is saved.
fn roll_back(scene: &Scene) {
    let server = &scene.server;
    let generation = server.status()["generation"].as_u64().expect("a number");
    until("the images are saved", || {
        let kept = fs::read_to_string(server.path("state/current")).unwrap_or_default();
        kept.contains(&format!("\"generation\":{generation}"))
            || kept.contains(&format!("\"generation\": {generation}"))
    });
    scene.next_version();
    refresh(server);
    scene.has_the_second_version();
    let done = server.verb(&["rollback", &generation.to_string()]);
    assert!(text(&done).contains("in force"), "{}", text(&done));
}

#[test]
fn a_version_that_a_rollback_took_back_returns_after_the_release() {
    let scene = Scene::start("");
    let server = &scene.server;
    roll_back(&scene);
    scene.keeps_the_first_version();
    let asked = scene.primary.asked().len();
    refresh(server);
    until("the newer version is held", || {
        feed(server)["held"]["serial"] == 2
    });
    let why = feed(server)["held"]["why"].to_string();
    let remedy = "to use newer versions again: tapis rollback --release";
    assert!(why.contains(remedy), "{why}");
    scene.keeps_the_first_version();
    assert_eq!(
        scene.primary.types()[asked..],
        [rtype::SOA],
        "nothing is transferred"
    );
    let released = server.verb(&["rollback", "--release"]);
    assert!(released.status.success(), "{}", text(&released));
    scene.has_the_second_version();
    until("it is held no more", || feed(server)["held"].is_null());
    server.assert_well();
}

#[test]
fn a_feed_that_is_added_during_a_rollback_comes_into_force_after_the_release() {
    let scene = Scene::start("");
    let server = &scene.server;
    roll_back(&scene);
    let primary = Primary::serving(Zone::new("other.test", 7, &["bad.example"]));
    let config = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    let section = format!(
        "[[feed]]\nname = \"other\"\nzone = \"other.test\"\nprimaries = [\"{}\"]\n",
        primary.address
    );
    fs::write(server.path("tapis.toml"), config + &section).expect("written");
    let reloaded = server.verb(&["reload"]);
    assert!(!reloaded.status.success(), "{}", text(&reloaded));
    let refreshed = server.verb(&["feed", "refresh", "other"]);
    assert!(!refreshed.status.success(), "{}", text(&refreshed));
    assert!(!is_blocked(server, "bad.example"));
    let released = server.verb(&["rollback", "--release"]);
    assert!(released.status.success(), "{}", text(&released));
    until("the feed is in force", || is_blocked(server, "bad.example"));
    scene.has_the_second_version();
    until("there is no alarm", || server.status()["degraded"] == false);
}

#[test]
fn the_rules_of_a_feed_are_checked_again_when_other_names_are_protected() {
    let scene = Scene::start("\n[guard]\nprotect = \"protect\"");
    let server = &scene.server;
    let gate = Gate::default();
    let (held, newest) = (gate.clone(), scene.versions.clone());
    scene.primary.play(move |asked| match asked.rtype {
        rtype::SOA => send(newest.answer(asked)),
        _ => [Step::Wait(held.clone())]
            .into_iter()
            .chain(send(newest.answer(asked)))
            .collect(),
    });
    fs::write(server.path("protect"), "gone.example\n").expect("written");
    let reloaded = server.verb(&["reload"]);
    assert!(
        reloaded.status.success(),
        "nobody waits for the primary: {}",
        text(&reloaded)
    );
    until("the zone is transferred again", || {
        scene.whole_transfers() == 2
    });
    scene.keeps_the_first_version();
    gate.open();
    until("the rule is left out", || {
        !is_blocked(server, "gone.example")
    });
    assert!(is_blocked(server, "kept.example"));
    assert_eq!(feed(server)["serial"], 1);
    fs::write(server.path("protect"), "").expect("written");
    assert!(server.verb(&["reload"]).status.success());
    until("the rule is back", || is_blocked(server, "gone.example"));
    assert_eq!(scene.whole_transfers(), 3, "once for each change");
    server.assert_well();
}

#[test]
fn changes_are_transferred_while_a_primary_refuses_the_whole_zone_that_a_check_needs() {
    let scene = Scene::start("\n[guard]\nprotect = \"protect\"");
    let server = &scene.server;
    let newest = scene.versions.clone();
    scene.primary.play(move |asked| match asked.rtype {
        rtype::AXFR => newest.newest().refusal(asked, 5),
        _ => send(newest.answer(asked)),
    });
    fs::write(server.path("protect"), "kept.example\n").expect("written");
    assert!(server.verb(&["reload"]).status.success());
    until("it is refused", || count(&feed(server), Fault::Refused) > 0);
    scene.next_version();
    refresh(server);
    scene.has_the_second_version();
    let newest = scene.versions.clone();
    scene.primary.play(move |asked| send(newest.answer(asked)));
    refresh(server);
    until("the rules are checked", || {
        !is_blocked(server, "kept.example")
    });
    assert!(is_blocked(server, "new.example"));
    server.assert_well();
}

#[test]
fn a_version_that_a_guard_holds_is_checked_again_when_the_guard_changes() {
    let scene = Scene::start("\n[guard]\ngrow-percent = 100");
    let server = &scene.server;
    scene.versions.replace(|zone| zone.records = numbered(1500));
    refresh(server);
    until("it is held", || feed(server)["held"]["serial"] == 2);
    let config = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    let config = config.replace("grow-percent = 100", "grow-percent = 0");
    fs::write(server.path("tapis.toml"), config).expect("written");
    let reloaded = server.verb(&["reload"]);
    assert_ne!(reloaded.status.code(), None, "{}", text(&reloaded));
    until("it is in force", || feed(server)["serial"] == 2);
    assert!(is_blocked(server, "n1499.example"));
    until("it is held no more", || feed(server)["held"].is_null());
    server.assert_well();
}

#[test]
fn the_first_version_is_accepted_by_the_name_of_the_guard() {
    let versions = Versions::new(1, &["good.example"]);
    versions.replace(|zone| {
        zone.serial = 1;
        let bad = numbered(5)
            .into_iter()
            .map(|record| crate::support::primary::Rr {
                rtype: 39,
                ..record
            });
        zone.records.extend(bad);
    });
    let (upstream, primary) = (Upstream::plain(), versions.primary());
    let server = Server::start(&config(&upstream, &primary, ""), &[]);
    until("it is held", || feed(&server)["held"]["serial"] == 1);
    assert!(!is_blocked(&server, "good.example"));
    let released = server.verb(&["reload", "--accept", "feed:bad"]);
    assert!(text(&released).contains("feed"), "{}", text(&released));
    blocks(&server, 1, &["good.example"], &["n0.example"]);
    until("it is held no more", || feed(&server)["held"].is_null());
}

#[test]
fn many_requests_during_a_transfer_are_taken() {
    let scene = Scene::start("");
    let gate = Gate::default();
    scene.next_version();
    scene
        .primary
        .play(stalling(&scene.versions, [&gate, &gate]));
    for _ in 0..40 {
        refresh(&scene.server);
    }
    gate.open();
    scene.has_the_second_version();
}

#[test]
fn an_older_version_does_not_come_into_force_when_other_names_are_protected() {
    let scene = Scene::start("\n[guard]\nprotect = \"protect\"");
    let server = &scene.server;
    let first = scene.versions.newest();
    scene.next_version();
    refresh(server);
    scene.has_the_second_version();
    scene.primary.play(move |asked| send(first.answer(asked)));
    fs::write(server.path("protect"), "gone.example\n").expect("written");
    assert!(server.verb(&["reload"]).status.success());
    until("the primary is behind", || {
        feed(server)["primaries"][0]["fault"] == Fault::SerialGoneBack.name()
    });
    scene.has_the_second_version();
    let done = server.verb(&["feed", "refresh", "feed", "--whole"]);
    assert!(done.status.success(), "{}", text(&done));
    blocks(server, 1, &["kept.example"], &["new.example"]);
}

#[test]
fn a_primary_that_fails_again_and_again_is_asked_less_often_until_the_operator_wants_it() {
    let mut scene = Scene::start("retry-secs = 5");
    scene
        .primary
        .play(|asked| Zone::new(ZONE, 1, &[]).refusal(asked, 5));
    let failures = |server: &Server| feed(server)["primaries"][0]["failures"].clone();
    let fails = |scene: &Scene, times: u64| {
        until("it fails again", || failures(&scene.server) == times);
    };
    refresh(&scene.server);
    fails(&scene, 1);
    scene.clock.advance(Duration::from_secs(5));
    fails(&scene, 2);
    // The second pause is 7.5 s at least.
    scene.clock.advance(Duration::from_secs(6));
    for _ in 0..9 {
        assert_eq!(failures(&scene.server), 2, "it is paused");
    }
    scene.clock.advance(Duration::from_secs(4));
    fails(&scene, 3);
    refresh(&scene.server);
    fails(&scene, 4);
}

#[test]
fn a_transfer_that_takes_minutes_is_logged_while_it_goes_on() {
    let mut scene = Scene::start("");
    let gates = [(); 4].map(|()| Gate::default());
    let held = gates.clone();
    // A primary that sends less than 60 KiB a minute is given up.
    scene.versions.replace(|zone| {
        zone.records = numbered(5000);
        zone.per_message = 1000;
    });
    let newest = scene.versions.clone();
    scene.primary.play(move |asked| {
        let messages = newest.answer(asked);
        let gates = held.iter().map(|gate| Some(gate.clone()));
        let mut gates = gates.chain(std::iter::repeat(None));
        let steps = messages.into_iter().flat_map(|message| {
            let gate = gates.next().flatten().filter(|_| asked.rtype != rtype::SOA);
            [Some(Step::Send(message)), gate.map(Step::Wait)]
        });
        steps.flatten().collect()
    });
    refresh(&scene.server);
    for (gate, records) in gates.iter().zip([1000, 2000, 3000, 4000]) {
        until("a message has arrived", || {
            feed(&scene.server)["transfer"]["records"] == records
        });
        scene.clock.advance(Duration::from_secs(20));
        if records == 3000 {
            let log = scene.server.logged("zone is being transferred");
            assert!(log.contains("records=3000"), "{log}");
        }
        gate.open();
    }
    // A guard holds it, as it has far more rules than the version in force.
    until("it has arrived", || {
        feed(&scene.server)["held"]["serial"] == 2
    });
}
