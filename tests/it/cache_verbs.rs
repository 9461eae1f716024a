//! `tapis cache`: what the cache holds is shown, and can be removed without a restart.

use std::sync::atomic::Ordering;
use std::thread;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{RData, Record, RecordType};
use serde_json::Value;

use crate::history::run;
use crate::support::client::{addresses, ask, until};
use crate::support::server::{Server, preamble, text};
use crate::support::upstream::{Asked, Upstream, aliased, answer, name};

/// A server whose upstream makes `alias.example` an alias of `target.example`.
fn server() -> (Server, Upstream) {
    let script = |asked: &Asked| Some(aliased(asked, "alias.example", "target.example"));
    let upstream = Upstream::start(script);
    (Server::start(&preamble(upstream.address), &[]), upstream)
}

/// Runs a verb that succeeds.
fn done(server: &Server, arguments: &[&str]) -> String {
    let (code, report) = run(server, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {report}");
    report
}

/// How often upstream was asked for a name.
fn asked(upstream: &Upstream, of: &str) -> usize {
    let all = upstream.asked();
    let names = all.iter().map(|asked| name(asked).to_ascii_lowercase());
    names.filter(|name| name.starts_with(of)).count()
}

/// Asks from so many ports that each worker has the answer.
fn ask_often(server: &Server, name: &str) {
    for _ in 0..40 {
        ask(server.address, name, RecordType::A);
    }
}

#[test]
fn answers_are_shown_with_their_age_records_and_source() {
    let (server, upstream) = server();
    let (code, report) = run(&server, &["cache", "show", "alias.example"]);
    assert_eq!(code, Some(1), "{report}");
    assert!(report.contains("no answer about alias.example is in the cache"));
    ask(server.address, "alias.example", RecordType::A);
    for name in ["alias.example", "target.example"] {
        let shown = done(&server, &["cache", "show", name]);
        let lines: Vec<_> = shown.lines().collect();
        assert!(
            lines[0].starts_with("alias.example A: NOERROR, "),
            "{shown}"
        );
        let source = format!(" s old, from {} of [upstream]", upstream.address);
        assert!(lines[0].ends_with(&source), "{shown}");
        assert!(lines[1].starts_with("  alias.example. "), "{shown}");
        assert!(lines[1].ends_with(" IN CNAME target.example."), "{shown}");
        assert!(lines[2].ends_with(" IN A 192.0.2.9"), "{shown}");
    }
    let (code, _) = run(&server, &["cache", "show", "alias.example", "AAAA"]);
    assert_eq!(code, Some(1));
    let json = done(&server, &["cache", "show", "alias.example", "--json"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let answer = &json["answers"][0];
    let ttl = answer["ttl_secs"].as_u64().expect("a number");
    assert!((1..=300).contains(&ttl) && answer["rtype"] == "A", "{json}");
    assert_eq!(answer["server"], upstream.address.to_string());
    assert_eq!(answer["popular"], false);
    for _ in 0..2 {
        ask(server.address, "alias.example", RecordType::A);
    }
    until("the counters", || {
        let stats = done(&server, &["cache", "stats", "--json"]);
        let stats: Value = serde_json::from_str(&stats).expect("JSON");
        (&stats["entries"], &stats["hits"], &stats["misses"]) == (&1.into(), &2.into(), &1.into())
    });
    let stats = done(&server, &["cache", "stats"]);
    assert!(
        stats.starts_with("1 answer, ") && stats.contains("\nhits: 2\n"),
        "{stats}"
    );
}

#[test]
fn a_flushed_name_is_asked_again_by_all_workers_also_where_it_is_the_end_of_a_chain() {
    let (server, upstream) = server();
    for name in ["alias.example", "target.example", "other.example"] {
        ask_often(&server, name);
        assert_eq!(asked(&upstream, name), 1, "{name}");
    }
    let report = done(&server, &["cache", "flush", "Target.example."]);
    assert_eq!(report, "removed 2 answers and 0 failures\n");
    for (name, times) in [
        ("alias.example", 2),
        ("target.example", 2),
        ("other.example", 1),
    ] {
        ask_often(&server, name);
        assert_eq!(asked(&upstream, name), times, "{name}");
    }
    let log = server.logged("cache flushed");
    assert!(log.contains("scope=target.example"), "{log}");
    assert!(log.contains("user="), "{log}");
}

#[test]
fn zones_types_and_everything_can_be_flushed() {
    let (server, upstream) = server();
    for name in ["corp.example", "a.corp.example", "notcorp.example"] {
        ask(server.address, name, RecordType::A);
    }
    let flush = |arguments: &[&str]| done(&server, &[&["cache", "flush"][..], arguments].concat());
    let other_type = flush(&["a.corp.example", "--type", "AAAA"]);
    assert_eq!(other_type, "removed 0 answers and 0 failures\n");
    let of_type = flush(&["a.corp.example", "--type", "A"]);
    assert_eq!(of_type, "removed 1 answer and 0 failures\n");
    ask(server.address, "a.corp.example", RecordType::A);
    let zone = flush(&["--zone", "corp.example"]);
    assert_eq!(zone, "removed 2 answers and 0 failures\n");
    let json: Value = serde_json::from_str(&flush(&["--all", "--json"])).expect("JSON");
    assert_eq!(json["answers"], 1);
    assert_eq!(flush(&["--all"]), "removed 0 answers and 0 failures\n");
    ask(server.address, "notcorp.example", RecordType::A);
    assert_eq!(asked(&upstream, "notcorp.example"), 2);
    for arguments in [
        &["cache", "flush"][..],
        &["cache", "flush", "a.example", "--all"],
        &["cache", "flush", "--zone", "a.example", "--all"],
    ] {
        let output = server.verb(arguments);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    }
    let (code, report) = run(&server, &["cache", "flush", "a..b"]);
    assert_eq!(code, Some(2), "{report}");
    assert!(report.contains("not a domain name"), "{report}");
}

#[test]
fn an_answer_that_is_on_its_way_during_a_flush_is_not_kept() {
    let (upstream, gate) = Upstream::gated();
    let server = Server::start(&preamble(upstream.address), &[]);
    let address = server.address;
    let client = thread::spawn(move || addresses(address, "slow.example"));
    until("the query", || asked(&upstream, "slow.example") > 0);
    let report = done(&server, &["cache", "flush", "slow.example"]);
    assert_eq!(report, "removed 0 answers and 0 failures\n");
    let before = asked(&upstream, "slow.example");
    gate.store(true, Ordering::Relaxed);
    assert_eq!(client.join().expect("answered"), ["192.0.2.1"]);
    let again = addresses(address, "slow.example");
    assert_eq!(again, ["192.0.2.1"]);
    assert!(
        asked(&upstream, "slow.example") > before,
        "the answer from before the flush was used"
    );
}

#[test]
fn answers_that_made_room_for_others_are_counted_in_the_stats() {
    let upstream = Upstream::start(|asked| {
        let mut message = answer(asked, ResponseCode::NoError);
        let owner = asked.message.queries[0].name().clone();
        let text = RData::TXT(TXT::new(vec!["x".repeat(250); 4]));
        message.answers.push(Record::from_rdata(owner, 300, text));
        Some(message)
    });
    let config = preamble(upstream.address) + "[cache]\nsize-mib = 1\n";
    let server = Server::start(&config, &[]);
    let evictions = || {
        let stats = done(&server, &["cache", "stats", "--json"]);
        let stats: Value = serde_json::from_str(&stats).expect("JSON");
        assert!(
            stats["bytes"].as_u64() <= stats["limit"].as_u64(),
            "{stats}"
        );
        stats["evictions"].as_u64().expect("a number")
    };
    ask(server.address, "first.example", RecordType::TXT);
    assert_eq!(evictions(), 0);
    let fits = 1 << 10;
    for number in 0..fits + 200 {
        ask(
            server.address,
            &format!("{number}.example"),
            RecordType::TXT,
        );
    }
    assert!((100..fits).contains(&evictions()), "{}", evictions());
    let stats = done(&server, &["cache", "stats"]);
    assert!(stats.contains("\nevictions: "), "{stats}");
}
