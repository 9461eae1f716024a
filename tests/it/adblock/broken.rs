//! Broken lists: nothing panics, and the good rules count.

use std::fmt::Write;

use proptest::prelude::*;
use tapis::control::list_file::parse::{Bad, BadRule};
use tapis::policy::patterns::MAX_PATTERNS;
use tapis::policy::rule::Kind;

use super::filter::Filter;

const GOOD: &str = "||good.test^\n@@||fine.good.test^\n/^also-good[0-9]/\n";

/// A list with one more line.
fn with(line: &str) -> Filter {
    Filter::new(Kind::Block, format!("{GOOD}{line}\n").as_bytes())
}

fn keeps_good_rules(filter: &Filter, what: &str) {
    for (name, expected) in [
        ("x.good.test", "block"),
        ("fine.good.test", "allow"),
        ("also-good1.test", "block"),
        ("other.test", "pass"),
    ] {
        assert_eq!(filter.answer(name, "A"), expected, "{what}: {name}");
    }
}

/// The problem of the only bad line.
fn problem(filter: &Filter) -> Option<Bad> {
    match &filter.tally.first[..] {
        [bad] => Some(bad.problem),
        _ => None,
    }
}

#[test]
fn a_pattern_that_cant_be_accepted_is_a_bad_line_and_the_others_count() {
    for (line, expected) in [
        ("/(/", BadRule::BadRegex),
        ("/[/", BadRule::BadRegex),
        ("/(?=a)b/", BadRule::BadRegex),
        (r"/(a)\1/", BadRule::BadRegex),
        ("/.*/", BadRule::MatchesEverything),
        ("/./", BadRule::MatchesEverything),
        ("/^.+$/", BadRule::MatchesEverything),
        ("/a|/", BadRule::MatchesEverything),
        ("/two words/", BadRule::MatchesNothing),
        ("/((a{99}){99}){99}x/", BadRule::MatchesNothing),
        ("/a.{40}b/", BadRule::PatternTooLarge),
        ("/bücher/", BadRule::PatternCharacter),
        ("||bü*r.test^", BadRule::PatternCharacter),
        ("||*^", BadRule::TooWide),
        ("*", BadRule::TooWide),
        ("a*", BadRule::TooWide),
        ("||a.test^$dnstype=", BadRule::DnsType),
        ("||a.test^$denyallow=", BadRule::DenyAllow),
        (
            "||a.test^$dnsrewrite=NOERROR;NS;a.test",
            BadRule::RewriteType,
        ),
        ("||a.test^$dnsrewrite=NOERROR;A;x", BadRule::DnsRewrite),
        ("||a.test^$dnsrewrite", BadRule::DnsRewrite),
        ("|a.test^$dnsrewrite=a.test", BadRule::RewriteToItself),
    ] {
        let filter = with(line);
        assert_eq!(problem(&filter), Some(Bad::Rule(expected)), "{line}");
        assert_eq!(filter.tally.first[0].line, 4, "{line}");
        keeps_good_rules(&filter, line);
    }
}

#[test]
fn long_lines_and_values_that_are_too_many_are_bad_or_ignored() {
    let names = |count: usize| vec!["a.test"; count].join("|");
    let domains = with(&format!("||x.test^$script,domain={}", names(1000)));
    assert_eq!(
        (domains.tally.bad_total(), domains.tally.ignored_total()),
        (0, 1)
    );
    let long = with(&format!("||x.test^$denyallow={}", names(1000)));
    assert_eq!(problem(&long), Some(Bad::LongLine));
    let types: Vec<_> = (1..100).map(|number| format!("TYPE{number}")).collect();
    let types = with(&format!("||x.test^$dnstype={}", types.join("|")));
    assert_eq!(problem(&types), Some(Bad::Rule(BadRule::TooManyValues)));
    let cosmetic = with(&format!("x.test##{}", "a".repeat(100_000)));
    assert_eq!(
        (cosmetic.tally.bad_total(), cosmetic.tally.ignored_total()),
        (0, 1)
    );
    for filter in [domains, long, types, cosmetic] {
        keeps_good_rules(&filter, "long");
    }
}

