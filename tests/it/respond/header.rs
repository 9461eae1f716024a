//! Owns the tests of the header's bits, whatever the answer is made of.
//! Refuses response codes.

use hickory_proto::op::OpCode;
use hickory_proto::rr::RecordType::{A, ANY, NS, TXT};
use tapis::wire::flag::{AA, AD, CD, QR, RA, RD, TC};

use super::ask::{Ask, ID, ask};
use super::house::{FRIEND, House, house, list};
use super::truth::{a, truth};

/// A server that answers each of [`ASKED`] in another way.
fn rich() -> House {
    let house = house([list("ads").exact("bad.example")]);
    for flags in [0, CD] {
        house.learn(
            ask("good.example", A).flags(flags),
            truth("good.example", A)
                .authoritative()
                .authentic()
                .answers([a("good.example", 300, [192, 0, 2, 7])]),
        );
    }
    house
}

/// Blocked, local, ANY, from the cache, refused.
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
    let house = rich();
    for (name, rtype) in ASKED {
        for flags in [RD, RD | CD, 0, CD] {
            let asked = ask(name, rtype).flags(flags);
            let seen = house.answer(asked);
            assert_eq!(seen.message.metadata.id, ID, "{name}");
            assert_eq!(seen.flags() & (RD | CD), flags, "{name}");
            assert!(seen.octets[12..].starts_with(&asked.question()), "{name}");
            assert_eq!(seen.message.queries.len(), 1, "{name}");
        }
    }
}

#[test]
fn answers_have_qr_and_ra_and_neither_aa_nor_tc() {
    let house = rich();
    for (name, rtype) in ASKED {
        let seen = house.answer(ask(name, rtype));
        assert_eq!(seen.flags() & (QR | AA | TC | RA), QR | RA, "{name}");
        assert_eq!(seen.message.metadata.op_code, OpCode::Query);
    }
}

#[test]
fn bits_that_mean_nothing_in_a_query_do_not_come_back() {
    let house = rich();
    for (name, rtype) in ASKED {
        let seen = house.answer(ask(name, rtype).flags(RD | AA | TC | RA | 0x0040 | 0x000F));
        assert_eq!(seen.flags() & !0x000F, QR | RA | RD, "{name}");
    }
}

#[test]
fn what_the_server_makes_itself_is_never_called_authentic() {
    let house = rich();
    for (name, rtype) in ASKED.into_iter().take(5) {
        assert!(
            !house.answer(ask(name, rtype).flags(RD | AD)).has(AD),
            "{name}"
        );
        assert!(
            !house.answer(ask(name, rtype).dnssec_ok()).has(AD),
            "{name}"
        );
    }
}

#[test]
fn ad_is_only_set_for_those_who_ask_for_it_by_ad_or_do() {
    let house = rich();
    let signed = || truth("good.example", A).authentic();
    house.learn(
        ask("good.example", A).dnssec_ok(),
        signed().answers([a("good.example", 300, [192, 0, 2, 7])]),
    );
    let ad = |asked: Ask<'_>| house.answer(asked).has(AD);
    let plain = ask("good.example", A);
    assert!(!ad(plain));
    assert!(!ad(plain.edns(1232)), "EDNS alone does not ask for it");
    assert!(ad(plain.flags(RD | AD)));
    assert!(ad(plain.dnssec_ok()));
}

#[test]
fn ad_is_not_made_up_where_upstream_did_not_set_it() {
    let house = house([]);
    let asked = ask("good.example", A);
    house.learn(
        asked,
        truth("good.example", A).answers([a("good.example", 300, [192, 0, 2, 7])]),
    );
    assert!(!house.answer(asked.flags(RD | AD)).has(AD));
}

#[test]
fn without_rd_own_rules_answer_and_all_else_is_refused() {
    let house = rich();
    let codes = |name, rtype| {
        let seen = house.answer(ask(name, rtype).flags(0).edns(1232));
        (u16::from(seen.rcode()), seen.is_bare(), seen.codes())
    };
    assert_eq!(codes("bad.example", A), (0, false, vec![15]));
    assert_eq!(codes("localhost", A), (0, false, vec![]));
    assert_eq!(codes("other.example", A), (5, true, vec![20]));
    assert_eq!(codes("other.example", ANY), (5, true, vec![20]));
    let refused = house.take(0, FRIEND, &ask("good.example", A).flags(0).packet());
    assert_eq!(
        u16::from(refused.reply().rcode()),
        5,
        "the cache is not for snooping"
    );
}
