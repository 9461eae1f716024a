//! `tapis health`: the line and the exit code that a monitoring system reads.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use hickory_proto::rr::RecordType;
use serde_json::Value;

use crate::history::run;
use crate::orders::{PAST, order, target};
use crate::support::client::{ask, is_blocked, until};
use crate::support::server::{Server, folder, list, preamble, tapis, text, verb};
use crate::support::upstream::Upstream;

/// Runs `tapis health`, which must print one line. Returns its exit code and the line.
fn health(server: &Server, arguments: &[&str]) -> (i32, String) {
    let (code, line) = run(server, &[&["health"][..], arguments].concat());
    assert_eq!(line.lines().count(), 1, "{line}");
    (code.expect("it ended"), line)
}

/// The performance data of a line: label, value, and the rest.
fn measures(line: &str) -> BTreeMap<String, (String, String)> {
    let (_, measures) = line.split_once(" | ").expect("performance data");
    let measure = |text: &str| {
        let (name, rest) = text.split_once('=').expect("a label");
        let (value, bounds) = rest.split_once(';').expect("bounds");
        (name.to_owned(), (value.to_owned(), bounds.to_owned()))
    };
    measures.split_whitespace().map(measure).collect()
}

#[test]
fn a_server_without_problems_is_ok_and_its_line_has_performance_data() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + &list("ads", "");
    let server = Server::start(&config, &[("ads", "ads.example\n")]);
    server.assert_well();
    assert!(is_blocked(server.address, "ads.example"));
    ask(server.address, "good.example", RecordType::A);
    until("the counters", || server.count("udp_queries") == 2);
    let (code, line) = health(&server, &[]);
    let start = "TAPIS OK - generation 1, 1 list, 0 orders in force, 1 of 1 upstream server up | ";
    assert!(code == 0 && line.starts_with(start), "{code}: {line}");
    let measures = measures(&line);
    let of = |name: &str| {
        let (value, bounds) = &measures[name];
        (&**value, &**bounds)
    };
    assert_eq!(of("queries"), ("2c", ";;0"));
    assert_eq!(of("blocked"), ("1c", ";;0"));
    assert_eq!(of("alarms"), ("0", "0;;0"));
    assert_eq!(of("kernel_drops_recent"), ("0", "0;1000;0"));
    assert_eq!(of("generation"), ("1", ";;0"));
    let (code, json) = run(&server, &["health", "--json"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((code, &json["level"]), (Some(0), &"OK".into()));
    assert_eq!(json["reasons"], Value::Array(Vec::new()));
}

#[test]
fn alarms_old_lists_and_overdue_reviews_are_warnings_up_to_the_thresholds() {
    let upstream = Upstream::plain();
    let config = format!(
        "{}[orders]\npath = \"orders\"\n[guard]\nmax-age-hours = 48\n{}",
        preamble(upstream.address),
        list("ads", "")
    );
    let folder = folder(&config, &[("ads", "ads.example\n")]);
    let file = fs::File::options()
        .write(true)
        .open(folder.path().join("ads"));
    let days_ago = SystemTime::now() - Duration::from_secs(3 * 86_400);
    file.expect("a file").set_modified(days_ago).expect("set");
    fs::create_dir(folder.path().join("orders")).expect("made");
    let order = order("x-1", PAST, &target("x.example", "exact"));
    let order = order.replace("review-at = 2100", "review-at = 2021");
    fs::write(folder.path().join("orders/x-1.toml"), order).expect("written");
    let server = Server::start_in(folder);
    until("the order", || is_blocked(server.address, "x.example"));
    until("the alarm", || !server.status()["alarms"][0].is_null());
    let (code, line) = health(&server, &[]);
    assert_eq!(code, 1, "{line}");
    let start = "TAPIS WARNING - 1 list is too old: ads; 1 review is overdue: x-1; ";
    assert!(line.starts_with(start), "{line}");
    assert!(line.contains("; 1 alarm: ads: "), "{line}");
    assert!(
        line.contains(" old_lists=1;0;;0 overdue_reviews=1;0;;0 "),
        "{line}"
    );
    let (code, line) = health(&server, &["--reviews", ",0"]);
    assert_eq!(code, 2, "{line}");
    assert!(
        line.starts_with("TAPIS CRITICAL - 1 review is overdue: x-1; 1 list"),
        "{line}"
    );
    let above = ["--alarms=1", "--old-lists=1", "--reviews=1,5"];
    let (code, line) = health(&server, &above);
    assert!(
        code == 0 && line.starts_with("TAPIS OK - "),
        "{code}: {line}"
    );
    let invalid = server.verb(&["health", "--alarms", "1:2"]);
    assert_eq!(invalid.status.code(), Some(2));
    assert!(text(&invalid).contains("as in 0,1000"));
}

#[test]
fn upstream_servers_none_of_which_answers_are_critical() {
    let (silent, _socket) = Upstream::silent_address();
    let config = format!("{}timeout-ms = 200\n", preamble(silent));
    let server = Server::start(&config, &[]);
    let mut line = String::new();
    until("all are down", || {
        ask(server.address, "a.example", RecordType::A);
        let (code, now) = health(&server, &[]);
        line = now;
        code == 2
    });
    assert!(line.starts_with("TAPIS CRITICAL - "), "{line}");
    until("the outage", || {
        ask(server.address, "a.example", RecordType::A);
        line = health(&server, &["--upstream-down=5", "--alarms=5"]).1;
        line.contains("no upstream server gives usable answers since 2")
    });
    assert!(line.contains(" upstream_down=1;5;;0"), "{line}");
}

#[test]
fn a_server_that_is_gone_or_hangs_is_critical_in_time() {
    let upstream = Upstream::plain();
    let mut server = Server::start(&preamble(upstream.address), &[]);
    server.signal("STOP");
    let (code, line) = health(&server, &["--timeout", "1"]);
    assert_eq!(code, 2, "{line}");
    let expected = "did not answer within 1 s";
    assert!(
        line.starts_with("TAPIS CRITICAL - ") && line.contains(expected),
        "{line}"
    );
    server.signal("CONT");
    assert_eq!(health(&server, &[]).0, 0);
    server.signal("KILL");
    server.wait();
    let (code, line) = health(&server, &[]);
    assert_eq!(code, 2, "{line}");
    assert!(line.contains("no running server"), "{line}");
}

#[test]
fn a_server_that_can_not_be_asked_is_unknown() {
    let folder = folder("[server]\ncontrol = 5\n", &[]);
    let output = verb(folder.path(), &["health"]);
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(3), "{line}");
    assert!(line.starts_with("TAPIS UNKNOWN - "), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    let nowhere = folder.path().join("none.sock");
    let nowhere = nowhere.to_str().expect("text");
    let output = tapis().args(["health", "--control", nowhere]).output();
    let output = output.expect("it ran");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
}

#[test]
fn an_output_that_cannot_be_written_is_no_alarm() {
    let upstream = Upstream::plain();
    let server = Server::start(
        &(preamble(upstream.address) + &list("ads", "")),
        &[("ads", "ads.example\n")],
    );
    let run = |arguments: &[&str], to: Stdio| {
        let mut command = tapis();
        command
            .args(arguments)
            .arg("--config")
            .arg(server.path("tapis.toml"));
        let output = command.stdout(to).output().expect("it ran");
        (output.status.code(), text(&output))
    };
    let full = || {
        OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .expect("a device")
    };
    let closed = || io::pipe().expect("a pipe").1;
    let verbs: [(&[&str], i32); 5] = [
        (&["status"], 5),
        (&["status", "--json"], 5),
        (&["health"], 3),
        (&["export", "ads", "--format=domains"], 5),
        (&["query", "ads.example"], 5),
    ];
    for (verb, code) in verbs {
        let (found, printed) = run(verb, full().into());
        let said = "tapis: standard output can't be written: ";
        assert!(
            printed.starts_with(said) && printed.lines().count() == 1,
            "{verb:?}: {printed}"
        );
        assert_eq!(found, Some(code), "{verb:?}");
        assert_eq!(
            run(verb, closed().into()),
            (Some(code), String::new()),
            "{verb:?}"
        );
    }
}
