//! Answers by rules that are limited to some query types, or that leave out names.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::{self, A, AAAA, ANY, TXT};
use tapis::policy::condition::{Condition, TypeSet};
use tapis::policy::effect::{Effect, EffectAction, Tier};
use tapis::policy::rule::Action;
use tapis::stats::Count;
use tapis::wire::name::Name;

use super::ask::ask;
use super::harness::{PERMITTED, harness, key, list};
use super::upstream_answer::{a, cname, upstream_answer};

/// The default effect for queries of one type alone.
fn only(rtype: RecordType) -> Effect {
    let types = Some(TypeSet::Only([rtype.into()].into()));
    limited(Condition::new(types, []).expect("small"))
}

fn limited(condition: Condition) -> Effect {
    Effect {
        condition: Some(Box::new(condition)),
        ..Effect::default()
    }
}

#[test]
fn a_rule_for_one_type_blocks_queries_of_this_type_and_of_type_any() {
    let harness = harness([list("ads").exact("bad.example").effect(only(AAAA))]);
    for (rtype, is_blocked) in [(AAAA, true), (ANY, true), (A, false), (TXT, false)] {
        let asked = ask("bad.example", rtype);
        let outcome = harness.take(0, PERMITTED, &asked.packet());
        match is_blocked {
            true => assert_eq!(outcome.reply().count, Count::Blocked, "{rtype}"),
            false => assert_eq!(outcome.resolve().0, key(asked), "{rtype}"),
        }
    }
}

#[test]
fn names_that_a_rule_leaves_out_are_decided_by_the_next_rule() {
    let except = ["x.test", "y.test"].map(|text| Name::from_text(text).expect("a name"));
    let wide = limited(Condition::new(None, except).expect("small"));
    let ads = list("ads").subtree("test").effect(wide);
    let more = list("more").action(Action::Refused).subtree("x.test");
    let harness = harness([ads, more]);
    let rcode = |name| harness.answer(ask(name, A)).rcode();
    assert_eq!(rcode("a.test"), ResponseCode::NoError, "the sinkhole");
    assert_eq!(rcode("a.x.test"), ResponseCode::Refused);
    let asked = ask("a.y.test", A);
    let outcome = harness.take(0, PERMITTED, &asked.packet());
    // All names of the special-use domain that no rule is about are denied.
    assert_eq!(outcome.reply().count, Count::Local);
}

#[test]
fn the_target_of_an_alias_is_decided_with_the_type_of_the_query() {
    for (rtype, expected) in [(A, Count::BlockedTarget), (AAAA, Count::CacheHits)] {
        let harness = harness([list("ads").exact("edge.example").effect(only(rtype))]);
        let answer = upstream_answer("www.example", A).answers([
            cname("www.example", 300, "edge.example"),
            a("edge.example", 300, [192, 0, 2, 7]),
        ]);
        harness.learn(ask("www.example", A), answer);
        let decoded = harness.answer(ask("www.example", A));
        assert_eq!(decoded.count, expected, "{rtype}");
    }
}

#[test]
fn an_address_is_decided_with_the_type_of_the_query() {
    for (rtype, expected) in [(A, Count::BlockedTarget), (AAAA, Count::CacheHits)] {
        let ads = list("ads").address("192.0.2.0/24").effect(only(rtype));
        let harness = harness([ads]);
        let answer = upstream_answer("www.example", A);
        let answer = answer.answers([a("www.example", 300, [192, 0, 2, 7])]);
        harness.learn(ask("www.example", A), answer);
        let decoded = harness.answer(ask("www.example", A));
        assert_eq!(decoded.count, expected, "{rtype}");
    }
}

#[test]
fn no_name_is_denied_whose_other_types_a_condition_leaves_free() {
    let limited = list("ads")
        .action(Action::Nxdomain)
        .subtree("bad.example")
        .effect(only(A));
    let except_text = list("ads")
        .action(Action::Nxdomain)
        .subtree("bad.example")
        .exact("bad.example")
        .effect(Effect {
            action: EffectAction::Allow,
            tier: Tier::First,
            ..only(TXT)
        });
    for ads in [limited, except_text] {
        let decoded = harness([ads]).answer(ask("bad.example", A));
        assert_eq!(decoded.count, Count::Blocked);
        assert_eq!(decoded.rcode(), ResponseCode::NoError);
    }
}
