//! Sets without the patterns that are not accepted.

use super::*;

/// The patterns that are refused, by index, with the problems.
fn refused(patterns: &[&str]) -> (PatternSet, Vec<(usize, Problem)>) {
    let (set, refused) = PatternSet::lenient(patterns);
    let refused = refused
        .into_iter()
        .map(|error| (error.index, error.problem));
    (set, refused.collect())
}

#[test]
fn patterns_that_are_not_accepted_are_left_out_and_the_others_keep_their_indices() {
    let patterns = [
        "ads[0-9]",
        "(",
        "track",
        ".*",
        "[a-z0-9.-]+",
        "banner.*x",
        "a.{40}b",
        "(?=a)b",
        "^x$",
    ];
    let (set, refused) = refused(&patterns);
    let mut indices: Vec<_> = refused.iter().map(|(index, _)| *index).collect();
    indices.sort_unstable();
    assert_eq!(indices, [1, 3, 4, 6, 7]);
    assert!(refused.contains(&(4, Problem::MatchesEverything)));
    assert!(refused.contains(&(6, Problem::TooLarge)));
    for (name, expected) in [
        ("ads1.test", 0),
        ("track.test", 2),
        ("banner.x", 5),
        ("x", 8),
    ] {
        assert_eq!(set.find_all(&text(name)), [expected], "{name}");
    }
    assert_eq!(set.find(&text("other.test")), None);
}

#[test]
fn patterns_that_look_for_the_same_text_as_too_many_others_are_left_out() {
    // All windows of four bytes are the same.
    let patterns: Vec<_> = (0..40)
        .map(|count| format!("^[a-z]{{{count}}}[^a]aaaa[^a]"))
        .collect();
    let patterns: Vec<_> = patterns.iter().map(|pattern| &**pattern).collect();
    let (set, refused) = refused(&patterns);
    assert!(
        refused
            .iter()
            .all(|(_, problem)| matches!(problem, Problem::TooManyAlike(_)))
    );
    let kept = patterns.len() - refused.len();
    assert!(kept > 0 && PatternSet::new(patterns.iter().take(kept)).is_ok());
    let is_refused = |index: &usize| refused.iter().any(|(other, _)| other == index);
    for count in (0..40).filter(|count| !is_refused(count)) {
        let name = format!("{}xaaaay", "b".repeat(count));
        assert!(set.find_all(&text(&name)).contains(&count), "{count}");
    }
    for count in (0..40).filter(is_refused) {
        let name = format!("{}xaaaay", "b".repeat(count));
        assert!(!set.find_all(&text(&name)).contains(&count), "{count}");
    }
}

#[test]
fn what_is_left_of_a_set_is_accepted_as_a_set() {
    let mut patterns = realistic(100);
    patterns.extend(["(", ".+", "a.{40}b"].map(str::to_owned));
    patterns.extend((0..40).map(|count| format!("^[a-z]{{{}}}[0-9]$", 10 + count)));
    let (_, refused) = PatternSet::lenient(&patterns);
    assert!(refused.len() > 3);
    let is_refused = |index: usize| refused.iter().any(|error| error.index == index);
    let left = patterns.iter().enumerate();
    let left = left.filter(|(index, _)| !is_refused(*index));
    assert!(PatternSet::new(left.map(|(_, pattern)| pattern)).is_ok());
}

#[test]
fn five_thousand_patterns_of_filter_lists_take_at_most_four_megabytes() {
    let patterns = (0..5_000).map(|number| match number % 5 {
        0 => format!(r"(^|\.)cdn{number}.*\.example\.com$"),
        1 => format!(r"-ads{number}\."),
        2 => format!(r"(^|\.)track{number}\."),
        3 => format!(r"^pixel[0-9]+\.site{number}\.(com|net)$"),
        _ => format!(r"stat{number}\.test$"),
    });
    let (set, refused) = PatternSet::lenient(patterns);
    assert!(refused.is_empty(), "{refused:?}");
    assert!(set.memory() <= 4 << 20, "{} bytes", set.memory());
}

#[test]
fn patterns_that_match_all_names_cost_no_more_than_a_few_rounds() {
    // Each matches all names, has no literal, and differs from the others.
    let patterns = |count: usize| (0..count).map(|number| format!("[.]|[a-y]{{3}}{number}$"));
    let allocations = |count| {
        let patterns: Vec<_> = patterns(count).collect();
        let counted = allocation_counter::measure(|| {
            let (_, refused) = PatternSet::lenient(&patterns);
            assert_eq!(refused.len(), count);
        });
        counted.count_total
    };
    let (some, more) = (allocations(1000), allocations(4000));
    assert!(more < 5 * some, "{some} and {more} allocations");
    let (_, refused) = PatternSet::lenient(patterns(1000));
    let of = |problem| {
        let refused = refused.iter();
        refused.filter(|error| error.problem == problem).count()
    };
    let rounds = of(Problem::MatchesEverything) / MAX_UNFILTERED;
    assert!((1..=8).contains(&rounds), "{rounds} rounds");
    assert_eq!(
        of(Problem::MatchesEverything) + of(Problem::Unfiltered),
        1000
    );
}

#[test]
fn places_of_patterns_that_match_all_names_are_given_to_others() {
    let wide = (0..MAX_UNFILTERED).map(|number| format!("[.]|[a-y]{{3}}{number}$"));
    let patterns: Vec<_> = wide.chain(["^[a-z]{2}[0-9]$".to_owned()]).collect();
    let (set, refused) = PatternSet::lenient(&patterns);
    assert_eq!(refused.len(), MAX_UNFILTERED);
    assert_eq!(set.find(&text("ab1")), Some(MAX_UNFILTERED));
}
