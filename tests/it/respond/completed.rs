//! Chains that several pools of servers complete: those of forwarded zones, and those of all other names.

use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::{self, A};
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::{Name as DnsName, RData, Record};
use tapis::policy::effect::EffectAction;
use tapis::serve::cache::Failure;
use tapis::serve::respond::Known;
use tapis::serve::step::Resolution;
use tapis::stats::Count;

use super::ask::{Ask, ask};
use super::harness::{PERMITTED, list};
use super::pools::{DEFAULT, Scene, WWW, address, alias, name, scene, shown};
use super::upstream_answer::{UpstreamAnswer, a, cname, rrsig, soa, upstream_answer};
use crate::support::local::local_names;

fn record(owner: &str, code: RecordType, rdata: Vec<u8>) -> Record {
    let owner = DnsName::from_ascii(format!("{owner}.")).expect("a name");
    let rdata = NULL::with(rdata);
    Record::from_rdata(owner, 300, RData::Unknown { code, rdata })
}

fn dname(owner: &str, target: &str) -> Record {
    record(owner, RecordType::DNAME, name(target).wire().to_vec())
}

/// A signature over records of that type, for names of this number of labels. Its other fields are irrelevant.
fn signature(owner: &str, covers: RecordType, labels: u8) -> Record {
    let mut rdata = vec![0; 24];
    rdata[..2].copy_from_slice(&u16::from(covers).to_be_bytes());
    rdata[3] = labels;
    record(owner, RecordType::RRSIG, rdata)
}

/// A proof of what is not there; its data is irrelevant.
fn nsec(owner: &str) -> Record {
    record(owner, RecordType::NSEC, vec![0, 0, 1, 0])
}

#[test]
fn a_chain_that_may_not_be_cached_is_completed_and_counted_as_resolved() {
    let start = "www.example";
    let scene = scene([]);
    let said = upstream_answer(start, A).answers([cname(start, 0, WWW)]);
    let entry = said.of_pool(0, DEFAULT, &scene.routes);
    scene.harness.insert(ask(start, A), Arc::clone(&entry));
    let conclude = |entry| {
        let resolution = Resolution::Answered(entry);
        scene.harness.conclude(1, ask(start, A), &resolution)
    };
    assert_eq!(shown(&conclude(entry).resolve().0), WWW);
    let target = address(WWW, 7, 300).of_pool(1, scene.corp, &scene.routes);
    scene.harness.insert(ask(WWW, A), Arc::clone(&target));
    let expected = [
        "www.example. 0 IN CNAME www.corp.example.",
        "www.corp.example. 300 IN A 192.0.2.7",
    ];
    let decoded = conclude(target).reply();
    assert_eq!(decoded.answers(), expected);
    assert_eq!(decoded.count, Count::Resolved);
    let decoded = scene.harness.answer_at(1, ask(start, A));
    assert_eq!(decoded.count, Count::CacheHits);
    assert!(
        scene
            .harness
            .take(2, PERMITTED, &ask(start, A).packet())
            .resolve()
            .1
            .is_some()
    );
}

/// A server whose list leads from `bad.example` to `garden.example`, which is an alias of a name of a forwarded zone.
fn with_garden() -> Scene {
    let rule = EffectAction::Cname {
        target: Arc::new(name(GARDEN)),
        prepend: false,
    };
    let scene = scene([list("wall").exact("bad.example").acts(rule)]);
    let said = alias(GARDEN, WWW).answers([a(WWW, 9, [203, 0, 113, 1])]);
    scene.learn(ask(GARDEN, A), said, (DEFAULT, 0));
    scene
}

const GARDEN: &str = "garden.example";
const TO_GARDEN: [&str; 2] = [
    "bad.example. 60 IN CNAME garden.example.",
    "garden.example. 200 IN CNAME www.corp.example.",
];

