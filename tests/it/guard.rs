//! Guard rails: each one works, is reported in all places, and is released by its name only.

mod files;
mod suppressed;

use std::fs::{self, File};
use std::process::Output;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::client::{is_blocked, until};
use crate::support::server::{Server, folder, list, preamble, text};
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
