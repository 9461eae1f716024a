//! Answers by rules that define records, rules that demand TCP, and rules whose NXDOMAIN is sent even if a name below
//! is allowed.

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::{self, A, AAAA, ANY, HTTPS, MX, TXT};
use tapis::policy::effect::{Effect, EffectAction};
use tapis::policy::record::{LocalRecord, MAX_EXTRA_TEXT, MAX_RECORD_BYTES};
use tapis::policy::rule::Action;
use tapis::stats::Count;
use tapis::wire::flag::TC;

use super::ask::ask;
use super::harness::{Harness, List, PERMITTED, PERMITTED_BY_STREAM, harness, key, list};
use super::targets::https;
use super::triggers::with_hint;
use super::upstream_answer::{a, cname, soa, upstream_answer};

fn record(rtype: RecordType, ttl_secs: Option<u32>, data: &[u8]) -> LocalRecord {
    LocalRecord {
        rtype: rtype.into(),
        ttl_secs,
        data: data.into(),
    }
}

fn garden() -> List {
    let records = vec![
        record(TXT, None, b"\x05hello"),
        record(A, Some(9), &[192, 0, 2, 2]),
        record(MX, None, b"\x00\x0A\x02mx\x04test\x00"),
        record(A, Some(5), &[192, 0, 2, 1]),
        record(A, Some(7), &[192, 0, 2, 2]),
    ];
    list("wall")
        .subtree("bad.example")
        .acts(EffectAction::Records(records))
}

#[test]
fn a_query_gets_the_rrset_of_its_type() {
    let harness = harness([garden()]);
    let answers = |rtype| harness.answer(ask("www.bad.example", rtype)).answers();
    // Equal records are sent once, and the RRset has the lowest TTL.
    let addresses = [1, 2].map(|last| format!("www.bad.example. 5 IN A 192.0.2.{last}"));
    assert_eq!(answers(A), addresses);
    let mail = "www.bad.example. 60 IN MX 10 mx.test.";
    assert_eq!(answers(MX), [mail]);
    let text = "www.bad.example. 60 IN TXT hello";
    assert_eq!(answers(TXT), [text]);
    let [one, two] = &addresses;
    assert_eq!(answers(ANY), [one, two, mail, text]);
}

#[test]
fn a_query_of_another_type_gets_nodata() {
    let harness = harness([garden()]);
    let decoded = harness.answer(ask("www.bad.example", AAAA).edns(1232));
    assert_eq!(decoded.rcode(), ResponseCode::NoError);
    assert!(decoded.answers().is_empty());
    assert!(decoded.authorities()[0].starts_with("bad.example. 60 IN SOA"));
    assert_eq!((decoded.count, decoded.codes()), (Count::Blocked, vec![15]));
}

#[test]
fn a_target_of_the_chain_owns_the_records() {
    let harness = harness([garden()]);
    let asked = ask("www.shop.example", MX);
    let answer = upstream_answer("www.shop.example", MX).answers([cname(
        "www.shop.example",
        300,
        "www.bad.example",
    )]);
    let answer = answer.authority(soa("bad.example", 300, 300));
    harness.learn(asked, answer);
    let decoded = harness.answer(asked);
    assert_eq!(
        decoded.answers(),
        [
            "www.shop.example. 60 IN CNAME www.bad.example.",
            "www.bad.example. 60 IN MX 10 mx.test.",
        ]
    );
    assert_eq!(decoded.count, Count::BlockedTarget);
}

#[test]
fn the_most_records_that_a_rule_may_have_fit_behind_the_longest_chain() {
    let name = |number: u8| {
        let label = "x".repeat(63);
        format!(
            "{}.{label}.{label}.{label}",
            format!("{number:02}").repeat(30) + "y"
        )
    };
    let count = MAX_RECORD_BYTES / 16;
    let address = |number: usize| record(A, None, &(number as u32).to_be_bytes());
    let effect = |count| Effect {
        action: EffectAction::Records((0..count).map(address).collect()),
        extra_text: Some("t".repeat(MAX_EXTRA_TEXT)),
        ..Effect::default()
    };
    assert!(effect(count).check().is_ok() && effect(count + 1).check().is_err());
    let harness = harness([list("wall").exact(&name(16)).effect(effect(count))]);
    let asked = name(0);
    let asked = ask(&asked, A).edns(1232);
    let chain = (0..16).map(|number| cname(&name(number), 300, &name(number + 1)));
    let answer = upstream_answer(asked.name, A).answers(chain);
    harness.learn(asked, answer.answers([a(&name(16), 300, [192, 0, 2, 7])]));
    let decoded = harness.take(0, PERMITTED_BY_STREAM, &asked.packet());
    let decoded = decoded.reply();
    assert!(!decoded.has(TC));
    assert_eq!(decoded.message.answers.len(), 16 + count);
    assert_eq!(decoded.errors(), [(15, "t".repeat(MAX_EXTRA_TEXT))]);
}

