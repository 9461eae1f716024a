//! Tests of transfers: what each form leads to, and that no message makes them fail otherwise than with an error.

pub(super) mod messages;
mod random;
mod refused;

use self::messages::{Rr, message, rr, soa, zone};
use super::*;
use crate::wire::name::Name;
use crate::wire::rtype;

/// Reads the messages; returns the events as text, the last one perhaps an error.
fn read(ours: Option<u32>, messages: &[Vec<u8>]) -> Vec<String> {
    let mut transfer = Transfer::new(&Request {
        id: 7,
        zone: zone(),
        ours: ours.map(Serial),
        max_records: 50,
    });
    let mut found = Vec::new();
    for message in messages {
        let events = match transfer.read(message) {
            Ok(events) => events,
            Err(error) => {
                found.push(error.to_string());
                break;
            }
        };
        found.extend(events.map(|event| match event {
            Ok(event) => shown(&event),
            Err(error) => error.to_string(),
        }));
    }
    found
}

fn shown(event: &Event<'_>) -> String {
    let record = |verb: &str, record: &Record<'_>| {
        let mut owner = Name::default();
        record.read_owner(&mut owner).expect("checked");
        assert_eq!(owner.wire().len(), record.owner_len());
        format!("{verb} {owner}")
    };
    match event {
        Event::Begin { soa, kind } => format!("{kind:?} {}", soa.serial),
        Event::Record(it) => record("has", it),
        Event::Delete(it) => record("-", it),
        Event::Add(it) => record("+", it),
        Event::End => "End".to_owned(),
    }
}

fn axfr(records: &[Rr]) -> Vec<String> {
    read(None, &[message(7, rtype::AXFR, records)])
}

fn ixfr(ours: u32, records: &[Rr]) -> Vec<String> {
    read(Some(ours), &[message(7, rtype::IXFR, records)])
}

#[test]
fn a_whole_zone_begins_and_ends_with_its_soa_record() {
    let records = [
        soa(3),
        rr("ns", rtype::NS),
        rr("a", 5),
        rr("*.a", 5),
        soa(3),
    ];
    let expected = [
        "Whole 3",
        "has ns.feed.test",
        "has a.feed.test",
        "has *.a.feed.test",
        "End",
    ];
    assert_eq!(axfr(&records), expected);
    // The same with a record in each message, with the question in the first one only.
    let mut messages: Vec<_> = records
        .iter()
        .map(|record| messages::without_question(7, std::slice::from_ref(record)))
        .collect();
    messages[0] = message(7, rtype::AXFR, &records[..1]);
    assert_eq!(read(None, &messages), expected);
}

#[test]
fn records_of_the_apex_and_of_signatures_are_no_contents() {
    let count = |records: &[Rr]| {
        let mut transfer = Transfer::new(&Request {
            id: 7,
            zone: zone(),
            ours: None,
            max_records: 9,
        });
        let message = message(7, rtype::AXFR, records);
        let events = transfer.read(&message).expect("a transfer");
        assert!(events.into_iter().all(|event| event.is_ok()));
        assert!(transfer.has_ended());
        transfer.contents()
    };
    assert_eq!(count(&[soa(3), rr("", rtype::NS), soa(3)]), 0);
    assert_eq!(count(&[soa(3), soa(3)]), 0);
    let local = [soa(3), rr("", rtype::NS), rr("x", rtype::NS), soa(3)];
    assert_eq!(count(&local), 1);
    let signed = [
        soa(3),
        rr("", rtype::TXT),
        rr("", rtype::RRSIG),
        rr("", rtype::DNSKEY),
        rr("x", rtype::NSEC3),
        rr("x", rtype::RRSIG),
        soa(3),
    ];
    assert_eq!(count(&signed), 0);
}

