//! Tests of transfers: what each form leads to, and that no message makes them fail otherwise than with an error.

pub(super) mod messages;

use proptest::prelude::*;

use self::messages::{Rr, ZONE, message, rr, soa, zone};
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
fn an_older_serial_is_an_error() {
    let error = TransferError::SerialGoneBack {
        theirs: Serial(2),
        ours: Serial(3),
    };
    assert_eq!(ixfr(3, &[soa(2)]), [error.to_string()]);
    assert_eq!(ixfr(3, &[soa(2), rr("a", 5), soa(2)]), [error.to_string()]);
}

#[test]
fn changes_that_do_not_lead_from_our_serial_to_the_new_one_are_refused() {
    let chain = |ours, records: &[Rr]| ixfr(ours, records).pop().expect("an error");
    let broken = |from, to, found| {
        let [from, to, found] = [from, to, found].map(Serial);
        TransferError::BrokenChain { from, to, found }.to_string()
    };
    assert_eq!(chain(3, &[soa(5), soa(2), soa(5), soa(5)]), broken(3, 5, 2));
    let gap = [soa(6), soa(3), soa(4), soa(5), soa(6), soa(6)];
    assert_eq!(chain(3, &gap), broken(4, 6, 5));
    let backwards = [soa(6), soa(3), soa(2), soa(2), soa(6), soa(6)];
    assert_eq!(chain(3, &backwards), broken(3, 6, 2));
    let beyond = [soa(6), soa(3), soa(7), soa(7), soa(6), soa(6)];
    assert_eq!(chain(3, &beyond), broken(3, 6, 7));
    let early = [soa(6), soa(3), soa(4), soa(6)];
    assert_eq!(
        chain(3, &early),
        broken(4, 6, 6),
        "ends before the new version"
    );
}

#[test]
fn a_transfer_that_does_not_end_as_it_began_is_refused() {
    let last = |records: &[Rr]| axfr(records).pop().expect("an error");
    let other = TransferError::OtherSoa.to_string();
    assert_eq!(last(&[soa(3), rr("a", 5), soa(4)]), other);
    let after = TransferError::AfterEnd.to_string();
    assert_eq!(last(&[soa(3), rr("a", 5), soa(3), rr("b", 5)]), after);
    let whole = message(7, rtype::AXFR, &[soa(3), rr("a", 5), soa(3)]);
    let repeated = read(None, &[whole.clone(), whole]);
    assert_eq!(repeated.last(), Some(&after), "a message is repeated");
    let part = message(7, rtype::AXFR, &[soa(3), rr("a", 5)]);
    let repeated = read(None, &[part.clone(), part]);
    assert_eq!(repeated.last(), Some(&after), "the first one is repeated");
    let mut end = soa(3);
    end.data[1] = b'x';
    assert_eq!(last(&[soa(3), end]), other, "another MNAME");
}

#[test]
fn an_answer_that_does_not_begin_with_the_soa_record_is_no_transfer() {
    let none = [TransferError::NoSoa.to_string()];
    assert_eq!(axfr(&[]), none);
    assert_eq!(axfr(&[rr("", rtype::NS), soa(3)]), none);
    assert_eq!(ixfr(3, &[rr("a", 5), soa(3)]), none);
    let mut below = soa(3);
    below.owner = format!("sub.{ZONE}");
    let error = axfr(std::slice::from_ref(&below)).pop().expect("an error");
    assert!(error.contains("not the zone's"), "{error}");
    let error = axfr(&[soa(3), below]).pop().expect("an error");
    assert!(error.contains("not the zone's"), "{error}");
}

#[test]
fn records_outside_the_zone_are_refused() {
    let mut owner = rr("a", 5);
    owner.owner = "a.other.test".to_owned();
    let mut class = rr("a", 5);
    class.class = 3;
    for record in [owner, class] {
        let error = axfr(&[soa(3), record]).pop();
        assert_eq!(error, Some(TransferError::OutsideZone.to_string()));
    }
}

