//! Tests with complete files: all formats, the shipped lists, and random bytes.

mod broken;
mod corners;
mod cut;
mod formats;
mod random;
mod tables;
mod zones;

use proptest::prelude::*;

use super::*;
use crate::names::typed;
use crate::names::typed::Mistyped;
use crate::policy::rule::Scope;
use crate::wire::name::NameError;

const TELEGRAM: &[u8] = include_bytes!("../../../../../blocklists/telegram-web-2017.txt");
const SAMPLE_DOMAINS: &[u8] = include_bytes!("../../../../../blocklists/sample-domains.txt");
const SAMPLE_HOSTS: &[u8] = include_bytes!("../../../../../blocklists/sample-hosts.txt");
const SAMPLE_ALLOW: &[u8] = include_bytes!("../../../../../blocklists/sample-allow.txt");

/// The notation of a list without further keys.
fn of(format: Format) -> Notation {
    Notation {
        format,
        ..Notation::default()
    }
}

/// The name, scope and line of a rule.
fn on_name(rule: ParsedRule<'_>) -> (String, Scope, u32) {
    match rule.trigger {
        ParsedTrigger::Name(name, scope) => (name.to_string(), scope, rule.line),
        ParsedTrigger::Network(prefix) => panic!("{}", prefix.network()),
        ParsedTrigger::Pattern(pattern) => panic!("{pattern}"),
    }
}

/// The rules as `name scope line`, with the tally.
fn rules(bytes: impl AsRef<[u8]>, format: Format) -> (Vec<(String, Scope, u32)>, Tally) {
    let mut rules = Vec::new();
    let tally = read(bytes.as_ref(), of(format), None, |rule| {
        rules.push(on_name(rule));
    });
    (rules, tally)
}

fn names(bytes: impl AsRef<[u8]>, format: Format) -> Vec<String> {
    let (rules, tally) = rules(bytes, format);
    assert_eq!(tally.first, []);
    rules.into_iter().map(|(name, ..)| name).collect()
}

fn problems(bytes: impl AsRef<[u8]>, format: Format) -> Vec<(u32, Bad)> {
    let tally = rules(bytes, format).1;
    tally
        .first
        .iter()
        .map(|bad| (bad.line, bad.problem))
        .collect()
}

#[test]
fn domains_are_read_with_their_scopes_and_lines() {
    let (rules, tally) = rules(
        "\u{FEFF}# a list\r\n\
         \r\n\
         example.com\r\n\
         .Example.NET.   # all of it\r\n\
         \t*.example.org\t#and below\r\n\
         münchen.example\r\
         \t # indented\n\
         _a.-b-.example",
        Format::Domains,
    );
    let expected = [
        ("example.com", Scope::Exact, 3),
        ("example.net", Scope::Subtree, 4),
        ("example.org", Scope::Below, 5),
        ("xn--mnchen-3ya.example", Scope::Exact, 6),
        ("_a.-b-.example", Scope::Exact, 8),
    ];
    assert_eq!(
        rules,
        expected.map(|(name, scope, line)| (name.into(), scope, line))
    );
    assert_eq!((tally.lines, tally.comments, tally.rules), (5, 2, 5));
    assert_eq!((tally.skipped, tally.bad_total()), (0, 0));
}

#[test]
fn hosts_give_every_name_after_the_address() {
    let (rules, tally) = rules(
        "# hosts\n\
         127.0.0.1 localhost localhost.localdomain LOCAL.\n\
         255.255.255.255 broadcasthost\n\
         fe80::1%lo0 localhost\n\
         ff02::1 ip6-allnodes\n\
         0.0.0.0 0.0.0.0\n\
         \n\
         0.0.0.0 Ads.example.com#note\r\n\
         ::\ta.example\t \tb.example. münchen.example # more\n\
         127.0.0.1 localhost c.example",
        Format::Hosts,
    );
    let expected = [
        ("ads.example.com", 8),
        ("a.example", 9),
        ("b.example", 9),
        ("xn--mnchen-3ya.example", 9),
        ("c.example", 10),
    ];
    assert_eq!(
        rules,
        expected.map(|(name, line)| (name.into(), Scope::Exact, line))
    );
    assert_eq!((tally.lines, tally.comments, tally.rules), (8, 1, 5));
    assert_eq!((tally.skipped, tally.bad_total()), (8, 0));
}

#[test]
fn bare_names_get_the_scope_of_their_list() {
    for (text, format) in [
        ("a.example", Format::Domains),
        (":: a.example", Format::Hosts),
    ] {
        let mut scopes = Vec::new();
        let notation = Notation {
            bare: Scope::Subtree,
            ..of(format)
        };
        read(text.as_bytes(), notation, None, |rule| {
            scopes.push(on_name(rule).1);
        });
        assert_eq!(scopes, [Scope::Subtree]);
    }
}

