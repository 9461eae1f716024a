//! Allow lists.

use hickory_proto::rr::RecordType::A;
use tapis::stats::Count;

use super::ask::ask;
use super::harness::{List, PERMITTED, harness, list};
use super::targets::tracked;

fn ads() -> List {
    list("ads").subtree("bad.example").subtree("track.test")
}

#[test]
fn an_allowed_name_is_not_blocked_in_any_order_and_depth_of_the_lists() {
    let good = || list("good").allowing().subtree("ok.bad.example");
    let deep = || list("deep").exact("deep.ok.bad.example");
    for lists in [[ads(), good(), deep()], [good(), deep(), ads()]] {
        let harness = harness(lists);
        for name in ["ok.bad.example", "deep.ok.bad.example"] {
            harness.take(0, PERMITTED, &ask(name, A).packet()).resolve();
        }
        assert_eq!(
            harness.answer(ask("other.bad.example", A)).count,
            Count::Blocked
        );
    }
}

#[test]
fn an_allow_rule_on_the_asked_name_ends_evaluation() {
    let good = list("good").allowing().exact("www.shop.example");
    let decoded = tracked([ads(), good]).answer(ask("www.shop.example", A));
    assert_eq!(
        (decoded.count, decoded.answers().len()),
        (Count::CacheHits, 6)
    );
    assert!(
        decoded
            .answers()
            .contains(&"x.track.test. 300 IN A 192.0.2.7".to_owned())
    );
}

#[test]
fn an_allow_rule_on_a_hop_ends_evaluation_of_the_rest_of_the_chain() {
    let good = list("good").allowing().exact("edge.cdn.example");
    let decoded = tracked([ads(), good]).answer(ask("www.shop.example", A));
    assert_eq!(decoded.count, Count::CacheHits);
}

#[test]
fn an_allow_rule_on_the_target_unblocks_it() {
    let good = list("good").allowing().exact("x.track.test");
    let decoded = tracked([ads(), good]).answer(ask("www.shop.example", A));
    assert_eq!(decoded.count, Count::CacheHits);
}

#[test]
fn an_allow_rule_behind_a_blocked_hop_has_no_effect() {
    let good = list("good").allowing().exact("x.track.test");
    let harness = tracked([list("hop").exact("edge.cdn.example"), good]);
    let decoded = harness.answer(ask("www.shop.example", A));
    assert_eq!(decoded.count, Count::BlockedTarget);
}