#[test]
fn the_chain_of_a_rule_is_completed_by_the_servers_of_each_zone() {
    let scene = with_garden();
    let asked = ask("bad.example", A).dnssec_ok();
    assert_eq!(scene.asked(0, asked).0, WWW);
    scene.learn(ask(WWW, A), alias(WWW, "end.example"), (scene.corp, 0));
    assert_eq!(scene.asked(0, asked).0, "end.example");
    let end = address("end.example", 7, 400).answers([rrsig("end.example", 400, A)]);
    scene.learn(ask("end.example", A), end, (DEFAULT, 0));
    let decoded = scene.harness.answer_at(100, asked);
    let completed = [
        TO_GARDEN[0],
        TO_GARDEN[1],
        "www.corp.example. 200 IN CNAME end.example.",
        "end.example. 300 IN A 192.0.2.7",
    ];
    assert_eq!(decoded.answers(), completed);
    assert_eq!(decoded.count, Count::Blocked);
    // A chain that leads back ends before the answer that does, and nothing is known at the last attempt.
    let back = alias("end.example", WWW);
    scene.learn(ask("end.example", A), back, (DEFAULT, 0));
    let decoded = scene.harness.answer_at(100, asked);
    assert_eq!(decoded.answers(), completed[..3]);
    let scene = with_garden();
    let known = Known {
        resolution: &Resolution::Outdated,
        cache: &scene.harness.cache,
        is_last: true,
    };
    let decoded = scene.harness.conclude_with(100, asked, known).reply();
    assert_eq!(decoded.answers(), TO_GARDEN);
}

#[test]
fn the_chain_of_a_rule_ends_with_the_records_of_a_local_name() {
    let mut scene = with_garden();
    scene.harness.snapshot.local = local_names(&[(WWW, 1, &[10, 0, 0, 1])]);
    let decoded = scene.harness.answer_at(100, ask("bad.example", A));
    let local = "www.corp.example. 60 IN A 10.0.0.1";
    assert_eq!(decoded.answers(), [TO_GARDEN[0], TO_GARDEN[1], local]);
}

#[test]
fn the_chain_of_a_rule_has_at_most_sixteen_names() {
    let scene = with_garden();
    let name_in = |zone: &str, number: usize| match number {
        0 => GARDEN.to_owned(),
        number => format!("n{number}.{zone}"),
    };
    for (part, number) in (0..20).step_by(2).enumerate() {
        let (zone, next, pool) = match part % 2 {
            0 => ("example", "corp.example", DEFAULT),
            _ => ("corp.example", "example", scene.corp),
        };
        let names = [
            name_in(zone, number),
            name_in(zone, number + 1),
            name_in(next, number + 2),
        ];
        let hops = names
            .windows(2)
            .map(|pair| cname(&pair[0], 300, pair[1].as_str()));
        let said = upstream_answer(&names[0], A).answers(hops);
        scene.learn(ask(&names[0], A), said, (pool, 0));
    }
    let decoded = scene.harness.answer(ask("bad.example", A));
    // That of the rule, and those of seven answers. The next answer has one more than there is room for.
    assert_eq!(decoded.answers().len(), 15);
}

#[test]
fn each_part_of_a_completed_chain_is_refreshed() {
    let (start, end) = ("www.example", "end.example");
    for (ttl, end_ttl, second) in [(300, 3000, WWW), (3000, 300, end)] {
        let scene = scene([]);
        let middle = upstream_answer(WWW, A).answers([cname(WWW, ttl, end)]);
        scene.learn(ask(start, A), alias(start, WWW), (DEFAULT, 0));
        scene.learn(ask(WWW, A), middle, (scene.corp, 0));
        scene.learn(ask(end, A), address(end, 7, end_ttl), (DEFAULT, 0));
        let hit = || {
            let packet = ask(start, A).packet();
            scene.harness.take(290, PERMITTED, &packet)
        };
        hit().reply();
        // Two are due; the second is refreshed by the next hit, whether it follows the first one or not.
        assert_eq!(shown(&hit().refreshed()), start);
        scene.learn(ask(start, A), alias(start, WWW), (DEFAULT, 290));
        assert_eq!(shown(&hit().refreshed()), second);
        hit().reply();
    }
}

#[test]
fn each_part_of_the_chain_of_a_rule_is_refreshed() {
    let scene = with_garden();
    scene.learn(ask(WWW, A), address(WWW, 7, 300), (scene.corp, 0));
    let hit = || {
        let packet = ask("bad.example", A).packet();
        scene.harness.take(290, PERMITTED, &packet)
    };
    hit().reply();
    assert_eq!(shown(&hit().refreshed()), GARDEN);
    assert_eq!(shown(&hit().refreshed()), WWW);
    hit().reply();
}

/// A CNAME record with its signature, in an answer that upstream validated.
fn signed_alias(owner: &str, target: &str) -> UpstreamAnswer {
    let signature = rrsig(owner, 300, RecordType::CNAME);
    alias(owner, target).answers([signature]).authentic()
}

