//! The bits of the header for all kinds of answers.

use hickory_proto::op::OpCode;
use hickory_proto::rr::RecordType::{A, ANY, NS, TXT};
use tapis::wire::flag::{AA, AD, CD, QR, RA, RD, TC};

use super::ask::{Ask, ID, ask};
use super::harness::{Harness, PERMITTED, harness, list};
use super::upstream_answer::{a, upstream_answer};

/// A server that answers each of [`ASKED`] in a different way.
fn rich() -> Harness {
    let harness = harness([list("ads").exact("bad.example")]);
    for flags in [0, CD] {
        harness.learn(
            ask("good.example", A).flags(flags),
            upstream_answer("good.example", A)
                .authoritative()
                .authentic()
                .answers([a("good.example", 300, [192, 0, 2, 7])]),
        );
    }
    harness
}

/// Blocked (two types), local (two zones), ANY, and from the cache.
const ASKED: [(&str, hickory_proto::rr::RecordType); 6] = [
    ("Bad.Example", A),
    ("Bad.Example", TXT),
    ("LocalHost", A),
    ("10.In-Addr.ARPA", NS),
    ("any.Example", ANY),
    ("Good.Example", A),
];

#[test]
fn id_rd_cd_and_the_questions_letter_case_are_copied() {
    let harness = rich();
    for (name, rtype) in ASKED {
        for flags in [RD, RD | CD, 0, CD] {
            let asked = ask(name, rtype).flags(flags);
            let decoded = harness.answer(asked);
            assert_eq!(decoded.message.metadata.id, ID, "{name}");
            assert_eq!(decoded.flags() & (RD | CD), flags, "{name}");
            assert!(decoded.bytes[12..].starts_with(&asked.question()), "{name}");
            assert_eq!(decoded.message.queries.len(), 1, "{name}");
        }
    }
}

#[test]
fn answers_have_qr_and_ra_and_neither_aa_nor_tc() {
    let harness = rich();
    for (name, rtype) in ASKED {
        let decoded = harness.answer(ask(name, rtype));
        assert_eq!(decoded.flags() & (QR | AA | TC | RA), QR | RA, "{name}");
        assert_eq!(decoded.message.metadata.op_code, OpCode::Query);
    }
}

#[test]
fn bits_without_a_meaning_in_a_query_are_cleared() {
    let harness = rich();
    for (name, rtype) in ASKED {
        let decoded = harness.answer(ask(name, rtype).flags(RD | AA | TC | RA | 0x0040 | 0x000F));
        assert_eq!(decoded.flags() & !0x000F, QR | RA | RD, "{name}");
    }
}

#[test]
fn synthesized_answers_are_never_marked_authentic() {
    let harness = rich();
    for (name, rtype) in ASKED.into_iter().take(5) {
        assert!(
            !harness.answer(ask(name, rtype).flags(RD | AD)).has(AD),
            "{name}"
        );
        assert!(
            !harness.answer(ask(name, rtype).dnssec_ok()).has(AD),
            "{name}"
        );
    }
}

#[test]
fn ad_is_only_set_for_queries_with_ad_or_do() {
    let harness = rich();
    let signed = || upstream_answer("good.example", A).authentic();
    harness.learn(
        ask("good.example", A).dnssec_ok(),
        signed().answers([a("good.example", 300, [192, 0, 2, 7])]),
    );
    let ad = |asked: Ask<'_>| harness.answer(asked).has(AD);
    let plain = ask("good.example", A);
    assert!(!ad(plain));
    assert!(!ad(plain.edns(1232)), "EDNS alone does not ask for it");
    assert!(ad(plain.flags(RD | AD)));
    assert!(ad(plain.dnssec_ok()));
}

#[test]
fn ad_is_not_set_where_upstream_did_not_set_it() {
    let harness = harness([]);
    let asked = ask("good.example", A);
    harness.learn(
        asked,
        upstream_answer("good.example", A).answers([a("good.example", 300, [192, 0, 2, 7])]),
    );
    assert!(!harness.answer(asked.flags(RD | AD)).has(AD));
}

#[test]
fn without_rd_blocked_names_are_answered_and_all_others_refused() {
    let harness = rich();
    let codes = |name, rtype| {
        let decoded = harness.answer(ask(name, rtype).flags(0).edns(1232));
        (
            u16::from(decoded.rcode()),
            decoded.is_bare(),
            decoded.codes(),
        )
    };
    assert_eq!(codes("bad.example", A), (0, false, vec![15]));
    assert_eq!(codes("localhost", A), (0, false, vec![]));
    assert_eq!(codes("other.example", A), (5, true, vec![20]));
    assert_eq!(codes("other.example", ANY), (5, true, vec![20]));
    let refused = harness.take(0, PERMITTED, &ask("good.example", A).flags(0).packet());
    assert_eq!(
        u16::from(refused.reply().rcode()),
        5,
        "the cache is not for snooping"
    );
}
