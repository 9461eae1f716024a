//! Stale answers that upstream has withdrawn are not served (RFC 8767, section 4).

use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::{self, A, AAAA, TXT};
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::{Name, RData, Record};
use tapis::serve::cache::{Entry, Failure};
use tapis::serve::routes::{PoolId, Routes};
use tapis::serve::step::Resolution;
use tapis::wire::flag::{CD, RD};
use tapis::wire::name::Name as WireName;

use super::ask::{Ask, ask};
use super::harness::{Harness, PERMITTED, harness};
use super::upstream_answer::{UpstreamAnswer, a, cname, rrsig, soa, upstream_answer};

const NAME: &str = "www.good.example";

fn asked() -> Ask<'static> {
    ask(NAME, A)
}

fn address(last: u8, ttl: u32) -> UpstreamAnswer {
    upstream_answer(NAME, A).answers([a(NAME, ttl, [192, 0, 2, last])])
}

fn denied(name: &str) -> UpstreamAnswer {
    upstream_answer(name, AAAA).rcode(ResponseCode::NXDomain)
}

/// A server that received an address with TTL 1 at second 0.
fn learned(asked: Ask<'_>) -> Harness {
    let harness = harness([]);
    harness.learn(asked, address(1, 1));
    harness
}

fn stale(harness: &Harness, asked: Ask<'_>) -> Option<Arc<Entry>> {
    harness.take(20, PERMITTED, &asked.packet()).resolve().1
}

fn has_stale(harness: &Harness, asked: Ask<'_>) -> bool {
    stale(harness, asked).is_some()
}

/// The addresses of the stale answer.
fn stale_answers(harness: &Harness, asked: Ask<'_>) -> Option<Vec<String>> {
    let stale = Some(stale(harness, asked)?);
    let failure = Arc::new(Failure {
        code: 22,
        said: None,
    });
    let failed = Resolution::Failed(failure, stale);
    Some(harness.conclude(20, asked, &failed).reply().answers())
}

/// The only record of a stale answer with this address.
fn served(last: u8) -> Option<Vec<String>> {
    Some(vec![format!("{NAME}. 30 IN A 192.0.2.{last}")])
}

#[test]
fn an_uncontradicted_answer_stays() {
    let harness = learned(asked());
    assert!(has_stale(&harness, asked()));
    harness.insert(asked().dnssec_ok(), address(1, 300).entry(9));
    harness.insert(ask(NAME, TXT), upstream_answer(NAME, TXT).entry(9));
    let elsewhere = denied("other.good.example").authority(soa("example", 60, 60));
    harness.insert(ask("other.good.example", AAAA), elsewhere.entry(9));
    assert!(has_stale(&harness, asked()), "they agree");
}

#[test]
fn a_newer_answer_that_is_not_cached_withdraws_an_older_one() {
    let newer = [
        ("another address, TTL 0", address(2, 0)),
        ("NODATA without SOA", upstream_answer(NAME, A)),
        (
            "NODATA, SOA 0/0",
            upstream_answer(NAME, A).authority(soa("example", 0, 0)),
        ),
        (
            "a chain to nothing",
            upstream_answer(NAME, A).answers([cname(NAME, 300, "else.example")]),
        ),
        (
            "NXDOMAIN without SOA",
            upstream_answer(NAME, A).rcode(ResponseCode::NXDomain),
        ),
        (
            "NXDOMAIN, SOA 0/0",
            upstream_answer(NAME, A)
                .rcode(ResponseCode::NXDomain)
                .authority(soa("example", 0, 0)),
        ),
    ];
    for (what, newer) in newer {
        for same in [asked(), asked().dnssec_ok()] {
            let harness = learned(asked());
            harness.insert(same, newer.clone().entry(9));
            assert!(!has_stale(&harness, asked()), "{what}");
            // The newer answer, which must not be cached, is not served either.
            harness.take(20, PERMITTED, &same.packet()).resolve();
        }
    }
}

