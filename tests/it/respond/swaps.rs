//! Owns the tests of snapshots that change under a query or under the cache.
//! Refuses threads: `policy::current` has the swap itself.

use hickory_proto::rr::RecordType::{A, TXT};
use tapis::serve::step::Resolution;
use tapis::stats::Count;

use super::ask::ask;
use super::house::{FRIEND, GENERATION, house, list, snapshot};
use super::targets::chained;
use super::truth::{a, truth};

const TRUE: &str = "good.example. 300 IN A 192.0.2.7";

#[test]
fn the_cache_holds_the_truth_through_a_block_and_its_lift() {
    let mut house = house([]);
    let asked = ask("good.example", A);
    house.learn(
        asked,
        truth("good.example", A).answers([a("good.example", 300, [192, 0, 2, 7])]),
    );
    assert_eq!(house.answer(asked).answers(), [TRUE]);
    house.snapshot = snapshot([list("order").exact("good.example")]);
    assert_eq!(
        house.answer(asked).answers(),
        ["good.example. 60 IN A 0.0.0.0"]
    );
    house.snapshot = snapshot([]);
    assert_eq!(
        house.answer(asked).answers(),
        [TRUE],
        "a lift leaves nothing behind"
    );
}

#[test]
fn the_cache_holds_the_truth_of_a_chain_through_a_block_and_its_lift() {
    let mut house = house([]);
    let asked = ask("www.shop.example", A);
    house.learn(asked, chained(A));
    assert_eq!(house.answer(asked).answers().len(), 6);
    house.snapshot = snapshot([list("order").exact("x.track.test")]);
    assert_eq!(house.answer(asked).count, Count::BlockedTarget);
    house.snapshot = snapshot([]);
    let seen = house.answer(asked);
    assert_eq!((seen.count, seen.answers().len()), (Count::CacheHits, 6));
}

#[test]
fn a_block_that_comes_while_upstream_is_asked_bites() {
    let mut house = house([]);
    let asked = ask("good.example", A);
    house.take(0, FRIEND, &asked.packet()).resolve();
    let entry = truth("good.example", A).answers([a("good.example", 300, [192, 0, 2, 7])]);
    let answered = Resolution::Answered(entry.entry(0));
    house.snapshot = snapshot([list("order").exact("good.example")]);
    let seen = house.conclude(0, asked, &answered).reply();
    assert_eq!(seen.answers(), ["good.example. 60 IN A 0.0.0.0"]);
    assert_eq!(seen.count, Count::Blocked);
}

#[test]
fn a_block_on_a_target_that_comes_while_upstream_is_asked_bites() {
    let mut house = house([]);
    let asked = ask("www.shop.example", TXT);
    house.take(0, FRIEND, &asked.packet()).resolve();
    let answered = Resolution::Answered(chained(TXT).entry(0));
    house.snapshot = snapshot([list("order").subtree("track.test")]);
    let seen = house.conclude(0, asked, &answered).reply();
    assert_eq!(
        (seen.count, seen.answers().len()),
        (Count::BlockedTarget, 2)
    );
}

#[test]
fn a_client_that_is_shut_out_while_upstream_is_asked_gets_refused() {
    let mut house = house([]);
    let asked = ask("good.example", A).edns(1232);
    house.snapshot.clients = Default::default();
    let entry = truth("good.example", A).answers([a("good.example", 300, [192, 0, 2, 7])]);
    let seen = house
        .conclude(0, asked, &Resolution::Answered(entry.entry(0)))
        .reply();
    assert_eq!((seen.count, seen.codes()), (Count::Denied, vec![18]));
}

#[test]
fn the_soas_serial_is_the_generation() {
    let mut house = house([list("ads").exact("bad.example")]);
    for generation in [GENERATION, GENERATION + 1, (1 << 32) + 5] {
        house.snapshot.generation = generation;
        let seen = house.answer(ask("bad.example", TXT));
        let data = seen.message.authorities[0].data.to_string();
        let serial = format!(" {} 3600 ", generation as u32);
        assert!(data.contains(&serial), "{generation}: {data}");
    }
}
