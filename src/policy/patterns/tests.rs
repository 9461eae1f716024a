mod lenient;

use proptest::prelude::*;
use regex::bytes::{Regex, RegexBuilder};

use super::*;

fn text(name: &str) -> NameText {
    NameText::new(&Name::from_text(name).expect("a valid name"))
}

fn set(patterns: &[&str]) -> PatternSet {
    PatternSet::new(patterns).expect("valid patterns")
}

fn problem(pattern: &str) -> Problem {
    let Err(error) = PatternSet::new(["^ads\\.", pattern]) else {
        panic!("{pattern} is accepted");
    };
    assert_eq!(error.index, 1, "{pattern}");
    error.problem
}

/// The naive way: each pattern is searched by itself.
fn naive(pattern: &str) -> Regex {
    let mut builder = RegexBuilder::new(pattern);
    builder.unicode(false).case_insensitive(true);
    builder.build().expect("valid patterns")
}

#[test]
fn patterns_are_searched_anywhere_without_regard_to_case() {
    let set = set(&[
        r"^ad[sx]?[0-9]*\.",
        r"(^|\.)track(er|ing)?[0-9]+\.",
        r"^.*\.DoubleClick\..*$",
        r"banner.*\.example\.com$",
        r"^(.+[_.-])?adse?rv(er?|ice)?s?[0-9]*[_.-]",
        r"sex",
        r"\btv\b",
        r"^[a-z]{8}\.(top|xyz)$",
        r"^t\.co$",
        r"\.zip$",
        r"^[0-9]{5,}\.",
    ]);
    for (name, expected) in [
        ("ads12.example.com", vec![0]),
        ("adz.example.com", vec![]),
        ("x.tracker7.net", vec![1]),
        ("x.tracker.net", vec![]),
        ("Stats.G.DoubleClick.net", vec![2]),
        ("doubleclick.net", vec![]),
        ("my-banner.cdn.example.com", vec![3]),
        ("my-banner.cdn.example.com.net", vec![]),
        ("my-adserver3.example.com", vec![4]),
        ("essex.gov.uk", vec![5]),
        ("my-sex", vec![5]),
        ("a-tv.net", vec![6]),
        ("tv", vec![6]),
        ("atv.net", vec![]),
        ("abcdefgh.xyz", vec![7]),
        ("abcdefghi.xyz", vec![]),
        ("t.co", vec![8]),
        ("at.co", vec![]),
        ("file.zip", vec![9]),
        ("ads1.doubleclick.sex.tv.zip", vec![0, 2, 5, 6, 9]),
        ("12345.com", vec![10]),
        (".", vec![]),
    ] {
        assert_eq!(set.find_all(&text(name)), expected, "{name}");
        assert_eq!(set.find(&text(name)), expected.first().copied(), "{name}");
    }
}

#[test]
fn an_optional_part_that_no_name_has_is_left_out() {
    for (pattern, name) in [
        (r"(?: ?ads[0-9]|tracker[0-9])", "ads1.example"),
        (r"(\s*ads[0-9]|tracker[0-9])", "ads1.example"),
        (r"[^\x00-\x7f]?ads1|foo[0-9]", "ads1.example"),
        (r"ads1(?:\s*)$|zzz[0-9]", "x.ads1"),
        (r"(?:(?: x)*ads1)|trk[0-9]", "ads1.example"),
        (r"\s?ads1", "ads1.example"),
        (r"ads1[^\x21-\x7e]*", "ads1.example"),
    ] {
        assert_eq!(set(&[pattern]).find(&text(name)), Some(0), "{pattern}");
    }
    assert_eq!(problem(r"\s+ads1"), Problem::MatchesNothing);
}

#[test]
fn a_dot_in_a_label_is_no_separator() {
    let set = set(&[r"^ads\.", r"\\046", r"\\\d\d\d"]);
    assert_eq!(set.find_all(&text(r"ads\.x.com")), [1, 2]);
    assert_eq!(set.find_all(&text(r"ads.x\200.com")), [0, 2]);
}

