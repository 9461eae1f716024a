//! Lists in formats of other programs: the error names the format and the remedy.

use std::fs;

use crate::support::client::is_blocked;
use crate::support::server::{Server, folder, list, preamble, text, verb};
use crate::support::upstream::Upstream;

/// The output of `check` for a list with this content, and its exit code.
fn check(content: &str, keys: &str) -> (String, Option<i32>) {
    let folder = folder(&list("ads", keys), &[("ads", content)]);
    let output = verb(folder.path(), &["check"]);
    (text(&output), output.status.code())
}

const ADBLOCK: &str = "[Adblock Plus 2.0]\n! Title: ads\n! Expires: 1 day\n||a.example^\n\
                       ||b.example^$third-party\n@@||c.example^\nexample.com##.banner\n";

#[test]
fn a_list_in_another_format_is_recognised_and_accepting_it_is_not_suggested() {
    for (content, recognised) in [
        (ADBLOCK, "an adblock filter list"),
        (
            "address=/a.example/\nserver=/b.example/\nlocal=/c.example/\naddress=/d.example/0.0.0.0\n",
            "a configuration of dnsmasq",
        ),
        (
            "server:\n  local-zone: \"a.example.\" always_nxdomain\n  local-zone: \"b.example\" redirect\n  \
             local-data: \"b.example A 192.0.2.1\"\n",
            "a configuration of Unbound",
        ),
        (
            "zone \"a.example\" { type master; file \"null\"; };\nzone \"b.example\" {type master;};\n",
            "a configuration of BIND",
        ),
        (
            "$TTL 300\n@ IN SOA localhost. root.localhost. (1 2 3 4 5)\n IN NS localhost.\n\
             a.example CNAME .\n*.a.example 300 IN CNAME .\nb.example A 192.0.2.1\n\
             32.1.2.0.192.rpz-ip CNAME .\n",
            "a zone",
        ),
        (
            "^ads?[0-9]*\\.\n(^|\\.)tracker\\.example$\n/banner[0-9]+/\n^(.+[_.-])?adse?rv(er?|ice)?s?[0-9]*[_.-]\n",
            "regular expressions",
        ),
        (
            "rank,domain,category\n1,a.example,ads\n2,b.example,\"ads, more\"\n3,c.example,ads\n",
            "a table",
        ),
        ("domain;category\na.example;ads\nb.example;ads\n", "a table"),
        (
            "\n<!DOCTYPE html>\n<html>\n<head>\n<title>Sign in</title>\nbody { margin: 0; }\n</head>\n</html>\n",
            "a web page",
        ),
        (
            "{\n  \"domains\": [\n    \"a.example\",\n    \"b.example\"\n  ]\n}\n",
            "JSON",
        ),
        (
            "https://a.example/x\nhttp://b.example/y?z=1\nhttps://c.example:8443/\n",
            "a list of URLs",
        ),
        (
            "192.0.2.1\n192.0.2.0/24\n2001:db8::1\n",
            "a list of IP addresses",
        ),
    ] {
        for keys in ["format = \"domains\"", "format = \"hosts\""] {
            let (report, code) = check(content, keys);
            assert_eq!(code, Some(1), "{report}");
            assert!(
                report.contains(recognised),
                "{keys}, {recognised}: {report}"
            );
            assert!(!report.contains("--accept"), "{report}");
        }
    }
}

#[test]
fn a_list_in_the_other_supported_format_is_reported_with_the_format_to_set() {
    for (content, given, remedy) in [
        (
            "0.0.0.0 a.example\n:: b.example c.example\n",
            "",
            "format = \"hosts\"",
        ),
        (
            "a.example\n*.b.example\n",
            "format = \"hosts\"",
            "format = \"domains\"",
        ),
    ] {
        let (report, _) = check(content, given);
        assert!(report.contains(&format!("set {remedy}")), "{report}");
        assert!(!report.contains("--accept"), "{report}");
    }
}

#[test]
fn a_bad_list_in_no_recognised_format_can_still_be_accepted() {
    let (report, _) = check("a..b\nc..d\ne.example\n", "");
    assert!(
        report.contains("To accept it unchanged: tapis reload --accept ads:bad"),
        "{report}"
    );
    let (report, _) = check("a..b\nc..d\n0.0.0.0 e.example\n", "format = \"hosts\"");
    assert!(
        report.contains("--accept ads:bad") && !report.contains("format ="),
        "no names: {report}"
    );
}

