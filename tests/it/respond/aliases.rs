//! Answers by CNAME rules on the queried name, or on a name that it leads to.

use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::{self, A, AAAA, ANY, CNAME, DS, MX, TXT};
use hickory_proto::rr::{Name as DnsName, RData, Record, rdata};
use tapis::policy::effect::{Effect, EffectAction};
use tapis::policy::record::LocalRecord;
use tapis::policy::rule::Action;
use tapis::serve::cache::Failure;
use tapis::serve::respond::Known;
use tapis::serve::step::Resolution;
use tapis::stats::Count;
use tapis::wire::flag::{AD, CD, RD, TC};
use tapis::wire::name::Name;

use super::ask::{Ask, ask};
use super::harness::{Harness, List, PERMITTED, PERMITTED_BY_STREAM, harness, key, list, snapshot};
use super::targets::chained;
use super::upstream_answer::{UpstreamAnswer, a, cname, many, rrsig, soa, upstream_answer};

fn to(target: &str) -> EffectAction {
    EffectAction::Cname {
        target: Arc::new(Name::from_text(target).expect("a name")),
        prepend: false,
    }
}

fn prepended_to(target: &str) -> EffectAction {
    EffectAction::Cname {
        target: Arc::new(Name::from_text(target).expect("a name")),
        prepend: true,
    }
}

fn walled() -> List {
    list("wall")
        .subtree("bad.example")
        .acts(to("garden.example"))
}

/// A harness with the address of the target `garden.example` in its cache.
fn with_garden(lists: impl IntoIterator<Item = List>) -> Harness {
    let harness = harness(lists);
    harness.learn(ask("garden.example", A), garden());
    harness
}

fn garden() -> UpstreamAnswer {
    upstream_answer("garden.example", A).authentic().answers([a(
        "garden.example",
        300,
        [192, 0, 2, 80],
    )])
}

const ALIAS: &str = "www.bad.example. 60 IN CNAME garden.example.";
const ADDRESS: &str = "garden.example. 300 IN A 192.0.2.80";

#[test]
fn the_target_and_its_records_from_the_cache_are_the_answer() {
    let harness = with_garden([walled()]);
    let decoded = harness.answer(ask("WWW.bad.example", A).dnssec_ok().flags(RD | AD));
    let alias = "WWW.bad.example. 60 IN CNAME garden.example.";
    assert_eq!(decoded.answers(), [alias, ADDRESS]);
    assert_eq!(
        (decoded.count, decoded.errors()),
        (Count::Blocked, vec![(15, "wall".to_owned())])
    );
    assert!(!decoded.has(AD), "no signature covers the CNAME");
    let later = harness.answer_at(100, ask("www.bad.example", A));
    let older = "garden.example. 200 IN A 192.0.2.80";
    assert_eq!(later.answers(), [ALIAS, older], "the rule does not age");
}

#[test]
fn a_target_that_is_not_in_the_cache_is_asked_for_without_signatures() {
    let harness = harness([walled()]);
    let asked = ask("www.bad.example", A).dnssec_ok().flags(RD | CD);
    let (wanted, stale) = harness.take(0, PERMITTED, &asked.packet()).resolve();
    assert_eq!(wanted, key(ask("garden.example", A).flags(RD | CD)));
    assert!(stale.is_none());
    let entry = garden().answers([rrsig("garden.example", 300, A)]).entry(0);
    let decoded = harness
        .conclude(0, asked, &Resolution::Answered(entry))
        .reply();
    assert_eq!(decoded.answers(), [ALIAS, ADDRESS], "no signature");
}

#[test]
fn the_target_is_not_checked_against_the_policy() {
    let ads = list("ads").exact("garden.example").exact("end.example");
    let harness = harness([walled(), ads]);
    let chained = upstream_answer("garden.example", A).answers([
        cname("garden.example", 300, "end.example"),
        a("end.example", 300, [192, 0, 2, 80]),
    ]);
    harness.learn(ask("garden.example", A), chained);
    let decoded = harness.answer(ask("www.bad.example", A));
    let hop = "garden.example. 300 IN CNAME end.example.";
    let end = "end.example. 300 IN A 192.0.2.80";
    assert_eq!(decoded.answers(), [ALIAS, hop, end]);
    let of_target = harness.answer(ask("garden.example", A));
    assert_eq!(of_target.answers(), ["garden.example. 60 IN A 0.0.0.0"]);
}

