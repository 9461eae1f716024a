//! Answers when upstream fails: stale answers, cached failures.

use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::A;
use tapis::serve::cache::{Cache, Failure};
use tapis::serve::step::Resolution;
use tapis::stats::Count;

use super::ask::{Ask, ask};
use super::harness::{Harness, PERMITTED, harness, list};
use super::upstream_answer::{UpstreamAnswer, a, cname, soa, upstream_answer};

/// The query of these tests, with EDNS to get Extended DNS Errors.
fn asked() -> Ask<'static> {
    ask("good.example", A).edns(1232)
}

fn good() -> UpstreamAnswer {
    upstream_answer("good.example", A).answers([a("good.example", 300, [192, 0, 2, 7])])
}

fn unreachable() -> Failure {
    Failure {
        code: 22,
        said: None,
    }
}

/// A server whose answer to the query is past its TTL from second 300 on.
fn learned() -> Harness {
    let harness = harness([]);
    harness.learn(asked(), good());
    harness
}

#[test]
fn a_failure_without_a_stale_answer_is_servfail_with_its_reason() {
    for code in [22, 23] {
        let failure = Arc::new(Failure { code, said: None });
        let failed = Resolution::Failed(failure, None);
        let decoded = harness([]).conclude(0, asked(), &failed).reply();
        assert_eq!(
            (decoded.rcode(), decoded.is_bare()),
            (ResponseCode::ServFail, true)
        );
        assert_eq!(
            (decoded.codes(), decoded.count),
            (vec![code], Count::Failed)
        );
    }
}

#[test]
fn a_failure_is_remembered_for_five_seconds_and_says_so() {
    let harness = harness([]);
    harness.fail(asked(), unreachable(), 100);
    for now in [100, 104] {
        let decoded = harness.answer_at(now, asked());
        assert_eq!(
            (decoded.rcode(), decoded.codes()),
            (ResponseCode::ServFail, vec![22, 13])
        );
    }
    harness.take(105, PERMITTED, &asked().packet()).resolve();
}

#[test]
fn an_error_of_upstream_is_passed_on_and_remembered_as_such() {
    let refused = upstream_answer("good.example", A).rcode(ResponseCode::Refused);
    let failure = Failure {
        code: 22,
        said: Some(refused.option(15, b"\x00\x12go away").entry(0)),
    };
    let failed = Resolution::Failed(Arc::new(failure.clone()), None);
    let harness = harness([]);
    let decoded = harness.conclude(0, asked(), &failed).reply();
    assert_eq!(decoded.rcode(), ResponseCode::Refused);
    assert_eq!(decoded.errors(), [(18, "upstream: go away".to_owned())]);
    harness.fail(asked(), failure, 0);
    let decoded = harness.answer_at(4, asked());
    assert_eq!(
        (decoded.rcode(), decoded.codes()),
        (ResponseCode::Refused, vec![13, 18])
    );
}

#[test]
fn a_stale_answer_comes_in_place_of_a_failure_with_ttl_30_and_its_reason() {
    let harness = learned();
    let (_, stale) = harness.take(1000, PERMITTED, &asked().packet()).resolve();
    let failed = Resolution::Failed(Arc::new(unreachable()), stale);
    let decoded = harness.conclude(1002, asked(), &failed).reply();
    assert_eq!(decoded.answers(), ["good.example. 30 IN A 192.0.2.7"]);
    assert_eq!(
        (decoded.rcode(), decoded.codes()),
        (ResponseCode::NoError, vec![3])
    );
    assert_eq!(decoded.count, Count::Stale);
}

#[test]
fn a_stale_nxdomain_has_a_separate_code() {
    let harness = harness([]);
    let none = upstream_answer("good.example", A).rcode(ResponseCode::NXDomain);
    harness.learn(asked(), none.authority(soa("example", 60, 60)));
    harness.fail(asked(), unreachable(), 1000);
    let decoded = harness.answer_at(1001, asked());
    assert_eq!(
        (decoded.rcode(), decoded.codes()),
        (ResponseCode::NXDomain, vec![19])
    );
}

#[test]
fn while_a_failure_is_remembered_the_stale_answer_is_served_without_asking_upstream() {
    let harness = learned();
    harness.fail(asked(), unreachable(), 1000);
    assert_eq!(harness.answer_at(1004, asked()).count, Count::Stale);
    let (_, stale) = harness.take(1005, PERMITTED, &asked().packet()).resolve();
    assert!(stale.is_some());
}

#[test]
fn a_fresh_answer_precedes_a_remembered_failure() {
    let harness = learned();
    harness.fail(asked(), unreachable(), 10);
    assert_eq!(harness.answer_at(11, asked()).count, Count::CacheHits);
}

#[test]
fn no_stale_answer_is_served_after_the_stale_window_nor_if_that_is_zero() {
    for (stale_secs, at_hand_at, gone_at) in [(50, Some(349), 350), (0, None, 300)] {
        let mut harness = harness([]);
        harness.cache = Cache::new(1 << 20, stale_secs);
        harness.learn(asked(), good());
        let stale = |now| harness.take(now, PERMITTED, &asked().packet()).resolve().1;
        assert!(at_hand_at.is_none_or(|now| stale(now).is_some()));
        assert!(stale(gone_at).is_none());
    }
}

#[test]
fn a_stale_answer_obeys_the_current_policy() {
    let harness = harness([list("ads").subtree("track.test")]);
    let chain = [
        cname("good.example", 300, "x.track.test"),
        a("x.track.test", 300, [192, 0, 2, 7]),
    ];
    harness.learn(asked(), upstream_answer("good.example", A).answers(chain));
    harness.fail(asked(), unreachable(), 1000);
    let decoded = harness.answer_at(1001, asked());
    assert_eq!(
        (decoded.count, decoded.codes()),
        (Count::BlockedTarget, vec![15, 3])
    );
    let hop = "good.example. 30 IN CNAME x.track.test.";
    assert_eq!(decoded.answers(), [hop, "x.track.test. 60 IN A 0.0.0.0"]);
}

#[test]
fn an_overloaded_server_serves_the_stale_answer_or_servfail() {
    let harness = learned();
    let (_, stale) = harness.take(1000, PERMITTED, &asked().packet()).resolve();
    let decoded = harness
        .conclude(1000, asked(), &Resolution::Overloaded(stale))
        .reply();
    assert_eq!((decoded.count, decoded.codes()), (Count::Stale, vec![3]));
    let decoded = harness
        .conclude(1000, asked(), &Resolution::Overloaded(None))
        .reply();
    assert_eq!(
        (decoded.rcode(), decoded.is_bare()),
        (ResponseCode::ServFail, true)
    );
    assert_eq!(decoded.count, Count::Overloaded);
}

#[test]
fn a_blocked_name_is_answered_even_if_upstream_fails() {
    let harness = harness([list("ads").exact("good.example")]);
    let failed = Resolution::Failed(Arc::new(unreachable()), None);
    let decoded = harness.conclude(0, asked(), &failed).reply();
    assert_eq!((decoded.count, decoded.codes()), (Count::Blocked, vec![15]));
}