#[test]
fn messages_of_others_are_refused() {
    let whole = [soa(3), rr("a", 5), soa(3)];
    let first = |message: Vec<u8>| read(None, &[message]).pop().expect("an error");
    assert!(first(message(8, rtype::AXFR, &whole)).contains("another ID"));
    assert!(first(message(7, rtype::IXFR, &whole)).contains("another question"));
    let unasked = messages::without_question(7, &whole);
    assert!(first(unasked).contains("another question"));
    for (at, bit, error) in [
        (2, 0x80, "not a response"),
        (2, 0x20, "not a response"),
        (2, 0x02, "truncated"),
        (3, 0x05, "REFUSED"),
        (3, 0x02, "SERVFAIL"),
        (13, 0x01, "another question"),
    ] {
        let mut message = message(7, rtype::AXFR, &whole);
        message[at] ^= bit;
        let found = first(message);
        assert!(found.contains(error), "{found}, not {error}");
    }
}

#[test]
fn lengths_and_counts_that_lie_are_refused() {
    let whole = message(7, rtype::AXFR, &[soa(3), rr("a", 5), soa(3)]);
    for (at, value) in [(7, 4), (7, 200), (11, 1), (9, 1)] {
        let mut message = whole.clone();
        message[at] = value;
        let last = read(None, &[message]).pop().expect("an error");
        assert_ne!(last, "End", "byte {at} is {value}");
    }
    let longer = [&whole[..], b"\0"].concat();
    let error = read(None, &[longer]).pop().expect("an error");
    assert!(error.contains("bytes follow"), "{error}");
    for len in 0..whole.len() {
        let events = read(None, &[whole[..len].to_vec()]);
        assert!(!events.contains(&"End".to_owned()), "cut at {len}");
    }
}

#[test]
fn more_records_than_permitted_are_refused() {
    let mut records = vec![soa(3)];
    records.resize(51, rr("a", 5));
    let error = TransferError::TooManyRecords(50).to_string();
    assert_eq!(axfr(&records).pop(), Some(error));
    records.pop();
    assert_eq!(axfr(&records).len(), 50);
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

#[derive(Clone, Debug)]
struct Change {
    deleted: Vec<String>,
    added: Vec<String>,
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let names = || prop::collection::vec("[a-c]{1,3}", 0..4);
    let change = (names(), names()).prop_map(|(deleted, added)| Change { deleted, added });
    prop::collection::vec(change, 1..5)
}

proptest! {
    #[test]
    fn changes_are_the_same_however_they_are_divided_into_messages(
        changes in changes(),
        from: u32,
        sizes in prop::collection::vec(1_usize..6, 40),
    ) {
        let serial = |step: usize| from.wrapping_add(step as u32);
        let newest = serial(changes.len());
        let mut records = vec![soa(newest)];
        let mut expected = vec![format!("Changes {newest}")];
        for (step, change) in changes.iter().enumerate() {
            for (at, names, verb) in [(0, &change.deleted, "-"), (1, &change.added, "+")] {
                records.push(soa(serial(step + at)));
                records.extend(names.iter().map(|name| rr(name, 5)));
                expected.extend(names.iter().map(|name| format!("{verb} {name}.feed.test")));
            }
        }
        records.push(soa(newest));
        expected.push("End".to_owned());
        let mut messages = Vec::new();
        let mut left = &records[..];
        for size in sizes {
            let (now, later) = left.split_at(size.min(left.len()));
            if !now.is_empty() {
                messages.push(message(7, rtype::IXFR, now));
            }
            left = later;
        }
        messages.push(message(7, rtype::IXFR, left));
        messages.retain(|message| message[6..8] != [0, 0]);
        prop_assert_eq!(read(Some(from), &messages), expected);
    }

    #[test]
    fn no_message_makes_a_transfer_panic(
        mut message in prop::collection::vec(any::<u8>(), 0..200),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ours: bool,
        is_random: bool,
    ) {
        let qtype = if ours { rtype::IXFR } else { rtype::AXFR };
        if !is_random {
            message = messages::message(7, qtype, &[soa(9), soa(3), rr("*.a", 5), rr("b", 15), soa(9)]);
            for (at, byte) in edits {
                let at = at.index(message.len());
                message[at] = byte;
            }
        }
        let _ = read(ours.then_some(3), &[message.clone()]);
        let mut zone = Name::default();
        let _ = notify::Notify::parse(&message, &mut zone);
        let mut transfer = Transfer::new(&Request { id: 7, zone: messages::zone(), ours: None, max_records: 9 });
        if let Ok(events) = transfer.read(&message) {
            for event in events.flatten() {
                if let Event::Record(record) = event {
                    record.copy_data(&mut Vec::new());
                }
            }
        }
    }
}
