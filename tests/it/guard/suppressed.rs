//! Rules that cover protected names are suppressed, or reported.

use std::fs;

use serde_json::Value;

use super::{change_guard, config, large, reload, server};
use crate::support::client::{is_blocked, until};
use crate::support::server::{Server, text};
use crate::support::upstream::Upstream;

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

pub(super) fn server_with_protected_names(content: &str, more: &str) -> (Server, Upstream) {
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
