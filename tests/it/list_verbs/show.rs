//! Comparing the lists in force, and showing lines of them.

use serde_json::Value;

use super::change::refused;
use crate::downloads::scene::{config, upstream};
use crate::history::run;
use crate::support::client::{addresses, is_blocked, until};
use crate::support::server::{Server, folder, list, text, verb};

#[test]
fn stats_count_shared_rules_those_that_are_alone_hits_and_what_is_not_compared() {
    let upstream = upstream();
    let lists = [
        list("ads", "format = \"adblock\""),
        list("more", ""),
        list("good", "kind = \"allow\""),
    ];
    let config = config(&upstream, "", &lists.concat());
    let files = [
        (
            "ads",
            "||ads.example^\n||alone.example^\n/^track[0-9]/\n||www.ads.example^\n",
        ),
        (
            "more",
            ".ads.example\nwww.ads.example\nmore.example\nwww.alone.example\n",
        ),
        ("good", "more.example\n"),
    ];
    let server = Server::start(&config, &files);
    let stats = || {
        let output = server.verb(&["list", "stats", "--json"]);
        let stats: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        stats.as_array().expect("an array").clone()
    };
    let of = |name: &str| {
        let stats = stats().into_iter();
        let mut found = stats.filter(|list| list["list"] == name);
        found.next().unwrap_or_else(|| panic!("{name}"))
    };
    let (ads, more, good) = (of("ads"), of("more"), of("good"));
    let figures = |list: &Value| {
        [
            "rules", "compared", "shared", "alone", "patterns", "networks", "hits",
        ]
        .map(|key| list[key].as_u64())
    };
    // The rule on www.ads.example is covered by the one on ads.example in both lists.
    assert_eq!(figures(&ads), [4, 2, 1, 1, 1, 0, 0].map(Some), "{ads}");
    assert_eq!(figures(&more), [4, 3, 2, 1, 0, 0, 0].map(Some), "{more}");
    assert_eq!(figures(&good)[..3], [1, 1, 1].map(Some), "{good}");
    assert!(
        good["alone"].is_null() && good["since"].is_string(),
        "{good}"
    );
    assert!(is_blocked(server.address, "alone.example"));
    until("the hit", || of("ads")["hits"] == 1);
    let (code, table) = run(&server, &["list", "stats"]);
    assert_eq!(code, Some(0), "{table}");
    for part in [
        "ads: 1 rule is covered by others of the list; 1 rule with a pattern is not compared",
        "hits are counted since ",
    ] {
        assert!(table.contains(part), "{table}");
    }
    let (code, _) = run(
        &server,
        &["pause", "more", "--for", "5m", "--reason", "test"],
    );
    assert_eq!(code, Some(0));
    assert_eq!(of("ads")["alone"], 2, "a paused list blocks nothing");
}

#[test]
fn show_prints_a_line_with_those_around_it_what_it_became_and_whether_it_is_in_force() {
    let upstream = upstream();
    let lists = list("ads", "format = \"adblock\"");
    let file = "! Title\n||one.example^\n||two.example^$dnstype=A\n||co.uk^\nx.example##.ad\n||bad..x^\n\u{1b}[2J\n";
    let server = Server::start(&config(&upstream, "", &lists), &[("ads", file)]);
    let show = |arguments: &[&str]| {
        let (code, printed) = run(&server, &[&["list", "show", "ads"], arguments].concat());
        assert_eq!(code, Some(0), "{printed}");
        printed
    };
    let printed = show(&["--line", "3"]);
    let shown: Vec<_> = printed.lines().skip(1).collect();
    let expected = [
        "  1  ! Title",
        "  2  ||one.example^",
        "> 3  ||two.example^$dnstype=A",
        "       rule: .two.example: blocked (sinkhole), for queries of type A",
        "  4  ||co.uk^",
        "  5  x.example##.ad",
        "this file is the version in force",
    ];
    assert_eq!(shown, expected, "{printed}");
    let printed = show(&["--lines", "4-7"]);
    for part in [
        "left out by a guard: .co.uk: it covers the public suffix co.uk",
        "ignored: a rule on elements of web pages",
        "bad: ||bad..x^: ",
        "\\u{1b}[2J",
    ] {
        assert!(printed.contains(part), "{part:?} is not in: {printed}");
    }
    assert!(!printed.contains('\u{1b}'), "{printed:?}");
    let facts = show(&[]);
    for part in [
        "list ads: 2 rules",
        "kind block, action sinkhole",
        "read at ",
        "1 left out: public-suffix",
    ] {
        assert!(facts.contains(part), "{part:?} is not in: {facts}");
    }
    let (code, printed) = run(&server, &["list", "show", "ads", "--line", "8"]);
    assert_eq!(code, Some(1));
    assert!(printed.contains("has only 7 lines"), "{printed}");
    // A guard rejects a file that has lost its rules, so it differs from the version in force.
    server.replace("ads", "<html>\n");
    until("the rejection", || {
        server.status()["alarms"].to_string().contains("ads")
    });
    let printed = show(&["--line", "1"]);
    assert!(
        printed.contains("this file is not the version in force"),
        "{printed}"
    );
    assert_eq!(addresses(server.address, "one.example"), ["0.0.0.0"]);
}

#[test]
fn lines_are_shown_without_a_server_and_those_of_a_feed_are_not() {
    let feed = "[[feed]]\nzone = \"rpz.example\"\nprimaries = [\"192.0.2.1\"]\n";
    let config = format!(
        "[server]\ncontrol = \"none.sock\"\n{}{feed}",
        list("ads", "")
    );
    let place = folder(&config, &[("ads", "# a\none.example # x\n")]);
    let output = verb(place.path(), &["list", "show", "ads", "--line", "2"]);
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(0), "{printed}");
    assert!(
        printed.contains("> 2  one.example # x\n       rule: one.example: blocked"),
        "{printed}"
    );
    assert!(
        printed.contains("no server is running, so none of this is in force"),
        "{printed}"
    );
    let printed = refused(
        place.path(),
        &["list", "show", "rpz.example", "--line", "1"],
    );
    assert!(printed.contains("rpz.example is a feed"), "{printed}");
    let output = verb(place.path(), &["list", "stats"]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
}
