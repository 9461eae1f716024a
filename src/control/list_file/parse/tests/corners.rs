//! Lines whose meaning depends on other lines of the file.

use super::formats::{all, bad, with_column};
use super::*;

fn detected(text: &str) -> (Format, String) {
    let detected = all(text, &of(Format::Auto)).1.detected;
    let detected = detected.expect("a format");
    (detected.format, detected.to_string())
}

#[test]
fn a_forwarded_name_of_dnsmasq_is_allowed_and_the_forwarding_is_ignored() {
    let text = "address=/x.example/#\n\
                server=/y.x.example/192.0.2.53\n\
                server=/z.example/w.example/192.0.2.53#5353@eth0\n\
                server=/#/192.0.2.53\n\
                server=//192.0.2.53\n\
                server=/a..b/192.0.2.53\n\
                server=/com/co.uk/*.kawasaki.jp/q.example/192.0.2.53\n\
                server=/org/#\n\
                server=/com/*corp.example/192.0.2.53\n";
    let (rules, tally) = all(text, &of(Format::Dnsmasq));
    let expected = [
        "1 .x.example block",
        "2 .y.x.example allow",
        "3 .z.example allow",
        "3 .w.example allow",
        // To forward all names of a registry does not mean to allow all of them.
        "7 .q.example allow",
        "8 .org allow",
        r"9 /corp\.example$/ allow",
    ];
    assert_eq!(rules, expected);
    assert_eq!(tally.ignored, [(NotApplicable::Forward, 7)]);
    let label = Bad::Typed(Mistyped::Name(NameError::EmptyLabel));
    assert_eq!((bad(&tally), tally.lines), (vec![(6, label)], 9));
}

#[test]
fn records_of_a_typetransparent_zone_of_unbound_answer_queries_of_their_types_alone() {
    let text = "local-data: \"b.x.example A 192.0.2.1\"\n\
                local-zone: \"x.example\" typetransparent\n\
                local-data: \"x.example TXT text\"\n\
                local-data: \"c.x.example A 0.0.0.0\"\n\
                local-data: \"c.x.example AAAA ::\"\n\
                local-data: \"d.x.example CNAME y.example.\"\n\
                local-zone: \"y.example\" transparent\n\
                local-data: \"y.example A 192.0.2.2\"\n";
    let (rules, tally) = all(text, &of(Format::Unbound));
    let expected = [
        "2 .x.example allow",
        "4 c.x.example block Only([1])",
        "5 c.x.example block Only([28])",
        "7 .y.example allow",
        "1 b.x.example 3600 A 192.0.2.1 Only([1])",
        "3 x.example 3600 TXT \"text\" Only([16])",
        "6 d.x.example 3600 CNAME y.example.",
        "8 y.example 3600 A 192.0.2.2",
    ];
    assert_eq!(rules, expected);
    assert_eq!(tally.bad_total(), 0);
}