#[test]
fn a_server_keeps_the_last_good_state_and_names_the_format_everywhere() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + &list("ads", "");
    let server = Server::start(&config, &[("ads", "a.example\n")]);
    fs::write(server.path("ads"), ADBLOCK).expect("written");
    let output = server.verb(&["reload"]);
    assert_eq!(output.status.code(), Some(1));
    let image = server.path("image");
    let image = image.to_str().expect("text");
    for report in [
        text(&output),
        text(&server.verb(&["status"])),
        server.logged("list rejected"),
        text(&server.verb(&["compile", "-o", image])),
    ] {
        assert!(
            report.contains("an adblock filter list") && !report.contains("--accept"),
            "{report}"
        );
    }
    assert!(is_blocked(server.address, "a.example"));
    // An operator can still accept the good lines.
    fs::write(
        server.path("ads"),
        "||b.example^\n||c.example^\n||d.example^\na.example\n",
    )
    .expect("written");
    let output = server.verb(&["reload", "--accept", "ads:bad"]);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn a_bad_line_is_reported_with_its_syntax() {
    for (line, syntax) in [
        ("||ads.example^", "adblock"),
        ("@@||ads.example^$important", "adblock"),
        ("ads.example##.banner", "adblock"),
        ("! a comment", "`!`"),
        ("; a comment", "`;`"),
        ("// a comment", "`//`"),
        ("ads.example:8080", "port"),
        ("1,ads.example", "a table"),
        ("\"ads.example\",\"malware\"", "a table"),
        ("address=/ads.example/", "dnsmasq"),
        ("local-zone: \"ads.example\" static", "Unbound"),
        ("ads.example. 3600 IN CNAME .", "zone"),
        ("^ads\\.", "regular expression"),
        ("<p>ads.example</p>", "HTML"),
    ] {
        // With four good lines beside it, the list is loaded.
        let content = format!("a.example\nb.example\n{line}\nc.example\nd.example\n");
        let (report, code) = check(&content, "");
        assert_eq!(code, Some(1), "{report}");
        let (_, found) = report.split_once("/ads:3: ").expect("the line");
        assert!(found.contains(syntax), "{line}: {report}");
    }
}

#[test]
fn comments_may_begin_with_other_characters() {
    let content = "! Title\n!\na.example\n  ; note\n# more\nb.example # why\n";
    let (report, code) = check(content, "");
    assert_eq!(code, Some(1), "{report}");
    assert!(report.contains("comments = \"#!\""), "{report}");
    let (report, code) = check(content, "comments = \"#!;\"");
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains("ads: 2 rules"), "{report}");
    let hosts = "!0.0.0.0 a.example\n0.0.0.0 b.example #!\n:: c.example\n";
    let (report, code) = check(hosts, "format = \"hosts\"\ncomments = \"!\"");
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains("ads: 2 rules"), "{report}");
}

#[test]
fn a_character_that_can_begin_a_rule_begins_no_comment() {
    for comments in [".", "#*", "a", "9", "\\\\", ":", "#é", "# ", "", "_", "-"] {
        let (report, code) = check("a.example\n", &format!("comments = \"{comments}\""));
        assert_eq!(code, Some(1), "{report}");
        assert!(report.contains("tapis.toml:4: comments "), "{report}");
    }
}