#[test]
fn bad_domains_lines_are_named_and_the_good_ones_read() {
    let text = b"a.example\n\
        b..example\n\
        0.0.0.0 c.example\n\
        c.example d.example\n\
        .\n\
        *\n\
        \xFF.example # \xFF\n\
        # \xFF\n\
        d\0.example\n\
        192.0.2.1\n\
        e.example # \xFF\n";
    assert_eq!(
        problems(text, Format::Domains),
        [
            (2, Bad::Typed(Mistyped::Name(NameError::EmptyLabel))),
            (3, Bad::HostsLine),
            (4, Bad::Typed(Mistyped::Fields)),
            (5, Bad::Root),
            (6, Bad::Root),
            (7, Bad::Typed(Mistyped::Utf8)),
            (9, Bad::Typed(Mistyped::Control)),
            (10, Bad::Typed(Mistyped::Address)),
        ]
    );
    let read: Vec<_> = rules(text, Format::Domains)
        .0
        .into_iter()
        .map(|rule| rule.0)
        .collect();
    assert_eq!(read, ["a.example", "e.example"]);
}

#[test]
fn lines_of_other_formats_are_bad_in_a_domains_list() {
    let text = "! Title: adblock\n\
        ||ads.example.com^\n\
        a.example\n\
        https://ads.example.com/\n\
        ads.*.example\n\
        address=/ads.example.com/\n\
        \u{FF0F}ads.example\n\
        ads.example CNAME .\n";
    assert_eq!(
        problems(text, Format::Domains),
        [
            (1, Bad::Foreign(Foreign::Comment('!'))),
            (2, Bad::Foreign(Foreign::Adblock)),
            (4, Bad::Typed(Mistyped::Url)),
            (5, Bad::Typed(Mistyped::Wildcard)),
            (6, Bad::Foreign(Foreign::Dnsmasq)),
            (7, Bad::Typed(Mistyped::Idn)),
            (8, Bad::Foreign(Foreign::Zone)),
        ]
    );
}

#[test]
fn bad_hosts_lines_are_reported_and_their_invalid_names_give_no_rule() {
    let text = b":: a.example\n\
        a.example\n\
        0.0.0.0 # nothing\n\
        0.0.0.0 .a.example\n\
        0.0.0.0 *.a.example\n\
        0.0.0.0 .\n\
        0.0.0.0 b.example https://b.example/\n\
        0.0.0.0 localhost a..b\n\
        0.0.0.0 \xFF.example\n\
        \xFF a.example\n";
    assert_eq!(
        problems(text, Format::Hosts),
        [
            (2, Bad::NoAddress),
            (3, Bad::NoName),
            (4, Bad::Scoped),
            (5, Bad::Scoped),
            (6, Bad::Root),
            (7, Bad::Typed(Mistyped::Url)),
            (8, Bad::Typed(Mistyped::Name(NameError::EmptyLabel))),
            (9, Bad::Typed(Mistyped::Utf8)),
            (10, Bad::Unaddressed),
        ]
    );
    let (rules, tally) = rules(text, Format::Hosts);
    let rules: Vec<_> = rules.iter().map(|rule| rule.0.as_str()).collect();
    assert_eq!(rules, ["a.example", "b.example"]);
    assert_eq!((tally.rules, tally.skipped), (2, 1));
}

#[test]
fn an_invalid_name_is_reported_and_the_others_of_its_hosts_line_count() {
    for (text, good, shown, skipped) in [
        (
            "0.0.0.0 a.example b..example c.example # d.example",
            &["a.example", "c.example"][..],
            "b..example",
            0,
        ),
        (
            "::1\t*.x.example a.example https://b.example/\t. localhost",
            &["a.example"],
            "*.x.example https://b.example/ .",
            1,
        ),
        ("0.0.0.0 localhost a..b#c", &[], "a..b", 1),
        ("0.0.0.0 a..b c..d", &[], "0.0.0.0 a..b c..d", 0),
        ("0.0.0.0 a.example a/b", &["a.example"], "a/b", 0),
    ] {
        let (rules, tally) = rules(text, Format::Hosts);
        let rules: Vec<_> = rules.iter().map(|rule| rule.0.as_str()).collect();
        assert_eq!(rules, good, "{text}");
        assert_eq!((tally.rules as usize, tally.skipped), (good.len(), skipped));
        assert_eq!((tally.lines, tally.bad_total()), (1, 1), "{text}");
        assert_eq!(tally.first[0].text, shown);
    }
}

