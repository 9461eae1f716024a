//! Guard rails: each one works, is reported in all places, and is released by its name only.

use std::fs::{self, File};
use std::process::Output;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::client::{is_blocked, until};
use crate::support::server::{SHIPPED, Server, folder, list, preamble, tapis, text};
use crate::support::upstream::Upstream;

const FOUR_NAMES: &str = "a.example\nb.example\nc.example\nd.example\n";
const HOUR: Duration = Duration::from_secs(3600);

/// A server with the list `ads`, and these keys in `[guard]`.
fn server(guard: &str, content: &str) -> (Server, Upstream) {
    let upstream = Upstream::plain();
    let config = config(&upstream, guard, "");
    (Server::start(&config, &[("ads", content)]), upstream)
}

fn config(upstream: &Upstream, guard: &str, more: &str) -> String {
    preamble(upstream.address) + &format!("[guard]\n{guard}\n") + &list("ads", more)
}

/// A list that the compiler process reads: `count` names, followed by `more`.
fn large(count: usize, more: &str) -> String {
    let names = (0..count).map(|number| format!("n{number}.large.example\n"));
    names.collect::<String>() + more
}

fn reload(server: &Server, released: &[&str]) -> Output {
    let released = released.iter().flat_map(|release| ["--accept", release]);
    let arguments: Vec<_> = ["reload"].into_iter().chain(released).collect();
    server.verb(&arguments)
}

/// Replaces the keys of `[guard]`, and reloads.
fn change_guard(server: &Server, guard: &str) -> Output {
    let config = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    let (before, rest) = config.split_once("[guard]\n").expect("the section");
    let (_, after) = rest.split_once("[[list]]").expect("the list");
    let config = format!("{before}[guard]\n{guard}\n[[list]]{after}");
    fs::write(server.path("tapis.toml"), config).expect("written");
    reload(server, &[])
}

fn words(value: &Value) -> Vec<&str> {
    let words = value.as_array().expect("an array").iter();
    words.map(|word| word.as_str().expect("a word")).collect()
}

