//! Stale answers that upstream has withdrawn are not given (RFC 8767, section 4).

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::{self, A, AAAA, TXT};
use tapis::wire::flag::{CD, RD};

use super::ask::{Ask, ask};
use super::house::{FRIEND, House, house};
use super::truth::{Truth, a, cname, rrsig, soa, truth};

const NAME: &str = "www.good.example";

fn asked() -> Ask<'static> {
    ask(NAME, A)
}

fn address(last: u8, ttl: u32) -> Truth {
    truth(NAME, A).answers([a(NAME, ttl, [192, 0, 2, last])])
}

fn denied(name: &str) -> Truth {
    truth(name, AAAA).rcode(ResponseCode::NXDomain)
}

/// A server that heard an address with TTL 1 at second 0.
fn learned(asked: Ask<'_>) -> House {
    let house = house([]);
    house.learn(asked, address(1, 1));
    house
}

fn has_stale(house: &House, asked: Ask<'_>) -> bool {
    let (_, stale) = house.take(20, FRIEND, &asked.packet()).resolve();
    stale.is_some()
}

#[test]
fn an_answer_that_nothing_contradicts_stays() {
    let house = learned(asked());
    assert!(has_stale(&house, asked()));
    house.keep(asked().dnssec_ok(), address(1, 300).entry(9));
    house.keep(ask(NAME, TXT), truth(NAME, TXT).entry(9));
    let elsewhere = denied("other.good.example").authority(soa("example", 60, 60));
    house.keep(ask("other.good.example", AAAA), elsewhere.entry(9));
    assert!(has_stale(&house, asked()), "they agree");
}

#[test]
fn a_newer_answer_that_is_not_kept_withdraws_an_older_one() {
    let newer = [
        ("another address, TTL 0", address(2, 0)),
        ("NODATA without SOA", truth(NAME, A)),
        (
            "NODATA, SOA 0/0",
            truth(NAME, A).authority(soa("example", 0, 0)),
        ),
        (
            "a chain to nothing",
            truth(NAME, A).answers([cname(NAME, 300, "else.example")]),
        ),
        (
            "NXDOMAIN without SOA",
            truth(NAME, A).rcode(ResponseCode::NXDomain),
        ),
        (
            "NXDOMAIN, SOA 0/0",
            truth(NAME, A)
                .rcode(ResponseCode::NXDomain)
                .authority(soa("example", 0, 0)),
        ),
    ];
    for (what, newer) in newer {
        for same in [asked(), asked().dnssec_ok()] {
            let house = learned(asked());
            house.keep(same, newer.clone().entry(9));
            assert!(!has_stale(&house, asked()), "{what}");
            // Nor is the newer one given, which was not to be kept.
            house.take(20, FRIEND, &same.packet()).resolve();
        }
    }
}

#[test]
fn an_nxdomain_of_any_type_withdraws_what_was_at_the_name_and_below() {
    for name in [NAME, "good.example", "example"] {
        for with_soa in [true, false] {
            let house = learned(asked());
            let mut denial = denied(name);
            if with_soa {
                denial = denial.authority(soa("example", 300, 300));
            }
            house.keep(ask(name, AAAA), denial.entry(9));
            assert!(!has_stale(&house, asked()), "{name} {with_soa}");
            // What came after it counts.
            house.keep(asked(), address(1, 1).entry(10));
            assert!(has_stale(&house, asked()), "{name} {with_soa}");
        }
    }
}

#[test]
fn an_nxdomain_at_the_end_of_a_chain_denies_the_last_name() {
    let house = learned(asked());
    let other = ask("x.example", AAAA);
    let to_it = truth("x.example", AAAA).answers([cname("x.example", 300, NAME)]);
    house.keep(other, to_it.rcode(ResponseCode::NXDomain).entry(9));
    assert!(!has_stale(&house, asked()), "the target does not exist");

    let house = learned(asked());
    let from_it = truth(NAME, AAAA).answers([cname(NAME, 300, "gone.example")]);
    house.keep(
        ask(NAME, AAAA),
        from_it.rcode(ResponseCode::NXDomain).entry(9),
    );
    assert!(has_stale(&house, asked()), "the owner of the CNAME exists");

    let house = super::house::house([]);
    let chained = truth(NAME, A).answers([
        cname(NAME, 1, "gone.example"),
        a("gone.example", 1, [192, 0, 2, 1]),
    ]);
    house.learn(asked(), chained);
    assert!(has_stale(&house, asked()));
    house.keep(ask("gone.example", AAAA), denied("gone.example").entry(9));
    assert!(!has_stale(&house, asked()), "what it leads to is gone");
}

#[test]
fn what_was_heard_with_dnssec_withdraws_what_was_heard_without_and_the_other_way_round() {
    let (plain, secure) = (asked(), asked().dnssec_ok());
    for (older, newer) in [(plain, secure), (secure, plain)] {
        let house = learned(older);
        let signed = rrsig(NAME, 300, A);
        house.keep(newer, address(1, 300).answers([signed]).entry(9));
        assert!(has_stale(&house, older), "the same address, signed or not");
        house.keep(newer, address(2, 300).entry(10));
        assert!(!has_stale(&house, older));
    }
}

#[test]
fn what_nobody_validated_withdraws_nothing_validated() {
    let unchecked = asked().flags(RD | CD);
    let house = learned(asked());
    house.keep(unchecked, address(2, 300).entry(9));
    let denial = denied(NAME).authority(soa("example", 300, 300));
    house.keep(ask(NAME, AAAA).flags(RD | CD), denial.clone().entry(9));
    assert!(has_stale(&house, asked()));
    let house = learned(unchecked);
    house.keep(ask(NAME, AAAA), denial.entry(9));
    assert!(!has_stale(&house, unchecked));
}

#[test]
fn a_query_for_type_0_is_refused_and_withdraws_nothing() {
    let house = learned(asked());
    let zero = ask("good.example", RecordType::ZERO);
    let seen = house.take(9, FRIEND, &zero.packet()).reply();
    assert_eq!(seen.rcode(), ResponseCode::FormErr);
    house.keep(zero, truth("good.example", RecordType::ZERO).entry(9));
    assert!(has_stale(&house, asked()));
}