#[test]
fn a_completed_chain_has_the_signatures_of_its_parts() {
    let start = "www.example";
    let asked = ask(start, A).dnssec_ok();
    let parts = |is_authentic: bool| {
        let scene = scene([]);
        let said = signed_alias(start, WWW).answers([a(WWW, 9, [203, 0, 113, 1])]);
        scene.learn(asked, said, (DEFAULT, 0));
        let part = signed_alias(WWW, "end.example");
        scene.learn(ask(WWW, A).dnssec_ok(), part, (scene.corp, 0));
        let end = address("end.example", 7, 300).answers([rrsig("end.example", 300, A)]);
        let end = if is_authentic { end.authentic() } else { end };
        scene.learn(ask("end.example", A).dnssec_ok(), end, (DEFAULT, 0));
        scene.harness.answer_at(100, asked)
    };
    let decoded = parts(true);
    let answers: Vec<_> = decoded.answers();
    let kinds: Vec<_> = answers
        .iter()
        .map(|record| record.split(' ').take(4).collect::<Vec<_>>().join(" "))
        .collect();
    let expected = [
        "www.example. 200 IN CNAME",
        "www.example. 200 IN RRSIG",
        "www.corp.example. 200 IN CNAME",
        "www.corp.example. 200 IN RRSIG",
        "end.example. 200 IN A",
        "end.example. 200 IN RRSIG",
    ];
    assert_eq!(kinds, expected, "{answers:?}");
    assert!(decoded.message.metadata.authentic_data);
    assert!(!parts(false).message.metadata.authentic_data);
}

#[test]
fn a_completed_chain_has_its_dname_and_the_proof_of_its_wildcard() {
    let start = "a.b.example";
    let asked = ask(start, A).dnssec_ok();
    let scene = scene([]);
    let target = "a.corp.example";
    // This signature is that of all labels of its owner, so that no proof is needed.
    let said = upstream_answer(start, A)
        .answers([
            dname("b.example", "corp.example"),
            signature("b.example", RecordType::DNAME, 2),
        ])
        .authority(nsec("c.example"));
    scene.learn(asked, said, (DEFAULT, 0));
    let wild = alias(target, "end.example")
        .answers([signature(target, RecordType::CNAME, 2)])
        .authority(nsec("x.corp.example"));
    scene.learn(ask(target, A).dnssec_ok(), wild, (scene.corp, 0));
    scene.learn(
        ask("end.example", A).dnssec_ok(),
        address("end.example", 7, 300),
        (DEFAULT, 0),
    );
    let decoded = scene.harness.answer(asked);
    let types = |records: Vec<String>| {
        let shown = |record: &String| {
            let words: Vec<_> = record.split(' ').collect();
            format!("{} {}", words[0], words[3])
        };
        records.iter().map(shown).collect::<Vec<_>>()
    };
    let expected = [
        "b.example. DNAME",
        "b.example. RRSIG",
        "a.b.example. CNAME",
        "a.corp.example. CNAME",
        "a.corp.example. RRSIG",
        "end.example. A",
    ];
    assert_eq!(types(decoded.answers()), expected);
    assert_eq!(types(decoded.authorities()), ["x.corp.example. NSEC"]);
}

#[test]
fn the_records_behind_a_local_alias_are_not_signed() {
    let mut scene = scene([]);
    let target = name("end.example");
    scene.harness.snapshot.local = local_names(&[(WWW, 5, target.wire())]);
    let start = "www.example";
    let asked = ask(start, A).dnssec_ok();
    // The alias is not that of upstream, whose chain goes on elsewhere.
    let said = signed_alias(start, WWW).answers([cname(WWW, 300, "other.example")]);
    scene.learn(asked, said, (DEFAULT, 0));
    let end = address("end.example", 7, 300).authentic();
    scene.learn(ask("end.example", A), end, (DEFAULT, 0));
    let decoded = scene.harness.answer(asked);
    let expected = [
        "www.example. 300 IN CNAME www.corp.example.",
        "www.corp.example. 60 IN CNAME end.example.",
        "end.example. 300 IN A 192.0.2.7",
    ];
    let answers = decoded.answers();
    let unsigned: Vec<_> = answers.iter().filter(|it| !it.contains("RRSIG")).collect();
    assert_eq!(unsigned, expected.iter().collect::<Vec<_>>());
    assert_eq!(answers.len(), 4);
    assert!(!decoded.message.metadata.authentic_data);
}