#[test]
fn problems_that_are_found_late_are_reported_in_the_order_of_the_lines() {
    let mut text = "local-data: \"a.example CNAME b.example.\"\n\
                    local-data: \"a.example A 192.0.2.1\"\n"
        .to_owned();
    text += &"nothing\n".repeat(20);
    let tally = rules_of(&text, Format::Unbound);
    let lines: Vec<_> = tally.first.iter().map(|bad| bad.line).collect();
    assert_eq!(lines, [1, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!(tally.bad_total(), 21);
}

fn rules_of(text: &str, format: Format) -> Tally {
    all(text, &of(format)).1
}

#[test]
fn one_stray_quote_in_a_table_costs_one_line() {
    let column = with_column(Format::Csv, "host");
    let row = |line: u32| match line {
        1 => "id,host,why\n".to_owned(),
        2 => "2,\"n2.example,spam\n".to_owned(),
        line if line % 3 == 0 => format!("{line},n{line}.example,\"spam, \"\"more\"\"\"\n"),
        line => format!("{line},n{line}.example,spam\n"),
    };
    let text: String = (1..=1000).map(row).collect();
    let (rules, tally) = all(&text, &column);
    let expected = (3..=1000).map(|line| format!("{line} n{line}.example block"));
    assert_eq!(rules, expected.collect::<Vec<_>>());
    assert_eq!(bad(&tally), [(2, Bad::Quotes)]);
    assert_eq!(tally.first[0].text, "2,\"n2.example,spam");
    assert_eq!((tally.lines, tally.comments), (999, 1));
    // Where no other line has a quote.
    let plain = text.replace("\"spam, \"\"more\"\"\"", "spam");
    let (rules, tally) = all(&plain, &column);
    assert_eq!((rules.len(), bad(&tally)), (998, vec![(2, Bad::Quotes)]));
    // At the end of the file.
    let (rules, tally) = all(
        "1,a.example\n2,\"b.example\n",
        &with_column(Format::Csv, "2"),
    );
    assert_eq!((rules.len(), bad(&tally)), (1, vec![(2, Bad::Quotes)]));
}

#[test]
fn a_field_in_quotes_may_have_some_lines_but_not_the_rest_of_the_file() {
    let column = with_column(Format::Csv, "1");
    let lines = |count: usize| format!("a.example,\"{}\"\nb.example,x\n", "text\n".repeat(count));
    let (rules, tally) = all(lines(60), &column);
    assert_eq!(rules, ["61 a.example block", "62 b.example block"]);
    assert_eq!(tally.bad_total(), 0);
    let (rules, tally) = all(lines(70), &column);
    assert_eq!(rules.last().map(String::as_str), Some("72 b.example block"));
    assert_eq!(tally.first[0].problem, Bad::Quotes);
    assert!(!rules.contains(&"71 a.example block".to_owned()));
}

#[test]
fn tables_have_any_line_ends() {
    for end in ["\n", "\r\n", "\r"] {
        let text = ["# a", "id;host", "1;a.example", "", "2;\"b.example\"", ""].join(end);
        let (rules, tally) = all(&text, &with_column(Format::Csv, "host"));
        assert_eq!(rules, ["3 a.example block", "5 b.example block"], "{end:?}");
        assert_eq!((tally.lines, tally.comments, tally.ended), (2, 2, true));
    }
}

#[test]
fn a_few_wildcards_among_many_names_are_no_list_of_wildcards() {
    let names = |count: usize| {
        (0..count)
            .map(|n| format!("n{n}.example\n"))
            .collect::<String>()
    };
    let (format, why) = detected(&format!("*.a.example\n{}", names(50)));
    assert_eq!(
        (format, &*why),
        (Format::Domains, "domains, like 51 of the first 51 lines")
    );
    for (lines, format) in [
        ("*.a.example\nb.example\n", Format::Wildcard),
        ("*.a.example\nb.example\nc.example\n", Format::Domains),
        ("*.a.example\n.b.example\n", Format::Domains),
        ("=a.example\nads.*\n*ads*\nb.example\n", Format::Wildcard),
        (
            "*.a.example\nads*.b.example\nc.example\nd.example\n",
            Format::Wildcard,
        ),
        ("*.a.example\n*.b.example\n", Format::Wildcard),
    ] {
        assert_eq!(detected(lines).0, format, "{lines}");
    }
}

#[test]
fn a_header_names_the_format_of_filter_lists() {
    for header in [
        "[Adblock Plus 2.0]",
        "[Adblock]",
        "[uBlock Origin]",
        "[uBlock Filters]",
        "[AdGuard]",
        "[adguard home]",
    ] {
        for text in [
            format!("{header}\n! Title\na.example\nb.example\n"),
            format!("\u{FEFF}! Title\r\n {header}\r\n||a.example^\r\n*.b.example\r\n"),
        ] {
            let expected = (Format::Adblock, "adblock, by its header".to_owned());
            assert_eq!(detected(&text), expected, "{text}");
            assert_eq!(rules_of(&text, Format::Auto).rules, 2);
        }
    }
    for (text, format, why) in [
        (
            "[\"a.example\"]",
            Format::Json,
            "json, by its first character",
        ),
        (
            "[ {\"host\": 1}]",
            Format::Json,
            "json, by its first character",
        ),
        (
            "[Definition]\na.example\n",
            Format::Domains,
            "domains, like 1 of the first 1 line",
        ),
        (
            "# nothing\n",
            Format::Domains,
            "domains, as it has no line to recognise",
        ),
    ] {
        assert_eq!(detected(text), (format, why.to_owned()), "{text}");
    }
    let nothing = all("# nothing\n", &of(Format::Auto)).1.detected;
    assert!(!nothing.expect("a format").is_certain());
}

#[test]
fn a_copy_of_a_pattern_that_is_not_accepted_is_a_bad_line_as_well() {
    let text = "/[a-z]/\n||x*y.example^\n/[a-z]/\n";
    let (rules, tally) = all(text, &of(Format::Adblock));
    assert_eq!((rules.len(), tally.rules), (1, 1));
    let lines: Vec<_> = bad(&tally).into_iter().map(|(line, _)| line).collect();
    assert_eq!(lines, [1, 3]);
}
