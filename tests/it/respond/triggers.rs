//! Answers by rules on the addresses of clients and of answers, and by rules with patterns.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::{A, AAAA, DS, HTTPS, TXT};
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::{Name, RData, Record};
use tapis::policy::effect::EffectAction;
use tapis::policy::rule::Action;
use tapis::stats::Count;
use tapis::wire::answer::Intake;

use super::ask::ask;
use super::harness::{Harness, List, PERMITTED, PERMITTED_BY_STREAM, harness, key, list};
use super::targets::https;
use super::upstream_answer::{BOUNDS, a, cname, many, upstream_answer};

/// Caches an answer in which `www.example` is a CNAME of `edge.example` with the addresses 192.0.2.7 and 198.51.100.7.
fn aliased(harness: Harness) -> Harness {
    let answer = upstream_answer("www.example", A).authentic().answers([
        cname("www.example", 300, "edge.example"),
        a("edge.example", 300, [192, 0, 2, 7]),
        a("edge.example", 300, [198, 51, 100, 7]),
    ]);
    harness.learn(ask("www.example", A), answer);
    harness
}

#[test]
fn an_answer_with_a_blocked_address_is_blocked_behind_its_chain() {
    let harness = aliased(harness([list("ads").address("198.51.100.0/24")]));
    let decoded = harness.answer(ask("www.example", A).edns(1232));
    let sinkhole = "edge.example. 60 IN A 0.0.0.0";
    let alias = "www.example. 60 IN CNAME edge.example.";
    assert_eq!(decoded.answers(), [alias, sinkhole]);
    assert_eq!(
        (decoded.count, decoded.codes()),
        (Count::BlockedTarget, vec![15])
    );
}

#[test]
fn a_blocked_address_never_denies_the_name() {
    let ads = list("ads")
        .action(Action::Nxdomain)
        .address("198.51.100.0/24");
    let decoded = aliased(harness([ads])).answer(ask("www.example", A));
    assert_eq!(decoded.rcode(), ResponseCode::NoError);
    assert_eq!(decoded.answers().len(), 1, "the alias");
    assert!(decoded.authorities()[0].starts_with("edge.example. 60 IN SOA"));
}

#[test]
fn addresses_that_no_rule_is_about_are_answered_as_they_are() {
    let plain = aliased(harness([list("ads").exact("other.example")]));
    let beside = aliased(harness([list("ads")
        .address("198.51.100.8/32")
        .address("2001:db8::/32")]));
    let asked = ask("www.example", A);
    assert_eq!(plain.answer(asked).bytes, beside.answer(asked).bytes);
}

#[test]
fn an_allowed_name_is_answered_although_an_address_is_blocked() {
    let lists = || {
        [
            list("good").allowing().exact("www.example"),
            list("ads").address("198.51.100.0/24"),
        ]
    };
    let decoded = aliased(harness(lists())).answer(ask("www.example", A));
    assert_eq!(
        (decoded.count, decoded.answers().len()),
        (Count::CacheHits, 3)
    );
}

#[test]
fn an_address_may_be_allowed_within_a_blocked_network() {
    let ads = list("ads").address("198.51.0.0/16");
    let ads = ads.address("198.51.100.0/24").acts(EffectAction::Allow);
    let decoded = aliased(harness([ads])).answer(ask("www.example", A));
    assert_eq!(decoded.count, Count::CacheHits);
}

pub(super) fn with_hint(name: &str, priority: u16, hint: [u8; 4]) -> Record {
    let mut data = priority.to_be_bytes().to_vec();
    data.extend(b"\x00\x00\x04\x00\x04");
    data.extend(hint);
    let rdata = RData::Unknown {
        code: HTTPS,
        rdata: NULL::with(data),
    };
    Record::from_rdata(
        Name::from_ascii(format!("{name}.")).expect("a name"),
        300,
        rdata,
    )
}

#[test]
fn a_service_with_a_blocked_address_hint_is_left_out() {
    let harness = harness([list("ads").address("198.51.100.0/24")]);
    let asked = ask("svc.example", HTTPS);
    let answer = |records: Vec<Record>| upstream_answer("svc.example", HTTPS).answers(records);
    let bad = with_hint("svc.example", 1, [198, 51, 100, 1]);
    let good = with_hint("svc.example", 2, [192, 0, 2, 1]);
    let other = https("svc.example", 3, "alt.example");
    harness.learn(asked, answer(vec![bad.clone(), good, other]));
    let decoded = harness.answer(asked);
    assert_eq!(
        (decoded.count, decoded.answers().len()),
        (Count::CacheHits, 2)
    );
    harness.learn(asked, answer(vec![bad]));
    let decoded = harness.answer(asked);
    assert_eq!(
        (decoded.count, decoded.answers().len()),
        (Count::BlockedTarget, 0)
    );
}

#[test]
fn additional_records_with_a_blocked_address_are_left_out() {
    let harness = harness([list("ads").address("198.51.100.0/24")]);
    let asked = ask("svc.example", HTTPS);
    let glue = [[198, 51, 100, 1], [192, 0, 2, 1]].map(|address| a("alt.example", 300, address));
    let answer = upstream_answer("svc.example", HTTPS)
        .answers([https("svc.example", 1, "alt.example")])
        .additionals(glue);
    let intake = Intake {
        additional: true,
        ..BOUNDS
    };
    harness.insert(asked, answer.entry_within(intake, 0));
    let decoded = harness.answer(asked);
    assert_eq!(decoded.additionals(), ["alt.example. 300 IN A 192.0.2.1"]);
}