#[test]
fn what_can_not_be_matched_is_refused_with_its_reason() {
    for pattern in ["(", "a{2", "[z-a]", "(?=a)b", r"(a)\1", r"\p{Greek}", "*a"] {
        let problem = problem(pattern);
        assert!(
            matches!(problem, Problem::Syntax(_)),
            "{pattern}: {problem}"
        );
    }
    for pattern in ["", "a*", "^", "$", ".*", "^.*$", r"(ads)?", r"\b", "^$"] {
        assert_eq!(problem(pattern), Problem::MatchesEmpty, "{pattern}");
    }
    for pattern in [
        ".",
        "[a-z]",
        "^.+$",
        r"\..",
        "[^.]+",
        r"\w",
        "^[a-z0-9._-]{3,}$",
        r"\.[a-z]",
    ] {
        assert_eq!(problem(pattern), Problem::MatchesEverything, "{pattern}");
    }
    for pattern in [
        r"a\x00b",
        "ads ",
        r"(?-i)ADS",
        r"[\x80-\xFF]",
        "(a{100}){100}",
    ] {
        assert_eq!(problem(pattern), Problem::MatchesNothing, "{pattern}");
    }
    for pattern in ["[a-z]*a[ab]{20}$", "([ab]{0,90}c){0,900}x"] {
        assert_eq!(problem(pattern), Problem::TooLarge, "{pattern}");
    }
    assert_eq!(problem("bücher"), Problem::NotAscii('ü'));
    assert_eq!(problem(&"a".repeat(4097)), Problem::TooLong(4097));
    assert_eq!(problem(r"(?u:\bads)"), Problem::UnicodeBoundary);
}

#[test]
fn errors_are_sentences_with_a_remedy() {
    let Err(error) = PatternSet::new(["^ads\\.", "ads("]) else {
        panic!("it is accepted");
    };
    let message = "pattern 1: unclosed group, at character 4; look-around and back-references are not supported";
    assert_eq!(error.to_string(), message);
}

#[test]
fn patterns_without_a_literal_are_limited() {
    let patterns = (0..=MAX_UNFILTERED).map(|count| format!("[0-9]{{{}}}$", count + 4));
    let patterns: Vec<_> = patterns.collect();
    let error = PatternSet::new(&patterns).expect_err("one too many");
    assert_eq!(
        (error.index, error.problem),
        (MAX_UNFILTERED, Problem::Unfiltered)
    );
    assert!(PatternSet::new(&patterns[1..]).is_ok());
}

#[test]
fn patterns_that_share_their_only_literal_are_limited() {
    let patterns = |count: usize| (1..=count).map(|length| format!("^.{{{length}}}abcd[0-9]"));
    assert!(PatternSet::new(patterns(100)).is_ok());
    let error = PatternSet::new(patterns(200)).expect_err("too many");
    assert_eq!(error.problem, Problem::TooManyAlike("abcd".to_owned()));
}

#[test]
fn there_are_at_most_65536_patterns() {
    let patterns = (0..=MAX_PATTERNS).map(|which| format!("^{which:06}"));
    let error = PatternSet::new(patterns).expect_err("one too many");
    assert_eq!(
        (error.index, error.problem),
        (MAX_PATTERNS, Problem::TooMany)
    );
}

#[test]
fn an_empty_set_matches_nothing() {
    let set = PatternSet::new([""; 0]).expect("no patterns");
    assert!(set.is_empty());
    assert_eq!(set.find(&text("ads.example.com")), None);
}

/// Patterns like those of public lists, always the same.
fn realistic(count: usize) -> Vec<String> {
    let words = [
        "ad",
        "ads",
        "adserver",
        "banner",
        "beacon",
        "click",
        "count",
        "pixel",
        "popup",
        "stat",
        "tag",
        "telemetry",
        "track",
        "traffic",
    ];
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        (state >> 33) as usize % below
    };
    let mut word = || {
        let mut made = String::new();
        for _ in 0..2 + random(3) {
            made.push(char::from(b"bcdfghjklmnpqrstvwxyz"[random(21)]));
            made.push(char::from(b"aeiou"[random(5)]));
        }
        match random(4) {
            0 => words[random(words.len())].to_owned(),
            1 => format!("{}{made}", words[random(words.len())]),
            _ => made,
        }
    };
    let patterns = (0..count).map(|which| {
        let (one, two) = (word(), word());
        match which % 12 {
            0 => format!(r"^{one}[sx]?[0-9]*[-.]{two}"),
            1 => format!(r"(^|\.){one}(er|ing)?[0-9]+\.{two}\."),
            2 => format!(r"^.*\.{one}{two}\..*$"),
            3 => format!(r"{one}.*\.{two}\.com$"),
            4 => format!(r"^(.+[_.-])?{one}{two}(er?|ice)?s?[0-9]*[_.-]"),
            5 => format!(r"(\.|^){one}{two}\.(com|net|org)$"),
            6 => format!(r"^{one}{two}[0-9]{{1,3}}\."),
            7 => format!(r"^([a-z0-9-]+\.)*{one}-{two}\.[a-z]+$"),
            8 => format!(r"{one}[a-z]+{two}"),
            9 => format!(r"^[a-z]{{2,8}}\.{one}{two}\.(ru|cn|top)$"),
            10 => format!(r".*{one}.*{two}.*\.info"),
            _ => format!(r"{one}{two}[0-9a-f]{{8}}"),
        }
    });
    patterns.collect()
}

