//! The query log: its lines, what chooses them, and what happens to its file.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;

use crate::support::client::{self, Stream, query, until};
use crate::support::server::{Server, folder, list, preamble, tapis, text};
use crate::support::upstream::{Upstream, address_of, alias, answer, name};

/// Answers aliases of `tracker.example` for `alias.example`, and addresses for all other names but `fails.example`.
fn upstream() -> Upstream {
    Upstream::start(|asked| match name(asked).as_str() {
        "fails.example" => Some(answer(asked, ResponseCode::ServFail)),
        "alias.example" => {
            let mut message = answer(asked, ResponseCode::NoError);
            message
                .answers
                .push(alias("alias.example.", "a.tracker.example.", 300));
            Some(message)
        }
        _ => Some(address_of(asked, [192, 0, 2, 1])),
    })
}

fn config(upstream: &Upstream, log: &str) -> String {
    let section = format!("[query-log]\nfile = \"queries.jsonl\"\n{log}\n");
    preamble(upstream.address) + &section + &list("ads", "")
}

fn start(upstream: &Upstream, log: &str) -> Server {
    let config = config(upstream, log);
    Server::start(&config, &[("ads", "ads.example\n.tracker.example\n")])
}

fn ask(server: &Server, name: &str) {
    client::ask(server.address, name, RecordType::A);
}

/// The whole lines of a log. Another process is writing it: a reader may see a part of the last one.
fn written(server: &Server, file: &str) -> String {
    let mut text = fs::read_to_string(server.path(file)).unwrap_or_default();
    text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
    text
}

/// The text of a log once it has `count` lines.
fn text_of(server: &Server, file: &str, count: usize) -> String {
    until("the lines", || {
        written(server, file).lines().count() >= count
    });
    written(server, file)
}

/// The lines of a log once there are `count`.
#[track_caller]
fn lines(server: &Server, file: &str, count: usize) -> Vec<Value> {
    let text = text_of(server, file, count);
    let line = |line| serde_json::from_str(line).expect("JSON");
    let lines: Vec<_> = text.lines().map(line).collect();
    assert_eq!(lines.len(), count, "{text}");
    lines
}

fn figure(server: &Server, key: &str) -> u64 {
    let status = server.status();
    status["recording"]["query_log"][key]
        .as_u64()
        .unwrap_or_else(|| panic!("{key} in {status}"))
}

#[test]
fn each_query_has_a_line_with_its_answer_and_the_rule() {
    let upstream = upstream();
    let server = start(&upstream, "client = \"whole\"");
    for name in [
        "a.example",
        "Ads.example",
        "alias.example",
        "localhost",
        "fails.example",
    ] {
        ask(&server, name);
    }
    let mut stream = Stream::open(server.address);
    stream.send(&query("A.example", RecordType::A));
    stream.receive().expect("an answer");
    let lines = lines(&server, "queries.jsonl", 6);
    // Each thread has its own ring, so the sequence is not that of the answers.
    let of = |name: &str| lines.iter().find(|line| line["qname"] == name).expect(name);
    let seen = |line: &Value| {
        let keys = ["qname", "transport", "rcode", "outcome", "from"];
        keys.map(|key| line[key].as_str().unwrap_or("none").to_owned())
            .join(" ")
    };
    let seen: BTreeSet<_> = lines.iter().map(seen).collect();
    let expected = [
        "a.example udp NOERROR resolved upstream",
        "a.example tcp NOERROR cache_hits cache",
        "ads.example udp NOERROR blocked policy",
        "alias.example udp NOERROR blocked_cname_target policy",
        "localhost udp NOERROR local local",
        "fails.example udp SERVFAIL failed upstream",
    ];
    assert_eq!(seen, expected.map(str::to_owned).into());
    for line in &lines {
        assert_eq!(
            (&line["client"], &line["qtype"]),
            (&"127.0.0.1".into(), &"A".into())
        );
        let time = line["time"].as_str().expect("a time");
        let parsed: jiff::Timestamp = time.parse().expect("RFC 3339");
        assert!(parsed.duration_until(jiff::Timestamp::now()).as_secs() < 60);
        assert_eq!(time.len(), "2026-11-29T07:00:00.000Z".len(), "milliseconds");
        assert!(line["bytes"].as_u64().expect("a length") >= 30);
        assert!(line["latency_us"].as_u64().expect("a time") < 60_000_000);
    }
    let with_server = lines.iter().filter(|line| line["from"] == "upstream");
    let server_of = |line: &Value| line["upstream"].clone();
    let address = Value::from(upstream.address.to_string());
    assert!(with_server.map(server_of).eq([address.clone(), address]));
    let without = lines.iter().filter(|line| line["from"] != "upstream");
    assert!(
        without
            .into_iter()
            .all(|line| line.get("upstream").is_none())
    );
    let rule = |name: &str| serde_json::json!({ "kind": "list", "source": "ads", "action": "sinkhole", "name": name });
    assert_eq!(of("ads.example")["rule"], rule("ads.example"));
    assert_eq!(of("alias.example")["rule"], rule("tracker.example"));
    assert!(of("localhost").get("rule").is_none());
    assert_eq!(figure(&server, "recorded"), 6);
    assert_eq!(figure(&server, "dropped"), 0);
    let status = text(&server.verb(&["status"]));
    let file = server.path("queries.jsonl");
    let line = format!("query log {}: 6 queries\n", file.display());
    assert!(status.contains(&line), "{status}");
}

