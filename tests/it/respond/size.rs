//! Owns the tests of how long an answer may be, and of what goes when it is too long.
//! Refuses octets that are no query, which `edges` and `arbitrary` have.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::{A, TXT};
use tapis::wire::answer::Intake;
use tapis::wire::flag::{AD, RD, TC};

use super::ask::ask;
use super::house::{FRIEND, FRIEND_BY_STREAM, House, house, list};
use super::truth::{BOUNDS, many, truth};

/// A server that has an answer with so many addresses and glue records in its cache.
fn learned(addresses: u8, glue: u8) -> House {
    let house = house([]);
    for asked in [ask("big.example", A), ask("big.example", A).dnssec_ok()] {
        let big = truth("big.example", A).authentic();
        let big = big.answers(many("big.example", addresses));
        let big = big.additionals(many("big.example", glue));
        let intake = Intake {
            additional: true,
            ..BOUNDS
        };
        let big = big.option(15, b"\x00\x06says so");
        house.keep(asked, big.entry_within(intake, 0));
    }
    house
}

#[test]
fn an_answer_that_is_too_long_for_udp_loses_all_records_and_says_so() {
    let plain = ask("big.example", A);
    // Each address takes 16 octets.
    for (asked, fits, limit) in [
        (plain, 30, 512),
        (plain.edns(0), 28, 512),
        (plain.edns(512), 28, 512),
        (plain.edns(800), 46, 800),
        (plain.edns(1232), 73, 1232),
        (plain.edns(65_535), 73, 1232),
    ] {
        let seen = learned(fits, 0).answer(asked);
        assert!(!seen.has(TC) && seen.octets.len() <= limit, "{asked:?}");
        assert_eq!(seen.answers().len(), usize::from(fits), "{asked:?}");
        let seen = learned(fits + 2, 0).answer(asked);
        assert!(seen.has(TC) && seen.is_bare(), "{asked:?}");
        assert_eq!(seen.rcode(), ResponseCode::NoError);
        assert_eq!(
            seen.message.edns.is_some(),
            asked.packet().len() > plain.packet().len()
        );
    }
}

#[test]
fn what_was_cut_is_not_called_authentic() {
    // Some of these answers exceed the limit by themselves, some only with OPT.
    for (asked, counts) in [
        (ask("big.example", A).dnssec_ok(), 68..78),
        (ask("big.example", A).edns(512), 24..34),
        (ask("big.example", A), 26..36),
    ] {
        let asked = asked.flags(RD | AD);
        let cut = |count| {
            let seen = learned(count, 0).answer(asked);
            assert_ne!(seen.has(TC), seen.has(AD), "{count} addresses: {asked:?}");
            assert_eq!(seen.has(TC), seen.is_bare());
            seen.has(TC)
        };
        let cuts: Vec<_> = counts.map(cut).collect();
        assert!(cuts.is_sorted() && !cuts[0] && cuts[cuts.len() - 1]);
    }
}

#[test]
fn an_answer_that_lost_its_additional_section_is_still_called_authentic() {
    // The answer section is complete.
    let asked = ask("big.example", A).edns(512).flags(RD | AD);
    let seen = learned(20, 20).answer(asked);
    assert_eq!((seen.answers().len(), seen.additionals().len()), (20, 0));
    assert!(!seen.has(TC) && seen.has(AD));
}

#[test]
fn a_stream_takes_what_udp_does_not() {
    for asked in [ask("big.example", A), ask("big.example", A).edns(512)] {
        let house = learned(255, 255);
        let seen = house.take(0, FRIEND_BY_STREAM, &asked.packet()).reply();
        assert!(!seen.has(TC));
        assert_eq!((seen.answers().len(), seen.additionals().len()), (255, 255));
        assert!(house.take(0, FRIEND, &asked.packet()).reply().has(TC));
    }
}

#[test]
fn the_additional_section_goes_before_an_answer_is_cut() {
    let seen = learned(20, 20).answer(ask("big.example", A));
    assert!(!seen.has(TC), "nothing that was asked for is missing");
    assert_eq!((seen.answers().len(), seen.additionals().len()), (20, 0));
    let seen = learned(20, 20).answer(ask("big.example", A).edns(512));
    assert!(!seen.has(TC));
    assert_eq!((seen.answers().len(), seen.codes()), (20, vec![6]));
}

#[test]
fn the_text_of_a_reason_goes_before_any_record() {
    let house = learned(29, 0);
    let seen = house.answer(ask("big.example", A).edns(512));
    assert_eq!(
        (seen.answers().len(), seen.errors()),
        (29, vec![(6, String::new())])
    );
    let seen = house.answer(ask("big.example", A).edns(1232));
    assert_eq!(seen.errors(), [(6, "upstream: says so".to_owned())]);
}

fn verbose(text: &str, addresses: u8) -> House {
    house([list("ads").subtree("bad.example").with(|blocking| {
        blocking.extra_text = text.to_owned();
        blocking.sinkhole_v4 = (0..addresses)
            .map(|last| [192, 0, 2, last].into())
            .collect();
    })])
}

#[test]
fn a_blocked_answer_keeps_its_records_and_its_code_when_the_text_does_not_fit() {
    let house = verbose(&"t".repeat(600), 2);
    let seen = house.answer(ask("bad.example", A).edns(512));
    assert_eq!((seen.answers().len(), seen.has(TC)), (2, false));
    assert_eq!(seen.errors(), [(15, String::new())]);
    let seen = house.answer(ask("bad.example", TXT).edns(1232));
    assert_eq!(seen.errors()[0].1.len(), 600);
    let seen = house.take(
        0,
        FRIEND_BY_STREAM,
        &ask("bad.example", A).edns(512).packet(),
    );
    assert_eq!(seen.reply().errors()[0].1.len(), 600, "a stream has room");
}

#[test]
fn a_sinkhole_of_too_many_addresses_is_cut_like_any_answer() {
    let house = verbose("ads", 100);
    let seen = house.answer(ask("bad.example", A).edns(1232));
    assert!(seen.has(TC) && seen.is_bare());
    assert_eq!(seen.codes(), [15]);
    let packet = ask("bad.example", A).packet();
    assert_eq!(
        house
            .take(0, FRIEND_BY_STREAM, &packet)
            .reply()
            .answers()
            .len(),
        100
    );
}

#[test]
fn refusals_grow_by_no_more_than_a_reason() {
    let house = house([]);
    for asked in [
        ask("a.example", A).flags(0),
        ask("a.example", A).flags(0).edns(1232),
    ] {
        let packet = asked.packet();
        let seen = house.take(0, FRIEND, &packet).reply();
        assert!(seen.octets.len() <= packet.len() + 6);
    }
}