#[test]
fn realistic_patterns_take_less_than_900_bytes_each() {
    let patterns = realistic(300);
    let set = PatternSet::new(&patterns).expect("valid patterns");
    assert_eq!(set.len(), 300);
    let each = set.memory() / set.len();
    assert!((100..900).contains(&each), "{each}");
}

#[test]
fn a_name_without_a_literal_runs_no_automaton() {
    let set = PatternSet::new(realistic(300)).expect("valid patterns");
    let none = |_| u32::MAX;
    let work = set.search(&text("www.wikipedia.org"), none);
    assert_eq!(work.steps, 0);
    assert!(work.compared <= 4, "{work:?}");
}

#[test]
fn an_attacker_who_knows_the_patterns_can_not_exceed_the_bound() {
    let mut patterns = realistic(300);
    // The literal is everywhere in a name of this letter, and no run ends early.
    patterns.extend((1..81).map(|length| format!("^[a-z]{{{length}}}.*aaaa.*[0-9]")));
    patterns.extend((5..8).map(|length| format!("a{{{length}}}.*[0-9]")));
    let set = PatternSet::new(&patterns).expect("valid patterns");
    let label = "a".repeat(63);
    let mut names = vec![format!("{label}.{label}.{label}.{}", &label[..61])];
    // Names that contain the literals of many patterns.
    let letters = |pattern: &String| {
        let mut parts = pattern.split(|c: char| !c.is_ascii_lowercase());
        parts
            .find(|part| part.len() > 3)
            .unwrap_or("ads")
            .to_owned()
    };
    for some in patterns[..300].chunks(15) {
        let some: Vec<_> = some.iter().map(letters).collect();
        names.push(some.join("."));
    }
    for name in &names {
        let text = text(name);
        let (len, windows) = (text.as_bytes().len(), text.edged().len() - 3);
        let work = set.search(&text, |_| u32::MAX);
        assert!(work.compared <= 128 * windows, "{name}: {work:?}");
        let runs = set.groups.len() + set.unfiltered.len();
        let runs = runs.min(16 * windows + set.unfiltered.len());
        assert!(work.steps <= runs * (len + 1), "{name}: {work:?}");
    }
    // Each automaton is run once, not for each place of its literal. The last three patterns begin with their literal.
    for (from, to) in [(300, 380), (380, 383)] {
        let set = PatternSet::new(&patterns[from..to]).expect("valid patterns");
        let text = text(&names[0]);
        let work = set.search(&text, |_| u32::MAX);
        let most = set.groups.len() * (text.as_bytes().len() + 1);
        assert!(work.steps > 0 && work.steps <= most, "{work:?}");
    }
}

#[test]
fn realistic_patterns_are_far_from_the_limit_of_the_work() {
    let mut cost = SearchCost::default();
    for patterns in realistic(900).chunks(300) {
        let set = PatternSet::new(patterns).expect("valid patterns");
        set.add_cost(&mut cost);
    }
    assert_eq!(cost.check_list(), Ok(()));
    assert!((253..350).contains(&cost.filtered()), "{}", cost.filtered());
}

#[test]
fn a_list_may_use_a_part_of_what_an_image_may() {
    let set = PatternSet::new(["ads[0-9]"]).expect("valid");
    let mut cost = SearchCost::default();
    let mut within = |check: fn(&SearchCost) -> Result<(), TooMuchWork>| {
        while check(&cost).is_ok() {
            set.add_cost(&mut cost);
        }
        cost.sets() - 1
    };
    assert_eq!(within(SearchCost::check_list), 16);
    assert_eq!(within(SearchCost::check), 128);
}

