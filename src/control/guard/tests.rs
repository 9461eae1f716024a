//! Rules with patterns and conditions, and files that end within a line.

use std::path::Path;

use crate::config::Format;
use crate::config::guard::{Protections, PublicSuffixes};
use crate::control::guard::protected::{
    Guarded, ProtectedList, ProtectedName, ProtectedNames, Protection,
};
use crate::control::guard::reading::read_list;
use crate::control::list_file::parse::{Notation, ParsedRule, ParsedTrigger};
use crate::control::list_file::suppressed::SuppressedRules;
use crate::policy::rule::{Kind, Scope};

/// A list as it was read: the lines of the rules that apply, and what the guards say of the others.
struct Read {
    lines: Vec<u32>,
    suppressed: SuppressedRules,
}

impl Read {
    /// The line, the rule and the reason of each suppressed rule.
    fn left_out(&self) -> Vec<(u32, String)> {
        let first = self.suppressed.first.iter();
        first
            .map(|left| (left.line, format!("{} {}", left.rule, left.why)))
            .collect()
    }
}

struct Guards {
    names: ProtectedNames,
    list: Guarded,
    format: Format,
}

impl Guards {
    fn new(protected: &[(Protection, &str)], release: &[&str]) -> Self {
        let protected = protected.iter().map(|(protection, text)| {
            let (name, scope) = crate::names::typed::one(text).expect("a name");
            ProtectedName {
                protection: *protection,
                scope: scope.unwrap_or(Scope::Exact),
                name: name.to_string(),
            }
        });
        Self {
            names: ProtectedNames::new(ProtectedList {
                names: protected.collect(),
                suffixes: PublicSuffixes::Icann,
                release: release.iter().map(|name| (*name).to_owned()).collect(),
            }),
            list: Kind::Block.into(),
            format: Format::Adblock,
        }
    }

    fn read(&self, text: &str) -> Read {
        let notation = Notation {
            format: self.format,
            column: Some("n".into()),
            ..Notation::default()
        };
        let mut lines = Vec::new();
        let rule = |rule: ParsedRule<'_>| {
            assert!(!matches!(rule.trigger, ParsedTrigger::Network(_)));
            lines.push(rule.line);
        };
        let guard = Some((&self.names, self.list));
        let reading = read_list(
            Path::new(""),
            Some(text),
            (notation, None),
            guard,
            rule,
            |_, _| {},
        );
        let mut tally = reading.expect("a text is read").tally;
        assert_eq!(tally.bad, [], "{text}");
        lines.sort_unstable();
        tally.guarded.first.sort_by_key(|left| left.line);
        Read {
            lines,
            suppressed: tally.guarded,
        }
    }
}

#[test]
fn patterns_that_match_all_names_below_a_public_suffix_are_suppressed() {
    let guards = Guards::new(&[], &[]);
    for (line, why) in [
        ("com^", "covers the top-level domain com"),
        ("||c^*o", "covers the top-level domain com"),
        ("||com", "covers the top-level domain com"),
        (r"/\.com$/", "covers the top-level domain com"),
        ("/e/", "covers the top-level domain net"),
        (r"/^[a-z]+\.zip$|\.id$/", "covers the top-level domain id"),
        (
            r"/^[^.]+\.[^.]+\.co\.id$/",
            "covers the public suffix co.id",
        ),
        (r"/\.(go|or)\.kr$/", "covers the public suffix or.kr"),
    ] {
        let line = line.replace("||c^*o", "||c*o");
        let read = guards.read(&format!("{line}\n"));
        assert_eq!(read.lines, [0; 0], "{line}");
        let left_out = read.left_out();
        assert!(left_out[0].1.ends_with(why), "{line}: {left_out:?}");
    }
    for line in [
        "||ads.",
        "-ads.",
        "ads*.com^",
        r"/^ad[sx]?[0-9]*\./",
        r"/^[0-9a-f]{32}\.com$/",
        r"/^ad([sxv]?[0-9]*|system)[_.-]([^.]+\.){1,}|[_.-]ad([sxv]?[0-9]*|system)[_.-]/",
        r"/^(.+[_.-])?adse?rv(er?|ice)?s?[0-9]*[_.-]/",
        r"/^(.+[_.-])?telemetry[_.-]/",
        r"/^stat(s|istics)?[0-9]*[_.-]/",
        "||cdn.us*.example.com^",
        "@@||example.c",
    ] {
        let read = guards.read(&format!("{line}\n"));
        assert_eq!(read.lines, [1], "{line}: {:?}", read.left_out());
        assert_eq!(read.suppressed, SuppressedRules::default(), "{line}");
    }
}

