//! Zone transfers from a primary that does what a script says: what arrives, and the name of each fault.

mod encrypted;
mod faults;
mod harness;
mod peers;
mod signed;
mod speed;

use tapis::wire::rtype;
use tapis::wire::transfer::Kind;

use self::harness::{Collected, Wanted, fetch, fetched};
use crate::support::primary::{Primary, Step, Zone, cname, name, send};

fn zone(serial: u32) -> Zone {
    Zone::new(
        "feed.test",
        serial,
        &["a", "*.a", "b.example", "*.b.example"],
    )
}

#[test]
fn a_whole_zone_arrives_as_the_messages_of_the_primary() {
    let primary = Primary::serving(zone(7));
    let (fetched, sink) = fetched(&primary, None);
    assert_eq!((fetched.kind, fetched.soa.serial.0), (Kind::Whole, 7));
    assert!(!fetched.is_whole_for_changes);
    assert_eq!(fetched.records, 7);
    assert_eq!(
        sink.names(),
        [
            "feed.test",
            "a.feed.test",
            "*.a.feed.test",
            "b.example.feed.test",
            "*.b.example.feed.test"
        ]
    );
    assert_eq!(sink.messages.len(), 3);
    assert_eq!(sink.ended, 1);
    assert_eq!(primary.types(), [rtype::SOA, rtype::AXFR]);
    assert!(primary.asked().iter().all(|asked| asked.is_tcp));
}

#[test]
fn a_zone_whose_first_message_has_only_the_soa_record_arrives_whole() {
    for ours in [None, Some(6)] {
        let mut one_by_one = zone(7);
        one_by_one.per_message = 1;
        let (fetched, sink) = fetched(&Primary::serving(one_by_one), ours);
        assert_eq!(fetched.is_whole_for_changes, ours.is_some());
        assert_eq!((sink.messages.len(), sink.names().len()), (7, 5));
        assert_eq!(sink.begun, [(Kind::Whole, 7)]);
    }
}

#[test]
fn changes_arrive_record_by_record() {
    let primary = Primary::start(|asked| {
        let zone = zone(9);
        if asked.rtype == rtype::SOA {
            return send(zone.answer(asked));
        }
        let [a, b, c] = ["a", "b", "c"].map(|name| [cname(&format!("{name}.feed.test"), ".")]);
        let changes: [(u32, &[_], u32, &[_]); 2] = [(7, &a, 8, &b), (8, &b, 9, &c)];
        send(zone.messages(asked, &zone.changes(&changes)))
    });
    let (fetched, sink) = fetched(&primary, Some(7));
    assert_eq!((fetched.kind, fetched.soa.serial.0), (Kind::Changes, 9));
    assert_eq!(
        sink.changes,
        [
            "- a.feed.test",
            "+ b.feed.test",
            "- b.feed.test",
            "+ c.feed.test"
        ]
    );
    assert_eq!(
        (sink.begun.len(), sink.messages.len(), sink.ended),
        (1, 0, 1)
    );
    assert_eq!(primary.types(), [rtype::SOA, rtype::IXFR]);
    assert_eq!(primary.asked()[1].serial, Some(7));
}

#[test]
fn nothing_is_transferred_if_our_serial_is_the_newest() {
    let primary = Primary::serving(zone(7));
    let (fetched, sink) = fetched(&primary, Some(7));
    assert_eq!((fetched.kind, fetched.records), (Kind::UpToDate, 0));
    assert!(sink.begun.is_empty() && sink.ended == 0);
    assert_eq!(primary.types(), [rtype::SOA]);
    // Another primary behind the same address has not reached the version yet.
    let primary = Primary::start(|asked| match asked.rtype {
        rtype::SOA => send(zone(8).answer(asked)),
        _ => vec![Step::Send(zone(7).message(asked, &[zone(7).soa(7)], 0))],
    });
    let (late, sink) = harness::fetched(&primary, Some(7));
    assert_eq!((late.kind, late.soa.serial.0), (Kind::UpToDate, 7));
    assert!(sink.begun.is_empty() && sink.ended == 0);
}

#[test]
fn serials_may_wrap_around() {
    let primary = Primary::serving(zone(2));
    let (fetched, _) = fetched(&primary, Some(u32::MAX - 2));
    assert_eq!((fetched.kind, fetched.soa.serial.0), (Kind::Whole, 2));
}

#[test]
fn a_primary_without_ixfr_is_asked_for_the_whole_zone() {
    for rcode in [1, 4] {
        let primary = Primary::start(move |asked| match asked.rtype {
            rtype::IXFR => zone(7).refusal(asked, rcode),
            _ => send(zone(7).answer(asked)),
        });
        let (fetched, sink) = fetched(&primary, Some(6));
        assert_eq!((fetched.kind, sink.names().len()), (Kind::Whole, 5));
        assert!(!fetched.is_whole_for_changes);
        assert_eq!(primary.types(), [rtype::SOA, rtype::IXFR, rtype::AXFR]);
    }
}

#[test]
fn a_primary_that_sends_only_the_soa_record_of_a_newer_version_is_asked_for_the_whole_zone() {
    let ends: [fn() -> Step; 2] = [|| Step::Close, || Step::Hang];
    for end in ends {
        let primary = Primary::start(move |asked| match asked.rtype {
            rtype::IXFR => {
                let soa = zone(7).soa(7);
                vec![Step::Send(zone(7).message(asked, &[soa], 0)), end()]
            }
            _ => send(zone(7).answer(asked)),
        });
        let (fetched, sink) = fetched(&primary, Some(6));
        assert_eq!((fetched.kind, sink.names().len()), (Kind::Whole, 5));
        assert_eq!((sink.begun.len(), sink.ended), (1, 1));
        assert!(!fetched.is_whole_for_changes);
        assert_eq!(primary.types(), [rtype::SOA, rtype::IXFR, rtype::AXFR]);
    }
}

#[test]
fn a_primary_that_closes_after_its_first_answer_is_asked_on_a_second_connection() {
    let primary = Primary::start(|asked| {
        let mut steps = send(zone(7).answer(asked));
        steps.push(Step::Close);
        steps
    });
    let (fetched, sink) = fetched(&primary, None);
    assert_eq!((fetched.kind, sink.names().len()), (Kind::Whole, 5));
}

#[test]
fn the_whole_zone_is_transferred_if_wanted_even_with_an_older_serial() {
    let primary = Primary::serving(zone(7));
    let mut sink = Collected::default();
    let wanted = Wanted {
        ours: Some(9),
        whole: true,
        ..Wanted::default()
    };
    let result = fetch(primary.address, wanted, &mut sink);
    assert_eq!(result.expect("transferred").soa.serial.0, 7);
    assert_eq!(primary.types(), [rtype::SOA, rtype::AXFR]);
}

#[test]
fn a_sink_that_fails_ends_the_transfer() {
    let primary = Primary::serving(zone(7));
    let mut sink = Collected {
        room: Some(1),
        ..Collected::default()
    };
    let error = fetch(primary.address, Wanted::default(), &mut sink).expect_err("full");
    assert_eq!(error, None, "no fault of the primary");
    assert_eq!((sink.messages.len(), sink.ended), (1, 0));
}

#[test]
fn the_zone_is_compared_without_regard_to_letter_case() {
    let primary = Primary::start(|asked| {
        let mut asked = asked.clone();
        asked.bytes[13..17].make_ascii_uppercase();
        send(zone(7).answer(&asked))
    });
    assert_eq!(fetched(&primary, None).1.names().len(), 5);
    assert_eq!(name("FEED.test"), zone(7).name);
}