#[test]
fn a_denial_of_the_target_keeps_its_code_and_soa() {
    let harness = harness([walled()]);
    let zone = || soa("garden.example", 300, 300);
    let absent = upstream_answer("garden.example", TXT).rcode(ResponseCode::NXDomain);
    harness.learn(ask("garden.example", TXT), absent.authority(zone()));
    let empty = upstream_answer("garden.example", MX).authority(zone());
    harness.learn(ask("garden.example", MX), empty);
    for (rtype, rcode) in [(TXT, ResponseCode::NXDomain), (MX, ResponseCode::NoError)] {
        let decoded = harness.answer(ask("www.bad.example", rtype));
        assert_eq!(decoded.rcode(), rcode);
        assert_eq!(decoded.answers(), [ALIAS]);
        let soa = "garden.example. 300 IN SOA ns.elsewhere. who.elsewhere. 1 2 3 4 300";
        assert_eq!(decoded.authorities(), [soa]);
    }
}

#[test]
fn names_in_the_targets_records_are_as_upstream_has_them() {
    let harness = harness([walled()]);
    let mail = |target: &str| {
        let name = |text: &str| DnsName::from_ascii(text).expect("a name");
        let data = RData::MX(rdata::MX::new(10, name(target)));
        Record::from_rdata(name("garden.example."), 300, data)
    };
    let answer = upstream_answer("garden.example", MX);
    let answer = answer.answers([mail("MX.garden.example."), mail("mx.other.example.")]);
    harness.learn(ask("garden.example", MX), answer);
    let records = harness.answer(ask("www.bad.example", MX)).answers();
    let one = "garden.example. 300 IN MX 10 MX.garden.example.";
    let two = "garden.example. 300 IN MX 10 mx.other.example.";
    assert_eq!(records, [ALIAS, one, two]);
}

#[test]
fn a_query_for_the_cname_or_for_any_gets_the_cname_alone() {
    let harness = with_garden([walled()]);
    for rtype in [CNAME, ANY] {
        let decoded = harness.answer(ask("www.bad.example", rtype));
        assert_eq!(decoded.answers(), [ALIAS], "{rtype}");
    }
    let without_recursion = harness.answer(ask("www.bad.example", A).flags(0));
    assert_eq!(without_recursion.answers(), [ALIAS]);
}

#[test]
fn the_cname_has_the_ttl_of_the_rule_or_of_its_record() {
    let record = LocalRecord {
        rtype: CNAME.into(),
        ttl_secs: Some(7),
        data: b"\x06garden\x07example\x00"[..].into(),
    };
    let effect = Effect {
        action: to("garden.example"),
        ttl_secs: Some(8),
        ..Effect::default()
    };
    let records = EffectAction::Records(vec![record]);
    let lists = list("wall")
        .exact("seven.example")
        .acts(records)
        .exact("eight.example")
        .effect(effect);
    let harness = with_garden([lists]);
    for (name, ttl) in [("seven.example", 7), ("eight.example", 8)] {
        let answers = harness.answer(ask(name, A)).answers();
        let alias = format!("{name}. {ttl} IN CNAME garden.example.");
        assert_eq!(answers, [&alias, ADDRESS]);
    }
}

#[test]
fn the_queried_name_is_prepended() {
    let wall = list("wall").below("bad.example");
    let harness = harness([wall.acts(prepended_to("garden.example"))]);
    let asked = ask("www.Bad.example", A);
    let (wanted, _) = harness.take(0, PERMITTED, &asked.packet()).resolve();
    let target = ask("www.bad.example.garden.example", A);
    assert_eq!(wanted, key(target));
    harness.learn(
        target,
        upstream_answer(target.name, A).answers(many(target.name, 2)),
    );
    let answers = harness.answer(asked).answers();
    assert_eq!(
        answers,
        [
            "www.Bad.example. 60 IN CNAME www.bad.example.garden.example.",
            "www.bad.example.garden.example. 300 IN A 192.0.2.0",
            "www.bad.example.garden.example. 300 IN A 192.0.2.1",
        ]
    );
}