#[test]
fn any_gets_the_rrsets_that_fit_into_one_message() {
    let many = |rtype, count: u16| {
        let number = move |at: u16| {
            let mut data = vec![200; 201];
            data[1..3].copy_from_slice(&at.to_be_bytes());
            record(rtype, None, &data)
        };
        (0..count).map(number)
    };
    let unassigned = RecordType::from(1234);
    let records = many(TXT, 150).chain(many(unassigned, 250));
    let wall = list("wall")
        .exact("bad.example")
        .acts(EffectAction::Records(records.collect()));
    let harness = harness([wall]);
    let packet = ask("bad.example", ANY).packet();
    let decoded = harness.take(0, PERMITTED_BY_STREAM, &packet).reply();
    assert_eq!(decoded.message.answers.len(), 150, "the others don't fit");
    let packet = ask("bad.example", unassigned).packet();
    let decoded = harness.take(0, PERMITTED_BY_STREAM, &packet).reply();
    assert_eq!(decoded.message.answers.len(), 250);
    assert!(harness.answer(ask("bad.example", ANY)).has(TC));
}

#[test]
fn any_gets_the_addresses_of_both_types_if_they_fit_into_one_message() {
    let answered = |v4: usize, v6: usize| {
        let addresses = EffectAction::Addresses(
            vec![Ipv4Addr::UNSPECIFIED; v4],
            vec![Ipv6Addr::UNSPECIFIED; v6],
        );
        let harness = harness([list("wall").exact("bad.example").acts(addresses)]);
        let packet = ask("bad.example", ANY).packet();
        let decoded = harness.take(0, PERMITTED_BY_STREAM, &packet).reply();
        assert!(!decoded.has(TC));
        decoded.message.answers.len()
    };
    let most = (MAX_RECORD_BYTES / 16, MAX_RECORD_BYTES / 28);
    assert_eq!(answered(9, 9), 18);
    assert_eq!(answered(most.0, most.1), most.0, "the others don't fit");
    assert_eq!(answered(0, most.1), most.1);
}

fn tcp_only() -> List {
    list("slow")
        .subtree("slow.example")
        .acts(EffectAction::TcpOnly)
}

fn with_slow(lists: impl IntoIterator<Item = List>) -> Harness {
    let harness = harness(lists);
    let answer = upstream_answer("www.slow.example", A).answers([
        cname("www.slow.example", 300, "x.track.test"),
        a("x.track.test", 300, [192, 0, 2, 7]),
    ]);
    harness.learn(ask("www.slow.example", A), answer);
    harness
}

#[test]
fn a_rule_that_demands_tcp_truncates_over_udp_and_allows_over_a_stream() {
    let ads = list("ads").subtree("track.test");
    let harness = with_slow([tcp_only(), ads]);
    let asked = ask("www.slow.example", A).edns(1232);
    let decoded = harness.answer(asked);
    assert!(decoded.has(TC) && decoded.is_bare());
    assert_eq!((decoded.count, decoded.codes()), (Count::Blocked, vec![]));
    let decoded = harness.take(0, PERMITTED_BY_STREAM, &asked.packet());
    let decoded = decoded.reply();
    assert!(!decoded.has(TC));
    assert_eq!(decoded.count, Count::CacheHits);
    assert_eq!(decoded.answers().len(), 2, "the chain is allowed, too");
}

#[test]
fn a_target_that_demands_tcp_truncates_the_whole_answer() {
    let harness = with_slow([list("slow")
        .exact("x.track.test")
        .acts(EffectAction::TcpOnly)]);
    let asked = ask("www.slow.example", A);
    let decoded = harness.answer(asked);
    assert!(decoded.has(TC) && decoded.is_bare());
    assert_eq!(decoded.count, Count::BlockedTarget);
    let decoded = harness.take(0, PERMITTED_BY_STREAM, &asked.packet());
    assert_eq!(decoded.reply().answers().len(), 2);
}

#[test]
fn a_service_that_demands_tcp_truncates_the_whole_answer() {
    let by_target = || list("slow").exact("x.slow.test");
    let by_hint = || list("slow").address("198.51.100.0/24");
    let services = [
        https("www.shop.example", 1, "x.slow.test"),
        with_hint("www.shop.example", 2, [198, 51, 100, 1]),
        https("www.shop.example", 3, "x.track.test"),
        https("www.shop.example", 4, "."),
    ];
    let cases = [
        (by_target(), &services[..1], 1),
        (by_target(), &services[..], 3),
        (by_hint(), &services[1..2], 1),
        (by_hint(), &services[..], 3),
    ];
    for (slow, services, over_stream) in cases {
        let ads = list("ads").exact("x.track.test");
        let harness = harness([slow.acts(EffectAction::TcpOnly), ads]);
        let asked = ask("www.shop.example", HTTPS).edns(1232);
        let answer = upstream_answer("www.shop.example", HTTPS);
        harness.learn(asked, answer.answers(services.to_vec()));
        let decoded = harness.answer(asked);
        assert!(decoded.has(TC) && decoded.is_bare());
        assert_eq!(
            (decoded.count, decoded.codes()),
            (Count::BlockedTarget, vec![])
        );
        let decoded = harness.take(0, PERMITTED_BY_STREAM, &asked.packet());
        let decoded = decoded.reply();
        assert!(!decoded.has(TC));
        assert_eq!(decoded.answers().len(), over_stream);
    }
}