#[test]
fn other_comment_characters_are_loaded_while_serving() {
    let upstream = Upstream::plain();
    let before = preamble(upstream.address);
    let config = |keys: &str| before.clone() + "[state]\ndir = \"state\"\n" + &list("ads", keys);
    let mut server = Server::start(
        &config(""),
        &[("ads", "%a.example\nb.example\nc.example\n")],
    );
    assert_eq!(server.status()["lists"][0]["bad"][0]["count"], 1);
    fs::write(server.path("tapis.toml"), config("comments = \"#%\"")).expect("written");
    let output = server.verb(&["reload"]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(server.status()["lists"][0]["bad"], serde_json::json!([]));
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let server = server.again();
    let list = &server.status()["lists"][0];
    assert_eq!(
        (&list["bad"], &list["rules"]),
        (&serde_json::json!([]), &2.into())
    );
}

#[test]
fn the_remedy_for_a_list_in_another_format_is_one_sentence_that_can_be_followed() {
    let comments_first = "! Title: ads\n".repeat(9) + ADBLOCK;
    // In some filter lists, most rules contain no name and have no recognisable format.
    let generic = "! Title: ads\n||a.example^\n".to_owned() + &"&ad_banner=\n".repeat(20);
    let zone = "; an RPZ\n".repeat(9) + "$TTL 300\na.example CNAME .\n";
    let bind = "// zones\n".repeat(9) + "zone \"a.example\" { type master; };\n";
    for (content, recognised) in [
        (ADBLOCK, "an adblock filter list: set format = \"adblock\""),
        (
            &*comments_first,
            "an adblock filter list: set format = \"adblock\"",
        ),
        (
            &*generic,
            "an adblock filter list: set format = \"adblock\"",
        ),
        (
            &*zone,
            "a zone: if it is a response policy zone (RPZ), set format = \"rpz\"",
        ),
        (&*bind, "a configuration of BIND, which is not supported"),
        (
            "address=/a.example/\n",
            "a configuration of dnsmasq: set format = \"dnsmasq\"",
        ),
        (
            "local-zone: \"a.example.\" always_nxdomain\n",
            "a configuration of Unbound: set format = \"unbound\"",
        ),
        (
            "^ads?[0-9]*\\.\n",
            "a list of regular expressions, which is not supported",
        ),
        (
            "1,a.example,ads\n",
            "a table: set format = \"csv\", and `column` to the title or the number",
        ),
        ("<html>\n", "a web page instead of a list"),
        (
            "\"a.example\",\n",
            "JSON: set format = \"json\", and `column` to the key",
        ),
    ] {
        for keys in ["format = \"domains\"", "format = \"hosts\""] {
            let (report, _) = check(content, keys);
            let (reason, remedy) = report.split_once(". The file is ").expect("a remedy");
            assert!(remedy.starts_with(recognised), "{report}");
            // The message has no remedy for the first line: it would not help, as all lines have the wrong format.
            assert!(reason.ends_with("the first in line 1"), "{report}");
            assert!(
                !report.contains("comments") && !report.contains("?."),
                "{report}"
            );
        }
    }
}

#[test]
fn following_the_remedy_for_the_format_or_the_comments_loads_the_list() {
    for (content, given, remedy) in [
        ("0.0.0.0 a.example\n", "", "format = \"hosts\""),
        ("a.example\n", "format = \"hosts\"", "format = \"domains\""),
        (".a.example\n", "format = \"hosts\"", "format = \"domains\""),
        (
            "address=/a.example/#\n",
            "format = \"hosts\"",
            "format = \"dnsmasq\"",
        ),
        (
            "local-zone: \"a.example\" static\n",
            "",
            "format = \"unbound\"",
        ),
        ("[\n\"a.example\"\n]\n", "", "format = \"json\""),
        ("! a\n! b\na.example\n", "", "comments = \"#!\""),
        (
            "; a\n; b\n0.0.0.0 a.example\n",
            "format = \"hosts\"",
            "comments = \"#;\"",
        ),
    ] {
        let (report, code) = check(content, given);
        assert_eq!(code, Some(1), "{report}");
        assert!(report.contains(&format!("set {remedy}")), "{report}");
        let kept = if remedy.starts_with("format") {
            ""
        } else {
            given
        };
        let (report, code) = check(content, &format!("{kept}\n{remedy}"));
        assert_eq!(code, Some(0), "{report}");
        assert!(report.contains("ads: 1 rule,"), "{report}");
    }
}

#[test]
fn a_rejected_list_is_logged_with_its_reason_and_without_a_count() {
    let upstream = Upstream::plain();
    let large = |line: &str| line.repeat((1 << 20) / line.len() + 1);
    let config = preamble(upstream.address) + &list("ads", "") + &list("small", "");
    let files = [("ads", &*large("||a.example^\n")), ("small", ADBLOCK)];
    let server = Server::start(&config, &files);
    for name in ["ads", "small"] {
        server.logged(&format!("list rejected list=\"{name}\""));
    }
    let log = server.log();
    assert!(log.contains("an adblock filter list"), "{log}");
    assert!(!log.contains("rules=0"), "{log}");
    let status = text(&server.verb(&["status"]));
    let line = "list ads: MISSING, none of its rules is in force\n";
    assert!(status.contains(line), "{status}");
    server.replace("ads", &large("a.example\n"));
    // The small one is rejected again.
    assert_eq!(server.verb(&["reload"]).status.code(), Some(1));
    assert!(is_blocked(server.address, "a.example"));
    let log = server.logged(" bytes=");
    assert!(!log.contains("octets="), "{log}");
}