#[test]
fn what_upstream_says_about_names_of_a_forwarded_zone_is_asked_of_its_servers() {
    let start = "www.example";
    let chain = [cname(start, 300, WWW), cname(WWW, 300, "cdn.example")];
    let public = alias(start, WWW).answers([a(WWW, 300, [203, 0, 113, 1])]);
    let denied = alias(start, WWW).rcode(ResponseCode::NXDomain);
    let denied = denied.authority(soa("example", 30, 30));
    let onwards = upstream_answer(start, A).answers(chain);
    for said in [public, denied, alias(start, WWW), onwards] {
        let scene = scene([]);
        scene.learn(ask(start, A), said, (DEFAULT, 0));
        assert_eq!(scene.asked(0, ask(start, A)).0, WWW);
        scene.learn(ask(WWW, A), address(WWW, 7, 300), (scene.corp, 0));
        let decoded = scene.harness.answer_at(100, ask(start, A));
        let expected = [
            "www.example. 200 IN CNAME www.corp.example.",
            "www.corp.example. 200 IN A 192.0.2.7",
        ];
        assert_eq!(decoded.answers(), expected);
        assert_eq!(decoded.rcode(), ResponseCode::NoError);
    }
}

#[test]
fn a_chain_through_the_zones_of_three_pools_and_a_local_alias_is_completed() {
    let mut scene = scene([]);
    let target = name("b.lab.example.net");
    scene.harness.snapshot.local = local_names(&[("own.example", 5, target.wire())]);
    let start = "www.example";
    let alias_to = [(start, WWW, DEFAULT), (WWW, "own.example", scene.corp)];
    for (owner, target, pool) in alias_to {
        scene.learn(ask(owner, A), alias(owner, target), (pool, 0));
    }
    assert_eq!(scene.asked(0, ask(start, A)).0, "b.lab.example.net");
    let back = alias("b.lab.example.net", "end.example");
    scene.learn(ask("b.lab.example.net", A), back, (scene.lab, 0));
    assert_eq!(scene.asked(0, ask(start, A)).0, "end.example");
    scene.learn(
        ask("end.example", A),
        address("end.example", 7, 20),
        (DEFAULT, 0),
    );
    let decoded = scene.harness.answer(ask(start, A));
    let expected = [
        "www.example. 300 IN CNAME www.corp.example.",
        "www.corp.example. 300 IN CNAME own.example.",
        "own.example. 60 IN CNAME b.lab.example.net.",
        "b.lab.example.net. 300 IN CNAME end.example.",
        "end.example. 20 IN A 192.0.2.7",
    ];
    assert_eq!(decoded.answers(), expected);
    // A chain that leads back ends where it does.
    scene.learn(
        ask("end.example", A),
        alias("end.example", WWW),
        (DEFAULT, 0),
    );
    assert_eq!(scene.harness.answer(ask(start, A)).answers().len(), 5);
}

/// The failure of a query at 20, of which a stale chain is cached.
fn failed_at_20(scene: &Scene, asked: Ask<'_>) -> Resolution {
    let (_, stale) = scene.harness.take(20, PERMITTED, &asked.packet()).resolve();
    let failure = Arc::new(Failure {
        code: 22,
        said: None,
    });
    Resolution::Failed(failure, Some(stale.expect("a stale chain")))
}

#[test]
fn a_stale_chain_is_completed_as_a_fresh_one_and_says_that_it_is_stale() {
    let start = "www.example";
    let scene = scene([]);
    let brief = upstream_answer(start, A).answers([cname(start, 1, WWW)]);
    scene.learn(ask(start, A), brief, (DEFAULT, 0));
    scene.learn(ask(WWW, A), address(WWW, 7, 300), (scene.corp, 0));
    let asked = ask(start, A).edns(1232);
    let failed = failed_at_20(&scene, asked);
    let decoded = scene.harness.conclude(20, asked, &failed).reply();
    let expected = [
        "www.example. 30 IN CNAME www.corp.example.",
        "www.corp.example. 280 IN A 192.0.2.7",
    ];
    assert_eq!(
        (decoded.answers(), decoded.codes()),
        (expected.map(str::to_owned).to_vec(), vec![3])
    );
    // At the last attempt, too.
    let known = Known {
        resolution: &failed,
        cache: &scene.harness.cache,
        is_last: true,
    };
    let decoded = scene.harness.conclude_with(20, asked, known).reply();
    assert_eq!(decoded.answers(), expected);
}