#[test]
fn a_prepended_name_that_is_too_long_does_not_exist() {
    let wall = list("wall").below("bad.example");
    let harness = harness([wall.acts(prepended_to("garden.example"))]);
    let label = "x".repeat(63);
    // With 14 bytes more, the longest name has 255.
    for (last, fits) in [(34, true), (35, false)] {
        let last = "x".repeat(last);
        let long = format!("{label}.{label}.{label}.{last}.bad.example");
        let outcome = harness.take(0, PERMITTED, &ask(&long, A).edns(1232).packet());
        if fits {
            let (wanted, _) = outcome.resolve();
            assert_eq!(wanted.name().len(), 255);
            continue;
        }
        let decoded = outcome.reply();
        assert_eq!(decoded.rcode(), ResponseCode::YXDomain);
        assert_eq!((decoded.codes(), decoded.is_bare()), (vec![15], true));
    }
}

#[test]
fn the_target_itself_is_allowed_and_its_chain_is_checked_against_orders_only() {
    let wall = list("wall").subtree("bad.example");
    let ads = list("ads").subtree("track.test");
    let harness = harness([wall.acts(to("www.bad.example")), ads]);
    let answer = upstream_answer("www.bad.example", A).answers([
        cname("www.bad.example", 300, "x.track.test"),
        a("x.track.test", 300, [192, 0, 2, 7]),
    ]);
    harness.learn(ask("www.bad.example", A), answer);
    let decoded = harness.answer(ask("www.bad.example", A));
    assert_eq!(decoded.count, Count::CacheHits);
    let honest = [
        "www.bad.example. 300 IN CNAME x.track.test.",
        "x.track.test. 300 IN A 192.0.2.7",
    ];
    assert_eq!(decoded.answers(), honest);
    // Validators need the DS records of names above an allowed one.
    let ds = harness.take(0, PERMITTED, &ask("bad.example", DS).packet());
    assert_eq!(ds.resolve().0, key(ask("bad.example", DS)));
}

#[test]
fn a_local_zone_is_never_asked_for_upstream() {
    let wall = list("wall")
        .exact("one.example")
        .acts(to("localhost"))
        .exact("two.example")
        .acts(to("x.invalid"));
    let harness = harness([wall]);
    let decoded = harness.answer(ask("one.example", AAAA));
    let alias = "one.example. 60 IN CNAME localhost.";
    assert_eq!(decoded.answers(), [alias, "localhost. 10800 IN AAAA ::1"]);
    let decoded = harness.answer(ask("two.example", A));
    assert_eq!(decoded.rcode(), ResponseCode::NXDomain);
    assert_eq!(decoded.answers(), ["two.example. 60 IN CNAME x.invalid."]);
    assert!(decoded.authorities()[0].starts_with("invalid. 10800 IN SOA"));
}

#[test]
fn an_answer_that_is_too_long_is_truncated() {
    let harness = harness([walled()]);
    let answer = upstream_answer("garden.example", A).answers(many("garden.example", 40));
    harness.learn(ask("garden.example", A), answer);
    let decoded = harness.answer(ask("www.bad.example", A));
    assert!(decoded.has(TC) && decoded.answers().is_empty());
    let decoded = harness.answer(ask("www.bad.example", A).edns(1232));
    assert_eq!(decoded.answers().len(), 41, "owners are compressed");
}

#[test]
fn names_in_the_targets_records_are_compressed_where_the_rfcs_permit() {
    let labels = ["g", &"x".repeat(60), &"y".repeat(60), &"z".repeat(60)];
    let garden = labels.join(".");
    let wall = list("wall").exact("bad.example").acts(to(&garden));
    let harness = harness([wall]);
    let name = |text: String| DnsName::from_ascii(text).expect("a name");
    let record = |data| Record::from_rdata(name(format!("{garden}.")), 300, data);
    let mail = |number: u16| {
        let server = name(format!("m{number:03}.{garden}."));
        record(RData::MX(rdata::MX::new(number, server)))
    };
    let service = |number: u16| {
        let server = name(format!("s{number}.{garden}."));
        record(RData::SRV(rdata::SRV::new(1, 1, number, server)))
    };
    let texts = |records: &[Record]| records.iter().map(Record::to_string).collect::<Vec<_>>();
    let learn = |rtype, records: Vec<Record>| {
        let answer = upstream_answer(&garden, rtype).answers(records.clone());
        harness.learn(ask(&garden, rtype), answer);
        let packet = ask("bad.example", rtype).packet();
        let decoded = harness.take(0, PERMITTED_BY_STREAM, &packet).reply();
        assert!(!decoded.has(TC), "{rtype}");
        assert!(decoded.answers()[1..] == texts(&records), "{rtype}");
        decoded.bytes.len()
    };
    // In full, each name in the data would take 189 bytes, and the answer 41 KB.
    let bytes = learn(MX, (0..200).map(mail).collect());
    let alias = 12 + 17 + 12 + garden.len() + 2;
    assert_eq!(bytes, alias + 200 * (2 + 10 + 2 + 7));
    // Names in SRV records are in full (RFC 2782).
    let bytes = learn(RecordType::SRV, (0..9).map(service).collect());
    assert_eq!(bytes, alias + 9 * (2 + 10 + 6 + 3 + garden.len() + 2));
}

