//! Fuzzes the reader of zone transfers: whatever the messages are, all records are in the zone, and the transfer ends
//! once or with an error.
//!
//! The first byte selects AXFR or IXFR. Messages follow, each with its length in two bytes; header and question are
//! repaired if the second bit of the first byte is set.
//!
//! `cargo +nightly fuzz run transfer fuzz/corpus/transfer fuzz/seeds/transfer`
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapis::wire::name::Name;
use tapis::wire::transfer::notify::{Notify, is_notify};
use tapis::wire::transfer::query::Query;
use tapis::wire::transfer::tsig::{Algorithm, Key, SignedRequest};
use tapis::wire::transfer::{Event, Kind, Record, Request, Serial, Transfer, newest};

const ID: u16 = 0x1234;

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, mut rest)) = bytes.split_first() else {
        return;
    };
    let zone = Name::from_text("feed.test").expect("a name");
    let ours = (choice & 1 != 0).then_some(Serial(u32::MAX - 3));
    let query = ours.map_or(Query::Axfr, Query::Ixfr);
    let mut transfer = Transfer::new(&Request {
        id: ID,
        zone: zone.clone(),
        ours,
        max_records: 1000,
    });
    let mut begun = None;
    while let Some((len, after)) = rest.split_at_checked(2) {
        let len = usize::from(u16::from_be_bytes([len[0], len[1]]));
        let (message, after) = after.split_at(len.min(after.len()));
        rest = after;
        let mut message = message.to_vec();
        if choice & 2 != 0 {
            repair(&mut message, query, &zone);
        }
        others(&message, &zone);
        let had_ended = transfer.has_ended();
        let Ok(mut events) = transfer.read(&message) else {
            return;
        };
        assert!(!had_ended, "nothing follows the end");
        while let Some(event) = events.next() {
            let Ok(event) = event else {
                assert!(events.next().is_none(), "an error is the last event");
                return;
            };
            match (&event, begun) {
                (Event::Begin { kind, .. }, None) => begun = Some(*kind),
                (Event::Record(record), Some(Kind::Whole))
                | (Event::Delete(record) | Event::Add(record), Some(Kind::Changes)) => {
                    in_zone(record, &message, &zone);
                }
                (Event::End, Some(_)) => assert!(events.next().is_none(), "the last event"),
                _ => panic!("{event:?} after {begun:?}"),
            }
        }
    }
    assert!(transfer.records() <= 1000 && transfer.contents() <= transfer.records());
});

/// Replaces header and question by those of an answer to the query, with the count of records as it is.
fn repair(message: &mut [u8], query: Query, zone: &Name) {
    let asked = query.write(ID, zone);
    let question = &asked[12..12 + zone.wire().len() + 4];
    if let Some(start) = message.get_mut(..12 + question.len()) {
        start[..6].copy_from_slice(&[0x12, 0x34, 0x84, 0, 0, 1]);
        start[6] = 0;
        start[8..12].fill(0);
        start[12..].copy_from_slice(question);
    }
}

/// The readers of single messages.
fn others(message: &[u8], zone: &Name) {
    let _ = newest(message, ID, zone);
    if is_notify(message) {
        let mut name = Name::default();
        if let Ok(notify) = Notify::parse(message, &mut name) {
            let mut out = Vec::new();
            notify.respond(tapis::wire::Rcode::NotAuth, &mut out);
            assert!(out.len() <= message.len(), "it does not amplify");
            let question = 12..12 + name.wire().len() + 4;
            assert_eq!(out[question.clone()], message[question]);
            signature(message, &out, zone);
        }
    }
}

/// The check of a signature, and the answer if it is wrong.
fn signature(message: &[u8], response: &[u8], zone: &Name) {
    let key = Key::new(zone, Algorithm::Sha256, &[7; 32]).expect("a key");
    match SignedRequest::check(Some(&key), message, 0) {
        Ok(request) => assert!(request.sign(response, 0).is_some()),
        Err(rejected) => {
            let report = rejected.report(message, response, 0);
            assert!(report.is_none_or(|report| report[2..4] == response[2..4]));
        }
    }
}

/// The quick check of owners agrees with the whole name.
fn in_zone(record: &Record<'_>, message: &[u8], zone: &Name) {
    let mut owner = Name::default();
    record.read_owner(&mut owner).expect("checked");
    assert_eq!(owner.wire().len(), record.owner_len());
    assert_eq!(owner.ancestor(zone.label_count()), zone.wire());
    let mut data = Vec::new();
    if record.copy_data(&mut data).is_some() {
        assert!(data.len() <= record.raw_data().len() + 2 * 255);
    }
    assert!(record.raw_data().len() < message.len());
}
