//! Top lists, and queries as they come.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use hickory_proto::rr::RecordType;
use serde_json::Value;

use crate::support::client::{self, until};
use crate::support::server::{Server, list, preamble, text};
use crate::support::upstream::{Upstream, address_of};

fn upstream() -> Upstream {
    Upstream::start(|asked| Some(address_of(asked, [192, 0, 2, 1])))
}

fn config(upstream: &Upstream, sections: &str) -> String {
    preamble(upstream.address) + sections + "\n" + &list("ads", "")
}

fn start(upstream: &Upstream, sections: &str) -> Server {
    let config = config(upstream, sections);
    Server::start(&config, &[("ads", ".ads.example\n")])
}

fn ask(server: &Server, name: &str) {
    client::ask(server.address, name, RecordType::A);
}

/// `tapis tail` of a server. A thread reads what it prints, so that it never waits for the test.
struct Tail {
    child: Child,
    lines: Receiver<String>,
}

impl Tail {
    fn start(server: &Server, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tapis"));
        command
            .args(["tail", "--control"])
            .arg(server.path("control.sock"));
        command
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (read, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines() {
                // The test may have seen enough.
                let _ = read.send(line.expect("readable"));
            }
        });
        Self { child, lines }
    }

    /// The next line; asks for `name` until there is one, as nobody knows when the stream begins.
    fn first(&self, server: &Server, name: &str) -> String {
        let mut first = None;
        until("a line", || {
            ask(server, name);
            let line = self.lines.try_recv();
            assert_ne!(line, Err(TryRecvError::Disconnected), "it goes on");
            first = line.ok();
            first.is_some()
        });
        first.expect("a line")
    }

    /// Its exit code, what it printed further, and its errors.
    fn end(self) -> (Option<i32>, String, String) {
        let rest = self.lines.iter().collect();
        let output = self.child.wait_with_output().expect("it ends");
        (
            output.status.code(),
            rest,
            String::from_utf8(output.stderr).expect("text"),
        )
    }
}

#[test]
fn tail_prints_the_queries_that_meet_its_conditions_until_the_server_stops() {
    let upstream = upstream();
    let mut server = start(&upstream, "[query-log]\nfile = \"queries.jsonl\"");
    let all = Tail::start(&server, &[]);
    let first = all.first(&server, "a.example");
    assert!(
        first.contains(" 127.0.0.0 udp a.example A: NOERROR from "),
        "{first}"
    );
    let blocked = Tail::start(&server, &["--json", "--blocked", "--client", "127.0.0.1"]);
    let line = blocked.first(&server, "x.ads.example");
    let line: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(
        (&line["qname"], &line["rule"]["source"]),
        (&"x.ads.example".into(), &"ads".into())
    );
    let zone = Tail::start(&server, &["--zone", "b.example", "-n", "1"]);
    let line = zone.first(&server, "c.b.example");
    assert!(line.contains("c.b.example"), "{line}");
    assert_eq!(
        zone.end(),
        (Some(0), String::new(), String::new()),
        "after one query"
    );
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    for tail in [all, blocked] {
        let (code, _, error) = tail.end();
        assert_eq!(code, Some(0), "{error}");
        assert!(error.contains("ended: the server is stopping"), "{error}");
    }
}

#[test]
fn tail_is_refused_without_a_query_log_and_the_key_allows_it() {
    let upstream = upstream();
    let server = start(&upstream, "");
    let (code, _, error) = Tail::start(&server, &[]).end();
    assert_eq!(code, Some(1), "{error}");
    assert!(
        error.contains("set `file` or `tail = true` in [query-log]"),
        "{error}"
    );
    let reload = |section: &str| {
        server.replace("tapis.toml", &config(&upstream, section));
        let output = server.verb(&["reload"]);
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    let report = reload("[query-log]\ntail = true");
    assert!(report.contains("query-log.tail"), "{report}");
    let tail = Tail::start(&server, &["--name", "a.example"]);
    let first = tail.first(&server, "a.example");
    assert!(first.contains("a.example"), "{first}");
    reload("");
    let (code, _, error) = tail.end();
    assert_eq!(code, Some(0), "{error}");
    assert!(error.contains("[query-log] tail is off by now"), "{error}");
    let (code, _, error) = Tail::start(&server, &["--client", "127.0.0.1"]).end();
    assert_eq!(code, Some(1), "{error}");
}

#[test]
fn top_lists_have_the_most_frequent_names_clients_and_lists_once_they_are_turned_on() {
    let upstream = upstream();
    let server = start(&upstream, "");
    let output = server.verb(&["top"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("set `enabled = true` in [top]"),
        "{}",
        text(&output)
    );
    server.replace("tapis.toml", &config(&upstream, "[top]\nenabled = true"));
    let report = server.verb(&["reload"]);
    assert!(text(&report).contains("top.enabled"), "{}", text(&report));
    until("it is on", || server.verb(&["top"]).status.success());
    for (name, count) in [("a.example", 3), ("X.ads.example", 5), ("b.example", 1)] {
        for _ in 0..count {
            ask(&server, name);
        }
    }
    let shown = |arguments: &[&str]| {
        let output = server.verb(&[&["top"], arguments].concat());
        String::from_utf8(output.stdout).expect("text")
    };
    until("all are counted", || {
        shown(&[]).starts_with("9 queries within ")
    });
    let parsed: Value = serde_json::from_str(&shown(&["--json", "--count", "2"])).expect("JSON");
    let list = |key: &str| parsed[key]["entries"].clone();
    let entry = |text: &str, count: u64| serde_json::json!({ "text": text, "count": count });
    let names = [entry("x.ads.example", 5), entry("a.example", 3)];
    assert_eq!(list("names"), Value::from(names.to_vec()));
    assert_eq!(list("blocked_names"), Value::from(names[..1].to_vec()));
    assert_eq!(list("clients"), Value::from(vec![entry("127.0.0.0", 9)]));
    assert_eq!(list("sources"), Value::from(vec![entry("ads", 5)]));
    assert_eq!(
        (&parsed["queries"], &parsed["names"]["error"]),
        (&9.into(), &0.into())
    );
    let table = shown(&["-n", "1"]);
    assert!(table.contains("\n  5   55.6 %  x.ads.example\n"), "{table}");
    assert!(!table.contains("a.example\n  3"), "{table}");
    assert_eq!(server.status()["recording"]["top"]["queries"], 9);
    let status = text(&server.verb(&["status"]));
    assert!(
        status.contains("x.ads.example (5), a.example (3), b.example (1)\n"),
        "{status}"
    );
}
