//! Faulty lists: the last good rules stay, and the reason is reported.

use std::fs;
use std::process::Output;

use crate::support::client::{is_blocked, until};
use crate::support::server::{Server, list, preamble, text};
use crate::support::upstream::Upstream;

const FOUR: &str = "a.example\nb.example\nc.example\nd.example\n";

fn server(more: &str, content: &str) -> (Server, Upstream) {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + &list("ads", more);
    (Server::start(&config, &[("ads", content)]), upstream)
}

fn reload(server: &Server, arguments: &[&str]) -> Output {
    server.verb(&[&["reload"], arguments].concat())
}

/// Asserts that the newest version is rejected, and that all outputs report this reason.
fn held(server: &Server, reason: &str) {
    let output = reload(server, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains(reason), "{}", text(&output));
    let status = server.status();
    assert_eq!(status["lists"][0]["state"], "held");
    assert_eq!(status["degraded"], true);
    let alarm = status["alarms"][0].as_str().expect("an alarm");
    assert!(alarm.contains(reason), "{alarm}");
    assert!(server.logged("list rejected").contains(reason));
    assert!(
        is_blocked(server.address, "d.example"),
        "the last good state stays"
    );
}

#[test]
fn a_list_that_lost_more_than_half_is_held_until_released() {
    let (server, _upstream) = server("", FOUR);
    fs::write(server.path("ads"), "a.example\n").expect("written");
    held(&server, "1 rule, 75 % fewer than the 4 in force");
    let output = reload(&server, &["--accept", "ads:shrunk"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(!is_blocked(server.address, "d.example"));
    assert!(is_blocked(server.address, "a.example"));
    server.assert_well();
}

#[test]
fn an_empty_file_is_held_and_one_with_a_comment_lifts_the_list() {
    let (server, _upstream) = server("", FOUR);
    fs::write(server.path("ads"), "").expect("written");
    held(&server, "empty");
    fs::write(server.path("ads"), "# lifted on 10 August 2017\n").expect("written");
    until("the lift", || !is_blocked(server.address, "d.example"));
    assert_eq!(server.status()["lists"][0]["rules"], 0);
    server.assert_well();
}

#[test]
fn a_mostly_bad_and_a_binary_file_are_held() {
    let (server, _upstream) = server("", FOUR);
    fs::write(
        server.path("ads"),
        "<html>\n<p>\n</html>\na.example\nb.example\n",
    )
    .expect("written");
    held(&server, "3 of 5 lines are bad, the first in line 1");
    fs::write(server.path("ads"), b"\x1f\x8b\x08\x00\x00\x00").expect("written");
    held(&server, "binary");
    let all = ["empty", "bad", "shrunk", "grown", "old"].map(|guard| format!("ads:{guard}"));
    let all = all
        .iter()
        .flat_map(|release| ["--accept", release.as_str()]);
    let output = reload(&server, &all.collect::<Vec<_>>());
    assert_eq!(
        output.status.code(),
        Some(1),
        "binary is never accepted: {}",
        text(&output)
    );
    assert!(is_blocked(server.address, "d.example"));
}

#[test]
fn a_directory_in_place_of_a_list_is_held() {
    let (server, _upstream) = server("", FOUR);
    fs::remove_file(server.path("ads")).expect("removed");
    fs::create_dir(server.path("ads")).expect("made");
    held(&server, "not a regular file");
}

#[test]
fn accepting_a_list_that_does_not_exist_is_reported() {
    let (server, _upstream) = server("", FOUR);
    let output = reload(&server, &["--accept", "adds:bad"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("there is no list or feed `adds`"),
        "{}",
        text(&output)
    );
}

#[test]
fn bad_lines_are_skipped_counted_and_shown() {
    let (server, _upstream) = server("", "a.example\nb..example\n1.2.3.4\nd.example\n");
    assert!(is_blocked(server.address, "d.example"));
    let status = server.status();
    let list = &status["lists"][0];
    assert_eq!(
        (list["rules"].as_u64(), list["lines"].as_u64()),
        (Some(2), Some(4))
    );
    assert_eq!(list["first_bad"][0]["line"], 2);
    assert_eq!(list["first_bad"][1]["text"], "1.2.3.4");
    assert_eq!(list["state"], "current", "bad lines never fail a list");
}

#[test]
fn a_changed_scope_or_format_applies_at_a_reload() {
    let (server, _upstream) = server("", "ads.example\n");
    let with = |more: &str| {
        let config = fs::read_to_string(server.path("tapis.toml")).expect("readable");
        let (before, _) = config.split_once("[[list]]").expect("the list");
        server.replace("tapis.toml", &(before.to_owned() + &list("ads", more)));
        let output = reload(&server, &[]);
        (output.status.success(), text(&output))
    };
    assert!(!is_blocked(server.address, "x.ads.example"));
    for (more, name_blocked, below_blocked) in [
        ("scope = \"subtree\"", true, true),
        ("scope = \"exact\"", true, false),
        ("scope = \"subtree\"\naction = \"sinkhole\"", true, true),
        ("", true, false),
    ] {
        let (success, report) = with(more);
        assert!(success, "{more}: {report}");
        assert_eq!(
            is_blocked(server.address, "ads.example"),
            name_blocked,
            "{more}"
        );
        assert_eq!(
            is_blocked(server.address, "x.ads.example"),
            below_blocked,
            "{more}"
        );
    }
    // In another format no line is a rule, and `reload` must not succeed.
    let (success, report) = with("format = \"hosts\"");
    assert!(!success, "{report}");
    assert!(is_blocked(server.address, "ads.example"));
}

#[test]
fn a_bad_name_of_a_hosts_line_is_reported_and_the_others_block() {
    let content = "127.0.0.1 one.example two..example three.example # four.example\n\
                   ::1\tlocalhost *.five.example six.example\n";
    let (server, _upstream) = server("format = \"hosts\"", content);
    for name in ["one.example", "three.example", "six.example"] {
        assert!(is_blocked(server.address, name), "{name}");
    }
    assert!(!is_blocked(server.address, "four.example"), "a comment");
    let status = server.status();
    let list = &status["lists"][0];
    assert_eq!((&list["rules"], &list["lines"]), (&3.into(), &2.into()));
    assert_eq!(list["first_bad"][0]["text"], "two..example");
    assert_eq!(list["first_bad"][1]["text"], "*.five.example");
    assert_eq!(list["state"], "current");
    let report = text(&server.verb(&["check"]));
    assert!(
        report.contains("3 rules, 1 skipped (localhost and the like, or addresses), 2 bad lines"),
        "{report}"
    );
    assert!(
        report.contains("ads:1: two..example: not a domain name"),
        "{report}"
    );
}

#[test]
fn a_missing_list_does_not_keep_the_server_from_starting() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + &list("ads", "") + &list("gone", "");
    let server = Server::start(&config, &[("ads", FOUR)]);
    assert!(is_blocked(server.address, "a.example"));
    let status = server.status();
    assert_eq!(status["lists"][1]["state"], "missing");
    assert_eq!(status["degraded"], true);
    fs::write(server.path("gone"), "late.example\n").expect("written");
    until("the list", || is_blocked(server.address, "late.example"));
    server.assert_well();
}

#[test]
fn hosts_files_scopes_allow_lists_and_actions_work_together() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address)
        + &list("hosts", "format = \"hosts\"\nscope = \"subtree\"")
        + &list("good", "kind = \"allow\"")
        + &list("refuse", "action = \"refused\"");
    let files = [
        ("hosts", "127.0.0.1 localhost\n0.0.0.0 Ads.example # why\n"),
        ("good", "ok.ads.example\n"),
        ("refuse", "*.no.example\nads.example\n"),
    ];
    let server = Server::start(&config, &files);
    assert!(is_blocked(server.address, "x.ads.example"));
    assert!(!is_blocked(server.address, "ok.ads.example"));
    let refused = crate::support::client::ask;
    let rcode = |name: &str| {
        let answer = refused(server.address, name, hickory_proto::rr::RecordType::A);
        answer.metadata.response_code.to_string()
    };
    assert_eq!(rcode("a.no.example"), "Query Refused");
    assert_eq!(rcode("no.example"), "No Error");
    assert_eq!(server.status()["lists"][0]["skipped"], 1);
}