#[test]
fn a_failure_of_the_target_is_servfail_or_a_stale_answer() {
    let failure = no_answer;
    let asked = ask("www.bad.example", A).edns(1232);
    let target = ask("garden.example", A);
    let bare = harness([walled()]);
    let failed = Resolution::Failed(failure().into(), None);
    let decoded = bare.conclude(0, asked, &failed).reply();
    assert_eq!(
        (decoded.rcode(), decoded.codes(), decoded.count),
        (ResponseCode::ServFail, vec![22], Count::Failed)
    );
    bare.fail(target, failure(), 0);
    assert_eq!(bare.answer(asked).codes(), [22, 13], "a cached failure");
    let harness = with_garden([walled()]);
    let (_, stale) = harness.take(400, PERMITTED, &asked.packet()).resolve();
    assert!(stale.is_some());
    let failed = Resolution::Failed(failure().into(), stale);
    let stale = [ALIAS, "garden.example. 30 IN A 192.0.2.80"];
    let decoded = harness.conclude(400, asked, &failed).reply();
    assert_eq!(
        (decoded.answers(), decoded.codes()),
        (stale.map(Into::into).into(), vec![15, 3])
    );
    harness.fail(target, failure(), 400);
    assert_eq!(harness.answer_at(400, asked).answers(), stale);
}

#[test]
fn a_popular_target_is_refreshed_before_it_expires() {
    let harness = with_garden([walled()]);
    let asked = ask("www.bad.example", A);
    let outcomes = [280, 281].map(|now| harness.take(now, PERMITTED, &asked.packet()));
    let [first, second] = outcomes;
    assert_eq!(first.reply().answers().len(), 2);
    assert_eq!(second.refreshed(), key(ask("garden.example", A)));
}

const CHAIN: [&str; 3] = [
    "www.shop.example. 60 IN CNAME edge.cdn.example.",
    "edge.cdn.example. 20 IN CNAME x.track.test.",
    "x.track.test. 60 IN CNAME garden.example.",
];

fn tracker() -> List {
    list("wall")
        .exact("x.track.test")
        .acts(to("garden.example"))
}

#[test]
fn a_name_of_the_chain_is_replaced_by_the_target() {
    let harness = with_garden([tracker()]);
    let asked = ask("www.shop.example", A);
    harness.learn(asked, chained(A));
    let decoded = harness.answer(asked);
    assert_eq!(decoded.count, Count::BlockedTarget);
    assert_eq!(decoded.answers(), [&CHAIN[..], &[ADDRESS]].concat());
    let signed = asked.dnssec_ok().flags(RD | AD);
    harness.learn(signed, chained(A));
    let decoded = harness.answer(signed);
    assert_eq!(decoded.answers(), [&CHAIN[..], &[ADDRESS]].concat());
    assert!(!decoded.has(AD));
}

#[test]
fn the_chain_and_then_the_target_are_asked_for() {
    let harness = harness([tracker()]);
    let asked = ask("www.shop.example", A);
    let target = ask("garden.example", A);
    let packet = asked.packet();
    let (wanted, _) = harness.take(0, PERMITTED, &packet).resolve();
    assert_eq!(wanted, key(asked));
    // The resolver caches an answer before it concludes.
    harness.learn(asked, chained(A));
    let answered = Resolution::Answered(chained(A).entry(0));
    let (wanted, _) = harness.conclude(0, asked, &answered).resolve();
    assert_eq!(wanted, key(target));
    let (wanted, _) = harness.take(0, PERMITTED, &packet).resolve();
    assert_eq!(wanted, key(target));
    let answered = Resolution::Answered(garden().entry(0));
    let decoded = harness.conclude(0, asked, &answered).reply();
    assert_eq!(decoded.answers(), [&CHAIN[..], &[ADDRESS]].concat());
}

