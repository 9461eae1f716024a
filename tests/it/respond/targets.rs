//! Blocks that apply to a target of the CNAME chain.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::{A, AAAA, CNAME, HTTPS, MX, TXT};
use hickory_proto::rr::rdata::{self, NULL};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tapis::policy::rule::Action;
use tapis::stats::Count;
use tapis::wire::answer::Intake;
use tapis::wire::flag::{AD, RD};

use super::ask::ask;
use super::decoded::Decoded;
use super::harness::{Harness, List, PERMITTED, harness, list};
use super::upstream_answer::{BOUNDS, UpstreamAnswer, a, cname, rrsig, soa, upstream_answer};

/// `www.shop.example` leads by `edge.cdn.example` to `x.track.test`, signed.
pub(super) fn chained(rtype: RecordType) -> UpstreamAnswer {
    let answer = upstream_answer("www.shop.example", rtype)
        .authentic()
        .answers([
            cname("www.shop.example", 300, "edge.cdn.example"),
            rrsig("www.shop.example", 300, CNAME),
            cname("edge.cdn.example", 20, "x.track.test"),
            rrsig("edge.cdn.example", 20, CNAME),
            a("x.track.test", 300, [192, 0, 2, 7]),
            rrsig("x.track.test", 300, A),
        ]);
    // For other types the answer is NODATA, which is not cached without an SOA.
    match rtype {
        A => answer,
        _ => answer.authority(soa("track.test", 300, 300)),
    }
}

/// A server that has the chain in its cache.
pub(super) fn tracked(lists: impl IntoIterator<Item = List>) -> Harness {
    let harness = harness(lists);
    for rtype in [A, AAAA, TXT] {
        for asked in [
            ask("www.shop.example", rtype),
            ask("www.shop.example", rtype).dnssec_ok(),
        ] {
            harness.learn(asked, chained(rtype));
        }
    }
    harness
}

const CHAIN: [&str; 2] = [
    "www.shop.example. 60 IN CNAME edge.cdn.example.",
    "edge.cdn.example. 20 IN CNAME x.track.test.",
];

#[test]
fn the_chain_up_to_a_blocked_target_is_kept_and_the_target_owns_the_sinkhole() {
    let harness = tracked([list("ads").subtree("track.test")]);
    let decoded = harness.answer(ask("www.shop.example", A).edns(1232));
    let sunk = "x.track.test. 60 IN A 0.0.0.0";
    assert_eq!(decoded.answers(), [CHAIN[0], CHAIN[1], sunk]);
    assert_eq!(
        (decoded.count, decoded.codes()),
        (Count::BlockedTarget, vec![15])
    );
    assert!(decoded.authorities().is_empty());
}

#[test]
fn signatures_and_ad_are_dropped_even_when_asked_for() {
    let harness = tracked([list("ads").subtree("track.test")]);
    let decoded = harness.answer(ask("www.shop.example", A).dnssec_ok().flags(RD | AD));
    assert_eq!(
        decoded.answers().len(),
        3,
        "two CNAMEs and an address, no signature"
    );
    assert!(!decoded.has(AD));
}

#[test]
fn a_type_without_a_sinkhole_record_is_nodata_of_the_target() {
    let harness = tracked([list("ads").subtree("track.test")]);
    let decoded = harness.answer(ask("www.shop.example", TXT));
    assert_eq!(decoded.rcode(), ResponseCode::NoError);
    assert_eq!(decoded.answers(), CHAIN);
    assert_eq!(
        decoded.authorities(),
        ["track.test. 60 IN SOA tapis.invalid. nobody.invalid. 41 3600 600 604800 60"]
    );
}

#[test]
fn a_block_in_the_middle_cuts_the_chain_there() {
    let harness = tracked([list("ads").exact("edge.cdn.example").exact("x.track.test")]);
    let decoded = harness.answer(ask("www.shop.example", AAAA));
    assert_eq!(
        decoded.answers(),
        [CHAIN[0], "edge.cdn.example. 60 IN AAAA ::"]
    );
}