#[test]
fn a_rule_on_the_client_decides_about_all_names() {
    let ads = list("ads").action(Action::Nxdomain).client("192.0.2.0/25");
    let harness = harness([ads, list("good").allowing().exact("good.example")]);
    let decoded = harness.answer(ask("any.example", TXT).edns(1232));
    assert_eq!(
        (decoded.rcode(), decoded.codes()),
        (ResponseCode::NXDomain, vec![15])
    );
    assert!(decoded.authorities()[0].starts_with("any.example. 60 IN SOA"));
    // An allow list takes precedence for `good.example`, so `example` must not be denied.
    assert_eq!(
        harness.answer(ask("example", TXT)).rcode(),
        ResponseCode::NoError
    );
    harness
        .take(0, PERMITTED, &ask("good.example", A).packet())
        .resolve();
}

#[test]
fn a_client_outside_the_network_is_not_concerned() {
    let harness = harness([list("ads").client("192.0.2.128/25")]);
    let asked = ask("any.example", A);
    let outcome = harness.take(0, PERMITTED, &asked.packet());
    assert_eq!(outcome.resolve().0, key(asked));
}

#[test]
fn a_name_in_which_a_pattern_is_found_is_blocked() {
    let harness = harness([
        list("ads")
            .pattern(r"(^|\.)ads[0-9]+\.")
            .exact("other.example"),
        list("good").allowing().exact("ads7.good.example"),
    ]);
    let decoded = harness.answer(ask("x.ADS7.example", A).edns(1232));
    assert_eq!(decoded.answers(), ["x.ADS7.example. 60 IN A 0.0.0.0"]);
    let decoded = harness.answer(ask("x.ads7.example", TXT));
    assert!(decoded.authorities()[0].starts_with("x.ads7.example. 60 IN SOA"));
    for name in ["ads7.good.example", "ads.example", "xads7.example"] {
        harness.take(0, PERMITTED, &ask(name, A).packet()).resolve();
    }
}

#[test]
fn nxdomain_is_not_sent_above_names_that_a_pattern_may_allow() {
    let ads = || list("ads").action(Action::Nxdomain).subtree("bad.example");
    let rcode = |lists: Vec<List>| harness(lists).answer(ask("bad.example", AAAA)).rcode();
    assert_eq!(rcode(vec![ads()]), ResponseCode::NXDomain);
    let good = list("good").allowing().pattern("safe[0-9]");
    assert_eq!(rcode(vec![ads(), good]), ResponseCode::NoError);
    let later = list("more").pattern("safe[0-9]");
    assert_eq!(rcode(vec![ads(), later]), ResponseCode::NXDomain);
}

#[test]
fn many_addresses_are_all_checked() {
    let harness = harness([list("ads").address("192.0.2.200/32")]);
    let asked = ask("many.example", A);
    harness.learn(
        asked,
        upstream_answer("many.example", A).answers(many("many.example", 210)),
    );
    let decoded = harness
        .take(0, PERMITTED_BY_STREAM, &asked.packet())
        .reply();
    assert_eq!(decoded.count, Count::BlockedTarget);
}

#[test]
fn a_client_gets_no_nxdomain_above_names_that_are_allowed() {
    let ads = || list("ads").action(Action::Nxdomain).client("192.0.2.0/24");
    let good = list("good").allowing().below("x.example");
    let harness = harness([ads(), good]);
    assert_eq!(
        harness.answer(ask("x.example", TXT)).rcode(),
        ResponseCode::NoError
    );
    // A validator needs the DS records above the allowed names.
    let asked = ask("x.example", DS);
    assert_eq!(
        harness.take(0, PERMITTED, &asked.packet()).resolve().0,
        key(asked)
    );
    assert_eq!(
        harness.answer(ask("y.example", TXT)).rcode(),
        ResponseCode::NXDomain
    );
}

#[test]
fn a_name_is_not_denied_if_its_client_may_ask_for_names_below() {
    let lists = |client: &str| {
        [
            list("one").action(Action::Nxdomain).exact("x.example"),
            list("two").client(client).acts(EffectAction::Allow),
            list("three").action(Action::Nxdomain).subtree("example"),
        ]
    };
    let rcode = |client| harness(lists(client)).answer(ask("x.example", TXT)).rcode();
    assert_eq!(rcode("192.0.2.0/24"), ResponseCode::NoError);
    assert_eq!(
        rcode("192.0.3.0/24"),
        ResponseCode::NXDomain,
        "another client"
    );
}

#[test]
fn additional_records_of_an_allowed_target_are_kept() {
    let harness = harness([
        list("good").allowing().exact("svc.good.example"),
        list("ads").address("198.51.100.0/24"),
    ]);
    let asked = ask("www.example", HTTPS);
    let answer = upstream_answer("www.example", HTTPS)
        .answers([
            cname("www.example", 300, "svc.good.example"),
            with_hint("svc.good.example", 1, [198, 51, 100, 1]),
        ])
        .additionals([a("svc.good.example", 300, [198, 51, 100, 1])]);
    let intake = Intake {
        additional: true,
        ..BOUNDS
    };
    harness.insert(asked, answer.entry_within(intake, 0));
    let decoded = harness.answer(asked);
    assert_eq!(
        (decoded.answers().len(), decoded.additionals().len()),
        (2, 1)
    );
}