#[test]
fn a_chain_that_cannot_be_cached_ends_with_the_cname() {
    let harness = harness([tracker()]);
    let asked = ask("www.shop.example", A);
    let fleeting = upstream_answer("www.shop.example", A).answers([
        cname("www.shop.example", 0, "x.track.test"),
        a("x.track.test", 0, [192, 0, 2, 7]),
    ]);
    let answered = Resolution::Answered(fleeting.entry(0));
    let decoded = harness.conclude(0, asked, &answered).reply();
    let hop = "www.shop.example. 0 IN CNAME x.track.test.";
    assert_eq!(decoded.answers(), [hop, CHAIN[2]]);
}

#[test]
fn an_alias_to_a_local_name_of_its_own_chain_ends_with_the_cname() {
    let harness = harness([list("wall").exact("x.track.test").acts(to("a.localhost"))]);
    let asked = ask("www.shop.example", A);
    let answer = upstream_answer("www.shop.example", A).answers([
        cname("www.shop.example", 300, "a.localhost"),
        cname("a.localhost", 300, "x.track.test"),
        a("x.track.test", 300, [192, 0, 2, 7]),
    ]);
    harness.learn(asked, answer);
    let decoded = harness.answer(asked);
    assert_eq!(
        decoded.answers(),
        [
            "www.shop.example. 60 IN CNAME a.localhost.",
            "a.localhost. 60 IN CNAME x.track.test.",
            "x.track.test. 60 IN CNAME a.localhost.",
        ]
    );
}

#[test]
fn behind_a_chain_that_cannot_be_cached_no_stale_target_is_sent() {
    let harness = with_garden([tracker()]);
    let fleeting = upstream_answer("www.shop.example", A).answers([
        cname("www.shop.example", 0, "x.track.test"),
        a("x.track.test", 0, [192, 0, 2, 7]),
    ]);
    let answered = Resolution::Answered(fleeting.entry(400));
    let asked = ask("www.shop.example", A);
    let decoded = harness.conclude(400, asked, &answered).reply();
    let hop = "www.shop.example. 0 IN CNAME x.track.test.";
    assert_eq!(decoded.answers(), [hop, CHAIN[2]], "upstream was not asked");
}

fn no_answer() -> Failure {
    Failure {
        code: 22,
        said: None,
    }
}

/// A harness with two answers in its cache: the chain, whose TTL ends at second 20, and the garden's address, whose TTL
/// ends at second 300.
fn with_stale_chain(lists: impl IntoIterator<Item = List>) -> Harness {
    let harness = with_garden(lists);
    harness.learn(ask("www.shop.example", A), chained(A));
    harness
}

#[test]
fn a_stale_chain_is_reported_whatever_follows_it() {
    let sinkhole = list("wall").exact("x.track.test");
    let refused = list("wall").action(Action::Refused).exact("x.track.test");
    let hops = [
        "www.shop.example. 30 IN CNAME edge.cdn.example.",
        "edge.cdn.example. 30 IN CNAME x.track.test.",
    ];
    let to_garden = [hops[0], hops[1], CHAIN[2]];
    let fresh = "garden.example. 200 IN A 192.0.2.80";
    let old = "garden.example. 30 IN A 192.0.2.80";
    for (now, rules, records, codes) in [
        (
            100,
            tracker(),
            [&to_garden[..], &[fresh]].concat(),
            vec![15, 3],
        ),
        (
            400,
            tracker(),
            [&to_garden[..], &[old]].concat(),
            vec![15, 3],
        ),
        (
            400,
            sinkhole,
            vec![hops[0], hops[1], "x.track.test. 60 IN A 0.0.0.0"],
            vec![15, 3],
        ),
        (400, refused, vec![], vec![15]),
    ] {
        let harness = with_stale_chain([rules]);
        let asked = ask("www.shop.example", A).edns(1232);
        let (wanted, stale) = harness.take(now, PERMITTED, &asked.packet()).resolve();
        assert_eq!(wanted, key(asked));
        let known = Known {
            resolution: &Resolution::Failed(no_answer().into(), stale),
            cache: &harness.cache,
            is_last: true,
        };
        let decoded = harness.conclude_with(now, asked, known).reply();
        assert_eq!(
            (decoded.answers(), decoded.codes()),
            (records.iter().map(ToString::to_string).collect(), codes)
        );
    }
}

#[test]
fn behind_a_stale_chain_a_stale_target_is_sent_at_once_and_refreshed() {
    let harness = with_stale_chain([tracker()]);
    let asked = ask("www.shop.example", A);
    harness.fail(asked, no_answer(), 400);
    let outcome = harness.take(400, PERMITTED, &asked.packet());
    assert_eq!(outcome.refreshed(), key(ask("garden.example", A)));
}

