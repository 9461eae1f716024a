//! Feeds with two primaries: which one is asked, and what happens when one of them is wrong.

use std::time::Duration;

use tapis::control::sources::feeds::fault::Fault;
use tapis::wire::rtype;

use super::scene::{count, versions};
use crate::feeds::{Versions, ZONE, blocks, config, feed, refresh};
use crate::support::client::until;
use crate::support::primary::{Primary, Silent, Step, Zone, send};
use crate::support::server::{Server, text};
use crate::support::upstream::Upstream;

/// A server whose feed has these two primaries.
fn start(upstream: &Upstream, [first, second]: [&Primary; 2]) -> Server {
    let one = format!("[\"{}\"]", first.address);
    let two = format!("[\"{}\", \"{}\"]", first.address, second.address);
    Server::start(&config(upstream, first, "").replace(&one, &two), &[])
}

fn kept(server: &Server) {
    blocks(
        server,
        1,
        &["kept.example", "gone.example"],
        &["new.example"],
    );
}

fn changed(server: &Server) {
    blocks(
        server,
        2,
        &["kept.example", "new.example"],
        &["gone.example"],
    );
}

/// A primary that has not loaded the zone.
fn not_loaded() -> Primary {
    Primary::start(|asked| Zone::new(ZONE, 1, &[]).refusal(asked, 2))
}

fn serves(primary: &Primary, versions: &Versions) {
    let versions = versions.clone();
    primary.play(move |asked| send(versions.answer(asked)));
}

#[test]
fn the_second_primary_is_asked_if_the_first_one_fails_and_that_is_no_alarm() {
    let (upstream, versions) = (Upstream::plain(), versions());
    let (first, second) = (not_loaded(), versions.primary());
    let server = start(&upstream, [&first, &second]);
    kept(&server);
    until("both are reported", || feed(&server)["transfer"].is_null());
    let found = feed(&server);
    assert_eq!(found["primaries"][0]["fault"], Fault::NotLoaded.name());
    assert!(found["primaries"][1]["fault"].is_null(), "{found}");
    server.assert_well();
    let shown = text(&server.verb(&["feed", "show", "feed"]));
    assert!(shown.contains(Fault::NotLoaded.remedy()), "{shown}");
    let state = "up to date, but not all primaries work: not-loaded\n";
    assert!(shown.contains(&format!("state      {state}")), "{shown}");
    let listed = text(&server.verb(&["feed", "list"]));
    assert!(listed.ends_with(state), "{listed}");
    // The one that failed is paused; it is asked again when the other one fails.
    let asked = first.types().len();
    versions.change(&["gone.example"], &["new.example"]);
    refresh(&server);
    changed(&server);
    assert_eq!(first.types().len(), asked, "it is paused");
    serves(&first, &versions);
    second.close();
    versions.change(&["new.example"], &["gone.example"]);
    refresh(&server);
    blocks(
        &server,
        3,
        &["kept.example", "gone.example"],
        &["new.example"],
    );
    until("it has recovered", || {
        feed(&server)["primaries"][0]["fault"].is_null()
    });
    assert_eq!(
        feed(&server)["primaries"][1]["fault"],
        Fault::Unreachable.name()
    );
    server.assert_well();
}

#[test]
fn the_fastest_primary_is_asked_first() {
    let (upstream, versions) = (Upstream::plain(), versions());
    let later = versions.clone();
    let slow = Primary::start(move |asked| {
        std::thread::sleep(Duration::from_millis(500));
        send(later.answer(asked))
    });
    let fast = versions.primary();
    let server = start(&upstream, [&slow, &fast]);
    kept(&server);
    let asked = slow.types().len();
    for serial in 2..6 {
        let name = format!("n{serial}.example");
        versions.change(&[], &[&name]);
        refresh(&server);
        blocks(&server, serial, &[&name], &[]);
    }
    assert_eq!(slow.types().len(), asked, "the other one is faster");
    assert!(fast.types().contains(&rtype::IXFR), "{:?}", fast.types());
}

#[test]
fn the_alarm_names_the_faults_of_both_primaries_if_both_fail() {
    let (upstream, versions) = (Upstream::plain(), versions());
    let (first, second) = (versions.primary(), versions.primary());
    let server = start(&upstream, [&first, &second]);
    kept(&server);
    versions.change(&["gone.example"], &["new.example"]);
    first.play(|asked| Zone::new(ZONE, 2, &[]).refusal(asked, 5));
    second.play(|asked| send(Zone::new(ZONE, 2, &[]).answer(asked)));
    refresh(&server);
    until("both fail", || {
        let primaries = feed(&server)["primaries"].clone();
        !primaries[0]["fault"].is_null() && !primaries[1]["fault"].is_null()
    });
    kept(&server);
    let found = feed(&server);
    assert_eq!(count(&found, Fault::Refused), 1);
    assert_eq!(count(&found, Fault::EmptyZone), 1);
    let alarms = server.status()["alarms"].to_string();
    for fault in [Fault::Refused, Fault::EmptyZone] {
        assert!(alarms.contains(fault.remedy()), "{alarms}");
    }
    serves(&first, &versions);
    serves(&second, &versions);
    refresh(&server);
    changed(&server);
}

