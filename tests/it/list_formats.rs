//! One family of names in the formats of several programs: the decisions are the same, and a file that changes its format
//! is rejected.

use std::fs;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::support::client::{ask, data, is_blocked, rcode, until};
use crate::support::server::{Server, folder, list, preamble, text, verb};
use crate::support::upstream::Upstream;

/// The names of the family in each format, and the keys of a list in it.
fn family() -> [(&'static str, String, String); 8] {
    let names = ["a.example", "b.c.example", "xn--mnchen-3ya.example"];
    let lines = |line: fn(&str) -> String| names.map(line).concat();
    let json = format!("{names:?}");
    [
        ("domains", String::new(), lines(|name| format!(".{name}\n"))),
        (
            "domains",
            "scope = \"subtree\"".to_owned(),
            lines(|name| format!("{name}\n")),
        ),
        (
            "hosts",
            "scope = \"subtree\"".to_owned(),
            lines(|name| format!("0.0.0.0 {name}\n")),
        ),
        (
            "wildcard",
            String::new(),
            lines(|name| format!("*.{name}\n")),
        ),
        (
            "dnsmasq",
            String::new(),
            lines(|name| format!("address=/{name}/#\n")),
        ),
        (
            "unbound",
            String::new(),
            "server:\n".to_owned()
                + &lines(|name| format!("local-zone: \"{name}.\" always_null\n")),
        ),
        (
            "csv",
            "scope = \"subtree\"\ncolumn = \"host\"".to_owned(),
            "id,host\n".to_owned() + &lines(|name| format!("1,{name}\n")),
        ),
        ("json", "scope = \"subtree\"".to_owned(), json),
    ]
}

#[test]
fn the_forms_of_one_family_block_the_same_names() {
    let upstream = Upstream::plain();
    for (format, keys, content) in family() {
        let keys = format!("format = \"{format}\"\n{keys}");
        let config = preamble(upstream.address) + &list("ads", &keys);
        let server = Server::start(&config, &[("ads", &content)]);
        assert_eq!(server.status()["lists"][0]["rules"], 3, "{format}");
        for name in [
            "a.example",
            "x.a.example",
            "y.b.c.example",
            "xn--mnchen-3ya.example",
        ] {
            assert!(is_blocked(server.address, name), "{format}: {name}");
        }
        for name in ["example", "c.example", "ba.example"] {
            assert!(!is_blocked(server.address, name), "{format}: {name}");
        }
        server.assert_well();
    }
}

#[test]
fn records_and_actions_of_a_configuration_answer_its_names() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + &list("ads", "format = \"unbound\"");
    let content = "local-zone: \"a.example\" redirect\n\
                   local-data: \"a.example 120 A 192.0.2.7\"\n\
                   local-zone: \"b.example\" always_nxdomain\n\
                   local-zone: \"ok.b.example\" transparent\n\
                   local-zone: \"c.example\" refuse\n";
    let server = Server::start(&config, &[("ads", content)]);
    let at = server.address;
    assert_eq!(data(&ask(at, "x.a.example", RecordType::A)), ["192.0.2.7"]);
    assert_eq!(ask(at, "a.example", RecordType::A).answers[0].ttl, 120);
    assert!(ask(at, "a.example", RecordType::AAAA).answers.is_empty());
    let asked = |name| rcode(&ask(at, name, RecordType::A));
    assert_eq!(asked("x.y.b.example"), ResponseCode::NXDomain);
    assert_eq!(asked("c.example"), ResponseCode::Refused);
    assert!(!data(&ask(at, "ok.b.example", RecordType::A)).is_empty());
    server.assert_well();
}

#[test]
fn a_list_that_changes_its_format_is_held_until_that_is_accepted() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + &list("ads", "format = \"auto\"");
    let server = Server::start(
        &config,
        &[("ads", "0.0.0.0 a.example\n0.0.0.0 b.example\n")],
    );
    assert_eq!(server.status()["lists"][0]["detected"]["format"], "hosts");
    let status = text(&server.verb(&["status"]));
    assert!(
        status.contains("ads: 2 rules, 0 bad lines, recognised as hosts\n"),
        "{status}"
    );
    fs::write(server.path("ads"), "*.a.example\n*.c.example\n").expect("written");
    let output = server.verb(&["reload"]);
    assert_eq!(output.status.code(), Some(1));
    let alarm = "it looks like `format = \"wildcard\"` (wildcard, like 2 of the first 2 lines), and the state in force like \
                 `format = \"hosts\"`: to read it in one format whatever it looks like, set that format. To accept it \
                 unchanged: tapis reload --accept ads:format";
    for report in [text(&output), text(&server.verb(&["status"]))] {
        assert!(report.contains(alarm), "{report}");
    }
    assert!(is_blocked(server.address, "b.example"));
    let output = server.verb(&["reload", "--accept", "ads:format"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(is_blocked(server.address, "x.c.example") && !is_blocked(server.address, "b.example"));
    // A list that is emptied on purpose has no format, and neither has the first state after that.
    fs::write(server.path("ads"), "# lifted\n").expect("written");
    assert!(server.verb(&["reload"]).status.success());
    fs::write(server.path("ads"), "d.example\n").expect("written");
    assert!(server.verb(&["reload"]).status.success());
    server.assert_well();
}

#[test]
fn a_large_list_is_recognised_like_a_small_one() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address)
        + "[state]\ndir = \"state\"\n"
        + &list("ads", "format = \"auto\"");
    let lines = |line: fn(u32) -> String| (0..60_000).map(line).collect::<String>();
    let hosts = lines(|number| format!("0.0.0.0 n{number}.example\n"));
    let mut server = Server::start(&config, &[("ads", &hosts)]);
    until("it is loaded", || {
        server.status()["lists"][0]["rules"] == 60_000
    });
    server.replace("ads", &lines(|number| format!("n{number}.example\n")));
    let output = server.verb(&["reload"]);
    assert_eq!(output.status.code(), Some(1));
    let report = text(&output);
    assert!(report.contains("--accept ads:format"), "{report}");
    server.signal("TERM");
    server.wait();
    let server = server.again();
    assert!(is_blocked(server.address, "n7.example"));
    let output = server.verb(&["reload"]);
    assert!(
        text(&output).contains("--accept ads:format"),
        "{}",
        text(&output)
    );
}

#[test]
fn check_says_what_a_list_was_recognised_as_and_compares_it_with_the_server() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + &list("ads", "format = \"auto\"");
    let folder = folder(&config, &[("ads", "*.a.example\n")]);
    let report = text(&verb(folder.path(), &["check"]));
    assert!(
        report.contains("  format: wildcard, like 1 of the first 1 line\n"),
        "{report}"
    );
    let server = Server::start_in(folder);
    fs::write(server.path("ads"), "address=/a.example/#\n").expect("written");
    let output = server.verb(&["check"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("--accept ads:format"),
        "{}",
        text(&output)
    );
}
