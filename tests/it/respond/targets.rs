//! Owns the tests of blocks that bite at a target of the CNAME chain.
//! Refuses what lets them pass, which `allowed` has.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::{A, AAAA, CNAME, TXT};
use tapis::policy::rule::Action;
use tapis::stats::Count;
use tapis::wire::flag::{AD, RD};

use super::ask::ask;
use super::house::{FRIEND, House, List, house, list};
use super::truth::{Truth, a, cname, rrsig, soa, truth};

/// `www.shop.example` leads by `edge.cdn.example` to `x.track.test`, signed.
pub(super) fn chained(rtype: hickory_proto::rr::RecordType) -> Truth {
    let truth = truth("www.shop.example", rtype).authentic().answers([
        cname("www.shop.example", 300, "edge.cdn.example"),
        rrsig("www.shop.example", 300, CNAME),
        cname("edge.cdn.example", 20, "x.track.test"),
        rrsig("edge.cdn.example", 20, CNAME),
        a("x.track.test", 300, [192, 0, 2, 7]),
        rrsig("x.track.test", 300, A),
    ]);
    // The chain leads to no record of any other type: without an SOA that is not kept.
    match rtype {
        A => truth,
        _ => truth.authority(soa("track.test", 300, 300)),
    }
}

/// A server that has the chain in its cache.
pub(super) fn tracked(lists: impl IntoIterator<Item = List>) -> House {
    let house = house(lists);
    for rtype in [A, AAAA, TXT] {
        for asked in [
            ask("www.shop.example", rtype),
            ask("www.shop.example", rtype).dnssec_ok(),
        ] {
            house.learn(asked, chained(rtype));
        }
    }
    house
}

const CHAIN: [&str; 2] = [
    "www.shop.example. 60 IN CNAME edge.cdn.example.",
    "edge.cdn.example. 20 IN CNAME x.track.test.",
];

#[test]
fn the_chain_up_to_a_blocked_target_is_kept_and_the_sinkhole_belongs_to_the_target() {
    let house = tracked([list("ads").subtree("track.test")]);
    let seen = house.answer(ask("www.shop.example", A).edns(1232));
    let sunk = "x.track.test. 60 IN A 0.0.0.0";
    assert_eq!(seen.answers(), [CHAIN[0], CHAIN[1], sunk]);
    assert_eq!((seen.count, seen.codes()), (Count::BlockedTarget, vec![15]));
    assert!(seen.authorities().is_empty());
}

#[test]
fn signatures_go_and_ad_goes_even_when_asked_for() {
    let house = tracked([list("ads").subtree("track.test")]);
    let seen = house.answer(ask("www.shop.example", A).dnssec_ok().flags(RD | AD));
    assert_eq!(
        seen.answers().len(),
        3,
        "two CNAMEs and an address, no signature"
    );
    assert!(!seen.has(AD));
}

#[test]
fn what_a_sinkhole_has_no_record_for_is_nodata_of_the_targets_zone() {
    let house = tracked([list("ads").subtree("track.test")]);
    let seen = house.answer(ask("www.shop.example", TXT));
    assert_eq!(seen.rcode(), ResponseCode::NoError);
    assert_eq!(seen.answers(), CHAIN);
    assert_eq!(
        seen.authorities(),
        ["track.test. 60 IN SOA tapis.invalid. nobody.invalid. 41 3600 600 604800 60"]
    );
}

#[test]
fn a_block_in_the_middle_cuts_the_chain_there() {
    let house = tracked([list("ads").exact("edge.cdn.example").exact("x.track.test")]);
    let seen = house.answer(ask("www.shop.example", AAAA));
    assert_eq!(
        seen.answers(),
        [CHAIN[0], "edge.cdn.example. 60 IN AAAA ::"]
    );
}

#[test]
fn a_targets_nxdomain_obeys_the_same_rule_as_a_names() {
    for (rules, expected) in [
        (list("ads").exact("x.track.test"), ResponseCode::NoError),
        (list("ads").subtree("track.test"), ResponseCode::NXDomain),
    ] {
        let house = tracked([rules.action(Action::Nxdomain)]);
        let seen = house.answer(ask("www.shop.example", A));
        assert_eq!(seen.rcode(), expected);
        assert_eq!(seen.answers(), CHAIN);
        assert_eq!(seen.message.authorities.len(), 1);
    }
}

#[test]
fn a_target_that_is_refused_or_dropped_takes_the_whole_answer_along() {
    let refused = tracked([list("ads").action(Action::Refused).exact("x.track.test")]);
    let seen = refused.answer(ask("www.shop.example", A));
    assert_eq!(
        (seen.rcode(), seen.is_bare()),
        (ResponseCode::Refused, true)
    );
    let dropped = tracked([list("ads").action(Action::Drop).exact("x.track.test")]);
    let outcome = dropped.take(0, FRIEND, &ask("www.shop.example", A).packet());
    assert_eq!(outcome.dropped(), Count::BlockedDrop);
}

#[test]
fn a_hop_never_lives_longer_than_the_block() {
    let brief = list("ads").with(|blocking| blocking.ttl_secs = 5);
    let seen = tracked([brief.subtree("track.test")]).answer(ask("www.shop.example", A));
    let ttls: Vec<_> = seen
        .message
        .answers
        .iter()
        .map(|record| record.ttl)
        .collect();
    assert_eq!(ttls, [5, 5, 5]);
}

#[test]
fn the_hops_of_a_cached_chain_are_counted_down() {
    let house = tracked([list("ads").subtree("track.test")]);
    let seen = house.answer_at(15, ask("www.shop.example", A));
    let ttls: Vec<_> = seen
        .message
        .answers
        .iter()
        .map(|record| record.ttl)
        .collect();
    assert_eq!(
        ttls,
        [60, 5, 60],
        "285 and 5 are left of the hops, 60 is the block's"
    );
}

#[test]
fn who_asks_for_the_cname_itself_gets_the_truth() {
    let house = house([list("ads").subtree("track.test").action(Action::Nxdomain)]);
    let told = truth("shop.example", CNAME).answers([cname("shop.example", 300, "x.track.test")]);
    house.learn(ask("shop.example", CNAME), told);
    let seen = house.answer(ask("shop.example", CNAME));
    assert_eq!(seen.answers(), ["shop.example. 300 IN CNAME x.track.test."]);
    assert_eq!(seen.count, Count::CacheHits);
}