#[test]
fn an_nxdomain_of_any_type_withdraws_answers_at_the_name_and_below() {
    for name in [NAME, "good.example", "example"] {
        for with_soa in [true, false] {
            let harness = learned(asked());
            let mut denial = denied(name);
            if with_soa {
                denial = denial.authority(soa("example", 300, 300));
            }
            harness.insert(ask(name, AAAA), denial.entry(9));
            assert!(!has_stale(&harness, asked()), "{name} {with_soa}");
            // The newest answer applies, whichever clients it was for.
            harness.insert(asked().dnssec_ok(), address(1, 1).entry(10));
            assert!(has_stale(&harness, asked()), "{name} {with_soa}");
            harness.insert(asked(), address(1, 1).entry(10));
            assert!(has_stale(&harness, asked()), "{name} {with_soa}");
        }
    }
}

#[test]
fn an_nxdomain_at_the_end_of_a_chain_denies_the_last_name() {
    let harness = learned(asked());
    let other = ask("x.example", AAAA);
    let to_it = upstream_answer("x.example", AAAA).answers([cname("x.example", 300, NAME)]);
    harness.insert(other, to_it.rcode(ResponseCode::NXDomain).entry(9));
    assert!(!has_stale(&harness, asked()), "the target does not exist");

    let harness = learned(asked());
    let from_it = upstream_answer(NAME, AAAA).answers([cname(NAME, 300, "gone.example")]);
    harness.insert(
        ask(NAME, AAAA),
        from_it.rcode(ResponseCode::NXDomain).entry(9),
    );
    assert!(
        has_stale(&harness, asked()),
        "the owner of the CNAME exists"
    );

    let harness = super::harness::harness([]);
    let chained = upstream_answer(NAME, A).answers([
        cname(NAME, 1, "gone.example"),
        a("gone.example", 1, [192, 0, 2, 1]),
    ]);
    harness.learn(asked(), chained);
    assert!(has_stale(&harness, asked()));
    harness.insert(ask("gone.example", AAAA), denied("gone.example").entry(9));
    assert!(!has_stale(&harness, asked()), "its target is gone");
}

#[test]
fn answers_with_dnssec_withdraw_those_without_and_the_reverse() {
    let (plain, secure) = (asked(), asked().dnssec_ok());
    for (older, newer) in [(plain, secure), (secure, plain)] {
        let harness = learned(older);
        harness.insert(newer, address(1, 300).answers([signed_by()]).entry(9));
        assert!(
            has_stale(&harness, older),
            "the same address, signed or not"
        );
        harness.insert(newer, address(2, 300).answers([signed_by()]).entry(10));
        assert_ne!(stale_answers(&harness, older), served(1));
    }
}

fn signed_by() -> Record {
    rrsig(NAME, 300, A)
}

#[test]
fn a_rotating_name_keeps_a_stale_answer_for_clients_with_and_without_dnssec() {
    let (plain, secure) = (asked(), asked().dnssec_ok());
    for (one, other) in [(plain, secure), (secure, plain)] {
        // Both within one second: neither is known to be newer.
        let harness = learned(one);
        harness.insert(other, address(2, 1).entry(0));
        assert_eq!(stale_answers(&harness, one), served(1));
        assert_eq!(stale_answers(&harness, other), served(2));
        // A second later, the newer data replaces the older for both.
        harness.insert(other, address(3, 1).entry(5));
        assert_eq!(stale_answers(&harness, one), served(3));
        assert_eq!(stale_answers(&harness, other), served(3));
        harness.insert(one, address(4, 1).entry(6));
        assert_eq!(stale_answers(&harness, one), served(4));
        assert_eq!(stale_answers(&harness, other), served(4));
        // An answer that must not be cached withdraws others and is not served.
        harness.insert(other, address(5, 0).entry(7));
        assert_eq!(stale_answers(&harness, one), None);
    }
}

#[test]
fn a_name_whose_other_type_is_denied_in_the_same_second_keeps_its_stale_answer() {
    // Some servers answer NXDOMAIN to AAAA where there is an A, and browsers ask for both at once.
    let harness = learned(asked());
    let denial = denied(NAME).authority(soa("example", 300, 300));
    harness.insert(ask(NAME, AAAA), denial.clone().entry(0));
    assert_eq!(stale_answers(&harness, asked()), served(1));
    harness.insert(ask(NAME, AAAA), denial.entry(1));
    assert_eq!(stale_answers(&harness, asked()), None);
}