#[test]
fn the_last_attempt_is_answered_with_what_is_stale() {
    let harness = with_stale_chain([tracker()]);
    // The resolution is about a name that the policy no longer needs.
    let other = upstream_answer("other.example", A).entry(400);
    let known = Known {
        resolution: &Resolution::Answered(other),
        cache: &harness.cache,
        is_last: true,
    };
    let asked = ask("www.shop.example", A).edns(1232);
    let decoded = harness.conclude_with(400, asked, known).reply();
    assert_eq!((decoded.answers().len(), decoded.codes()), (4, vec![15, 3]));
}

fn honest(asked: Ask<'_>) -> UpstreamAnswer {
    upstream_answer(asked.name, A).answers([a(asked.name, 300, [192, 0, 2, 7])])
}

#[test]
fn a_rule_that_comes_or_goes_while_upstream_is_asked_applies() {
    let asked = ask("www.bad.example", A);
    let mut harness = harness([walled()]);
    harness.take(0, PERMITTED, &asked.packet()).resolve();
    // The rule is lifted, so the target's records are not the answer.
    harness.snapshot = snapshot([]);
    let of_target = Resolution::Answered(garden().entry(0));
    let (wanted, _) = harness.conclude(0, asked, &of_target).resolve();
    assert_eq!(wanted, key(asked));
    harness.learn(asked, honest(asked));
    let records = harness.conclude(0, asked, &of_target).reply().answers();
    assert_eq!(records, ["www.bad.example. 300 IN A 192.0.2.7"]);
    // The rule is added again, so the queried name's records are not the answer.
    harness.snapshot = snapshot([walled()]);
    let of_name = Resolution::Answered(honest(asked).entry(0));
    let (wanted, _) = harness.conclude(0, asked, &of_name).resolve();
    assert_eq!(wanted, key(ask("garden.example", A)));
    harness.learn(ask("garden.example", A), garden());
    let records = harness.conclude(0, asked, &of_name).reply().answers();
    assert_eq!(records, [ALIAS, ADDRESS]);
}

#[test]
fn what_upstream_said_about_the_target_is_no_answer_about_the_name() {
    let asked = ask("www.bad.example", A).edns(1232);
    let mut harness = with_garden([walled()]);
    let (_, stale) = harness.take(400, PERMITTED, &asked.packet()).resolve();
    harness.snapshot = snapshot([]);
    let said = upstream_answer("garden.example", A).rcode(ResponseCode::Refused);
    let failure = Failure {
        code: 22,
        said: Some(said.entry(400)),
    };
    let failed = Resolution::Failed(failure.clone().into(), None);
    let decoded = harness.conclude(400, asked, &failed).reply();
    assert_eq!(
        (decoded.rcode(), decoded.codes()),
        (ResponseCode::ServFail, vec![22])
    );
    for resolution in [
        Resolution::Failed(failure.into(), stale.clone()),
        Resolution::Overloaded(stale),
    ] {
        let (wanted, _) = harness.conclude(400, asked, &resolution).resolve();
        assert_eq!(wanted, key(asked));
    }
}

#[test]
fn queries_of_all_other_types_lead_to_the_target() {
    for rtype in [A, RecordType::HTTPS, RecordType::NS] {
        let harness = harness([walled()]);
        let asked = ask("www.bad.example", rtype);
        let (wanted, _) = harness.take(0, PERMITTED, &asked.packet()).resolve();
        assert_eq!(wanted, key(ask("garden.example", rtype)));
    }
}

#[test]
fn an_alias_that_leads_back_ends_with_its_cname() {
    let back = list("wall").exact("edge.example").acts(to("www.example"));
    let harness = harness([back, walled()]);
    let learn = |from: &str, to: &str| {
        let chain = [cname(from, 300, to), a(to, 300, [192, 0, 2, 66])];
        harness.learn(ask(from, A), upstream_answer(from, A).answers(chain));
    };
    learn("www.example", "edge.example");
    let decoded = harness.answer(ask("www.example", A));
    let to_edge = "www.example. 60 IN CNAME edge.example.";
    let back = "edge.example. 60 IN CNAME www.example.";
    assert_eq!(decoded.answers(), [to_edge, back]);
    // The target itself leads back to the queried name.
    learn("garden.example", "www.bad.example");
    assert_eq!(harness.answer(ask("www.bad.example", A)).answers(), [ALIAS]);
}