#[test]
fn a_hosts_file_with_one_typing_error_among_nine_names_a_line_is_a_list() {
    let mut text = String::new();
    for line in 0..20 {
        let names: Vec<_> = (0..8)
            .map(|name| format!("n{line}-{name}.example"))
            .collect();
        text += &format!("0.0.0.0 {} a..b\n", names.join(" "));
    }
    let tally = rules(&text, Format::Hosts).1;
    assert_eq!((tally.rules, tally.lines, tally.bad_total()), (160, 20, 20));
    assert!(!tally.is_bad_over(0), "each line is good for the most part");
    let worse = text.replace(".example", "..example").replace("-0..", "-0.");
    let tally = rules(&worse, Format::Hosts).1;
    assert_eq!((tally.rules, tally.bad_total()), (20, 20));
    assert!(
        tally.is_bad_over(99),
        "eight invalid names for each valid one"
    );
}

#[test]
fn a_line_of_4096_bytes_is_parsed_and_a_longer_one_is_bad() {
    let comment = format!("a.example #{}", "x".repeat(2 * MAX_LINE));
    assert_eq!(names(comment, Format::Domains), ["a.example"]);
    let long = "x".repeat(MAX_LINE);
    let label = Bad::Typed(Mistyped::Name(NameError::LabelTooLong));
    assert_eq!(problems(&long, Format::Domains), [(1, label)]);
    assert_eq!(problems(long + "x", Format::Domains), [(1, Bad::LongLine)]);
}

#[test]
fn a_list_in_the_wrong_format_is_mostly_bad_and_says_which_format_it_is() {
    let (rules_read, tally) = rules(SAMPLE_HOSTS, Format::Domains);
    assert_eq!(rules_read, []);
    assert!(tally.is_bad_over(50));
    assert!(tally.bad.iter().any(|(bad, _)| *bad == Bad::HostsLine));
    let (rules_read, tally) = rules(SAMPLE_DOMAINS, Format::Hosts);
    assert_eq!(rules_read, []);
    assert_eq!(tally.bad, [(Bad::NoAddress, tally.lines)]);
}

#[test]
fn the_format_of_a_file_is_that_of_most_of_its_bad_lines() {
    use FileFormat::{Domains, Foreign as Other, Hosts};
    for (text, format, found) in [
        ("0.0.0.0 a.example\na..b\n", Format::Domains, None),
        (
            "0.0.0.0 a.example\n:: b.example\na..b\n",
            Format::Domains,
            Some(Hosts),
        ),
        ("a.example\nb.example\na..b\n", Format::Hosts, Some(Domains)),
        (
            "! a\n! b\n||c.example^\n",
            Format::Hosts,
            Some(Other(Foreign::Adblock)),
        ),
        (
            "! a\n! b\nc.example\n",
            Format::Domains,
            Some(Other(Foreign::Comment('!'))),
        ),
        (
            "<html>\nbody { }\nfoo bar\nb a z\n",
            Format::Domains,
            Some(Other(Foreign::Html)),
        ),
        (
            "a..b\n<p>\n<p>\n<p>\n",
            Format::Domains,
            Some(Other(Foreign::Html)),
        ),
        ("a.example\n", Format::Domains, None),
    ] {
        assert_eq!(rules(text, format).1.format(), found, "{text}");
    }
}

#[test]
fn a_list_of_comments_alone_is_empty_and_differs_from_an_empty_file() {
    let tally = rules("# lifted\n\n", Format::Domains).1;
    assert_eq!(
        (tally.lines, tally.comments, tally.is_bad_over(50)),
        (0, 1, false)
    );
    let empty = Tally {
        ended: true,
        ..Tally::default()
    };
    assert_eq!(rules("", Format::Domains).1, empty);
    assert_eq!(rules(" \r\n\u{c}\n", Format::Hosts).1, empty);
}

#[test]
fn the_eleven_names_of_2017_are_shipped_in_order() {
    assert_eq!(
        names(TELEGRAM, Format::Domains),
        [
            "t.me",
            "telegram.me",
            "telegram.org",
            "core.telegram.org",
            "desktop.telegram.org",
            "macos.telegram.org",
            "web.telegram.org",
            "venus.web.telegram.org",
            "pluto.web.telegram.org",
            "flora.web.telegram.org",
            "flora-1.web.telegram.org",
        ]
    );
}

#[test]
fn the_samples_have_no_problems_and_only_names_reserved_for_documentation() {
    for (sample, format) in [
        (SAMPLE_DOMAINS, Format::Domains),
        (SAMPLE_HOSTS, Format::Hosts),
        (SAMPLE_ALLOW, Format::Domains),
    ] {
        let names = names(sample, format);
        assert!(names.len() > 3);
        for name in names {
            let reserved = ["example", "example.com", "example.net", "example.org"];
            let is_within = |zone: &str| name == zone || name.ends_with(&format!(".{zone}"));
            assert!(reserved.into_iter().any(is_within), "{name}");
        }
    }
}