#[test]
fn newer_data_for_other_clients_is_served_stale_only_if_its_signatures_fit_the_client() {
    let (plain, secure) = (asked(), asked().dnssec_ok());
    let signed = |last| address(last, 1).answers([signed_by()]);
    let harness = learned(plain);
    harness.insert(secure, signed(2).entry(5));
    assert_eq!(
        stale_answers(&harness, plain),
        None,
        "it did not ask for signatures"
    );
    assert_eq!(
        stale_answers(&harness, secure).map(|all| all.len()),
        Some(2)
    );

    let harness = super::harness::harness([]);
    harness.learn(secure, signed(1));
    harness.insert(plain, address(2, 1).entry(5));
    assert_eq!(
        stale_answers(&harness, secure),
        None,
        "a validator would reject it"
    );
    assert_eq!(stale_answers(&harness, plain), served(2));

    // A client with CD=1 may get data that upstream validated, but a client without CD never gets unvalidated data.
    let unchecked = secure.flags(RD | CD);
    let harness = super::harness::harness([]);
    harness.learn(unchecked, signed(1));
    harness.insert(secure, signed(2).entry(5));
    let both = stale_answers(&harness, unchecked).map(|all| all[0].clone());
    assert_eq!(both, served(2).map(|all| all[0].clone()));
    harness.insert(unchecked, signed(3).entry(6));
    let validated = stale_answers(&harness, secure).map(|all| all[0].clone());
    assert_eq!(validated, served(2).map(|all| all[0].clone()));
}

#[test]
fn an_nxdomain_of_any_name_in_a_chain_or_above_it_withdraws_the_answer() {
    let names = [
        NAME,
        "one.cdn.example",
        "two.edge.test-cdn.example",
        "end.example",
    ];
    let hops = names.windows(2).map(|pair| cname(pair[0], 1, pair[1]));
    let chained =
        upstream_answer(NAME, A)
            .answers(hops)
            .answers([a("end.example", 1, [192, 0, 2, 1])]);
    let withdrawing = [
        "one.cdn.example",
        "cdn.example",
        "two.edge.test-cdn.example",
        "edge.test-cdn.example",
        "end.example",
    ];
    let unrelated = ["x.one.cdn.example", "other.cdn.example", "test-cdn.test"];
    for (name, withdraws) in withdrawing
        .map(|name| (name, true))
        .into_iter()
        .chain(unrelated.map(|name| (name, false)))
    {
        let harness = harness([]);
        harness.learn(asked(), chained.clone());
        harness.insert(ask(name, AAAA), denied(name).entry(9));
        assert_eq!(has_stale(&harness, asked()), !withdraws, "{name}");
    }
}

#[test]
fn a_chain_of_too_many_names_is_not_served_stale() {
    let deep = |hop: usize| format!("h{hop}{}.example", ".x".repeat(100));
    let chained = |hops: usize| {
        let names: Vec<_> = std::iter::once(NAME.to_owned())
            .chain((0..hops).map(deep))
            .collect();
        let last = names.last().expect("a name").clone();
        let harness = harness([]);
        let chain = names.windows(2).map(|pair| cname(&pair[0], 1, &pair[1]));
        let end = a(&last, 1, [192, 0, 2, 1]);
        harness.learn(
            asked(),
            upstream_answer(NAME, A).answers(chain).answers([end]),
        );
        has_stale(&harness, asked())
    };
    assert_eq!([1, 2, 16].map(chained), [true, true, false]);
}

#[test]
fn an_unvalidated_answer_withdraws_no_validated_one() {
    let unchecked = asked().flags(RD | CD);
    let harness = learned(asked());
    harness.insert(unchecked, address(2, 300).entry(9));
    let denial = denied(NAME).authority(soa("example", 300, 300));
    harness.insert(ask(NAME, AAAA).flags(RD | CD), denial.clone().entry(9));
    assert!(has_stale(&harness, asked()));
    let harness = learned(unchecked);
    harness.insert(ask(NAME, AAAA), denial.entry(9));
    assert!(!has_stale(&harness, unchecked));
}