/// Asserts that the guard rejects the newest version of `ads`, that all outputs report the rejection, and that a
/// release of this guard ends the rejection.
fn is_held_until_released(server: &Server, guard: &str, reason: &str) {
    let release = format!("ads:{guard}");
    let output = reload(server, &[]);
    let report = text(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(report.contains(reason), "{report}");
    let command = format!("To accept it unchanged: tapis reload --accept {release}\n");
    assert!(report.contains(&command), "{report}");
    let status = server.status();
    assert_eq!(status["lists"][0]["state"], "held");
    assert_eq!(words(&status["lists"][0]["guards"]), [guard]);
    assert_eq!(status["degraded"], true);
    let printed = server.verb(&["status"]);
    assert_eq!(printed.status.code(), Some(1), "{}", text(&printed));
    assert!(text(&printed).contains("ALARM ads: "), "{}", text(&printed));
    assert!(server.logged("list rejected").contains(reason));

    let others = ["empty", "bad", "shrunk", "grown", "old"];
    let others = others.into_iter().filter(|other| *other != guard);
    let others: Vec<_> = others.map(|other| format!("ads:{other}")).collect();
    let others: Vec<_> = others.iter().map(String::as_str).collect();
    let output = reload(server, &others);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(server.status()["lists"][0]["state"], "held");

    let output = reload(server, &[&release]);
    assert!(output.status.success(), "{}", text(&output));
    let status = server.status();
    assert_eq!(status["lists"][0]["state"], "current");
    assert_eq!(words(&status["lists"][0]["guards"]), [""; 0]);
    assert_eq!(status["degraded"], false);
    assert!(server.verb(&["status"]).status.success());
}

/// Replaces the file of `ads` by one with this age.
fn replace_by_old(server: &Server, content: &str, age: Duration) {
    let new = server.path("new-file");
    fs::write(&new, content).expect("written");
    set_age(&new, age);
    fs::rename(new, server.path("ads")).expect("renamed");
}

fn set_age(path: &std::path::Path, age: Duration) {
    let file = File::options().append(true).open(path).expect("there");
    let written = SystemTime::now() - age;
    file.set_modified(written).expect("its owner may");
}

#[test]
fn an_empty_list_is_held_until_released() {
    let (server, _upstream) = server("", FOUR_NAMES);
    server.replace("ads", "\n");
    is_held_until_released(&server, "empty", "empty; to empty a list on purpose");
    assert!(!is_blocked(server.address, "a.example"));
}

#[test]
fn a_mostly_bad_list_is_held_until_released() {
    let (server, _upstream) = server("shrink-percent = 100", FOUR_NAMES);
    server.replace("ads", "/\na.example\n/\n/\nb.example\n");
    is_held_until_released(&server, "bad", "3 of 5 lines are bad, the first in line 1");
    assert!(!is_blocked(server.address, "d.example"));
    assert!(is_blocked(server.address, "b.example"));
}

#[test]
fn a_shrunk_list_is_held_until_released() {
    let (server, _upstream) = server("shrink-percent = 20", FOUR_NAMES);
    server.replace("ads", "a.example\nb.example\nc.example\n");
    is_held_until_released(&server, "shrunk", "3 rules, 25 % fewer than the 4 in force");
    assert!(!is_blocked(server.address, "d.example"));
}

#[test]
fn a_grown_list_is_held_until_released() {
    let (server, _upstream) = server("grow-percent = 100", FOUR_NAMES);
    server.replace("ads", &large(1_003, FOUR_NAMES));
    is_held_until_released(
        &server,
        "grown",
        "1007 rules, 251 times the 4 rules in force",
    );
    assert!(is_blocked(server.address, "n1002.large.example"));
}

#[test]
fn a_list_that_is_cut_off_within_a_line_is_held_until_released() {
    let (server, _upstream) = server("", &large(2_000, ""));
    server.replace("ads", large(1_990, "").trim_end_matches("large.example\n"));
    until("the guard", || server.status()["degraded"] == true);
    is_held_until_released(
        &server,
        "shrunk",
        "1990 rules, fewer than the 2000 in force, and its last line has no end any more: cut off?",
    );
    // A writer that never terminates its last line.
    server.replace("ads", large(1_980, "").trim_end());
    until("the shorter list", || {
        server.status()["lists"][0]["rules"] == 1_980
    });
    server.assert_well();
}

#[test]
fn a_short_list_needs_no_final_newline() {
    let (server, _upstream) = server("", FOUR_NAMES);
    server.replace("ads", "a.example\nb.example\nc.example");
    until("the edit", || server.status()["lists"][0]["rules"] == 3);
    assert!(is_blocked(server.address, "c.example"));
    server.assert_well();
}

#[test]
fn a_name_that_is_cut_off_blocks_nothing_else_though_its_list_is_enforced_whole() {
    let upstream = Upstream::plain();
    let config = config(&upstream, "", "guards = \"warn\"\nscope = \"subtree\"");
    let server = Server::start(&config, &[("ads", "a.example\ncompany.example\n")]);
    for cut in ["com", "co.uk"] {
        server.replace("ads", &format!("a.example\n{cut}"));
        until("the edit", || {
            server.status()["lists"][0]["first_left_out"][0]["rule"] == format!(".{cut}")
        });
        assert!(
            !is_blocked(server.address, &format!("www.other.{cut}")),
            "{cut}"
        );
        assert!(is_blocked(server.address, "a.example"));
        let report = text(&server.verb(&["status"]));
        assert!(
            report.contains("ads:2: ")
                && report.contains("the file ends within its line: cut off?"),
            "{report}"
        );
    }
    server.replace("ads", "a.example\nco.uk\n");
    until("the whole line", || {
        is_blocked(server.address, "www.other.co.uk")
    });
}

#[test]
fn an_old_list_is_held_until_released() {
    let (server, _upstream) = server("max-age-hours = 48", FOUR_NAMES);
    replace_by_old(&server, "a.example\nb.example\nc.example\n", 49 * HOUR);
    is_held_until_released(&server, "old", "over 48 hours ago");
    assert!(!is_blocked(server.address, "d.example"));
}

#[test]
fn a_list_that_is_old_at_the_start_is_loaded_and_reported_until_released() {
    let upstream = Upstream::plain();
    let config = config(&upstream, "max-age-hours = 48", "");
    let folder = folder(&config, &[("ads", FOUR_NAMES)]);
    set_age(&folder.path().join("ads"), 49 * HOUR);
    let server = Server::start_in(folder);
    assert!(
        is_blocked(server.address, "d.example"),
        "an old list is loaded at a start"
    );
    let status = server.status();
    assert_eq!(status["lists"][0]["state"], "current");
    assert_eq!(words(&status["lists"][0]["guards"]), ["old"]);
    let alarm = status["alarms"][0].as_str().expect("an alarm");
    assert!(
        alarm.ends_with("over 48 hours ago. To accept it unchanged: tapis reload --accept ads:old"),
        "{alarm}"
    );
    until("the log line", || {
        server.log().contains("list in force is too old")
    });
    // The alarm must not make the server read the list again: the guard would then reject it.
    let output = reload(&server, &[]);
    assert!(output.status.success(), "{}", text(&output));
    let output = reload(&server, &["ads:old"]);
    assert!(output.status.success(), "{}", text(&output));
    server.assert_well();
    // The release applies to that version only.
    replace_by_old(&server, FOUR_NAMES, 50 * HOUR);
    until("the alarm", || server.status()["degraded"] == true);
}

#[test]
fn a_release_applies_to_one_guard_and_one_version_of_the_file() {
    let (server, _upstream) = server("", FOUR_NAMES);
    server.replace("ads", "/\n/\na.example\n");
    let both = "--accept ads:bad --accept ads:shrunk";
    assert!(text(&reload(&server, &[])).contains(both));
    let report = text(&reload(&server, &["ads:bad"]));
    assert!(
        report.contains("1 rule, 75 % fewer") && report.contains(both),
        "{report}"
    );
    assert!(!report.contains("lines are bad"), "{report}");
    assert!(is_blocked(server.address, "d.example"));
    let output = reload(&server, &["ads:bad", "ads:shrunk"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(!is_blocked(server.address, "d.example"));
    server.replace("ads", "/\n/\n/\nb.example\n");
    let report = text(&reload(&server, &[]));
    assert!(report.contains("3 of 4 lines are bad"), "{report}");
}

#[test]
fn a_release_without_a_guard_is_rejected_with_the_guards_that_hold_the_list() {
    let (server, _upstream) = server("", FOUR_NAMES);
    let released = |release| {
        let output = reload(&server, &[release]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        text(&output)
    };
    assert!(
        released("ads").contains("no guard holds ads now"),
        "{}",
        released("ads")
    );
    server.replace("ads", "/\n/\na.example\n");
    assert_eq!(reload(&server, &[]).status.code(), Some(1));
    assert!(
        released("ads").contains("released by ads:bad and ads:shrunk"),
        "{}",
        released("ads")
    );
    let words = "no guard is called `shrnk`, only empty, bad, shrunk, grown, old";
    assert!(
        released("ads:shrnk").contains(words),
        "{}",
        released("ads:shrnk")
    );
    assert!(
        released("a:ds:old").contains("there is no list or feed `a:ds`"),
        "{}",
        released("a:ds:old")
    );
    assert!(
        is_blocked(server.address, "d.example"),
        "no invalid release had an effect"
    );
}

#[test]
fn a_release_of_a_list_that_is_not_held_is_rejected() {
    let (server, _upstream) = server("", FOUR_NAMES);
    for guard in ["shrunk", "bad"] {
        let output = reload(&server, &[&format!("ads:{guard}")]);
        assert_eq!(output.status.code(), Some(1));
        let report = format!("no guard holds ads for `{guard}`, so there is nothing to accept");
        assert!(text(&output).contains(&report), "{}", text(&output));
    }
    assert!(reload(&server, &[]).status.success());
}

#[test]
fn bad_lines_of_a_list_that_must_be_enforced_whole_are_shown_with_a_warning() {
    for (keys, whole) in [
        ("guards = \"warn\"", true),
        ("required = true", true),
        ("", false),
    ] {
        let upstream = Upstream::plain();
        let config = config(&upstream, "", keys);
        let content = format!("{FOUR_NAMES}forbidden..example\nforbidden example\n");
        let server = Server::start(&config, &[("ads", &content)]);
        let output = server.verb(&["status"]);
        assert!(output.status.success(), "{}", text(&output));
        let report = text(&output);
        assert_eq!(
            report.contains("4 rules, WARNING: 2 bad lines"),
            whole,
            "{report}"
        );
        assert_eq!(
            report.contains("ads:5: forbidden..example: "),
            whole,
            "{report}"
        );
        assert_eq!(
            report.contains("ads:6: forbidden example: "),
            whole,
            "{report}"
        );
        assert_eq!(server.status()["lists"][0]["whole"], whole);
    }
}

#[test]
fn a_looser_limit_loads_a_list_that_the_old_one_held() {
    let (server, _upstream) = server("", FOUR_NAMES);
    server.replace("ads", "a.example\n");
    assert_eq!(reload(&server, &[]).status.code(), Some(1));
    // The new list takes a while to read, so that the old limits still apply for a moment.
    fs::write(server.path("big"), large(60_000, "last.example\n")).expect("written");
    let config = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    fs::write(server.path("tapis.toml"), config + &list("big", "")).expect("written");
    let output = change_guard(&server, "shrink-percent = 75");
    assert!(output.status.success(), "{}", text(&output));
    assert!(!is_blocked(server.address, "d.example"));
    assert!(is_blocked(server.address, "last.example"));
    server.assert_well();
}

#[test]
fn a_large_list_that_shrank_is_held_until_released() {
    let (server, _upstream) = server("", &large(60_000, FOUR_NAMES));
    server.replace("ads", &large(1, "again.example\n").repeat(60_000));
    is_held_until_released(
        &server,
        "shrunk",
        "2 rules, 100 % fewer than the 60004 in force",
    );
    assert!(!is_blocked(server.address, "d.example"));
    assert!(is_blocked(server.address, "again.example"));
}

/// Suppressed rules: the rule, a name that it would block, and the reason.
const SUPPRESSED: [(&str, &str, &str, &str); 8] = [
    (
        ".co.id",
        "bank.co.id",
        "public-suffix",
        "covers the public suffix co.id",
    ),
    (
        "*.ac.id",
        "x.ac.id",
        "public-suffix",
        "covers the public suffix ac.id",
    ),
    (
        ".net",
        "x.net",
        "top-level",
        "covers the top-level domain net",
    ),
    (
        "10.1.2.3.4",
        "10.1.2.3.4",
        "number",
        "is a number or an address",
    ),
    (
        ".isp.example",
        "www.isp.example",
        "own",
        "covers ns1.isp.example, a name of this server",
    ),
    (
        "www.bank.example",
        "www.bank.example",
        "protected",
        "covers .bank.example, which is protected",
    ),
    (
        "pop.example",
        "pop.example",
        "popular",
        "covers pop.example, which is popular",
    ),
    (
        ".far.example",
        "x.far.example",
        "popular",
        "covers www.far.example, which is popular",
    ),
];

fn suppressed_rules() -> String {
    SUPPRESSED.map(|(rule, ..)| rule).join("\n") + "\nplain.example\n"
}

fn server_with_protected_names(content: &str, more: &str) -> (Server, Upstream) {
    let upstream = Upstream::plain();
    let guard = "protect = \"protect\"\npopular = \"popular\"\npopular-first = 2";
    let config = config(&upstream, guard, more);
    let config = config.replacen("[server]\n", "[server]\nid = \"ns1.isp.example\"\n", 1);
    let popular = "1,pop.example\r\n2,www.far.example\r\n3,third.example\r\n";
    let files = [
        ("ads", content),
        ("protect", ".bank.example\n"),
        ("popular", popular),
    ];
    (Server::start(&config, &files), upstream)
}

#[test]
fn each_protected_name_suppresses_a_rule_until_it_is_released() {
    let (server, _upstream) = server_with_protected_names(&suppressed_rules(), "");
    assert!(
        is_blocked(server.address, "plain.example"),
        "the rest of the list applies"
    );
    let status = server.status();
    assert_eq!(
        status["degraded"], false,
        "a rule that is left out is no alarm"
    );
    let ads = &status["lists"][0];
    assert_eq!(
        (&ads["rules"], &ads["lines"], &ads["bad"]),
        (&1.into(), &9.into(), &Value::Array(vec![]))
    );
    let printed = text(&server.verb(&["status"]));
    assert!(
        printed.contains("list ads: 1 rule, 0 bad lines, 8 left out\n"),
        "{printed}"
    );
    for (at, (rule, name, protection, why)) in SUPPRESSED.into_iter().enumerate() {
        assert!(!is_blocked(server.address, name), "{rule}");
        let left = &ads["first_left_out"][at];
        assert_eq!(
            (&left["rule"], &left["ward"], &left["line"]),
            (&rule.into(), &protection.into(), &(at + 1).into())
        );
        let report = left["why"].as_str().expect("why");
        assert!(report.starts_with(why), "{report}");
        assert!(
            printed.contains(&format!("ads:{}: {rule}: left out, it {why}", at + 1)),
            "{printed}"
        );
        assert!(server.logged(why).contains("rule left out"));
        let asked = text(&server.verb(&["why", name]));
        assert!(
            asked.contains(&format!("{}: {rule}: it {why}", at + 1)),
            "{asked}"
        );
    }
    let count = |protection: &str| {
        let all = ads["left_out"].as_array().expect("an array").iter();
        let of = |left: &&Value| left["ward"] == protection;
        all.filter(of)
            .map(|left| left["count"].as_u64().expect("a number"))
            .sum::<u64>()
    };
    assert_eq!(
        (count("public-suffix"), count("popular"), count("own")),
        (2, 2, 1)
    );
    let guard = "protect = \"protect\"\npopular = \"popular\"\npopular-first = 2\n";
    for (rule, name, ..) in SUPPRESSED {
        let owner = rule.trim_start_matches(['*', '.']);
        let output = change_guard(&server, &format!("{guard}release = [\"{owner}\"]"));
        assert!(output.status.success(), "{}", text(&output));
        for (other, asked, ..) in SUPPRESSED {
            assert_eq!(
                is_blocked(server.address, asked),
                other == rule,
                "{owner}: {asked}"
            );
        }
        assert!(is_blocked(server.address, name), "{rule}");
    }
}

#[test]
fn a_large_list_loses_only_the_suppressed_rules() {
    let (server, _upstream) = server_with_protected_names(&large(60_000, &suppressed_rules()), "");
    assert!(is_blocked(server.address, "plain.example"));
    let status = server.status();
    assert_eq!(status["lists"][0]["rules"], 60_001);
    assert_eq!(status["lists"][0]["first_left_out"][0]["line"], 60_001);
    for (rule, name, ..) in SUPPRESSED {
        assert!(!is_blocked(server.address, name), "{rule}");
    }
    let guard = "protect = \"protect\"\npopular = \"popular\"\npopular-first = 2\n";
    let output = change_guard(
        &server,
        &format!("{guard}release = [\"co.id\", \"www.bank.example\"]"),
    );
    assert!(output.status.success(), "{}", text(&output));
    assert!(is_blocked(server.address, "bank.co.id"));
    assert!(is_blocked(server.address, "www.bank.example"));
    assert!(!is_blocked(server.address, "x.ac.id"));
    assert_eq!(server.status()["lists"][0]["rules"], 60_003);
    let output = reload(&server, &[]);
    assert!(
        text(&output).contains("no list read again"),
        "{}",
        text(&output)
    );
}

#[test]
fn a_list_with_warnings_only_is_enforced_whole() {
    for content in [suppressed_rules(), large(60_000, &suppressed_rules())] {
        let (server, _upstream) = server_with_protected_names(&content, "guards = \"warn\"");
        let status = server.status();
        let ads = &status["lists"][0];
        let rules = content.lines().count() as u64;
        assert_eq!((&ads["rules"], &ads["warned"]), (&rules.into(), &8.into()));
        assert_eq!(ads["left_out"], Value::Array(Vec::new()));
        assert_eq!(status["degraded"], false, "a warning is no alarm");
        let printed = text(&server.verb(&["status"]));
        let flagged = ", 0 bad lines, WARNING: 8 rules may be mistakes\n";
        assert!(printed.contains(flagged), "{printed}");
        for (rule, name, _, why) in SUPPRESSED {
            assert!(is_blocked(server.address, name), "{rule}");
            let report = format!("{rule}: counts, but {why}");
            assert!(printed.contains(&report), "{printed}");
        }
    }
}

#[test]
fn a_list_can_have_warnings_of_some_guards_and_lose_rules_to_others() {
    let some = "guards = [\"public-suffix\", \"popular\"]";
    // `.example` matches guards that only warn and guards that suppress. One of the latter is enough to suppress it.
    let both = ".example\n.pop.example\n";
    let (server, _upstream) = server_with_protected_names(&(suppressed_rules() + both), some);
    for (rule, name, protection, _) in SUPPRESSED {
        let counts = matches!(protection, "public-suffix" | "popular");
        assert_eq!(is_blocked(server.address, name), counts, "{rule}");
    }
    assert!(!is_blocked(server.address, "other.example"), ".example");
    let config = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    let config = config.replace("popular-first", "shrink-percent = 100\npopular-first");
    let all = config.replace(some, "guards = \"warn\"");
    fs::write(server.path("tapis.toml"), &all).expect("written");
    let output = reload(&server, &[]);
    assert!(
        text(&output).contains("read again: ads"),
        "{}",
        text(&output)
    );
    assert!(is_blocked(server.address, "other.example"));
    fs::write(server.path("tapis.toml"), config.replace(some, "")).expect("written");
    let output = reload(&server, &[]);
    assert!(
        text(&output).contains("read again: ads"),
        "{}",
        text(&output)
    );
    for (rule, name, ..) in SUPPRESSED {
        assert!(!is_blocked(server.address, name), "{rule}");
    }
}

#[test]
fn every_suppressed_rule_can_be_listed() {
    let rules = |count: usize| -> String {
        let rule = |number| format!(".top{number}\n");
        (0..count).map(rule).collect::<String>() + "plain.example\n"
    };
    let (server, _upstream) = server("", &rules(575));
    let left = |status: &Value| {
        status["lists"][0]["first_left_out"]
            .as_array()
            .map(Vec::len)
    };
    assert_eq!(left(&server.status()), Some(575));
    let printed = text(&server.verb(&["status"]));
    assert_eq!(
        printed.matches("left out, it covers").count(),
        10,
        "{printed}"
    );
    assert!(printed.contains("and 565 more left out"), "{printed}");
    // The server keeps at most a thousand; `check --all` reads the list itself.
    server.replace("ads", &rules(1200));
    until("the longer list", || left(&server.status()) == Some(1000));
    let all = text(&server.verb(&["check", "--all"]));
    assert_eq!(all.matches("left out, it covers").count(), 1200, "{all}");
    assert!(
        all.contains("ads:1200: .top1199: left out, it covers"),
        "{all}"
    );
    let some = text(&server.verb(&["check"]));
    assert!(some.contains("and 1190 more left out"), "{some}");
}

#[test]
fn a_rule_on_a_private_suffix_applies_and_is_reported() {
    let host = ".ec2-192-0-2-1.compute-1.amazonaws.com";
    let rules = format!(".duckdns.org\n{host}\n*.web.app\n.co.id\n");
    let (server, _upstream) = server_with_protected_names(&rules, "");
    for name in ["bad.duckdns.org", &host[1..], "x.web.app"] {
        assert!(is_blocked(server.address, name), "{name}");
    }
    assert!(!is_blocked(server.address, "bank.co.id"));
    let status = server.status();
    let ads = &status["lists"][0];
    assert_eq!((&ads["rules"], &ads["warned"]), (&3.into(), &2.into()));
    assert_eq!(status["degraded"], false, "a warning is no alarm");
    let warning = "ads:1: .duckdns.org: counts, but covers the public suffix duckdns.org";
    for report in [
        text(&server.verb(&["status"])),
        text(&server.verb(&["check"])),
    ] {
        assert!(report.contains(warning), "{report}");
        assert!(report.contains("ads:3: *.web.app: counts"), "{report}");
        assert!(
            !report.contains("compute-1"),
            "the rule covers only one host: {report}"
        );
    }
    let guard = "release = [\"duckdns.org\"]\npublic-suffixes = \"all\"";
    let output = change_guard(&server, guard);
    assert!(output.status.success(), "{}", text(&output));
    assert!(is_blocked(server.address, "bad.duckdns.org"), "released");
    assert!(is_blocked(server.address, &host[1..]), "never held");
    assert!(!is_blocked(server.address, "x.web.app"), "held by `all`");
}

#[test]
fn an_allow_list_that_frees_a_public_suffix_is_reported() {
    let rules = ".net.id\n.r2.dev\n*.web.app\nco.id\n.shop.example\n";
    let (server, _upstream) = server_with_protected_names(rules, "kind = \"allow\"");
    let status = server.status();
    let list = &status["lists"][0];
    assert_eq!((&list["rules"], &list["warned"]), (&5.into(), &3.into()));
    let report = text(&server.verb(&["check"]));
    for suffix in ["net.id", "r2.dev", "web.app"] {
        let why = format!("counts, but covers the public suffix {suffix}\n");
        assert!(report.contains(&why), "{report}");
    }
    assert!(report.contains("good: 1 list"), "{report}");
    let output = change_guard(&server, "release = [\"net.id\"]");
    assert!(output.status.success(), "{}", text(&output));
    until("the release", || server.status()["lists"][0]["warned"] == 2);
}

#[test]
fn an_allow_list_may_allow_a_public_suffix_until_it_is_turned_into_a_block_list() {
    let (server, _upstream) = server_with_protected_names(&suppressed_rules(), "kind = \"allow\"");
    assert_eq!(server.status()["lists"][0]["rules"], 9);
    let config = fs::read_to_string(server.path("tapis.toml")).expect("readable");
    let config = config.replace("kind = \"allow\"", "");
    fs::write(server.path("tapis.toml"), config).expect("written");
    let output = reload(&server, &[]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(server.status()["lists"][0]["rules"], 1);
    assert!(!is_blocked(server.address, "bank.co.id"));
    assert!(is_blocked(server.address, "plain.example"));
}

#[test]
fn guard_files_are_read_again_at_a_reload_and_lists_with_them() {
    let (server, _upstream) = server_with_protected_names("new.bank.example\nplain.example\n", "");
    assert!(!is_blocked(server.address, "new.bank.example"));
    fs::write(server.path("protect"), "plain.example\n").expect("written");
    let output = reload(&server, &[]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(
        text(&output).contains("read again: ads"),
        "{}",
        text(&output)
    );
    assert!(
        is_blocked(server.address, "new.bank.example"),
        "in force when it returns"
    );
    assert!(!is_blocked(server.address, "plain.example"));
    let output = reload(&server, &[]);
    assert!(
        text(&output).contains("no list read again"),
        "{}",
        text(&output)
    );
}

#[test]
fn a_bad_guard_file_is_reported_and_its_last_good_content_applies() {
    let (server, _upstream) = server_with_protected_names("www.bank.example\npop.example\n", "");
    fs::write(server.path("protect"), "plain.example\n/\n").expect("written");
    fs::remove_file(server.path("popular")).expect("removed");
    let output = reload(&server, &[]);
    let report = text(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(report.contains("protect:2: /: a URL or a path"), "{report}");
    assert!(report.contains("popular: No such file"), "{report}");
    for name in ["www.bank.example", "pop.example"] {
        assert!(!is_blocked(server.address, name), "{name}");
    }
    let status = server.status();
    assert_eq!(status["degraded"], true);
    assert_eq!(words(&status["alarms"]).len(), 2, "{status}");
    fs::write(server.path("protect"), "plain.example\n").expect("written");
    fs::write(server.path("popular"), "").expect("written");
    let output = reload(&server, &[]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(is_blocked(server.address, "www.bank.example"));
    server.assert_well();
}

#[test]
fn a_server_starts_without_the_guard_files_and_says_so() {
    let (server, _upstream) = server("protect = \"gone\"\npopular = \".\"", FOUR_NAMES);
    assert!(is_blocked(server.address, "a.example"));
    let status = server.status();
    assert_eq!(status["degraded"], true);
    let alarms = words(&status["alarms"]).join("\n");
    assert!(alarms.contains("gone: No such file"), "{alarms}");
    assert!(alarms.contains("not a regular file"), "{alarms}");
}

#[test]
fn a_restart_reads_lists_again_that_were_checked_against_other_names() {
    let upstream = Upstream::plain();
    let config = config(&upstream, "protect = \"protect\"", "") + &list("big", "");
    let config = config.replacen("[guard]", "[state]\ndir = \"state\"\n[guard]", 1);
    let files = [
        ("ads", "small.example\nother.example\n"),
        ("big", &*large(60_000, "last.example\n")),
        ("protect", "nothing.example\n"),
    ];
    let mut server = Server::start(&config, &files);
    for name in ["small.example", "last.example"] {
        assert!(is_blocked(server.address, name), "{name}");
    }
    let record = server.path("state").join("current");
    until("the record of what is in force", || record.exists());
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0), "{}", server.log());
    let empty = tempfile::tempdir().expect("a folder");
    let folder = std::mem::replace(&mut server.folder, empty);
    let protect = "small.example\nlast.example\n";
    fs::write(folder.path().join("protect"), protect).expect("written");
    let server = Server::start_in(folder);
    server.logged("kept images are in force");
    for name in ["small.example", "last.example"] {
        until("the new guard", || !is_blocked(server.address, name));
    }
    for name in ["other.example", "n59999.large.example"] {
        assert!(is_blocked(server.address, name), "{name}");
    }
}

#[test]
fn check_reports_rules_that_would_be_suppressed_and_passes() {
    let guard = "[guard]\nprotect = \"protect\"\nrelease = [\"github.io\", \"never.example\"]\n";
    let files = [
        (
            "ads",
            ".co.id\n.github.io\nwww.bank.example\nplain.example\n",
        ),
        ("protect", ".bank.example\n"),
    ];
    let folder = folder(&(guard.to_owned() + &list("ads", "")), &files);
    let check = || {
        let mut command = tapis();
        command
            .args(["check", "--config"])
            .arg(folder.path().join("tapis.toml"));
        command.output().expect("it ran")
    };
    let output = check();
    let report = text(&output);
    assert!(output.status.success(), "{report}");
    assert!(
        report.contains("ads: 2 rules, 0 skipped, 0 bad lines, 2 left out"),
        "{report}"
    );
    assert!(
        report.contains("ads:1: .co.id: left out, it covers the public suffix co.id"),
        "{report}"
    );
    assert!(
        report.contains("ads:3: www.bank.example: left out"),
        "{report}"
    );
    assert!(
        report.contains("no rule on never.example needs it"),
        "{report}"
    );
    assert!(!report.contains("no rule on github.io"), "{report}");
    fs::write(folder.path().join("protect"), ".\n").expect("written");
    let output = check();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("protect:1: .: a rule on the root"),
        "{}",
        text(&output)
    );
}

#[test]
fn a_compiled_image_lacks_suppressed_rules_and_that_is_reported() {
    let folder = folder(&list("ads", ""), &[("ads", ".co.id\nplain.example\n")]);
    let mut command = tapis();
    command
        .args(["compile", "-o"])
        .arg(folder.path().join("image"));
    let output = command
        .arg("--config")
        .arg(folder.path().join("tapis.toml"))
        .output();
    let output = output.expect("it ran");
    let report = text(&output);
    assert!(output.status.success(), "{report}");
    assert!(
        report.contains("ads: 1 rule, 0 skipped, 0 bad lines, 1 left out"),
        "{report}"
    );
    assert!(report.contains("image: 1 name in, 1 rule"), "{report}");
    let mut command = tapis();
    command
        .args(["compile", "--accept", "ads", "-o"])
        .arg(folder.path().join("image"));
    let output = command
        .arg("--config")
        .arg(folder.path().join("tapis.toml"))
        .output();
    let report = text(&output.expect("it ran"));
    assert!(
        report.contains("--accept ads names no guard: write ads:GUARD"),
        "{report}"
    );
}

const ORDER: &str = r#"
id = "wide"
legal-basis = ["an act"]
issued-at = 2026-01-01T00:00:00Z
review-at = 2999-01-01T00:00:00Z
[authority]
name = "An authority"
[reason]
en = "a reason"
[redress]
how = "write"
[[targets]]
name = "co.id"
scope = "subtree"
[[targets]]
name = "www.bank.example"
scope = "exact"
"#;

#[test]
fn an_order_gets_a_warning_and_stays_in_force() {
    let upstream = Upstream::plain();
    let guard = "protect = \"protect\"";
    let config = config(&upstream, guard, "");
    let config = config.replacen("[guard]", "[orders]\npath = \"orders\"\n[guard]", 1);
    let folder = folder(
        &config,
        &[("ads", FOUR_NAMES), ("protect", ".bank.example\n")],
    );
    fs::create_dir(folder.path().join("orders")).expect("made");
    fs::write(folder.path().join("orders/wide.toml"), ORDER).expect("written");
    let server = Server::start_in(folder);
    for name in ["any.co.id", "www.bank.example"] {
        assert!(
            is_blocked(server.address, name),
            "the authority's order stays in force: {name}"
        );
    }
    let suffix = "target .co.id covers the public suffix co.id";
    let bank = "target www.bank.example covers .bank.example, which is protected";
    let status = server.status();
    assert_eq!(status["degraded"], false);
    let warnings = words(&status["orders"]["warnings"]);
    assert_eq!(
        warnings,
        [
            format!("order wide: {suffix}"),
            format!("order wide: {bank}")
        ]
    );
    let output = server.verb(&["check"]);
    assert!(output.status.success(), "{}", text(&output));
    for report in [suffix, bank] {
        assert!(
            text(&output).contains(&format!("warning: order wide: {report}\n")),
            "{}",
            text(&output)
        );
    }
    let file = server.path("orders/wide.toml").display().to_string();
    let output = server.verb(&["order", "check", &file]);
    assert!(output.status.success(), "{}", text(&output));
    let expected = format!("warning: {suffix}\nwarning: {bank}\ngood: order wide, 2 targets\n");
    assert_eq!(text(&output), expected);
    let output = tapis()
        .args(["order", "check", "--config", SHIPPED, &file])
        .output()
        .expect("it ran");
    let expected = format!("warning: {suffix}\ngood: order wide, 2 targets\n");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        expected,
        "the built-in guard protects no bank"
    );
}

#[test]
fn a_list_with_another_file_is_compared_with_the_rules_in_force() {
    let upstream = Upstream::plain();
    let preamble = preamble(upstream.address);
    let names = |count: usize| -> String {
        let names = (0..count).map(|number| format!("n{number}.example\n"));
        names.collect()
    };
    let files = [("ads", &*names(100)), ("short", &*names(3))];
    let server = Server::start(&(preamble.clone() + &list("ads", "")), &files);
    let moved = preamble.clone() + "[[list]]\nname = \"ads\"\npath = \"short\"\n";
    // The same applies to a list that is parsed differently.
    let subtree = moved.clone() + "scope = \"subtree\"\n";
    for config in [&moved, &subtree] {
        server.replace("tapis.toml", config);
        let output = server.verb(&["reload"]);
        let report = text(&output);
        assert_eq!(output.status.code(), Some(1), "{report}");
        assert!(
            report.contains("3 rules, 97 % fewer than the 100 in force"),
            "{report}"
        );
        assert!(report.contains("--accept ads:shrunk"), "{report}");
        assert!(is_blocked(server.address, "n99.example"));
    }
    let output = server.verb(&["reload", "--accept", "ads:shrunk"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(is_blocked(server.address, "n1.example"));
    assert!(!is_blocked(server.address, "n99.example"));
}

#[test]
fn lists_whose_patterns_do_not_fit_beside_those_of_others_are_refused_alone() {
    let upstream = Upstream::plain();
    // There is room for 128 sets of patterns.
    let names: Vec<_> = (0..129).map(|number| format!("list{number}")).collect();
    let lists = names.iter();
    let lists = lists.map(|name| list(name, "kind = \"block\"\nformat = \"adblock\""));
    let config = preamble(upstream.address) + &lists.collect::<String>();
    let contents: Vec<_> = (0..129)
        .map(|number| format!("/^ads{number}x[0-9]/\n"))
        .collect();
    let contents = names.iter().zip(&contents);
    let contents: Vec<_> = contents
        .map(|(name, content)| (&**name, &**content))
        .collect();
    let server = Server::start(&config, &contents);
    let status = server.status();
    let alarms = status["alarms"].as_array().expect("an array");
    let alarm = alarms[0].as_str().expect("a text");
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    assert!(
        alarm.starts_with("list128: ") && alarm.contains("the patterns of list128"),
        "{alarm}"
    );
    assert!(is_blocked(server.address, "ads0x1.example"));
    assert!(is_blocked(server.address, "ads127x1.example"));
    assert!(!is_blocked(server.address, "ads128x1.example"));
    // The others are changed as usual, and the list comes into force when there is room.
    server.replace("list0", "||y.example^\n");
    until("the change", || is_blocked(server.address, "y.example"));
    server.replace("list128", "/^ads128y[0-9]/\n");
    until("the list", || {
        is_blocked(server.address, "ads128y1.example")
    });
    server.replace("list0", "/^ads0z[0-9]/\n");
    until("the alarm", || !server.status()["alarms"][0].is_null());
    assert!(
        is_blocked(server.address, "y.example"),
        "the last good version stays"
    );
    assert!(is_blocked(server.address, "ads128y1.example"));
}
