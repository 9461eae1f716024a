//! Fuzzes the list readers: a list in pieces is read like the whole, every line is counted, and every rule is valid. The
//! first byte selects the format, the second one the pieces.
//!
//! `cargo +nightly fuzz run lists fuzz/corpus/lists fuzz/seeds/lists`
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapis::config::Format;
use tapis::control::list_file::parse::{Notation, ParsedRule, ParsedTrigger, Reader, Tally, read};
use tapis::names::typed::one;
use tapis::policy::rule::Scope;
use tapis::wire::name::Name;

const FORMATS: [Format; 10] = [
    Format::Domains,
    Format::Hosts,
    Format::Adblock,
    Format::Rpz,
    Format::Wildcard,
    Format::Dnsmasq,
    Format::Unbound,
    Format::Csv,
    Format::Json,
    Format::Auto,
];

fuzz_target!(|bytes: &[u8]| {
    let &[choice, size, ref list @ ..] = bytes else {
        return;
    };
    let format = FORMATS[usize::from(choice & 15) % FORMATS.len()];
    let is_set = |bit: u8| choice & bit != 0;
    let column = match format {
        Format::Csv if is_set(64) => Some("2"),
        Format::Csv | Format::Json | Format::Auto if !is_set(64) => Some("host"),
        _ => None,
    };
    let notation = Notation {
        format,
        bare: if is_set(16) {
            Scope::Subtree
        } else {
            Scope::Exact
        },
        allows: is_set(32),
        column: column.map(Into::into),
        ..Notation::default()
    };
    let apex = Name::from_text("z").expect("a name");
    let apex = is_set(128).then_some(&apex);

    let mut rules = Vec::new();
    let tally = read(list, notation.clone(), apex, |rule| {
        rules.push(Found::new(rule))
    });
    in_pieces(list, (&notation, apex), size, (&rules, &tally));

    let ends = list.iter().filter(|byte| matches!(byte, b'\n' | b'\r'));
    let most = u32::try_from(ends.count() + 1).expect("inputs are small");
    let format = tally.detected.map_or(format, |detected| detected.format);
    for rule in &rules {
        assert!((1..=most).contains(&rule.line), "{rule:?}");
        assert!(
            !rule.is_on_root || format == Format::Rpz,
            "no rule on the root"
        );
        assert!(format != Format::Hosts || rule.scope == Some(notation.bare));
    }
    ordered(&rules, format);
    assert_eq!(tally.rules as usize, rules.len());
    accounted(&tally, format, most);

    if let Ok(Ok((name, _))) = std::str::from_utf8(list).map(one) {
        assert_eq!(Name::from_text(&name.to_string()), Ok(name));
    }
});

/// A rule as it was read.
#[derive(Debug, PartialEq)]
struct Found {
    text: String,
    line: u32,
    scope: Option<Scope>,
    is_pattern: bool,
    /// Whether it is about all names, without a condition.
    is_on_root: bool,
}

impl Found {
    fn new(rule: ParsedRule<'_>) -> Self {
        assert!(rule.effect.is_none_or(|effect| effect.check().is_ok()));
        let is_limited = rule.effect.is_some_and(|effect| effect.condition.is_some());
        let (mut scope, mut is_on_root) = (None, false);
        if let ParsedTrigger::Name(name, of) = rule.trigger {
            assert_eq!(Name::from_text(&name.to_string()).as_ref(), Ok(name));
            (scope, is_on_root) = (Some(of), name.label_count() == 0 && !is_limited);
        }
        Self {
            text: format!("{:?} {:?}", rule.trigger, rule.effect),
            line: rule.line,
            scope,
            is_pattern: matches!(rule.trigger, ParsedTrigger::Pattern(_)),
            is_on_root,
        }
    }
}

/// Checks that a list in pieces is read like the whole. The pieces have different sizes, which `size` determines.
fn in_pieces(
    list: &[u8],
    (notation, apex): (&Notation, Option<&Name>),
    size: u8,
    whole: (&Vec<Found>, &Tally),
) {
    let pieces = || {
        let (mut rest, mut size) = (list, usize::from(size));
        std::iter::from_fn(move || {
            size = (size * 13 + 7) % 61;
            let (piece, behind) = rest.split_at_checked(size + 1).unwrap_or((rest, &[]));
            rest = behind;
            (!piece.is_empty()).then_some(piece)
        })
    };
    let mut reader = Reader::new(notation.clone(), apex);
    if reader.is_scanning() {
        pieces().for_each(|piece| reader.scan(piece));
    }
    let mut rules = Vec::new();
    let mut rule = |rule: ParsedRule<'_>| rules.push(Found::new(rule));
    pieces().for_each(|piece| reader.feed(piece, &mut rule));
    let tally = reader.finish(&mut rule);
    assert_eq!((&rules, &tally), whole);
}

/// Checks that rules come in the order of their lines, patterns last. Configurations have rules that depend on several
/// lines, and come at the end.
fn ordered(rules: &[Found], format: Format) {
    if matches!(format, Format::Dnsmasq | Format::Unbound) {
        return;
    }
    assert!(
        rules.is_sorted_by_key(|rule| rule.is_pattern),
        "patterns come last"
    );
    for is_pattern in [false, true] {
        let of_kind = rules.iter().filter(|rule| rule.is_pattern == is_pattern);
        assert!(
            of_kind.is_sorted_by_key(|rule| rule.line),
            "lines come in order"
        );
    }
}

/// Checks that every line is counted once. A file has at most `most` lines.
fn accounted(tally: &Tally, format: Format, most: u32) {
    let bad = tally.bad_total();
    assert_eq!(tally.first.len(), bad.min(10) as usize);
    assert!(tally.first.is_sorted_by_key(|bad| bad.line));
    assert!(tally.first_ignored.is_sorted_by_key(|ignored| ignored.line));
    let mut shown = tally.first.iter().flat_map(|bad| bad.text.chars());
    assert!(!shown.any(char::is_control), "safe to show on a terminal");
    for (index, (problem, count)) in tally.bad.iter().enumerate() {
        assert!(*count > 0 && tally.bad[..index].iter().all(|(other, _)| other != problem));
    }
    assert!(tally.mostly_good <= bad);
    assert_eq!(
        tally.is_bad_over(50),
        bad - tally.mostly_good > tally.lines / 2
    );
    match format {
        // The lines of JSON are strings, and the row of titles is a comment even if it is bad.
        Format::Json => {}
        Format::Csv => assert!(tally.lines + tally.comments <= most + 1),
        _ => assert!(tally.lines + tally.comments <= most),
    }
    // Several records of a zone or of a configuration can be one rule.
    if matches!(format, Format::Rpz | Format::Dnsmasq | Format::Unbound) {
        return;
    }
    let good = tally.lines.checked_sub(bad).expect("bad lines are lines");
    assert!(
        tally.rules + tally.skipped + tally.ignored_total() >= good,
        "a good line gives something"
    );
    if format == Format::Domains {
        assert_eq!((tally.rules, tally.skipped), (good, 0));
    }
}
