//! `tapis query`: the running server answers a query as one of a client, and shows how.

use std::fs;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{NULL, TXT};
use hickory_proto::rr::{RData, Record, RecordType};
use serde_json::Value;

use crate::history::run;
use crate::orders::{PAST, order, target};
use crate::support::client::{addresses, ask, is_blocked, until};
use crate::support::server::{Server, folder, list, preamble, tapis, text};
use crate::support::upstream::{Asked, Upstream, aliased, answer};

/// Answers with an alias for `alias.example`, with long texts for all TXT queries, and with an address for all else.
fn script(asked: &Asked) -> Option<hickory_proto::op::Message> {
    let question = &asked.message.queries[0];
    let mut message = aliased(asked, "alias.example", "target.example");
    if question.query_type() == RecordType::TXT {
        let data = RData::TXT(TXT::new(vec!["x".repeat(250); 8]));
        message
            .answers
            .push(Record::from_rdata(question.name().clone(), 300, data));
        message.metadata.truncation = !asked.tcp;
    }
    Some(message)
}

fn start(more: &str, files: &[(&str, &str)]) -> (Server, Upstream) {
    let upstream = Upstream::start(script);
    let config = preamble(upstream.address) + more;
    (Server::start(&config, files), upstream)
}

/// Runs `tapis query` with these arguments. Returns its exit code and what it prints.
fn query(server: &Server, arguments: &[&str]) -> (Option<i32>, String) {
    run(server, &[&["query"][..], arguments].concat())
}

/// The same with `--json`, which must succeed.
fn report(server: &Server, arguments: &[&str]) -> Value {
    let (code, printed) = query(server, &[arguments, &["--json"]].concat());
    let report = serde_json::from_str(&printed);
    let report: Value = report.unwrap_or_else(|error| panic!("{error}: {printed}"));
    assert_eq!(code, Some(0), "{report}");
    report
}

#[test]
fn a_blocked_name_is_shown_with_the_answer_the_rule_and_its_source() {
    let (server, upstream) = start(&list("ads", ""), &[("ads", ".tracker.example\n")]);
    let (code, printed) = query(&server, &["A.tracker.example."]);
    assert_eq!(code, Some(0), "{printed}");
    let lines: Vec<_> = printed.lines().collect();
    let path = server.path("ads").display().to_string();
    assert_eq!(
        lines[0],
        "a.tracker.example A: NOERROR, blocked by list ads"
    );
    assert!(lines[1].starts_with("  flags qr rd ra, "), "{printed}");
    assert_eq!(lines[2], "    a.tracker.example. 60 IN A 0.0.0.0");
    assert_eq!(lines[3], "    EDE 15 (Blocked) ads");
    let rule = format!("  rule .tracker.example (block, list ads, {path})");
    assert_eq!(lines[4], rule);
    assert!(
        lines[5].ends_with(" ms for 127.0.0.1 over UDP, by generation 1"),
        "{printed}"
    );
    assert_eq!(lines.len(), 6, "{printed}");
    let report = report(&server, &["a.tracker.example", "AAAA"]);
    assert_eq!(report["outcome"], "blocked");
    assert_eq!(
        (&report["from"], &report["by"]),
        (&"policy".into(), &"ads".into())
    );
    assert_eq!(report["rules"][0]["role"], "decides");
    assert_eq!(report["answer"]["rcode"], "NOERROR");
    assert_eq!(upstream.asked().len(), 0);
}