#[test]
fn each_stale_part_of_a_completed_chain_has_the_ttl_of_stale_records() {
    let (start, end) = ("www.example", "x.lab.example.net");
    let scene = scene([]);
    for (owner, target, pool) in [(start, WWW, DEFAULT), (WWW, end, scene.corp)] {
        let brief = upstream_answer(owner, A).answers([cname(owner, 1, target)]);
        scene.learn(ask(owner, A), brief, (pool, 0));
    }
    scene.learn(ask(end, A), address(end, 7, 300), (scene.lab, 0));
    let asked = ask(start, A).edns(1232);
    let failed = failed_at_20(&scene, asked);
    // The servers of the middle part may answer, so they are asked first.
    let last = Known {
        resolution: &failed,
        cache: &scene.harness.cache,
        is_last: true,
    };
    let decoded = scene.harness.conclude_with(20, asked, last).reply();
    let expected = [
        "www.example. 30 IN CNAME www.corp.example.",
        "www.corp.example. 30 IN CNAME x.lab.example.net.",
        "x.lab.example.net. 280 IN A 192.0.2.7",
    ];
    assert_eq!(decoded.answers(), expected);
}

#[test]
fn rules_apply_to_all_parts_of_a_completed_chain() {
    let start = "www.example";
    for rules in [
        list("ads").exact(WWW),
        list("ads").exact("end.example"),
        list("ads").address("192.0.2.0/24"),
    ] {
        let scene = scene([rules]);
        scene.learn(ask(start, A), alias(start, WWW), (DEFAULT, 0));
        let onwards = alias(WWW, "end.example");
        scene.learn(ask(WWW, A), onwards, (scene.corp, 0));
        scene.learn(
            ask("end.example", A),
            address("end.example", 7, 20),
            (DEFAULT, 0),
        );
        let decoded = scene.harness.answer(ask(start, A));
        assert_eq!(decoded.count, Count::BlockedTarget);
        let answers = decoded.answers();
        let last = answers.last().expect("the sinkhole");
        assert!(last.ends_with("IN A 0.0.0.0"), "{answers:?}");
    }
}

#[test]
fn a_rule_that_spares_signed_answers_decides_by_the_answer_that_begins_the_chain() {
    let start = "www.example";
    let asked = ask(start, A).dnssec_ok();
    for (signature, count) in [
        (Some(rrsig(start, 300, RecordType::CNAME)), Count::CacheHits),
        (None, Count::Blocked),
    ] {
        let scene = scene([list("feed").zone(false).exact(start)]);
        let said = alias(start, WWW).answers(signature);
        scene.learn(asked, said, (DEFAULT, 0));
        scene.learn(
            ask(WWW, A).dnssec_ok(),
            address(WWW, 7, 300),
            (scene.corp, 0),
        );
        assert_eq!(scene.harness.answer(asked).count, count);
    }
}

#[test]
fn a_rule_that_spares_signed_answers_spares_signed_parts_of_a_completed_chain() {
    let start = "www.example";
    let asked = ask(start, A).dnssec_ok();
    for (signature, count) in [
        (Some(rrsig(WWW, 300, A)), Count::CacheHits),
        (None, Count::BlockedTarget),
    ] {
        let scene = scene([list("feed").zone(false).exact(WWW)]);
        scene.learn(asked, alias(start, WWW), (DEFAULT, 0));
        assert_eq!(scene.asked(0, asked).0, WWW, "it may be signed");
        let said = address(WWW, 7, 300).answers(signature);
        scene.learn(ask(WWW, A).dnssec_ok(), said, (scene.corp, 0));
        assert_eq!(scene.harness.answer(asked).count, count);
    }
}

#[test]
fn rules_on_addresses_do_not_apply_to_local_addresses_at_the_end_of_any_chain() {
    let mut scene = scene([list("ads").address("192.0.2.0/24")]);
    scene.harness.snapshot.local = local_names(&[
        ("router.example", 1, &[192, 0, 2, 7]),
        ("alias.example", 5, name("router.example").wire()),
    ]);
    scene.learn(ask(WWW, A), alias(WWW, "router.example"), (scene.corp, 0));
    for (owner, count) in [("alias.example", Count::Local), (WWW, Count::CacheHits)] {
        let decoded = scene.harness.answer(ask(owner, A));
        assert_eq!(decoded.count, count, "{owner}");
        assert_eq!(decoded.answers()[1], "router.example. 60 IN A 192.0.2.7");
    }
    // What upstream says about a local name is sent as upstream sent it, and rules on addresses apply.
    let said = alias("www.example", "router.example");
    let said = said.answers([a("router.example", 300, [192, 0, 2, 8])]);
    scene.learn(ask("www.example", A), said, (DEFAULT, 0));
    let decoded = scene.harness.answer(ask("www.example", A));
    assert_eq!(decoded.count, Count::BlockedTarget);
}
