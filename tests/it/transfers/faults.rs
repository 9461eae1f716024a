//! Each fault of a primary has its name, and none of them completes a transfer.

use std::time::Duration;

use tapis::control::sources::feeds::fault::Fault;
use tapis::control::sources::feeds::limits::Limits;
use tapis::wire::rtype;

use super::harness::{Collected, LIMITS, Wanted, fault, fetch};
use super::zone;
use crate::support::primary::{Asked, Primary, Rr, Step, Zone, cname, framed, send};

/// A primary that answers the query for the serial, and others by a script.
fn primary(script: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Primary {
    Primary::start(move |asked| match asked.rtype {
        rtype::SOA => send(zone(7).answer(asked)),
        _ => script(asked),
    })
}

/// A primary that answers AXFR and IXFR with these records, three to a message.
fn sending(records: Vec<Rr>) -> Primary {
    primary(move |asked| send(zone(7).messages(asked, &records)))
}

#[test]
fn a_primary_that_does_not_listen_is_unreachable() {
    let (address, _port) = Primary::unreachable();
    let result = fetch(address, Wanted::default(), &mut Collected::default());
    assert_eq!(result.expect_err("a fault"), Some(Fault::Unreachable));
}

#[test]
fn the_response_code_says_whether_the_transfer_is_refused_or_the_zone_is_not_there() {
    for (rcode, expected) in [
        (5, Fault::Refused),
        (2, Fault::NotLoaded),
        (9, Fault::NotServed),
        (3, Fault::NotServed),
        (4, Fault::NotServed),
    ] {
        let at_once = Primary::start(move |asked| zone(7).refusal(asked, rcode));
        assert_eq!(fault(&at_once, None, LIMITS), expected, "rcode {rcode}");
        let later = primary(move |asked| zone(7).refusal(asked, rcode));
        assert_eq!(fault(&later, None, LIMITS), expected, "rcode {rcode}");
    }
}

#[test]
fn an_answer_without_the_soa_record_means_that_the_zone_is_not_there() {
    let empty = Primary::start(|asked| zone(7).refusal(asked, 0));
    assert_eq!(fault(&empty, None, LIMITS), Fault::NotServed);
    let of_another = Primary::start(|asked| {
        let other = Zone::new("other.test", 7, &[]);
        vec![Step::Send(zone(7).message(asked, &[other.soa(7)], 0))]
    });
    assert_eq!(fault(&of_another, None, LIMITS), Fault::NotServed);
    let referral = sending(zone(7).records);
    assert_eq!(fault(&referral, None, LIMITS), Fault::NotServed);
}

#[test]
fn a_zone_with_soa_and_ns_records_alone_is_empty() {
    for ours in [None, Some(6)] {
        let primary = Primary::serving(Zone::new("feed.test", 7, &[]));
        assert_eq!(fault(&primary, ours, LIMITS), Fault::EmptyZone);
    }
}

#[test]
fn an_older_serial_has_gone_back() {
    let primary = Primary::serving(zone(7));
    assert_eq!(fault(&primary, Some(8), LIMITS), Fault::SerialGoneBack);
    assert_eq!(primary.types(), [rtype::SOA], "nothing is transferred");
    // Also if only the transfer has it: of two primaries behind one address, one is late.
    let late = Primary::start(|asked| match asked.rtype {
        rtype::SOA => send(zone(9).answer(asked)),
        _ => send(zone(7).answer(asked)),
    });
    assert_eq!(fault(&late, Some(8), LIMITS), Fault::SerialGoneBack);
}

#[test]
fn a_transfer_may_be_older_than_the_announced_version_but_not_than_ours() {
    for (serial, expected) in [
        (7, Ok(7)),
        (5, Ok(5)),
        (3, Err(Some(Fault::SerialGoneBack))),
    ] {
        let primary = Primary::start(move |asked| match asked.rtype {
            rtype::SOA => send(zone(10).answer(asked)),
            rtype::IXFR => zone(10).refusal(asked, 4),
            _ => send(zone(serial).answer(asked)),
        });
        let wanted = Wanted {
            ours: Some(5),
            ..Wanted::default()
        };
        let fetched = fetch(primary.address, wanted, &mut Collected::default());
        assert_eq!(fetched.map(|fetched| fetched.soa.serial.0), expected);
    }
}

#[test]
fn changes_that_do_not_begin_at_our_serial_are_broken() {
    let changes: [(u32, &[Rr], u32, &[Rr]); 1] = [(5, &[], 7, &[])];
    let primary = sending(zone(7).changes(&changes));
    assert_eq!(fault(&primary, Some(6), LIMITS), Fault::BrokenChanges);
}

#[test]
fn a_primary_that_falls_silent_is_too_slow() {
    let limits = Limits {
        idle: Duration::from_millis(300),
        ..LIMITS
    };
    let silent = Primary::start(|_| vec![Step::Hang]);
    assert_eq!(fault(&silent, None, limits), Fault::TooSlow);
    let midway = primary(|asked| {
        let mut steps = send(zone(7).answer(asked));
        steps.truncate(1);
        steps.push(Step::Hang);
        steps
    });
    assert_eq!(fault(&midway, None, limits), Fault::TooSlow);
    let within = primary(|asked| {
        let message = framed(&zone(7).answer(asked)[0]);
        vec![Step::Raw(message[..40].to_vec()), Step::Hang]
    });
    assert_eq!(fault(&within, None, limits), Fault::TooSlow);
}

/// A primary that sends the same part of the zone without end.
fn endless() -> Primary {
    primary(|asked| {
        let zone = zone(7);
        let first = zone.message(asked, &[zone.soa(7)], 0);
        let part = zone.message(asked, &[cname("x.feed.test", ".")], 0);
        vec![Step::Send(first), Step::Forever(part)]
    })
}

#[test]
fn a_transfer_without_end_is_too_long_or_too_large() {
    let long = Limits {
        records: u64::MAX,
        bytes: u64::MAX,
        total: Duration::from_millis(300),
        ..LIMITS
    };
    assert_eq!(fault(&endless(), None, long), Fault::TooLong);
    let records = Limits {
        bytes: u64::MAX,
        ..LIMITS
    };
    assert_eq!(fault(&endless(), None, records), Fault::TooLarge);
    let bytes = Limits {
        records: u64::MAX,
        ..LIMITS
    };
    assert_eq!(fault(&endless(), None, bytes), Fault::TooLarge);
}

#[test]
fn a_connection_that_closes_before_the_end_is_cut() {
    let refuses = Primary::start(|_| vec![Step::Close]);
    assert_eq!(fault(&refuses, None, LIMITS), Fault::Cut);
    let answers_only_soa = primary(|_| vec![Step::Close]);
    assert_eq!(fault(&answers_only_soa, None, LIMITS), Fault::Cut);
    let midway = primary(|asked| {
        let mut steps = send(zone(7).answer(asked));
        steps.pop();
        steps.push(Step::Close);
        steps
    });
    assert_eq!(fault(&midway, None, LIMITS), Fault::Cut);
    let within = primary(|asked| {
        let message = framed(&zone(7).answer(asked)[0]);
        vec![Step::Raw(message[..40].to_vec()), Step::Close]
    });
    assert_eq!(fault(&within, None, LIMITS), Fault::Cut);
}

/// A primary whose second message of a transfer is changed.
fn changed(change: impl Fn(&mut Vec<u8>) + Send + Sync + 'static) -> Primary {
    primary(move |asked| {
        let mut messages = zone(7).answer(asked);
        change(&mut messages[1]);
        send(messages)
    })
}

#[test]
fn lengths_and_counts_that_lie_are_malformed() {
    let more = changed(|message| message[7] += 1);
    let fewer = changed(|message| message[7] -= 1);
    let none = changed(|message| message[7] = 0);
    let additional = changed(|message| message[11] += 1);
    // The last two bytes but one are the length of the data, the last one is the root.
    let rdlength = changed(|message| {
        let at = message.len() - 2;
        message[at] = 200;
    });
    let short = changed(|message| message.truncate(11));
    for primary in [more, fewer, none, additional, rdlength, short] {
        assert_eq!(fault(&primary, None, LIMITS), Fault::Malformed);
    }
}

#[test]
fn messages_that_do_not_belong_to_the_transfer_are_malformed() {
    let other_id = changed(|message| message[0] ^= 1);
    let query = changed(|message| message[2] &= 0x7F);
    let truncated = changed(|message| message[2] |= 2);
    let other_question = changed(|message| message[14] ^= 1);
    for primary in [other_id, query, truncated, other_question] {
        assert_eq!(fault(&primary, None, LIMITS), Fault::Malformed);
    }
}

#[test]
fn transfers_that_are_repeated_or_mixed_are_malformed() {
    let repeated = primary(|asked| {
        let messages = zone(7).answer(asked);
        send([&messages[..1], &messages[..]].concat())
    });
    assert_eq!(fault(&repeated, None, LIMITS), Fault::Malformed);
    let mixed = primary(|asked| {
        let [old, mut new] = [zone(7).answer(asked), zone(8).answer(asked)];
        new.remove(0);
        send([&old[..1], &new[..]].concat())
    });
    assert_eq!(
        fault(&mixed, None, LIMITS),
        Fault::Malformed,
        "two versions"
    );
    let mut longer = zone(7).whole();
    longer.push(cname("late.feed.test", "."));
    let longer = primary(move |asked| vec![Step::Send(zone(7).message(asked, &longer, 0))]);
    assert_eq!(
        fault(&longer, None, LIMITS),
        Fault::Malformed,
        "goes on after the end"
    );
}

#[test]
fn records_of_other_names_and_classes_are_outside_the_zone() {
    let chaos = Rr {
        class: 3,
        ..cname("a.feed.test", ".")
    };
    for record in [
        cname("a.example", "."),
        cname("feed.test.example", "."),
        chaos,
    ] {
        let mut records = zone(7).whole();
        records.insert(3, record);
        let primary = sending(records);
        assert_eq!(fault(&primary, None, LIMITS), Fault::OutsideZone);
    }
}

#[test]
fn a_primary_recovers_after_a_fault() {
    let primary = Primary::start({
        let tries = std::sync::atomic::AtomicU32::new(0);
        move |asked| match tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => zone(7).refusal(asked, 2),
            _ => send(zone(7).answer(asked)),
        }
    });
    assert_eq!(fault(&primary, None, LIMITS), Fault::NotLoaded);
    let (fetched, _) = super::fetched(&primary, None);
    assert_eq!(fetched.soa.serial.0, 7);
}
