//! Files of protected names, and what verbs without a server report of them.

use std::fs;

use super::suppressed::server_with_protected_names;
use super::{FOUR_NAMES, config, large, reload, server, words};
use crate::support::client::{is_blocked, until};
use crate::support::server::{SHIPPED, Server, folder, list, tapis, text};
use crate::support::upstream::Upstream;

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