#[test]
fn names_from_strangers_are_valid_json_and_a_malformed_query_has_a_line_without_a_name() {
    let upstream = upstream();
    let server = start(&upstream, "");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let header = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0";
    let label = b"\x09\"\\\n\xFF\x80\xE2\x80\x8F{\x07example\0\0\x01\0\x01";
    for question in [&label[..], b"\x3Fcut"] {
        let packet = [&header[..], question].concat();
        socket.send_to(&packet, server.address).expect("sent");
        socket.recv(&mut [0; 512]).expect("an answer");
    }
    let mut lines = lines(&server, "queries.jsonl", 2);
    lines.sort_by_key(|line| line["qname"].is_null());
    let escaped = "\\\"\\\\\\010\\255\\128\\226\\128\\143{.example";
    assert_eq!(lines[0]["qname"], escaped);
    assert_eq!(lines[1]["qname"], Value::Null);
    assert_eq!(lines[1]["outcome"], "malformed_question");
    assert_eq!(lines[1]["client"], "127.0.0.0", "truncated by default");
}

#[test]
fn a_reload_turns_the_log_on_and_off_and_changes_what_is_recorded() {
    let upstream = upstream();
    let server = start(&upstream, "only = \"blocked\"\nclient = \"hashed\"");
    for name in ["a.example", "ads.example"] {
        ask(&server, name);
    }
    let first = lines(&server, "queries.jsonl", 1);
    assert_eq!(first[0]["qname"], "ads.example");
    assert_eq!(first[0]["client"].as_str().map(str::len), Some(16));
    let reload = |log: &str| {
        server.replace("tapis.toml", &config(&upstream, log));
        let output = server.verb(&["reload"]);
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    let report = reload("client = \"none\"");
    assert!(
        report.contains("query-log.only") && report.contains("query-log.client"),
        "{report}"
    );
    until("the new setting", || {
        ask(&server, "b.example");
        written(&server, "queries.jsonl").contains("b.example")
    });
    let text = written(&server, "queries.jsonl");
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert!(last.get("client").is_none(), "{last}");
    let without = preamble(upstream.address) + &list("ads", "");
    server.replace("tapis.toml", &without);
    assert!(server.verb(&["reload"]).status.success());
    until("it is off", || {
        server.status()["recording"].get("query_log").is_none()
    });
    let before = fs::read_to_string(server.path("queries.jsonl")).expect("readable");
    ask(&server, "off.example");
    server.assert_well();
    let after = fs::read_to_string(server.path("queries.jsonl")).expect("readable");
    assert_eq!(before, after);
}

#[test]
fn a_sample_is_chosen_at_random_and_the_others_are_counted() {
    let upstream = upstream();
    let server = start(&upstream, "sample = 0.5");
    for _ in 0..200 {
        ask(&server, "ads.example");
    }
    until("all are counted", || {
        figure(&server, "recorded") + figure(&server, "sampled_out") == 200
    });
    let recorded = figure(&server, "recorded");
    // Further off once in 10^9 runs.
    assert!((56..=144).contains(&recorded), "{recorded}");
}

#[test]
fn a_file_that_logrotate_moves_is_opened_anew_at_sighup() {
    let upstream = upstream();
    let server = start(&upstream, "rotate-mib = 0");
    ask(&server, "a.example");
    lines(&server, "queries.jsonl", 1);
    fs::rename(server.path("queries.jsonl"), server.path("queries.jsonl.1")).expect("moved");
    server.signal("HUP");
    until("a new file", || server.path("queries.jsonl").exists());
    ask(&server, "b.example");
    assert_eq!(lines(&server, "queries.jsonl", 1)[0]["qname"], "b.example");
    assert_eq!(
        lines(&server, "queries.jsonl.1", 1)[0]["qname"],
        "a.example"
    );
}

#[test]
fn a_log_that_cannot_be_written_is_an_alarm_and_queries_are_answered() {
    let upstream = upstream();
    let config =
        preamble(upstream.address) + "[query-log]\nfile = \"/dev/full\"\n" + &list("ads", "");
    let server = Server::start(&config, &[("ads", "ads.example\n")]);
    for _ in 0..3 {
        ask(&server, "ads.example");
    }
    until("the alarm", || {
        let alarms = server.status()["alarms"].to_string();
        alarms.contains("/dev/full can't be written: No space left")
    });
    until("they are counted", || figure(&server, "lost") == 3);
    assert!(figure(&server, "errors") >= 1);
    let log = server.logged("the query log can't be written");
    assert_eq!(log.matches("the query log can't be written").count(), 1);
    server.replace("tapis.toml", &config.replace("/dev/full", "queries.jsonl"));
    assert!(server.verb(&["reload"]).status.success());
    until("it is written", || {
        ask(&server, "ads.example");
        server
            .path("queries.jsonl")
            .metadata()
            .is_ok_and(|meta| meta.len() > 0)
    });
    server.assert_well();
}

#[test]
fn the_group_can_read_a_new_log_whatever_the_umask() {
    let upstream = upstream();
    let folder = folder(&config(&upstream, ""), &[("ads", "ads.example\n")]);
    let mut command = Command::new("sh");
    let run = "umask 077; exec \"$0\" serve --config tapis.toml";
    command
        .args(["-c", run, env!("CARGO_BIN_EXE_tapis")])
        .current_dir(folder.path());
    let server = Server::run(command, folder);
    ask(&server, "a.example");
    lines(&server, "queries.jsonl", 1);
    let meta = fs::metadata(server.path("queries.jsonl")).expect("it exists");
    assert_eq!(meta.permissions().mode() & 0o777, 0o640);
}

#[test]
fn a_full_disk_costs_whole_lines_which_are_counted_and_all_others_are_whole() {
    let upstream = upstream();
    let folder = folder(
        &config(&upstream, "sample = 1"),
        &[("ads", "ads.example\n")],
    );
    let mut command = tapis();
    command
        .args(["serve", "--config", "tapis.toml"])
        .current_dir(folder.path());
    let server = Server::run(command, folder);
    ask(&server, "a.example");
    let line = text_of(&server, "queries.jsonl", 1).len() as u64;
    let process = i32::try_from(server.id()).ok().and_then(Pid::from_raw);
    let room = |bytes: Option<u64>| {
        let limit = prlimit(
            process,
            Resource::Fsize,
            Rlimit {
                current: bytes,
                maximum: None,
            },
        );
        limit.expect("changed");
    };
    // One more line, and a part of the next one, whatever their length is.
    room(Some(line * 5 / 2));
    let mut asked = 1;
    // If several lines that are written together are lost, a single one may still fit.
    until("no line fits", || {
        ask(&server, "b.example");
        asked += 1;
        let alarms = server.status()["alarms"].to_string();
        figure(&server, "lost") > 0 && alarms.contains("can't be written: File too large")
    });
    until("no line is there in part", || {
        fs::read_to_string(server.path("queries.jsonl")).is_ok_and(|text| text.ends_with('\n'))
    });
    room(None);
    until("it is written again", || {
        ask(&server, "c.example");
        asked += 1;
        written(&server, "queries.jsonl").contains("c.example")
    });
    until("all are counted", || {
        figure(&server, "recorded") + figure(&server, "lost") == asked
    });
    let recorded = figure(&server, "recorded");
    lines(
        &server,
        "queries.jsonl",
        usize::try_from(recorded).expect("few"),
    );
    server.assert_well();
}

#[test]
fn a_line_that_a_killed_process_left_in_part_does_not_spoil_the_next_one() {
    let upstream = upstream();
    let files = [("ads", ""), ("queries.jsonl", "{\"time\":\"2026-")];
    let server = Server::start(&config(&upstream, ""), &files);
    ask(&server, "a.example");
    let text = text_of(&server, "queries.jsonl", 2);
    let (torn, line) = text.split_once('\n').expect("two lines");
    assert_eq!(torn, files[1].1);
    let line: Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(line["qname"], "a.example");
}

#[test]
fn a_stop_writes_the_last_lines() {
    let upstream = upstream();
    let mut server = start(&upstream, "");
    let names: BTreeSet<_> = (0..50).map(|number| format!("n{number}.example")).collect();
    for name in &names {
        ask(&server, name);
    }
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let text = fs::read_to_string(server.path("queries.jsonl")).expect("readable");
    let found: BTreeSet<_> = names
        .iter()
        .filter(|name| text.contains(*name))
        .cloned()
        .collect();
    assert_eq!(found, names);
}

#[test]
fn wrong_settings_are_reported_with_their_bounds() {
    let upstream = upstream();
    let folder = tempfile::tempdir().expect("a folder");
    let log = "sample = 0\nclient = \"trunc\"\nrotate-mib = -1\nsampel = 0.5";
    let text = crate::support::server::refused(folder.path(), &config(&upstream, log), &[]);
    for part in [
        "sample is 0, must be more than 0 and at most 1",
        "client is \"trunc\", must be one of whole, truncated, hashed, none",
        "rotate-mib is -1, must be 0 to 1048576",
        "unknown key `sampel` in [query-log]; did you mean `sample`?",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}