#[test]
fn nxdomain_for_a_target_follows_the_same_rule_as_for_a_name() {
    for (rules, expected) in [
        (list("ads").exact("x.track.test"), ResponseCode::NoError),
        (list("ads").subtree("track.test"), ResponseCode::NXDomain),
    ] {
        let harness = tracked([rules.action(Action::Nxdomain)]);
        let decoded = harness.answer(ask("www.shop.example", A));
        assert_eq!(decoded.rcode(), expected);
        assert_eq!(decoded.answers(), CHAIN);
        assert_eq!(decoded.message.authorities.len(), 1);
    }
}

#[test]
fn refused_or_drop_on_a_target_applies_to_the_whole_answer() {
    let refused = tracked([list("ads").action(Action::Refused).exact("x.track.test")]);
    let decoded = refused.answer(ask("www.shop.example", A));
    assert_eq!(
        (decoded.rcode(), decoded.is_bare()),
        (ResponseCode::Refused, true)
    );
    let dropped = tracked([list("ads").action(Action::Drop).exact("x.track.test")]);
    let outcome = dropped.take(0, PERMITTED, &ask("www.shop.example", A).packet());
    assert_eq!(outcome.dropped(), Count::BlockedDrop);
}

#[test]
fn a_hop_never_lives_longer_than_the_block() {
    let brief = list("ads").with(|blocking| blocking.ttl_secs = 5);
    let decoded = tracked([brief.subtree("track.test")]).answer(ask("www.shop.example", A));
    let ttls: Vec<_> = decoded
        .message
        .answers
        .iter()
        .map(|record| record.ttl)
        .collect();
    assert_eq!(ttls, [5, 5, 5]);
}

#[test]
fn the_hops_of_a_cached_chain_are_counted_down() {
    let harness = tracked([list("ads").subtree("track.test")]);
    let decoded = harness.answer_at(15, ask("www.shop.example", A));
    let ttls: Vec<_> = decoded
        .message
        .answers
        .iter()
        .map(|record| record.ttl)
        .collect();
    assert_eq!(
        ttls,
        [60, 5, 60],
        "285 and 5 s are left of the TTLs of the hops; the blocked answer has TTL 60"
    );
}

#[test]
fn a_query_for_the_cname_itself_is_answered_unfiltered() {
    let harness = harness([list("ads").subtree("track.test").action(Action::Nxdomain)]);
    let answer = upstream_answer("shop.example", CNAME).answers([cname(
        "shop.example",
        300,
        "x.track.test",
    )]);
    harness.learn(ask("shop.example", CNAME), answer);
    let decoded = harness.answer(ask("shop.example", CNAME));
    assert_eq!(
        decoded.answers(),
        ["shop.example. 300 IN CNAME x.track.test."]
    );
    assert_eq!(decoded.count, Count::CacheHits);
}

/// An HTTPS record: its priority, target and an IPv4 hint.
pub(super) fn https(name: &str, priority: u16, target: &str) -> Record {
    let mut data = priority.to_be_bytes().to_vec();
    for label in target.split('.').filter(|label| !label.is_empty()) {
        data.push(label.len() as u8);
        data.extend(label.as_bytes());
    }
    data.push(0);
    if priority > 0 {
        data.extend([0, 4, 0, 4, 192, 0, 2, 66]);
    }
    let data = RData::Unknown {
        code: HTTPS,
        rdata: NULL::with(data),
    };
    let name = Name::from_ascii(format!("{name}.")).expect("a name");
    Record::from_rdata(name, 300, data)
}

fn served(lists: impl IntoIterator<Item = List>, records: &[Record]) -> Decoded {
    let harness = harness(lists);
    let asked = ask("www.shop.example", HTTPS).dnssec_ok().flags(RD | AD);
    let all = records.iter().cloned();
    let signed = rrsig("www.shop.example", 300, HTTPS);
    let answer = upstream_answer("www.shop.example", HTTPS).authentic();
    harness.learn(asked, answer.answers(all).answers([signed]));
    harness.answer(asked)
}