#[test]
fn a_service_with_a_hint_that_is_denied_as_written_is_denied() {
    let wall = |list: List, as_written| {
        list.effect(Effect {
            action: EffectAction::Block(Action::Nxdomain),
            as_written,
            ..Effect::default()
        })
    };
    let by_hint = || list("zone").address("198.51.100.0/24");
    let by_target = || list("zone").exact("x.track.test");
    let hinted = with_hint("www.shop.example", 1, [198, 51, 100, 1]);
    let led = https("www.shop.example", 2, "x.track.test");
    let (denied, exists) = (ResponseCode::NXDomain, ResponseCode::NoError);
    for (zone, services, rcode) in [
        (wall(by_hint(), true), vec![hinted.clone()], denied),
        (wall(by_hint(), false), vec![hinted.clone()], exists),
        (wall(by_hint(), true), vec![hinted, led.clone()], exists),
        // The target of a service may not exist; the queried name does.
        (wall(by_target(), true), vec![led], exists),
    ] {
        let harness = harness([zone]);
        let asked = ask("www.shop.example", HTTPS);
        let answer = upstream_answer("www.shop.example", HTTPS);
        harness.learn(asked, answer.answers(services));
        assert_eq!(harness.answer(asked).rcode(), rcode);
    }
}

#[test]
fn if_all_services_are_blocked_the_rule_of_the_last_one_decides() {
    let by_hint = list("by hint").address("198.51.100.0/24");
    let harness = harness([list("by target").exact("x.track.test"), by_hint]);
    let hinted = || with_hint("www.shop.example", 1, [198, 51, 100, 1]);
    let led = || https("www.shop.example", 1, "x.track.test");
    for (services, decides) in [
        ([hinted(), led()], "by target"),
        ([led(), hinted()], "by hint"),
    ] {
        let asked = ask("www.shop.example", HTTPS).edns(1232);
        let answer = upstream_answer("www.shop.example", HTTPS);
        harness.learn(asked, answer.answers(services));
        let decoded = harness.answer(asked);
        assert_eq!(decoded.errors(), [(15, decides.to_owned())]);
    }
}

#[test]
fn the_records_of_a_rule_on_a_hint_are_those_of_the_owner() {
    let data = b"\x00\x01\x00";
    let records = EffectAction::Records(vec![record(HTTPS, None, data)]);
    let harness = harness([list("wall").address("198.51.100.0/24").acts(records)]);
    let asked = ask("www.shop.example", HTTPS);
    let answer = upstream_answer("www.shop.example", HTTPS);
    harness.learn(
        asked,
        answer.answers([with_hint("www.shop.example", 1, [198, 51, 100, 1])]),
    );
    let decoded = harness.answer(asked);
    assert_eq!(decoded.answers(), ["www.shop.example. 60 IN HTTPS 1 ."]);
}

#[test]
fn services_at_names_with_records_or_aliases_are_blocked_without_records() {
    let data = b"\x00\x01\x00";
    let records = EffectAction::Records(vec![record(HTTPS, None, data)]);
    let harness = harness([list("wall").exact("x.track.test").acts(records)]);
    let asked = ask("www.shop.example", HTTPS);
    let answer = upstream_answer("www.shop.example", HTTPS);
    harness.learn(
        asked,
        answer.answers([https("www.shop.example", 1, "x.track.test")]),
    );
    let decoded = harness.answer(asked);
    assert!(decoded.answers().is_empty());
    assert!(decoded.authorities()[0].starts_with("www.shop.example. 60 IN SOA"));
}

#[test]
fn nxdomain_as_written_is_sent_although_a_name_below_is_allowed() {
    let allow = list("ok").allowing().exact("good.bad.example");
    let wall = |as_written| {
        let effect = Effect {
            action: EffectAction::Block(Action::Nxdomain),
            as_written,
            ..Effect::default()
        };
        list("zone").exact("bad.example").effect(effect)
    };
    let rcode = |lists: [List; 2]| harness(lists).answer(ask("bad.example", A)).rcode();
    assert_eq!(rcode([allow, wall(true)]), ResponseCode::NXDomain);
    let allow = list("ok").allowing().exact("good.bad.example");
    assert_eq!(rcode([allow, wall(false)]), ResponseCode::NoError);
    // In a policy zone, the source sets `as_written` for all its rules; their effects do not.
    let zone = list("zone").action(Action::Nxdomain).exact("bad.example");
    let zone = zone.with(|blocking| blocking.as_written = true);
    assert_eq!(rcode([zone, list("other")]), ResponseCode::NXDomain);
}

#[test]
fn ds_of_a_name_that_demands_tcp_is_asked_for_upstream() {
    let harness = harness([tcp_only()]);
    let asked = ask("slow.example", RecordType::DS);
    let (wanted, _) = harness.take(0, PERMITTED, &asked.packet()).resolve();
    assert_eq!(wanted, key(asked));
}
