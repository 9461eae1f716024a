//! The query log across a take-over: one process writes it at a time, and it has each query once.

use super::{sections, take_over};
use crate::support::client::{is_blocked, until};
use crate::support::server::{Server, folder, preamble};
use crate::support::upstream::Upstream;

#[test]
fn queries_before_during_and_after_a_take_over_are_in_the_query_log_once() {
    let upstream = Upstream::plain();
    let log = "[query-log]\nfile = \"queries.jsonl\"\n";
    let config = preamble(upstream.address) + log + &sections();
    let mut old = Server::start_in(folder(&config, &[("l", "blocked.example\n")]));
    let folder = old.folder.path().to_owned();
    let file = folder.join("queries.jsonl");
    let address = old.address;
    let ask = |from: u32, to: u32| {
        for number in from..to {
            assert!(!is_blocked(address, &format!("q{number}.example")));
        }
    };
    ask(0, 20);
    let new = std::thread::spawn({
        let folder = folder.clone();
        move || take_over(&folder)
    });
    let mut next = 20;
    while !new.is_finished() {
        ask(next, next + 1);
        next += 1;
    }
    let new = new.join().expect("it serves");
    assert_eq!(old.wait(), Some(0));
    ask(next, next + 20);
    let read = || std::fs::read_to_string(&file).unwrap_or_default();
    let last = format!("q{}.example", next + 19);
    until("the last query", || read().contains(&last));
    let text = read();
    for number in 0..next + 20 {
        let name = format!("\"q{number}.example");
        assert_eq!(text.matches(&name).count(), 1, "{name} in\n{text}");
    }
    assert!(
        text.lines()
            .all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
    );
    drop(new);
}
