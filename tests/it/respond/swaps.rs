//! Snapshots that change during a query or while an answer is cached.

use hickory_proto::rr::RecordType::{A, TXT};
use tapis::serve::step::Resolution;
use tapis::stats::Count;

use super::ask::ask;
use super::harness::{GENERATION, PERMITTED, harness, list, snapshot};
use super::targets::chained;
use super::upstream_answer::{a, upstream_answer};

const TRUE: &str = "good.example. 300 IN A 192.0.2.7";

#[test]
fn the_cache_keeps_unfiltered_answers_through_a_block_and_its_lift() {
    let mut harness = harness([]);
    let asked = ask("good.example", A);
    harness.learn(
        asked,
        upstream_answer("good.example", A).answers([a("good.example", 300, [192, 0, 2, 7])]),
    );
    assert_eq!(harness.answer(asked).answers(), [TRUE]);
    harness.snapshot = snapshot([list("order").exact("good.example")]);
    assert_eq!(
        harness.answer(asked).answers(),
        ["good.example. 60 IN A 0.0.0.0"]
    );
    harness.snapshot = snapshot([]);
    assert_eq!(
        harness.answer(asked).answers(),
        [TRUE],
        "a lift leaves no trace"
    );
}

#[test]
fn the_cache_keeps_an_unfiltered_chain_through_a_block_and_its_lift() {
    let mut harness = harness([]);
    let asked = ask("www.shop.example", A);
    harness.learn(asked, chained(A));
    assert_eq!(harness.answer(asked).answers().len(), 6);
    harness.snapshot = snapshot([list("order").exact("x.track.test")]);
    assert_eq!(harness.answer(asked).count, Count::BlockedTarget);
    harness.snapshot = snapshot([]);
    let decoded = harness.answer(asked);
    assert_eq!(
        (decoded.count, decoded.answers().len()),
        (Count::CacheHits, 6)
    );
}

#[test]
fn a_block_that_is_published_while_upstream_is_asked_applies() {
    let mut harness = harness([]);
    let asked = ask("good.example", A);
    harness.take(0, PERMITTED, &asked.packet()).resolve();
    let entry =
        upstream_answer("good.example", A).answers([a("good.example", 300, [192, 0, 2, 7])]);
    let answered = Resolution::Answered(entry.entry(0));
    harness.snapshot = snapshot([list("order").exact("good.example")]);
    let decoded = harness.conclude(0, asked, &answered).reply();
    assert_eq!(decoded.answers(), ["good.example. 60 IN A 0.0.0.0"]);
    assert_eq!(decoded.count, Count::Blocked);
}

#[test]
fn a_block_on_a_target_that_is_published_while_upstream_is_asked_applies() {
    let mut harness = harness([]);
    let asked = ask("www.shop.example", TXT);
    harness.take(0, PERMITTED, &asked.packet()).resolve();
    let answered = Resolution::Answered(chained(TXT).entry(0));
    harness.snapshot = snapshot([list("order").subtree("track.test")]);
    let decoded = harness.conclude(0, asked, &answered).reply();
    assert_eq!(
        (decoded.count, decoded.answers().len()),
        (Count::BlockedTarget, 2)
    );
}

#[test]
fn a_client_that_loses_its_permission_while_upstream_is_asked_gets_refused() {
    let mut harness = harness([]);
    let asked = ask("good.example", A).edns(1232);
    harness.snapshot.clients = Default::default();
    let entry =
        upstream_answer("good.example", A).answers([a("good.example", 300, [192, 0, 2, 7])]);
    let decoded = harness
        .conclude(0, asked, &Resolution::Answered(entry.entry(0)))
        .reply();
    assert_eq!((decoded.count, decoded.codes()), (Count::Denied, vec![18]));
}

#[test]
fn the_soas_serial_is_the_generation() {
    let mut harness = harness([list("ads").exact("bad.example")]);
    for generation in [GENERATION, GENERATION + 1, (1 << 32) + 5] {
        harness.snapshot.generation = generation;
        let decoded = harness.answer(ask("bad.example", TXT));
        let data = decoded.message.authorities[0].data.to_string();
        let serial = format!(" {} 3600 ", generation as u32);
        assert!(data.contains(&serial), "{generation}: {data}");
    }
}
