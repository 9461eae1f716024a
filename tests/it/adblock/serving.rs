//! Adblock lists of a server, and what the verbs show about them.

use std::fs;

use hickory_proto::rr::RecordType;
use serde_json::{Value, json};

use crate::support::client::{addresses, ask, data, is_blocked};
use crate::support::server::{Server, folder, list, preamble, text, verb};
use crate::support::upstream::{Upstream, address_of};

const KEYS: &str = "format = \"adblock\"";

const ADS: &str = "[Adblock Plus 2.0]\n! Title: ads\n||a.example^\n@@||fine.a.example^\n-tracker.\n\
                   ||rewritten.example^$dnsrewrite=192.0.2.7\n||six.example^$dnstype=AAAA\n||gone.example^\n\
                   x.example##.banner\n||y.example^$script\n||z.example^$client=1.2.3.4\n/(/\n||gone.example^$badfilter\n";

fn server() -> (Server, Upstream) {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + "[state]\ndir = \"state\"\n" + &list("ads", KEYS);
    (Server::start(&config, &[("ads", ADS)]), upstream)
}

#[test]
fn a_server_answers_as_the_rules_of_an_adblock_list_say_also_after_a_restart() {
    let (mut server, _upstream) = server();
    let check = |server: &Server| {
        let address = server.address;
        assert!(is_blocked(address, "www.a.example"));
        assert!(!is_blocked(address, "www.fine.a.example"));
        assert!(is_blocked(address, "x-tracker.example"));
        assert_eq!(addresses(address, "rewritten.example"), ["192.0.2.7"]);
        assert!(!is_blocked(address, "six.example"));
        let six = ask(address, "six.example", RecordType::AAAA);
        assert_eq!(data(&six), ["::"]);
        for name in ["gone.example", "x.example", "y.example", "z.example"] {
            assert!(!is_blocked(address, name), "{name}");
        }
    };
    check(&server);
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let server = server.again();
    check(&server);
    let list = &server.status()["lists"][0];
    assert_eq!((&list["rules"], &list["lines"]), (&json!(5), &json!(11)));
    let ignored = json!([
        {"reason": "a rule that another line takes back", "count": 1},
        {"reason": "a rule on elements of web pages", "count": 1},
        {"reason": "a rule with a modifier for browsers, or an unknown one", "count": 1},
        {"reason": "a rule for some clients, which needs a view", "count": 1},
        {"reason": "takes other rules of the list back", "count": 1},
    ]);
    assert_eq!(list["ignored"], ignored);
    assert_eq!(list["first_ignored"][1]["line"], 9);
    assert_eq!(list["first_bad"][0]["line"], 12);
    let status = text(&server.verb(&["status"]));
    assert!(
        status.contains("  1 line ignored: a rule on elements of web pages\n"),
        "{status}"
    );
}

#[test]
fn check_shows_the_ignored_lines_by_their_reasons_and_refuses_keys_without_a_meaning() {
    let folder = folder(&list("ads", KEYS), &[("ads", ADS)]);
    let report = text(&verb(folder.path(), &["check"]));
    for part in [
        "ads: 5 rules, 0 skipped, 1 bad line",
        "1 line ignored: a rule on elements of web pages, as ",
        "/ads:9: x.example##.banner\n",
        "/ads:12: /(/: not a regular expression; look-around",
    ] {
        assert!(report.contains(part), "{part}: {report}");
    }
    for key in ["scope = \"subtree\"", "comments = \"#!\""] {
        let keys = format!("{KEYS}\n{key}");
        fs::write(folder.path().join("tapis.toml"), list("ads", &keys)).expect("written");
        let report = text(&verb(folder.path(), &["check"]));
        assert!(
            report.contains("has no meaning for an adblock list"),
            "{report}"
        );
    }
}

#[test]
fn why_names_the_line_and_its_text_for_names_and_patterns() {
    let (server, _upstream) = server();
    for (name, rtype, decision, rule, line, line_text) in [
        (
            "www.a.example",
            "A",
            "blocked",
            ".a.example",
            3,
            "||a.example^",
        ),
        (
            "fine.a.example",
            "A",
            "allowed",
            ".fine.a.example",
            4,
            "@@||fine.a.example^",
        ),
        (
            "x-tracker.test",
            "A",
            "blocked",
            "/-tracker\\./",
            5,
            "-tracker.",
        ),
        (
            "six.example",
            "AAAA",
            "blocked",
            ".six.example",
            7,
            "||six.example^$dnstype=AAAA",
        ),
    ] {
        for from in [&[][..], &["--offline"]] {
            let output = server.verb(&[&["why", "--json", "--type", rtype, name], from].concat());
            let shown: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            assert_eq!(shown["decision"], decision, "{shown}");
            let first = &shown["rules"][0];
            assert_eq!(
                (
                    &first["rule"],
                    &first["line"],
                    &first["text"],
                    &first["role"]
                ),
                (
                    &json!(rule),
                    &json!(line),
                    &json!(line_text),
                    &json!("decides")
                ),
                "{from:?}"
            );
        }
    }
    let printed = text(&server.verb(&["why", "fine.a.example"]));
    assert!(printed.contains("    @@||fine.a.example^\n"), "{printed}");
    assert!(printed.contains("also .a.example"), "{printed}");
}

