//! Fuzzes the list readers: every line is counted, and every rule is a name. The first byte selects the
//! format.
//!
//! `cargo +nightly fuzz run lists fuzz/corpus/lists fuzz/seeds/lists`
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapis::config::Format;
use tapis::names::typed::one;
use tapis::control::list_file::parse::{Notation, ParsedTrigger, Tally, read};
use tapis::policy::rule::Scope;
use tapis::wire::name::Name;

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, list)) = bytes.split_first() else {
        return;
    };
    let format = match choice {
        16.. => Format::Adblock,
        4.. => Format::Rpz,
        _ if choice & 1 == 0 => Format::Domains,
        _ => Format::Hosts,
    };
    let bare = if choice & 2 == 0 {
        Scope::Exact
    } else {
        Scope::Subtree
    };
    let ends = list.iter().filter(|byte| matches!(byte, b'\n' | b'\r'));
    let most = u32::try_from(ends.count() + 1).expect("inputs are small");

    let mut rules = 0;
    let (mut last, mut patterns) = (1, false);
    let notation = Notation {
        format,
        bare,
        allows: choice & 4 != 0,
        ..Notation::default()
    };
    let apex = Name::from_text("z").expect("a name");
    let apex = (choice & 8 == 0).then_some(&apex);
    let tally = read(list, notation, apex, |rule| {
        rules += 1;
        let line = rule.line;
        let is_pattern = matches!(rule.trigger, ParsedTrigger::Pattern(_));
        assert!(is_pattern || !patterns, "patterns come last");
        if is_pattern && !patterns {
            (patterns, last) = (true, 1);
        }
        assert!((last..=most).contains(&line), "lines come in order");
        last = line;
        assert!(rule.effect.is_none_or(|effect| effect.check().is_ok()));
        if let ParsedTrigger::Name(name, scope) = rule.trigger {
            let is_root = name.label_count() == 0;
            let is_limited = rule.effect.is_some_and(|effect| effect.condition.is_some());
            assert!(!is_root || format == Format::Rpz || is_limited, "no rule on the root");
            assert_eq!(Name::from_text(&name.to_string()).as_ref(), Ok(name));
            assert!(format != Format::Hosts || scope == bare);
        }
    });
    assert_eq!(tally.rules, rules);
    assert!(tally.lines + tally.comments <= most);
    if format != Format::Rpz {
        accounted(&tally, format);
    }

    if let Ok(Ok((name, _))) = std::str::from_utf8(list).map(one) {
        assert_eq!(Name::from_text(&name.to_string()), Ok(name));
    }
});

fn accounted(tally: &Tally, format: Format) {
    let bad = tally.bad_total();
    let good = tally.lines - bad;
    assert!(
        tally.rules + tally.skipped + tally.ignored_total() >= good,
        "a good line gives something"
    );
    if format == Format::Domains {
        assert_eq!((tally.rules, tally.skipped), (good, 0));
    }
    assert!(tally.mostly_good <= bad);
    assert_eq!(tally.is_bad_over(50), bad - tally.mostly_good > tally.lines / 2);
    assert_eq!(tally.first.len(), bad.min(10) as usize);
    assert!(tally.first.is_sorted_by_key(|bad| bad.line));
    let mut shown = tally.first.iter().flat_map(|bad| bad.text.chars());
    assert!(!shown.any(char::is_control), "safe to show on a terminal");
    for (index, (problem, count)) in tally.bad.iter().enumerate() {
        assert!(*count > 0 && tally.bad[..index].iter().all(|(other, _)| other != problem));
    }
}