#[test]
fn more_patterns_without_a_fixed_text_than_allowed_are_bad_lines() {
    let mut text = GOOD.to_owned();
    for number in 0..40 {
        writeln!(text, "/^[a-z]{{{}}}[0-9]$/", 10 + number).expect("memory");
    }
    let filter = Filter::new(Kind::Block, text.as_bytes());
    assert_eq!(filter.tally.bad, [(Bad::Rule(BadRule::Unfiltered), 8)]);
    let lines: Vec<_> = filter.tally.first.iter().map(|bad| bad.line).collect();
    assert_eq!(lines, (36..44).collect::<Vec<_>>());
    keeps_good_rules(&filter, "unfiltered");
    assert_eq!(filter.answer(&format!("{}1", "a".repeat(41)), "A"), "block");
    assert_eq!(filter.answer(&format!("{}1", "a".repeat(42)), "A"), "pass");
}

#[test]
fn ten_thousand_patterns_apply_and_those_over_the_limit_are_bad_lines() {
    let mut text = GOOD.to_owned();
    for number in 0..10_000 {
        writeln!(text, "-tracker{number}.").expect("memory");
    }
    let filter = Filter::new(Kind::Block, text.as_bytes());
    assert_eq!(filter.tally.bad, []);
    assert_eq!(filter.answer("x-tracker9999.test", "A"), "block");
    let repeated = "-tracker.\n".repeat(70_000);
    let filter = Filter::new(Kind::Block, format!("{GOOD}{repeated}-last.\n").as_bytes());
    let over = 70_000 + 2 - MAX_PATTERNS as u32;
    let expected = (Bad::Rule(BadRule::TooManyPatterns), over);
    assert_eq!(filter.tally.bad, [expected]);
    assert_eq!(filter.tally.first[0].line as usize, MAX_PATTERNS + 3);
    assert_eq!(filter.answer("x-tracker.test", "A"), "block");
    assert_eq!(filter.answer("x-last.test", "A"), "pass");
    keeps_good_rules(&filter, "too many");
}

#[test]
fn too_many_lines_that_take_rules_back_are_bad() {
    let mut text = GOOD.to_owned();
    for number in 0..1002 {
        writeln!(text, "@@||x{number}.test^$dnsrewrite").expect("memory");
    }
    let filter = Filter::new(Kind::Block, text.as_bytes());
    assert_eq!(
        filter.tally.bad,
        [(Bad::Rule(BadRule::TooManyTakenBack), 2)]
    );
    keeps_good_rules(&filter, "exceptions");
}

#[test]
fn patterns_of_lines_that_take_rewrites_back_are_limited() {
    let count = |line: &dyn Fn(usize) -> String, problem| {
        let lines: String = (0..150).map(line).collect();
        let filter = Filter::new(Kind::Block, format!("{GOOD}{lines}").as_bytes());
        keeps_good_rules(&filter, "exceptions");
        let bad = filter.tally.bad.iter();
        bad.filter(|(bad, _)| *bad == Bad::Rule(problem))
            .map(|(_, count)| *count)
            .sum::<u32>()
    };
    let good = |number| format!("@@/^x{number}[0-9]/$dnsrewrite\n");
    assert_eq!(count(&good, BadRule::TooManyTakenBack), 50);
    let invalid = |number| format!("@@/^x{number}[/$dnsrewrite\n");
    assert_eq!(count(&invalid, BadRule::BadRegex), 100);
    assert_eq!(count(&invalid, BadRule::TooManyTakenBack), 50);
}