#[test]
fn patterns_on_a_public_suffix_apply_if_it_is_released_or_the_guard_only_warns() {
    let mut guards = Guards::new(&[], &["id"]);
    let read = guards.read("/\\.id$/\n/\\.(com|id)$/\n");
    assert_eq!(read.lines, [1]);
    assert_eq!(read.suppressed.released, ["id"]);
    assert_eq!(
        read.left_out(),
        [(
            2,
            r"/\.(com|id)$/ covers the top-level domain com".to_owned()
        )]
    );
    guards.list.warn = [Protection::TopLevel].into_iter().collect();
    let read = guards.read("/\\.com$/\n/\\.co\\.id$/\n");
    assert_eq!(read.lines, [1]);
    let warned = &read.suppressed.first_warned;
    assert_eq!((warned[0].line, read.suppressed.warned), (1, 1));
    assert_eq!(warned[0].protection, Protection::TopLevel);
    assert_eq!(
        read.suppressed.first[0].protection,
        Protection::PublicSuffix
    );
}

#[test]
fn patterns_that_allow_all_names_below_a_public_suffix_are_reported() {
    let read = Guards::new(&[], &[]).read("@@||com\n||ads.\n");
    assert_eq!(read.lines, [1, 2]);
    assert_eq!(read.suppressed.warned, 1);
}

#[test]
fn patterns_are_tried_on_names_below_protected_ones() {
    let protected = Protection::Protected;
    let guards = Guards::new(
        &[
            (protected, ".bank.example"),
            (protected, "*.gov.example"),
            (protected, "www.one.example"),
        ],
        &[],
    );
    for (line, covered) in [
        ("/^www\\.bank/", Some(".bank.example")),
        ("/^.+\\.bank\\.example$/", Some(".bank.example")),
        ("/.\\.gov\\.example$/", Some("*.gov.example")),
        ("/^login\\.bank/", Some(".bank.example")),
        ("||login.", Some("the top-level domain com")),
        ("||www", Some("the top-level domain com")),
        ("||ads.", None),
        ("||www.one", Some("www.one.example")),
        ("/^bank\\.example$/", Some(".bank.example")),
        ("/^gov\\.example$/", None),
        ("/^ads.*\\.bank\\.example$/", None),
        ("/^[a-z]\\.one\\.example$/", None),
    ] {
        let read = guards.read(&format!("{line}\n"));
        let left_out = read.left_out();
        match covered {
            Some(covered) => assert!(left_out[0].1.contains(covered), "{line}: {left_out:?}"),
            None => assert_eq!(read.lines, [1], "{line}: {left_out:?}"),
        }
    }
}

#[test]
fn each_copy_of_a_suppressed_pattern_is_suppressed() {
    let guards = Guards::new(&[(Protection::Protected, "bank.example")], &[]);
    let lines = "/^bank[.]ex/\n".repeat(300);
    let read = guards.read(&lines);
    assert_eq!(read.lines, [0; 0]);
    assert_eq!(read.suppressed.total(), 300);
}

#[test]
fn names_that_a_condition_leaves_out_are_not_covered() {
    let protected = Protection::Protected;
    let guards = Guards::new(
        &[
            (protected, "www.bank.example"),
            (protected, ".a.shop.example"),
            (protected, "b.shop.example"),
        ],
        &[],
    );
    for (line, why) in [
        ("||bank.example^$denyallow=www.bank.example", None),
        ("||bank.example^$denyallow=bank.example", None),
        (
            "||bank.example^$denyallow=x.bank.example",
            Some("www.bank.example"),
        ),
        ("||bank.example^", Some("www.bank.example")),
        (
            "||shop.example^$denyallow=a.shop.example|b.shop.example",
            None,
        ),
        (
            "||shop.example^$denyallow=a.shop.example",
            Some("b.shop.example"),
        ),
        (
            "||shop.example^$denyallow=x.a.shop.example|b.shop.example",
            Some(".a.shop.example"),
        ),
        (
            "||x.a.shop.example^$denyallow=y.x.a.shop.example",
            Some(".a.shop.example"),
        ),
        ("||com^$denyallow=x.com", Some("the top-level domain com")),
        ("||com^$denyallow=com", None),
        ("*$denyallow=com", Some("covers every name")),
        ("||bank.ex$denyallow=www.bank.example", None),
        (
            "||bank.ex$denyallow=x.bank.example",
            Some("www.bank.example"),
        ),
        (
            r"/\.com$/$denyallow=x.com",
            Some("the top-level domain com"),
        ),
        (r"/\.com$/$denyallow=com", None),
        ("||shop.exam$denyallow=a.shop.example|b.shop.example", None),
    ] {
        let read = guards.read(&format!("{line}\n"));
        let left_out = read.left_out();
        match why {
            Some(why) => assert!(left_out[0].1.contains(why), "{line}: {left_out:?}"),
            None => assert_eq!(read.lines, [1], "{line}: {left_out:?}"),
        }
    }
}