#[test]
fn a_query_for_type_0_is_refused_and_withdraws_nothing() {
    let harness = learned(asked());
    let zero = ask("good.example", RecordType::ZERO);
    let decoded = harness.take(9, PERMITTED, &zero.packet()).reply();
    assert_eq!(decoded.rcode(), ResponseCode::FormErr);
    harness.insert(
        zero,
        upstream_answer("good.example", RecordType::ZERO).entry(9),
    );
    assert!(has_stale(&harness, asked()));
}

/// A record of any type.
fn raw(rtype: RecordType, data: &[u8]) -> Record {
    let owner = Name::from_ascii(format!("{NAME}.")).expect("a name");
    let data = RData::Unknown {
        code: rtype,
        rdata: NULL::with(data.to_vec()),
    };
    Record::from_rdata(owner, 1, data)
}

/// Whether `old` is served stale to clients without DO, after clients with DO got the newer `new`.
fn survives(rtype: RecordType, old: &[u8], new: &[u8]) -> bool {
    let harness = harness([]);
    let plain = ask(NAME, rtype);
    harness.learn(
        plain,
        upstream_answer(NAME, rtype).answers([raw(rtype, old)]),
    );
    let signed = [raw(rtype, new), rrsig(NAME, 300, rtype)];
    harness.insert(
        plain.dnssec_ok(),
        upstream_answer(NAME, rtype).answers(signed).entry(9),
    );
    has_stale(&harness, plain)
}

#[test]
fn non_name_data_that_differs_in_letter_case_withdraws_a_stale_answer() {
    let naptr = |flag: u8| [b"\0\x01\0\x02\x01", &[flag][..], b"\x03SIP\0\0"].concat();
    let srv = |port: u8| [0, 1, 0, 2, 0, port, 2, b'm', b'x', 0];
    let https = |alpn: u8| [0, 1, 0, 0, 1, 0, 2, 1, alpn];
    let soa = |serial: u8| [&[1, b'n', 0, 1, b'h', 0, 0, 0, 0][..], &[serial], &[0; 16]].concat();
    let cases: [(RecordType, Vec<u8>, Vec<u8>); 7] = [
        (A, vec![192, 0, 2, 65], vec![192, 0, 2, 97]),
        (AAAA, vec![0x41; 16], vec![0x61; 16]),
        (TXT, b"\x03Abc".to_vec(), b"\x03abc".to_vec()),
        (RecordType::NAPTR, naptr(b'S'), naptr(b's')),
        (RecordType::SRV, srv(65).to_vec(), srv(97).to_vec()),
        (
            RecordType::HTTPS,
            https(b'H').to_vec(),
            https(b'h').to_vec(),
        ),
        (RecordType::SOA, soa(65), soa(97)),
    ];
    for (rtype, old, new) in cases {
        assert!(survives(rtype, &old, &old), "{rtype}: confirmed");
        assert!(!survives(rtype, &old, &new), "{rtype}");
        assert!(!survives(rtype, &new, &old), "{rtype}");
    }
}

#[test]
fn letter_case_of_names_in_data_withdraws_nothing() {
    let mx = |name: &[u8]| [b"\0\x05", name].concat();
    let names: [&[u8]; 2] = [b"\x02Mx\x04eLse\0", b"\x02mX\x04else\0"];
    let [one, other] = names.map(mx);
    assert!(survives(RecordType::MX, &one, &other));
    let srv = |name: &[u8]| [b"\0\x01\0\x02\0\x35", name].concat();
    let [one, other] = names.map(srv);
    assert!(survives(RecordType::SRV, &one, &other));
}

#[test]
fn data_about_a_zone_that_gets_other_servers_is_not_used() {
    let zone = |text: &str| WireName::from_text(text).expect("a name");
    for (changed, stays) in [
        ("good.example", false),
        (NAME, false),
        ("example", false),
        ("ood.example", true),
        ("x.www.good.example", true),
        ("other", true),
    ] {
        let harness = learned(asked());
        let routes = Routes::new([(&zone(changed), PoolId::unique())]);
        harness.cache.set_routes(Arc::new(routes));
        assert_eq!(has_stale(&harness, asked()), stays, "{changed}");
    }
}
