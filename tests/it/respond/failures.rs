//! Owns the tests of what is answered when upstream is not: stale answers, remembered failures.
//! Refuses how long upstream is waited for.

use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::A;
use tapis::serve::cache::{Cache, Failure};
use tapis::serve::step::Resolution;
use tapis::stats::Count;

use super::ask::{Ask, ask};
use super::house::{FRIEND, House, house, list};
use super::truth::{Truth, a, cname, soa, truth};

/// The one question of these tests, with EDNS so that reasons are told.
fn asked() -> Ask<'static> {
    ask("good.example", A).edns(1232)
}

fn good() -> Truth {
    truth("good.example", A).answers([a("good.example", 300, [192, 0, 2, 7])])
}

fn unreachable() -> Failure {
    Failure {
        code: 22,
        said: None,
    }
}

/// A server whose answer to the question is past its TTL from second 300 on.
fn learned() -> House {
    let house = house([]);
    house.learn(asked(), good());
    house
}

#[test]
fn a_failure_without_anything_at_hand_is_servfail_with_its_reason() {
    for code in [22, 23] {
        let failure = Arc::new(Failure { code, said: None });
        let failed = Resolution::Failed(failure, None);
        let seen = house([]).conclude(0, asked(), &failed).reply();
        assert_eq!(
            (seen.rcode(), seen.is_bare()),
            (ResponseCode::ServFail, true)
        );
        assert_eq!((seen.codes(), seen.count), (vec![code], Count::Failed));
    }
}

#[test]
fn a_failure_is_remembered_for_five_seconds_and_says_so() {
    let house = house([]);
    house.fail(asked(), unreachable(), 100);
    for now in [100, 104] {
        let seen = house.answer_at(now, asked());
        assert_eq!(
            (seen.rcode(), seen.codes()),
            (ResponseCode::ServFail, vec![22, 13])
        );
    }
    house.take(105, FRIEND, &asked().packet()).resolve();
}

#[test]
fn an_error_that_upstream_gave_is_passed_on_and_remembered_as_such() {
    let said = truth("good.example", A).rcode(ResponseCode::Refused);
    let failure = Failure {
        code: 22,
        said: Some(said.option(15, b"\x00\x12go away").entry(0)),
    };
    let failed = Resolution::Failed(Arc::new(failure.clone()), None);
    let house = house([]);
    let seen = house.conclude(0, asked(), &failed).reply();
    assert_eq!(seen.rcode(), ResponseCode::Refused);
    assert_eq!(seen.errors(), [(18, "upstream: go away".to_owned())]);
    house.fail(asked(), failure, 0);
    let seen = house.answer_at(4, asked());
    assert_eq!(
        (seen.rcode(), seen.codes()),
        (ResponseCode::Refused, vec![13, 18])
    );
}

#[test]
fn a_stale_answer_comes_in_place_of_a_failure_with_ttl_30_and_its_reason() {
    let house = learned();
    let (_, stale) = house.take(1000, FRIEND, &asked().packet()).resolve();
    let failed = Resolution::Failed(Arc::new(unreachable()), stale);
    let seen = house.conclude(1002, asked(), &failed).reply();
    assert_eq!(seen.answers(), ["good.example. 30 IN A 192.0.2.7"]);
    assert_eq!(
        (seen.rcode(), seen.codes()),
        (ResponseCode::NoError, vec![3])
    );
    assert_eq!(seen.count, Count::Stale);
}

#[test]
fn a_stale_nxdomain_says_so_by_a_code_of_its_own() {
    let house = house([]);
    let none = truth("good.example", A).rcode(ResponseCode::NXDomain);
    house.learn(asked(), none.authority(soa("example", 60, 60)));
    house.fail(asked(), unreachable(), 1000);
    let seen = house.answer_at(1001, asked());
    assert_eq!(
        (seen.rcode(), seen.codes()),
        (ResponseCode::NXDomain, vec![19])
    );
}

#[test]
fn while_a_failure_is_remembered_the_stale_answer_comes_without_asking_upstream() {
    let house = learned();
    house.fail(asked(), unreachable(), 1000);
    assert_eq!(house.answer_at(1004, asked()).count, Count::Stale);
    let (_, stale) = house.take(1005, FRIEND, &asked().packet()).resolve();
    assert!(stale.is_some());
}

#[test]
fn a_fresh_answer_counts_more_than_a_remembered_failure() {
    let house = learned();
    house.fail(asked(), unreachable(), 10);
    assert_eq!(house.answer_at(11, asked()).count, Count::CacheHits);
}

#[test]
fn no_stale_answer_is_given_past_the_time_it_is_kept_for_nor_when_that_is_zero() {
    for (stale_secs, at_hand_at, gone_at) in [(50, Some(349), 350), (0, None, 300)] {
        let mut house = house([]);
        house.cache = Cache::new(1 << 20, stale_secs);
        house.learn(asked(), good());
        let stale = |now| house.take(now, FRIEND, &asked().packet()).resolve().1;
        assert!(at_hand_at.is_none_or(|now| stale(now).is_some()));
        assert!(stale(gone_at).is_none());
    }
}

#[test]
fn a_stale_answer_obeys_the_blocks_of_today() {
    let house = house([list("ads").subtree("track.test")]);
    let chain = [
        cname("good.example", 300, "x.track.test"),
        a("x.track.test", 300, [192, 0, 2, 7]),
    ];
    house.learn(asked(), truth("good.example", A).answers(chain));
    house.fail(asked(), unreachable(), 1000);
    let seen = house.answer_at(1001, asked());
    assert_eq!((seen.count, seen.codes()), (Count::BlockedTarget, vec![15]));
    let hop = "good.example. 30 IN CNAME x.track.test.";
    assert_eq!(seen.answers(), [hop, "x.track.test. 60 IN A 0.0.0.0"]);
}

#[test]
fn an_overloaded_server_gives_the_stale_answer_or_servfail() {
    let house = learned();
    let (_, stale) = house.take(1000, FRIEND, &asked().packet()).resolve();
    let seen = house
        .conclude(1000, asked(), &Resolution::Overloaded(stale))
        .reply();
    assert_eq!((seen.count, seen.codes()), (Count::Stale, vec![3]));
    let seen = house
        .conclude(1000, asked(), &Resolution::Overloaded(None))
        .reply();
    assert_eq!(
        (seen.rcode(), seen.is_bare()),
        (ResponseCode::ServFail, true)
    );
    assert_eq!(seen.count, Count::Overloaded);
}

#[test]
fn a_blocked_name_is_answered_whatever_becomes_of_upstream() {
    let house = house([list("ads").exact("good.example")]);
    let failed = Resolution::Failed(Arc::new(unreachable()), None);
    let seen = house.conclude(0, asked(), &failed).reply();
    assert_eq!((seen.count, seen.codes()), (Count::Blocked, vec![15]));
}
