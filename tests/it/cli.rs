//! Verbs that need no server.

use std::fs;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::server::{self, SHIPPED, Server, folder, list, preamble, tapis, text};
use crate::support::upstream::Upstream;

fn verb(folder: &TempDir, arguments: &[&str]) -> Output {
    server::verb(folder.path(), arguments)
}

#[test]
fn check_reports_ten_mistakes_each_with_its_line() {
    let config = "\
[server]
listen = [\"127.0.0.1\"]
workers = \"4\"
allow = [\"192.0.2.1/24\"]
[upstream]
servrs = [\"192.0.2.53\"]
timeout-ms = 5
[cache]
size-mib = 0
[block]
action = \"nxdomian\"
ttl-secs = 0
[[list]]
name = \"Ads!\"
path = \"ads\"
kind = \"deny\"
";
    let output = verb(&folder(config, &[]), &["check"]);
    assert_eq!(output.status.code(), Some(1));
    let report = text(&output);
    let lines: Vec<u32> = report
        .lines()
        .map(|line| {
            let (_, rest) = line.split_once("tapis.toml:").expect("a place");
            rest.split(':')
                .next()
                .expect("a line")
                .parse()
                .expect("a number")
        })
        .collect();
    assert_eq!(lines, [2, 3, 4, 6, 7, 9, 11, 12, 14, 16], "{report}");
}

#[test]
fn check_looks_at_the_lists_of_a_faulty_configuration_too() {
    let config = "[server]\nworkers = \"4\"\n".to_owned()
        + &list("gone", "")
        + &list("odd", "")
        + &list("unclear", "format = \"what\"");
    let files = [("odd", "b..example\na.example\n"), ("unclear", "/\n")];
    let output = verb(&folder(&config, &files), &["check"]);
    assert_eq!(output.status.code(), Some(1));
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(
        report.contains("tapis.toml:2: ")
            && report.contains("/gone: ")
            && report.contains("/odd:1: "),
        "{report}"
    );
    assert!(
        !report.contains("unclear: "),
        "its lines mean nothing yet: {report}"
    );
    assert!(output.stderr.is_empty(), "all of it can be piped");
}

#[test]
fn check_reports_lists_that_would_be_rejected_and_bad_lines() {
    let config = list("gone", "") + &list("odd", "");
    let folder = folder(&config, &[("odd", "a.example\nb..example\nc.example\n")]);
    let output = verb(&folder, &["check"]);
    assert_eq!(output.status.code(), Some(1));
    let report = text(&output);
    assert!(
        report.contains("/gone: ") && report.contains("/odd:2: b..example"),
        "{report}"
    );

    fs::write(folder.path().join("gone"), "d.example\n").expect("written");
    let strict = verb(&folder, &["check"]);
    assert_eq!(strict.status.code(), Some(1), "a bad line is a problem");
    let lenient = verb(&folder, &["check", "--allow-bad-lines", "--files-only"]);
    assert!(lenient.status.success(), "{}", text(&lenient));
}

#[test]
fn check_reports_settings_without_effect_and_circular_ones() {
    let config = "[server]\nlisten = [\"127.0.0.1:5399\"]\n[upstream]\nservers = [\"127.0.0.1:5399\"]\n\
                  [special-use]\nforward = [\"home.arpa\", \"example.com\"]\n";
    let output = verb(&folder(config, &[]), &["check"]);
    assert_eq!(output.status.code(), Some(1));
    let report = text(&output);
    assert!(report.contains("is this server itself"), "{report}");
    assert!(
        report.contains("`example.com` has no effect") && !report.contains("home.arpa` is"),
        "{report}"
    );
}

#[test]
fn the_built_in_configuration_passes_check() {
    if !server::may_be_built_in() {
        return;
    }
    let built_in = tapis().args(["check", "--files-only"]).output();
    let built_in = built_in.expect("it ran");
    assert!(built_in.status.success(), "{}", text(&built_in));
}

#[test]
fn why_names_the_deciding_rule_and_all_others_with_their_lines() {
    let config = "[guard]\nrelease = [\"example\"]\n".to_owned()
        + &list("ads", "action = \"refused\"")
        + &list("good", "kind = \"allow\"");
    let files = [
        ("ads", "# ads\n.example\nwww.shop.example\n"),
        ("good", "\n\n*.shop.example\n"),
    ];
    let folder = folder(&config, &files);
    let output = verb(&folder, &["why", "WWW.shop.example", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&report["decision"], &report["answer"]),
        (&"allowed".into(), &Value::Null)
    );
    let rule = |n: usize| {
        let rule = &report["rules"][n];
        let text = |key: &str| rule[key].as_str().unwrap_or_default().to_owned();
        (text("source"), text("rule"), rule["line"].as_u64())
    };
    assert_eq!(
        rule(0),
        ("good".to_owned(), "*.shop.example".to_owned(), Some(3))
    );
    assert_eq!(
        rule(1),
        ("ads".to_owned(), "www.shop.example".to_owned(), Some(3))
    );
    assert_eq!(rule(2), ("ads".to_owned(), ".example".to_owned(), Some(2)));

    let printed = text(&verb(&folder, &["why", "other.example"]));
    assert!(
        printed.contains("other.example: blocked by list ads"),
        "{printed}"
    );
    assert!(
        printed.contains("REFUSED") && printed.contains("ads:2)"),
        "{printed}"
    );
}

#[test]
fn why_answers_for_types_clients_and_local_names() {
    let folder = folder(&list("ads", ""), &[("ads", "bücher.example\n")]);
    let decision = |arguments: &[&str]| {
        let output = verb(&folder, &[&["why", "--json"], arguments].concat());
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let records = report["answer"]["records"].as_array().map_or(0, Vec::len);
        (
            report["decision"].as_str().expect("a word").to_owned(),
            records,
        )
    };
    let is = |word: &str, records| (word.to_owned(), records);
    assert_eq!(decision(&["BÜCHER.example"]), is("blocked", 1));
    assert_eq!(
        decision(&["bücher.example", "--type", "HTTPS"]),
        is("blocked", 0)
    );
    assert_eq!(
        decision(&["bücher.example", "--client", "192.0.2.1"]),
        is("refused", 0)
    );
    assert_eq!(decision(&["x.localhost"]), is("local", 1));
    assert_eq!(decision(&["free.example"]), is("upstream", 0));
    let bad = verb(&folder, &["why", "a..b"]);
    assert_eq!(bad.status.code(), Some(2), "{}", text(&bad));
}

#[test]
fn a_verb_that_needs_a_server_says_where_it_looked() {
    let folder = folder("[server]\ncontrol = \"nobody.sock\"\n", &[]);
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["reload"],
        &["rollback", "1"],
        &["rollback", "--release"],
    ] {
        let output = verb(&folder, arguments);
        assert_eq!(output.status.code(), Some(4), "{arguments:?}");
        assert!(text(&output).contains("nobody.sock"), "{}", text(&output));
        let help = tapis().args([arguments[0], "--help"]).output();
        let help = text(&help.expect("it ran"));
        let help: Vec<_> = help.split_whitespace().collect();
        assert!(help.join(" ").contains("4 when no server could be asked"));
    }
}

/// Runs a verb that must fail without waiting.
fn fails_at_once(arguments: &[&str]) -> String {
    let output = tapis().args(arguments).output().expect("it ran");
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    text(&output)
}

#[test]
fn devices_and_fifos_are_read_by_no_verb() {
    let folder = folder("", &[]);
    let fifo = folder.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("mkfifo ran").success());
    let fifo = fifo.to_str().expect("text");
    for file in ["/dev/zero", fifo] {
        for arguments in [
            &["order", "check", "--config", SHIPPED, file][..],
            &["check", "--config", file],
            &["status", "--config", file],
            &["journal", "show", "--file", file],
            &["journal", "verify", "--file", file],
            &["journal", "export", "--file", file],
            &["image", file],
        ] {
            let report = fails_at_once(arguments);
            assert!(
                report.contains(file) && report.contains("regular file"),
                "{arguments:?}: {report}"
            );
        }
        let config = list("odd", "").replace("path = \"odd\"", &format!("path = {file:?}"));
        fs::write(folder.path().join("tapis.toml"), config).expect("written");
        let report = text(&verb(&folder, &["check"]));
        assert!(report.contains("not a regular file"), "{report}");
        let output = verb(&folder, &["why", "a.example"]);
        assert!(text(&output).contains("a.example"), "{}", text(&output));
    }
}

#[test]
fn check_limits_the_size_of_an_order_file_as_the_server_does() {
    let folder = folder("", &[("large.toml", &" ".repeat((16 << 20) + 1))]);
    let large = folder.path().join("large.toml");
    let large = large.to_str().expect("text");
    let report = fails_at_once(&["order", "check", "--config", SHIPPED, large]);
    assert!(report.contains("large.toml: is over 16 MiB"), "{report}");
}

/// Runs a verb with wrong arguments; returns the usage error.
fn usage_error(arguments: &[&str]) -> String {
    let output = tapis().args(arguments).output().expect("it ran");
    assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    text(&output)
}

#[test]
fn verbs_of_other_programs_are_answered_with_the_equivalent() {
    for (verb_name, way) in [
        ("unblock", "[[exception]]"),
        ("allow", "[[exception]]"),
        ("block", "tapis order new"),
        ("add", "tapis order new"),
        ("lift", "tapis order lift"),
        ("remove", "tapis order lift"),
        ("delete", "tapis order lift"),
        ("stop", "systemctl"),
        ("restart", "tapis reload"),
    ] {
        let report = usage_error(&[verb_name, "ads.example"]);
        assert!(report.contains(way) && report.contains("tip: "), "{report}");
        assert!(!report.contains("similar"), "{verb_name}: {report}");
    }
    let report = usage_error(&["order", "remove", "x"]);
    assert!(report.contains("tapis order lift"), "{report}");
    // A typing error still gets a suggestion.
    let report = usage_error(&["relaod"]);
    assert!(report.contains("'reload'"), "{report}");
}

#[test]
fn a_configuration_without_its_option_is_answered_with_the_option() {
    let folder = folder("", &[("server.conf", "")]);
    let named = folder.path().join("server.conf");
    let named = named.to_str().expect("text");
    for verb_name in ["check", "serve", "status", "reload", "compile"] {
        for file in ["gone/tapis.toml", named] {
            let report = usage_error(&[verb_name, file]);
            let tip = format!("tapis {verb_name} --config {file}");
            assert!(report.contains(&tip), "{report}");
        }
    }
    let report = usage_error(&["journal", "show", "t.toml"]);
    assert!(
        report.contains("tapis journal show --config t.toml"),
        "{report}"
    );
    let report = usage_error(&["check", "ads.example"]);
    assert!(!report.contains("--config ads"), "{report}");
}

#[test]
fn a_date_without_a_time_is_its_first_instant_in_utc() {
    let order = include_str!("../../blocklists/orders/2017-07-14-telegram-web.toml");
    let lifted = |line: &&str| line.starts_with("lifted-at") || line.starts_with("lift-reason");
    let lines: Vec<_> = order.lines().filter(|line| !lifted(line)).collect();
    let order = lines.join(
        "
",
    ) + "
";
    let config = "[server]\ncontrol = \"control.sock\"\n[orders]\npath = \"orders\"\n";
    let folder = folder(config, &[]);
    let path = folder.path().join("orders/x.toml");
    fs::create_dir(folder.path().join("orders")).expect("made");
    fs::write(&path, order).expect("written");
    let why = |at: &str| {
        let output = verb(&folder, &["why", "web.telegram.org", "--at", at]);
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        (report, output.status.code())
    };
    for day in ["2017-07-13", "2017-07-15"] {
        let (report, code) = why(day);
        assert!(code != Some(2) && !report.is_empty(), "{report}");
        assert_eq!((report, code), why(&format!("{day}T00:00:00Z")));
    }
    let output = verb(&folder, &["order", "list", "--at", "2017-07-14"]);
    assert!(output.status.success(), "{}", text(&output));
    let id = "id-2017-07-14-telegram";
    let lift = ["order", "lift", id, "--reason", "x", "--at", "2017-08-01"];
    let output = verb(&folder, &lift);
    assert!(output.status.success(), "{}", text(&output));
    let record = fs::read_to_string(&path).expect("readable");
    assert!(record.contains("2017-08-01T00:00:00Z"), "{record}");
    let empty = folder.path().join("empty");
    fs::write(&empty, "").expect("written");
    let empty = empty.to_str().expect("text");
    for option in ["--since", "--until"] {
        let output = verb(
            &folder,
            &["journal", "show", "--file", empty, option, "2026-11-26"],
        );
        assert!(output.status.success(), "{}", text(&output));
    }
    for verb_name in [
        &["why", "--help"][..],
        &["journal", "show", "--help"],
        &["order", "list", "--help"],
        &["order", "lift", "--help"],
        &["order", "suspend", "--help"],
    ] {
        let output = tapis().args(verb_name).output().expect("it ran");
        let help = text(&output);
        let help: Vec<_> = help.split_whitespace().collect();
        assert!(help.join(" ").contains("00:00:00 UTC"), "{verb_name:?}");
    }
}

#[test]
fn an_invalid_time_is_answered_with_the_accepted_forms() {
    for wrong in [
        "yesterday",
        "2026-11-26T10:00:00",
        "2026-11-26 10:00",
        "26.11.2026",
    ] {
        for arguments in [
            &["why", "a.example", "--at", wrong][..],
            &["journal", "show", "--since", wrong],
            &["journal", "export", "--until", wrong],
            &["order", "list", "--at", wrong],
            &["order", "suspend", "x", "--reason", "x", "--until", wrong],
        ] {
            let report = usage_error(arguments);
            let forms = "2017-07-14T11:30:00+07:00, or a date, as in 2017-07-14";
            assert!(report.contains(forms), "{report}");
        }
    }
}

#[test]
fn check_beside_a_server_names_the_skipped_checks_and_the_reason() {
    let server = Server::start(&preamble(Upstream::plain().address), &[]);
    let report = text(&server.verb(&["check"]));
    let process = server.id();
    let note = format!("note: a server runs (process {process}) and uses ");
    assert!(
        report.contains(&note) && report.contains("not checked"),
        "{report}"
    );
    assert!(report.contains(&server.address.to_string()), "{report}");
}