#[test]
fn changes_are_read_version_by_version_or_condensed() {
    let steps = [
        soa(5),
        soa(3),
        rr("a", 5),
        soa(4),
        rr("b", 5),
        soa(4),
        rr("c", 5),
        soa(5),
        rr("d", 5),
        soa(5),
    ];
    let expected = [
        "Changes 5",
        "- a.feed.test",
        "+ b.feed.test",
        "- c.feed.test",
        "+ d.feed.test",
        "End",
    ];
    assert_eq!(ixfr(3, &steps), expected);
    let condensed = [soa(5), soa(3), rr("a", 5), soa(5), rr("d", 5), soa(5)];
    let expected = ["Changes 5", "- a.feed.test", "+ d.feed.test", "End"];
    assert_eq!(ixfr(3, &condensed), expected);
    let nothing = [soa(5), soa(3), soa(5), soa(5)];
    assert_eq!(ixfr(3, &nothing), ["Changes 5", "End"]);
}

#[test]
fn changes_may_lead_over_the_wrap_around_of_serials() {
    let last = u32::MAX;
    let steps = [
        soa(1),
        soa(last),
        rr("a", 5),
        soa(0),
        soa(0),
        soa(1),
        rr("b", 5),
        soa(1),
    ];
    let expected = ["Changes 1", "- a.feed.test", "+ b.feed.test", "End"];
    assert_eq!(ixfr(last, &steps), expected);
}

#[test]
fn a_query_for_changes_may_be_answered_with_the_whole_zone() {
    let whole = [soa(5), rr("a", 5), soa(5)];
    assert_eq!(ixfr(3, &whole), ["Whole 5", "has a.feed.test", "End"]);
    let expected = ["Whole 3", "has a.feed.test", "End"];
    assert_eq!(ixfr(3, &[soa(3), rr("a", 5), soa(3)]), expected);
    assert_eq!(
        ixfr(3, &[soa(5), soa(5)]),
        ["Whole 5", "End"],
        "without records"
    );
    // The kind is known with the second message.
    let two = [
        message(7, rtype::IXFR, &whole[..1]),
        message(7, rtype::IXFR, &whole[1..]),
    ];
    assert_eq!(read(Some(3), &two), ["Whole 5", "has a.feed.test", "End"]);
}

#[test]
fn a_single_soa_record_with_our_serial_means_up_to_date() {
    assert_eq!(ixfr(3, &[soa(3)]), ["UpToDate 3", "End"]);
    // With another serial, there is more to come.
    assert!(ixfr(3, &[soa(4)]).is_empty());
}

#[test]
fn names_in_data_are_copied_without_compression_and_in_their_letter_case() {
    let copied = |rtype: u16, data: &[u8]| {
        let mut record = rr("a", rtype);
        record.data = data.to_vec();
        let message = message(7, rtype::AXFR, &[soa(3), record]);
        let mut transfer = Transfer::new(&Request {
            id: 7,
            zone: zone(),
            ours: None,
            max_records: 9,
        });
        let mut events = transfer.read(&message).expect("read");
        let Some(Ok(Event::Record(record))) = events.nth(1) else {
            panic!("a record");
        };
        let mut out = vec![9];
        record.copy_data(&mut out).map(|()| out.split_off(1))
    };
    // The zone's name is at offset 12.
    assert_eq!(
        copied(5, b"\x01W\xC0\x0C"),
        Some(b"\x01W\x04feed\x04test\0".to_vec())
    );
    assert_eq!(
        copied(15, b"\x00\x05\xC0\x11"),
        Some(b"\x00\x05\x04test\0".to_vec())
    );
    assert_eq!(
        copied(33, b"\0\0\0\0\0\x35\x01A\0"),
        Some(b"\0\0\0\0\0\x35\x01A\0".to_vec())
    );
    assert_eq!(copied(16, b"\x02hi"), Some(b"\x02hi".to_vec()));
    assert_eq!(copied(1, &[192, 0, 2, 1]), Some(vec![192, 0, 2, 1]));
    for (rtype, bad) in [
        (5, &b"\x01W"[..]),
        (5, b"\x01W\0\0"),
        (5, b"\xC0\xFF"),
        (5, b""),
        (15, b"\0"),
        (1, b"\x01"),
        (28, b"\x01"),
        (2, b"\x40"),
    ] {
        assert_eq!(copied(rtype, bad), None, "{rtype} {bad:?}");
    }
}