#[test]
fn a_request_for_the_whole_zone_outlasts_a_primary_that_fails() {
    let (upstream, versions) = (Upstream::plain(), versions());
    let (first, second) = (versions.primary(), versions.primary());
    let server = start(&upstream, [&first, &second]);
    kept(&server);
    first.play(|_| vec![Step::Close]);
    second.play(|_| vec![Step::Close]);
    let done = server.verb(&["feed", "refresh", "feed", "--whole"]);
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert_eq!(count(&feed(&server), Fault::Cut), 2);
    // The same serial, but other rules: only a transfer of the whole zone brings them.
    versions.replace(|zone| {
        zone.serial = 1;
        zone.records = Zone::new(ZONE, 1, &["kept.example", "new.example"]).records;
    });
    serves(&second, &versions);
    refresh(&server);
    until("the whole zone", || {
        crate::feeds::is_blocked(&server, "new.example")
    });
    blocks(
        &server,
        1,
        &["kept.example", "new.example"],
        &["gone.example"],
    );
}

#[test]
fn a_newer_version_is_found_although_the_first_primary_is_behind() {
    let (upstream, newest) = (Upstream::plain(), versions());
    let (behind, other) = (versions().primary(), newest.primary());
    let server = start(&upstream, [&behind, &other]);
    kept(&server);
    newest.change(&["gone.example"], &["new.example"]);
    refresh(&server);
    changed(&server);
    refresh(&server);
    until("the first primary is behind", || {
        feed(&server)["primaries"][0]["fault"] == Fault::SerialGoneBack.name()
    });
    let found = feed(&server);
    assert!(found["primaries"][1]["fault"].is_null(), "{found}");
    server.assert_well();
}

#[test]
fn a_request_of_the_operator_takes_the_other_primary_if_a_transfer_stalls() {
    let (upstream, versions) = (Upstream::plain(), versions());
    let (first, second) = (versions.primary(), versions.primary());
    let server = start(&upstream, [&first, &second]);
    kept(&server);
    versions.change(&["gone.example"], &["new.example"]);
    let newest = versions.clone();
    // It was not asked yet, so it comes first.
    second.play(move |asked| {
        let mut messages = newest.answer(asked);
        match asked.rtype {
            rtype::SOA => send(messages),
            _ => vec![Step::Send(messages.swap_remove(0)), Step::Hang],
        }
    });
    refresh(&server);
    until("the transfer has begun", || {
        second.types().contains(&rtype::IXFR)
    });
    let done = server.verb(&["feed", "refresh", "feed"]);
    assert!(done.status.success(), "{}", text(&done));
    changed(&server);
    let found = feed(&server);
    let fault = found["primaries"][1]["text"].as_str().expect("a fault");
    assert!(
        fault.contains("it stopped sending: nothing complete came for 5 s, and the operator asked"),
        "{fault}"
    );
    assert_eq!(count(&found, Fault::TooSlow), 1);
    server.assert_well();
}

#[test]
fn a_request_of_the_operator_takes_the_other_primary_if_one_does_not_answer_the_connection() {
    let (upstream, silent) = (Upstream::plain(), Silent::new());
    let primary = versions().primary();
    let first = format!("primaries = [\"{}\", ", silent.address);
    let config = config(&upstream, &primary, "").replace("primaries = [", &first);
    let server = Server::start(&config, &[]);
    until("it is asked", || {
        feed(&server)["transfer"]["primary"] == silent.address.to_string()
    });
    let done = server.verb(&["feed", "refresh", "feed"]);
    assert!(done.status.success(), "{}", text(&done));
    kept(&server);
    let found = feed(&server);
    assert_eq!(found["primaries"][0]["fault"], Fault::Unreachable.name());
    let fault = found["primaries"][0]["text"].as_str().expect("a fault");
    let part = "it did not answer the connection within 5 s, and the operator asked";
    assert!(fault.contains(part), "{fault}");
    assert_eq!(count(&found, Fault::TooSlow), 0);
    let shown = text(&server.verb(&["feed", "show", "feed"]));
    let never = format!("{}: has not sent or confirmed a version\n", silent.address);
    assert!(shown.contains(&never), "{shown}");
    server.assert_well();
}
