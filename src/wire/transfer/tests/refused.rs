//! Transfers that are refused: those of others, and those that do not hold what they promise.

use super::messages::{Rr, ZONE, message, rr, soa};
use super::{axfr, ixfr, messages, read};
use crate::wire::rtype;
use crate::wire::transfer::*;

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