#[test]
fn the_work_of_many_sets_is_limited() {
    let most = |patterns: &[String]| {
        let set = PatternSet::new(patterns).expect("valid patterns");
        let mut cost = SearchCost::default();
        let mut exceeds = (1..).find_map(|sets| {
            set.add_cost(&mut cost);
            cost.check().err().map(|why| (sets, why))
        });
        exceeds.take().expect("there are limits")
    };
    assert_eq!(most(&["ads".to_owned()]), (129, TooMuchWork::Sets));
    let short: Vec<_> = (2..18).map(|len| format!("[0-9]{{{len}}}q[0-9]")).collect();
    assert_eq!(
        most(&short),
        (33, TooMuchWork::Unfiltered),
        "of two automata"
    );
    let (sets, why) = most(&["4[0-9]{9}[a-z]".to_owned()]);
    assert_eq!(why, TooMuchWork::Unfiltered);
    assert!(sets < 64, "{sets} large automata");
    // Sixteen automata for each of these texts.
    let alike = ["aaaa", "bbbb", "cccc", "dddd", "eeee"]
        .map(|text| (0..128).map(move |len| format!("^.{{{len}}}{text}.*[0-9]")));
    let alike: Vec<_> = alike.into_iter().flatten().collect();
    let (sets, why) = most(&alike);
    assert_eq!(why, TooMuchWork::Filtered);
    // Patterns with few characters between `^` and the text have other literals.
    assert!((90..=105).contains(&sets), "{sets} sets");
}

#[test]
fn a_search_never_allocates() {
    let set = set(&[
        r"^ad[sx]?[0-9]*\.",
        "track.*[0-9]",
        "[0-9]{4}",
        "[a-z]+-banner[0-9]",
        "popup",
    ]);
    let mut found = None;
    for name in [
        r"ad\200",
        "ads1.popup.net",
        "tracker.a-banner2.1234",
        "www.example.com",
    ] {
        let name = Name::from_text(name).expect("a valid name");
        let counted = allocation_counter::measure(|| found = set.find(&NameText::new(&name)));
        assert_eq!(counted.count_total, 0, "{name}");
    }
    assert_eq!(found, None);
}

/// Parts of random patterns over few letters, so that they match often.
fn part() -> impl Strategy<Value = String> {
    let atom = prop_oneof![
        4 => "[ab.]{1,6}".prop_map(|text| text.replace('.', r"\.")),
        2 => Just("abba".to_owned()),
        1 => Just("Ab-1".to_owned()),
        1 => Just("[a-c]".to_owned()),
        1 => Just("[^b]".to_owned()),
        1 => Just(".".to_owned()),
        1 => Just("[0-9]".to_owned()),
        1 => Just(r"\b".to_owned()),
        1 => Just(r"\B".to_owned()),
        1 => Just("^".to_owned()),
        1 => Just("$".to_owned()),
        1 => Just(r"\\".to_owned()),
    ];
    let repeated = (
        atom,
        prop_oneof![5 => Just(""), 1 => Just("*"), 1 => Just("+"), 1 => Just("?"), 1 => Just("{2,3}")],
    );
    let leaf = repeated.prop_map(|(atom, count)| format!("(?:{atom}){count}"));
    leaf.prop_recursive(3, 12, 4, |inner| {
        let alternatives = prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            3 => prop::collection::vec(inner, 1..4).prop_map(|parts| parts.concat()),
            1 => alternatives.clone().prop_map(|parts| format!("({})", parts.join("|"))),
            1 => alternatives.prop_map(|parts| format!("({})?", parts.join("|"))),
        ]
    })
}

fn pattern() -> impl Strategy<Value = String> {
    let start = prop_oneof![4 => Just(""), 1 => Just("^"), 1 => Just("^.*"), 1 => Just("^.+"), 1 => Just(r"(^|\.)")];
    let end = prop_oneof![4 => Just(""), 1 => Just("$"), 1 => Just(".*$"), 1 => Just(".+"), 1 => Just(r"(\.|$)")];
    (start, part(), end).prop_map(|(start, part, end)| format!("{start}{part}{end}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_search_finds_the_patterns_that_match_one_by_one(
        patterns in prop::collection::vec(pattern(), 1..20),
        names in prop::collection::vec(r"([ab]{1,8}|abba|[abc1-]{1,5}|a\\\.b|\\200)(\.([ab]{1,3}|abba|[abc1-]{1,5})){0,4}", 1..20),
    ) {
        let is_accepted = |pattern: &String| PatternSet::new([pattern]).is_ok();
        let patterns: Vec<_> = patterns.into_iter().filter(is_accepted).take(MAX_UNFILTERED).collect();
        let set = PatternSet::new(&patterns).expect("each is accepted");
        let models: Vec<_> = patterns.iter().map(|pattern| naive(pattern)).collect();
        for name in &names {
            let text = text(name);
            let matching = models.iter().enumerate().filter(|(_, model)| model.is_match(text.as_bytes()));
            let matching: Vec<_> = matching.map(|(index, _)| index).collect();
            prop_assert_eq!(set.find_all(&text), matching.clone(), "{} {:?}", name, patterns);
            prop_assert_eq!(set.find(&text), matching.first().copied());
        }
    }
}