#[test]
fn a_service_at_a_blocked_target_is_blocked_with_its_hints() {
    for (rules, priority) in [
        (list("ads").subtree("track.test"), 1),
        (list("ads").exact("x.track.test"), 0),
        (
            list("ads").action(Action::Nxdomain).subtree("track.test"),
            1,
        ),
    ] {
        let decoded = served(
            [rules],
            &[https("www.shop.example", priority, "x.track.test")],
        );
        assert_eq!(
            decoded.rcode(),
            ResponseCode::NoError,
            "the asked name exists"
        );
        assert_eq!(
            (decoded.count, decoded.codes()),
            (Count::BlockedTarget, vec![15])
        );
        assert!(decoded.answers().is_empty() && !decoded.has(AD));
        assert_eq!(decoded.authorities().len(), 1);
        assert!(
            !decoded
                .bytes
                .windows(4)
                .any(|bytes| bytes == [192, 0, 2, 66])
        );
    }
}

#[test]
fn services_at_unblocked_targets_stay_without_signatures_if_another_is_blocked() {
    let records = [
        https("www.shop.example", 1, "x.track.test"),
        https("www.shop.example", 2, "."),
        https("www.shop.example", 3, "edge.cdn.example"),
    ];
    let decoded = served([list("ads").subtree("track.test")], &records);
    assert_eq!(decoded.count, Count::CacheHits);
    let kept: Vec<_> = decoded.message.answers.iter().collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert!(kept.iter().all(|record| record.record_type() == HTTPS));
    let names = format!("{kept:?}");
    assert!(!names.contains("track") && !decoded.has(AD));
}

#[test]
fn services_at_unblocked_targets_and_at_their_owner_pass_whole() {
    let records = [
        https("www.shop.example", 1, "."),
        https("www.shop.example", 2, "edge.cdn.example"),
    ];
    let good = list("good").allowing().exact("www.shop.example");
    for lists in [
        vec![list("ads").subtree("track.test")],
        vec![list("ads").exact("edge.cdn.example"), good],
    ] {
        let decoded = served(lists, &records);
        assert_eq!(decoded.message.answers.len(), 3);
        assert!(decoded.has(AD));
    }
}

#[test]
fn a_service_behind_a_chain_is_decided_at_its_end() {
    let harness = harness([list("ads").subtree("track.test")]);
    let asked = ask("www.shop.example", HTTPS);
    let answer = upstream_answer("www.shop.example", HTTPS).answers([
        cname("www.shop.example", 300, "edge.cdn.example"),
        https("edge.cdn.example", 1, "x.track.test"),
    ]);
    harness.learn(asked, answer);
    let decoded = harness.answer(asked);
    let hop = "www.shop.example. 60 IN CNAME edge.cdn.example.";
    assert_eq!(
        (decoded.answers(), decoded.count),
        (vec![hop.to_owned()], Count::BlockedTarget)
    );
    // A downstream cache accepts only records of the name that it asked for, or of an ancestor.
    assert!(decoded.authorities()[0].starts_with("edge.cdn.example. 60 IN SOA"));
}

#[test]
fn addresses_of_blocked_names_are_left_out_of_the_additional_section() {
    let intake = Intake {
        additional: true,
        ..BOUNDS
    };
    let asked = ask("shop.example", MX);
    let mail = |target: &str| {
        let target = Name::from_ascii(format!("{target}.")).expect("a name");
        let owner = Name::from_ascii("shop.example.").expect("a name");
        Record::from_rdata(owner, 300, RData::MX(rdata::MX::new(10, target)))
    };
    let answer = || {
        upstream_answer("shop.example", MX)
            .authentic()
            .answers([mail("x.track.test"), mail("mx.shop.example")])
            .additionals([
                a("x.track.test", 300, [192, 0, 2, 66]),
                a("mx.shop.example", 300, [192, 0, 2, 7]),
                https("mx.shop.example", 1, "."),
            ])
    };
    for (intake, expected) in [
        (intake, vec!["mx.shop.example. 300 IN A 192.0.2.7"]),
        (BOUNDS, Vec::new()),
    ] {
        let harness = harness([list("ads").subtree("track.test")]);
        harness.insert(asked, answer().entry_within(intake, 0));
        let decoded = harness.answer(asked.flags(RD | AD));
        assert_eq!(decoded.answers().len(), 2, "a name is no address");
        assert_eq!(decoded.additionals(), expected);
        assert!(decoded.has(AD), "the answer section is complete");
    }
}