#[test]
fn rules_for_some_types_of_queries_are_checked_and_the_types_are_reported() {
    let mut guards = Guards::new(&[], &[]);
    let text = "*$dnstype=AAAA\n||com^$dnstype=~A|~HTTPS\n||com$dnstype=HTTPS\n";
    let read = guards.read(text);
    assert_eq!(read.lines, [0; 0]);
    let expected = [
        (1, "* covers every name, in queries for AAAA"),
        (
            2,
            ".com covers the top-level domain com, in queries for all types but A, HTTPS",
        ),
        (
            3,
            r"/(^|\.)com/ covers the top-level domain com, in queries for HTTPS",
        ),
    ];
    let expected = expected.map(|(line, text)| (line, text.to_owned()));
    assert_eq!(read.left_out(), expected);
    guards.list.warn = [Protection::TopLevel].into_iter().collect();
    let read = guards.read(text);
    assert_eq!(read.lines, [1, 2]);
    // `||com` matches the label `com` of all names below com.au, too.
    assert!(read.left_out()[0].1.contains("the public suffix com.au"));
}

#[test]
fn a_pattern_without_an_end_is_suppressed_in_a_line_that_the_file_ends_in() {
    for kind in [Kind::Block, Kind::Allow] {
        let mut guards = Guards::new(&[], &[]);
        guards.list = Guarded {
            warn: Protections::ALL,
            ..kind.into()
        };
        let read = guards.read("||goo\n||ads*.example^\n||goo");
        assert_eq!(read.lines, [1, 2]);
        let why = r"/(^|\.)goo/ has no end, and the file ends within its line: cut off?";
        assert_eq!(read.left_out(), [(3, why.to_owned())]);
        assert_eq!(read.suppressed.left_out, [(Protection::Cut, 1)]);
        let whole = guards.read("||goo\n||ads*.example^");
        assert_eq!((whole.lines, whole.suppressed.total()), (vec![1, 2], 0));
        let regex = guards.read("||goo\n/^goo[0-9]/");
        assert_eq!((regex.lines, regex.suppressed.total()), (vec![1, 2], 0));
        let modified = guards.read("||goo\n/^goo[0-9]/$denyallow=goo.ex");
        assert_eq!(modified.lines, [1]);
    }
    let mut guards = Guards::new(&[], &[]);
    for (format, text, cut) in [
        (Format::Wildcard, "*ads*\n*.ads*", Some("/^.*\\.ads.*$/")),
        (Format::Wildcard, "*ads*\nads.*x", None),
        (Format::Dnsmasq, "address=/*ads/#\naddress=/*ads/#", None),
    ] {
        guards.format = format;
        let read = guards.read(text);
        let cut = cut.map(|cut| (2, cut.to_owned()));
        let left_out = read.left_out().into_iter();
        let found =
            left_out.map(|(line, why)| (line, why[..why.find(' ').expect("a space")].to_owned()));
        assert_eq!(found.collect::<Vec<_>>(), Vec::from_iter(cut), "{text}");
    }
}

#[test]
fn only_rules_of_the_last_line_may_be_cut_off() {
    // A rule that would only be reported is suppressed if it may be cut off.
    let mut guards = Guards::new(&[], &[]);
    guards.list.warn = Protections::ALL;
    for (format, text, lines) in [
        (
            Format::Dnsmasq,
            "address=/co.id/192.0.2.1\naddress=/ac.id/192.0.2.1",
            vec![1],
        ),
        (
            Format::Dnsmasq,
            "address=/co.id/192.0.2.1\naddress=/ac.id/192.0.2.1\n",
            vec![1, 2],
        ),
        (
            Format::Unbound,
            "local-zone: \"co.id\" redirect\nlocal-data: \"co.id A 192.0.2.1\"\nlocal-zone: \"ac.id\" redirect",
            vec![2],
        ),
        (Format::Domains, ".co.id\n.ac.id", vec![1]),
        (Format::Csv, "n\n.co.id\n.ac.id", vec![2]),
    ] {
        guards.format = format;
        let read = guards.read(text);
        assert_eq!(read.lines, lines, "{text}: {:?}", read.left_out());
    }
}