#[test]
fn lines_for_browsers_are_counted_by_their_reason_and_are_not_bad() {
    let text = "! Title\nexample.test##.ad\nexample.test#@#.ad\n||example.test/ads\n||a.test^$script\n\
                ||b.test^$client=1.2.3.4\n||c.test^$badfilter\n||c.test^\n||d.test^\n";
    let filter = Filter::new(Kind::Block, text.as_bytes());
    let counts: Vec<_> = filter
        .tally
        .ignored
        .iter()
        .map(|(reason, count)| (reason.to_string(), *count))
        .collect();
    let expected = [
        ("a rule on elements of web pages", 2),
        ("a rule on URLs, which matches no name", 1),
        ("a rule with a modifier for browsers, or an unknown one", 1),
        ("a rule for some clients, which needs a view", 1),
        ("takes other rules of the list back", 1),
        ("a rule that another line takes back", 1),
    ];
    let expected = expected.map(|(reason, count)| (reason.to_owned(), count));
    assert_eq!(counts, expected);
    assert_eq!((filter.tally.rules, filter.tally.bad_total()), (1, 0));
    assert_eq!((filter.tally.lines, filter.tally.comments), (8, 1));
    let first = &filter.tally.first_ignored[2];
    assert_eq!((first.line, &*first.text), (4, "||example.test/ads"));
}

#[test]
fn files_that_are_no_filter_list_are_bad() {
    for text in [
        "<!DOCTYPE html>\n<html>\n<head><title>Sign in</title></head>\n<body>Error</body>\n</html>\n",
        "address=/a.test/\nserver=/b.test/\nlocal=/c.test/\n",
        "local-zone: \"a.test\" always_nxdomain\nlocal-zone: \"b.test\" redirect\n",
        "zone \"a.test\" { type master; };\n",
        "{\n  \"domains\": [\n    \"a.test\",\n",
        "$TTL 300\n@ IN SOA localhost. root.localhost. (1 2 3 4 5)\na.test CNAME .\n",
    ] {
        let filter = Filter::new(Kind::Block, text.as_bytes());
        assert!(filter.tally.is_bad_over(50), "{text}: {:?}", filter.tally);
    }
}

/// Real lines of all kinds.
const LINES: &str = "[Adblock Plus 2.0]\n! Title: all kinds\n||ads.test^\n||b.test^$important\n@@||c.test^\n\
    @@||d.test^$important\n|e.test^\nf.test\n0.0.0.0 g.test h.test\n1.2.3.4 i.test\n||j*.test^\n/^k[0-9]+\\.test$/\n\
    ||l.test^$dnsrewrite=NOERROR;HTTPS;32 m.test alpn=h3\n@@||l.test^$dnsrewrite\n||n.test^$badfilter\n\
    ||o.test^$denyallow=p.o.test,dnstype=~A\n*$denyallow=com|net\nq.test##.ad\n||r.test^$third-party\n-s.\n\
    ||bücher.test^\n||t.test^$client='a\\, b'\n";

proptest! {
    #[test]
    fn a_list_that_is_cut_or_damaged_keeps_the_good_rules(
        cut in 0..LINES.len(),
        damage in prop::collection::vec((0..LINES.len(), any::<u8>()), 0..20),
    ) {
        let mut bytes = LINES.as_bytes().to_vec();
        for (at, byte) in damage {
            bytes[at] = byte;
        }
        bytes.truncate(cut);
        // A rule of the damaged lines must not take back the good ones.
        let text = [GOOD.as_bytes(), &bytes, b"\n", b"||last.test^\n"].concat();
        let filter = Filter::new(Kind::Block, &text);
        prop_assert_ne!(filter.answer("x.good.test", "A"), "pass");
        prop_assert_ne!(filter.answer("last.test", "A"), "pass");
        let Filter { tally, .. } = filter;
        let given = tally.rules + tally.skipped + tally.ignored_total() + tally.bad_total();
        prop_assert!(given >= tally.lines, "{:?}", tally);
    }
}