#[test]
fn an_answer_of_upstream_is_cached_and_shown_with_its_server_and_age() {
    let (server, upstream) = start("", &[]);
    let (code, printed) = query(&server, &["good.example"]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(
        printed.starts_with("good.example A: NOERROR, from upstream\n"),
        "{printed}"
    );
    let asked = format!(
        "\n  upstream: good.example A: NOERROR from {} of [upstream], after ",
        upstream.address
    );
    assert!(printed.contains(&asked), "{printed}");
    assert_eq!(addresses(server.address, "good.example"), ["192.0.2.9"]);
    let (code, printed) = query(&server, &["good.example"]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(
        printed.starts_with("good.example A: NOERROR, from cache\n"),
        "{printed}"
    );
    let cached = format!(
        "\n  upstream: good.example A: NOERROR from {} of [upstream], from the cache, ",
        upstream.address
    );
    assert!(printed.contains(&cached), "{printed}");
    let part = &report(&server, &["good.example"])["upstream"][0];
    assert_eq!(part["waited_us"], Value::Null);
    assert_eq!(part["answer"]["server"], upstream.address.to_string());
    assert_eq!(upstream.asked().len(), 1);
}

#[test]
fn rules_on_a_chain_are_shown_with_the_chain_and_its_source() {
    let (server, upstream) = start(&list("ads", ""), &[("ads", "target.example\n")]);
    for from in ["upstream", "cache"] {
        let report = report(&server, &["alias.example"]);
        assert_eq!(report["outcome"], "blocked_cname_target", "{from}");
        assert_eq!(report["by"], "ads");
        let rule = &report["rules"][0];
        let owner = &rule["trigger"]["name"]["owner"];
        assert_eq!(
            (owner, &rule["role"]),
            (&"target.example".into(), &"decides".into())
        );
        let records = report["answer"]["records"].to_string();
        assert!(records.contains("CNAME target.example."), "{records}");
        let parts = report["upstream"].as_array().expect("parts");
        assert_eq!(parts.len(), 1, "{report}");
        assert_eq!(parts[0]["name"], "alias.example");
        assert_eq!(parts[0]["waited_us"].is_null(), from == "cache");
    }
    assert_eq!(upstream.asked().len(), 1);
}

#[test]
fn allow_lists_orders_and_local_names_are_named_as_the_source() {
    let more = list("ads", "")
        + &list("good", "kind = \"allow\"")
        + "[[local]]\nname = \"own.example\"\na = \"10.0.0.1\"\n[orders]\npath = \"orders\"\n";
    let upstream = Upstream::start(script);
    let files = [("ads", "fine.example\n"), ("good", "fine.example\n")];
    let folder = folder(&(preamble(upstream.address) + &more), &files);
    fs::create_dir(folder.path().join("orders")).expect("made");
    let order = order("x-1", PAST, &target("fined.example", "exact"));
    fs::write(folder.path().join("orders/x-1.toml"), order).expect("written");
    let server = Server::start_in(folder);
    until("the order", || is_blocked(server.address, "fined.example"));
    let (_, printed) = query(&server, &["fine.example"]);
    assert!(
        printed.starts_with("fine.example A: NOERROR, from upstream, allowed by list good\n"),
        "{printed}"
    );
    assert!(
        printed.contains("\n  rule fine.example (allow, list good, "),
        "{printed}"
    );
    assert!(
        printed.contains("\n  also fine.example (block, list ads, "),
        "{printed}"
    );
    let (_, printed) = query(&server, &["fined.example"]);
    assert!(printed.contains(", blocked by order x-1\n"), "{printed}");
    assert!(printed.contains("\n    EDE 16 (Censored) "), "{printed}");
    let (_, printed) = query(&server, &["own.example"]);
    assert!(
        printed.contains("    own.example. 300 IN A 10.0.0.1\n"),
        "{printed}"
    );
    assert!(
        printed.contains("answered by [[local]] on line "),
        "{printed}"
    );
}

#[test]
fn the_answer_is_that_of_the_given_client_and_transport() {
    let (server, upstream) = start("", &[]);
    let (code, printed) = query(&server, &["good.example", "--client", "198.51.100.1"]);
    assert_eq!(code, Some(1), "{printed}");
    assert!(
        printed.starts_with("good.example A: REFUSED, refused client\n"),
        "{printed}"
    );
    let flags = |more: &[&str]| {
        let report = report(&server, &[&["long.example", "TXT"], more].concat());
        let records = report["answer"]["records"]
            .as_array()
            .expect("records")
            .len();
        (report["answer"]["flags"].to_string(), records)
    };
    let (udp, none) = flags(&[]);
    assert!(udp.contains("\"tc\"") && none == 0, "{udp}");
    let (tcp, all) = flags(&["--transport", "tcp"]);
    assert!(!tcp.contains("\"tc\"") && all == 1, "{tcp}");
    let has_do = |asked: &Asked| {
        let edns = asked.message.edns.as_ref();
        edns.is_some_and(|edns| edns.flags().dnssec_ok)
    };
    assert!(!upstream.asked().iter().any(has_do));
    report(&server, &["good.example", "--dnssec"]);
    assert!(has_do(upstream.asked().last().expect("asked")));
}

#[test]
fn queries_of_operators_are_neither_counted_nor_recorded() {
    let more = list("ads", "") + "[query-log]\nfile = \"queries.jsonl\"\n";
    let (server, upstream) = start(&more, &[("ads", "ads.example\n")]);
    for name in ["ads.example", "good.example", "good.example"] {
        query(&server, &[name]);
    }
    assert_eq!(upstream.asked().len(), 1);
    ask(server.address, "last.example", RecordType::A);
    let log = || fs::read_to_string(server.path("queries.jsonl")).unwrap_or_default();
    until("the line of the client", || log().contains("last.example"));
    assert_eq!(log().lines().count(), 1, "{}", log());
    until("the counters", || server.count("resolved") == 1);
    let counts = ["udp_queries", "cache_misses", "cache_hits", "blocked"];
    assert_eq!(counts.map(|name| server.count(name)), [1, 1, 0, 0]);
    assert_eq!(server.status()["lists"][0]["hits"], 0);
}

#[test]
fn an_upstream_that_gives_no_answer_is_shown_and_is_a_failure() {
    let (silent, _socket) = Upstream::silent_address();
    let config = preamble(silent) + "timeout-ms = 200\n";
    let server = Server::start(&config, &[]);
    let (code, printed) = query(&server, &["a.example"]);
    assert_eq!(code, Some(1), "{printed}");
    assert!(
        printed.starts_with("a.example A: SERVFAIL, from upstream\n"),
        "{printed}"
    );
    let part = "\n  upstream: a.example A: no usable answer within ";
    assert!(printed.contains(part), "{printed}");
}

#[test]
fn without_a_server_or_with_invalid_arguments_nothing_is_asked() {
    let (mut server, upstream) = start("", &[]);
    for arguments in [
        &["query"][..],
        &["query", "a..b"],
        &["query", "a.example", "TYPE65536"],
        &["query", "a.example", "--transport", "tls"],
    ] {
        let output = server.verb(arguments);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    }
    server.signal("KILL");
    server.wait();
    let (code, printed) = query(&server, &["a.example"]);
    assert_eq!(code, Some(4), "{printed}");
    assert_eq!(upstream.asked().len(), 0);
    let help = tapis().args(["query", "--help"]).output().expect("it ran");
    assert!(text(&help).contains("Exit code 0"), "{}", text(&help));
}

#[test]
fn an_international_name_is_asked_in_its_ascii_form() {
    let (server, upstream) = start("", &[]);
    let report = report(&server, &["bücher.example"]);
    assert_eq!(report["name"], "xn--bcher-kva.example");
    let asked = upstream.asked()[0].message.queries[0].name().to_ascii();
    assert_eq!(asked.to_ascii_lowercase(), "xn--bcher-kva.example.");
    let shown = server.verb(&["cache", "show", "bücher.example"]);
    assert!(shown.status.success(), "{}", text(&shown));
}

#[test]
fn a_failure_of_upstream_that_is_remembered_is_shown_as_one() {
    let upstream = Upstream::start(|asked| Some(answer(asked, ResponseCode::ServFail)));
    let server = Server::start(&preamble(upstream.address), &[]);
    // It is remembered for a few seconds, and then upstream is asked again.
    until("a failure that is remembered", || {
        let (code, printed) = query(&server, &["a.example"]);
        assert_eq!(code, Some(1), "{printed}");
        assert!(printed.starts_with("a.example A: SERVFAIL, "), "{printed}");
        printed.contains("\n  upstream: a.example A: no usable answer a moment ago\n")
    });
}

#[test]
fn no_data_of_a_record_begins_a_line_or_hides_other_records() {
    // A text that forges a line, data that is cut, and a type without a known form.
    let upstream = Upstream::start(|asked: &Asked| {
        let mut message = answer(asked, ResponseCode::NoError);
        let question = &asked.message.queries[0];
        let code = question.query_type();
        let raw: &[u8] = match u16::from(code) {
            16 => b"\x14a\n  rule ads.example",
            13 => b"\x09cpu",
            257 => b"\0\x05issuea\r\n\x1b[2J",
            65 => b"\0\x01\0\0\x01\0\x03\x02h\n",
            65_280 => b"\x01\xff",
            _ => return Some(message),
        };
        let rdata = NULL::with(raw.to_vec());
        let data = RData::Unknown { code, rdata };
        let record = Record::from_rdata(question.name().clone(), 300, data);
        message.answers.push(record);
        Some(message)
    });
    let server = Server::start(&preamble(upstream.address), &[]);
    let forms = [
        ("TXT", "TXT \"a\\010  rule ads.example\""),
        ("hinfo", "HINFO \\# 4 09 63 70 75"),
        ("CAA", "CAA 0 issue \"a\\013\\010\\027[2J\""),
        ("HTTPS", "HTTPS 1 . key1=\"\\002h\\010\""),
        ("type65280", "TYPE65280 \\# 2 01 ff"),
    ];
    for (rtype, form) in forms {
        let (code, printed) = query(&server, &["x.example", rtype]);
        assert_eq!(code, Some(0), "{printed}");
        let line = format!("\n    x.example. 300 IN {form}\n");
        assert!(printed.contains(&line), "{printed}");
    }
    let (code, printed) = run(&server, &["cache", "show", "x.example"]);
    assert_eq!(code, Some(0), "{printed}");
    for (_, form) in forms {
        assert!(printed.contains(&format!(" IN {form}\n")), "{printed}");
    }
    for rtype in ["LOC", "URI", "TYPE123", "29"] {
        let (_, printed) = query(&server, &["x.example", rtype]);
        let shown = if rtype == "29" { "LOC" } else { rtype };
        let first = format!("x.example {shown}: NOERROR, ");
        assert!(printed.starts_with(&first), "{printed}");
    }
}
