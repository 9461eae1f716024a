//! The size of answers, and what is dropped from those that are too long.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::{A, TXT};
use tapis::wire::answer::Intake;
use tapis::wire::flag::{AD, RD, TC};

use super::ask::ask;
use super::harness::{Harness, PERMITTED, PERMITTED_BY_STREAM, harness, list};
use super::upstream_answer::{BOUNDS, many, upstream_answer};

/// A server with an answer of that many addresses and glue records in its cache.
fn learned(addresses: u8, glue: u8) -> Harness {
    let harness = harness([]);
    for asked in [ask("big.example", A), ask("big.example", A).dnssec_ok()] {
        let big = upstream_answer("big.example", A).authentic();
        let big = big.answers(many("big.example", addresses));
        let big = big.additionals(many("big.example", glue));
        let intake = Intake {
            additional: true,
            ..BOUNDS
        };
        let big = big.option(15, b"\x00\x06says so");
        harness.insert(asked, big.entry_within(intake, 0));
    }
    harness
}

#[test]
fn an_answer_that_is_too_long_for_udp_loses_all_records_and_has_tc() {
    let plain = ask("big.example", A);
    // Each address takes 16 bytes.
    for (asked, fits, limit) in [
        (plain, 30, 512),
        (plain.edns(0), 28, 512),
        (plain.edns(512), 28, 512),
        (plain.edns(800), 46, 800),
        (plain.edns(1232), 73, 1232),
        (plain.edns(65_535), 73, 1232),
    ] {
        let decoded = learned(fits, 0).answer(asked);
        assert!(
            !decoded.has(TC) && decoded.bytes.len() <= limit,
            "{asked:?}"
        );
        assert_eq!(decoded.answers().len(), usize::from(fits), "{asked:?}");
        let decoded = learned(fits + 2, 0).answer(asked);
        assert!(decoded.has(TC) && decoded.is_bare(), "{asked:?}");
        assert_eq!(decoded.rcode(), ResponseCode::NoError);
        assert_eq!(
            decoded.message.edns.is_some(),
            asked.packet().len() > plain.packet().len()
        );
    }
}

#[test]
fn a_truncated_answer_is_not_marked_authentic() {
    // Some of these answers exceed the limit without OPT, some only with it.
    for (asked, counts) in [
        (ask("big.example", A).dnssec_ok(), 68..78),
        (ask("big.example", A).edns(512), 24..34),
        (ask("big.example", A), 26..36),
    ] {
        let asked = asked.flags(RD | AD);
        let cut = |count| {
            let decoded = learned(count, 0).answer(asked);
            assert_ne!(
                decoded.has(TC),
                decoded.has(AD),
                "{count} addresses: {asked:?}"
            );
            assert_eq!(decoded.has(TC), decoded.is_bare());
            decoded.has(TC)
        };
        let cuts: Vec<_> = counts.map(cut).collect();
        assert!(cuts.is_sorted() && !cuts[0] && cuts[cuts.len() - 1]);
    }
}

#[test]
fn an_answer_that_lost_its_additional_section_is_still_marked_authentic() {
    // The answer section is complete.
    let asked = ask("big.example", A).edns(512).flags(RD | AD);
    let decoded = learned(20, 20).answer(asked);
    assert_eq!(
        (decoded.answers().len(), decoded.additionals().len()),
        (20, 0)
    );
    assert!(!decoded.has(TC) && decoded.has(AD));
}

#[test]
fn a_stream_carries_answers_that_are_too_long_for_udp() {
    for asked in [ask("big.example", A), ask("big.example", A).edns(512)] {
        let harness = learned(255, 255);
        let decoded = harness
            .take(0, PERMITTED_BY_STREAM, &asked.packet())
            .reply();
        assert!(!decoded.has(TC));
        assert_eq!(
            (decoded.answers().len(), decoded.additionals().len()),
            (255, 255)
        );
        assert!(harness.take(0, PERMITTED, &asked.packet()).reply().has(TC));
    }
}

#[test]
fn the_additional_section_is_dropped_before_an_answer_is_truncated() {
    let decoded = learned(20, 20).answer(ask("big.example", A));
    assert!(!decoded.has(TC), "the answer section is complete");
    assert_eq!(
        (decoded.answers().len(), decoded.additionals().len()),
        (20, 0)
    );
    let decoded = learned(20, 20).answer(ask("big.example", A).edns(512));
    assert!(!decoded.has(TC));
    assert_eq!((decoded.answers().len(), decoded.codes()), (20, vec![6]));
}

#[test]
fn the_text_of_an_extended_error_is_dropped_before_any_record() {
    let harness = learned(29, 0);
    let decoded = harness.answer(ask("big.example", A).edns(512));
    assert_eq!(
        (decoded.answers().len(), decoded.errors()),
        (29, vec![(6, String::new())])
    );
    let decoded = harness.answer(ask("big.example", A).edns(1232));
    assert_eq!(decoded.errors(), [(6, "upstream: says so".to_owned())]);
}

fn verbose(text: &str, addresses: u8) -> Harness {
    harness([list("ads").subtree("bad.example").with(|blocking| {
        blocking.extra_text = text.to_owned();
        blocking.sinkhole_v4 = (0..addresses)
            .map(|last| [192, 0, 2, last].into())
            .collect();
    })])
}

#[test]
fn a_blocked_answer_keeps_records_and_code_when_the_text_does_not_fit() {
    let harness = verbose(&"t".repeat(600), 2);
    let decoded = harness.answer(ask("bad.example", A).edns(512));
    assert_eq!((decoded.answers().len(), decoded.has(TC)), (2, false));
    assert_eq!(decoded.errors(), [(15, String::new())]);
    let decoded = harness.answer(ask("bad.example", TXT).edns(1232));
    assert_eq!(decoded.errors()[0].1.len(), 600);
    let decoded = harness.take(
        0,
        PERMITTED_BY_STREAM,
        &ask("bad.example", A).edns(512).packet(),
    );
    assert_eq!(
        decoded.reply().errors()[0].1.len(),
        600,
        "a stream has room"
    );
}

#[test]
fn a_sinkhole_of_too_many_addresses_is_truncated_like_any_answer() {
    let harness = verbose("ads", 100);
    let decoded = harness.answer(ask("bad.example", A).edns(1232));
    assert!(decoded.has(TC) && decoded.is_bare());
    assert_eq!(decoded.codes(), [15]);
    let packet = ask("bad.example", A).packet();
    assert_eq!(
        harness
            .take(0, PERMITTED_BY_STREAM, &packet)
            .reply()
            .answers()
            .len(),
        100
    );
}

#[test]
fn refusals_grow_only_by_an_extended_error() {
    let harness = harness([]);
    for asked in [
        ask("a.example", A).flags(0),
        ask("a.example", A).flags(0).edns(1232),
    ] {
        let packet = asked.packet();
        let decoded = harness.take(0, PERMITTED, &packet).reply();
        assert!(decoded.bytes.len() <= packet.len() + 6);
    }
}