#[test]
fn a_list_for_browsers_is_accepted_although_most_of_its_lines_are_ignored() {
    let cosmetic = "x.example##.ad\n".repeat(60);
    let good: String = (0..40)
        .map(|number| format!("||x{number}.example^\n"))
        .collect();
    let folder = folder(&list("ads", KEYS), &[("ads", &(cosmetic + &good))]);
    let output = verb(folder.path(), &["check"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(
        text(&output).contains("60 lines ignored"),
        "{}",
        text(&output)
    );
}

#[test]
fn rules_and_patterns_that_match_protected_names_are_left_out_unless_they_allow_them() {
    let content = "||com^\n||bank.example^\n/^ban/\n@@/^bank\\./\n-ads.\n";
    let config = list("ads", KEYS) + "[guard]\nprotect = \"protect\"\n";
    let files = [("ads", content), ("protect", "bank.example\n")];
    let folder = folder(&config, &files);
    let report = text(&verb(folder.path(), &["check"]));
    for part in [
        "ads: 2 rules",
        "3 left out",
        "/ads:1: .com: left out, it covers the top-level domain com",
        "/ads:2: .bank.example: left out, it covers bank.example, which is protected",
        "/ads:3: /^ban/: left out, it covers bank.example, which is protected",
    ] {
        assert!(report.contains(part), "{part}: {report}");
    }
}

#[test]
fn a_compiled_image_has_the_rules_and_patterns_of_an_adblock_list() {
    let folder = folder(&list("ads", KEYS), &[("ads", ADS)]);
    let image = folder.path().join("image");
    let image = image.to_str().expect("text");
    let output = verb(folder.path(), &["compile", "-o", image]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("ads: 5 rules"), "{}", text(&output));
}

#[test]
fn rules_of_an_adblock_allow_list_allow_names_that_other_lists_block() {
    let upstream = Upstream::plain();
    let keys = format!("{KEYS}\nkind = \"allow\"");
    let config =
        preamble(upstream.address) + &list("ads", "scope = \"subtree\"") + &list("ok", &keys);
    let files = [
        ("ads", "a.example\n"),
        (
            "ok",
            "||fine.a.example^\n@@|good.a.example^\n-ok.\n||no.a.example^$dnsrewrite=192.0.2.7\n",
        ),
    ];
    let server = Server::start(&config, &files);
    for (name, blocked) in [
        ("a.example", true),
        ("x.fine.a.example", false),
        ("good.a.example", false),
        ("x.good.a.example", true),
        ("x-ok.a.example", false),
        ("no.a.example", true),
    ] {
        assert_eq!(is_blocked(server.address, name), blocked, "{name}");
    }
}

#[test]
fn answers_with_an_address_that_a_list_blocks_are_blocked() {
    let upstream = Upstream::start(|asked| {
        let name = asked.message.queries[0].name().to_lowercase().to_string();
        let last = if name.starts_with("bad") { 66 } else { 1 };
        Some(address_of(asked, [192, 0, 2, last]))
    });
    let rules = "||192.0.2.66^\n@@||badly-named.example^\n||192.0.2.67^$dnsrewrite=192.0.2.1\n";
    let config = preamble(upstream.address) + &list("ads", KEYS);
    let server = Server::start(&config, &[("ads", rules)]);
    assert!(is_blocked(server.address, "bad.example"));
    for name in ["good.example", "badly-named.example"] {
        assert!(!is_blocked(server.address, name), "{name}");
    }
    let list = &server.status()["lists"][0];
    assert_eq!((&list["rules"], &list["bad"]), (&json!(2), &json!([])));
    let ignored = json!([
        {"reason": "a rule with `$dnsrewrite` for an address, and only names can be rewritten", "count": 1},
    ]);
    assert_eq!(list["ignored"], ignored);
    server.assert_well();
}
