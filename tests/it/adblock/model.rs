//! Random lists are compared with a matcher that has a regular expression for each rule.

use std::fmt::Write;

use proptest::prelude::*;
use tapis::policy::rule::Kind;

use super::filter::Filter;

/// Few labels, so that rules and names meet.
fn label() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "ab", "ads", "a-b", "x1"]).prop_map(str::to_owned)
}

fn name() -> impl Strategy<Value = String> {
    let labels = prop::collection::vec(label(), 0..4);
    let top = prop::sample::select(vec!["test", "com"]);
    (labels, top).prop_map(|(mut labels, top)| {
        labels.push(top.to_owned());
        labels.join(".")
    })
}

/// A rule without modifiers.
fn pattern() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => name(),
        1 => label(),
        1 => Just(".".to_owned()),
        1 => Just("-".to_owned()),
    ];
    let body = prop::collection::vec(part, 1..3);
    let body = (body, prop::sample::select(vec!["", "*", ".", "*."]));
    let body = body.prop_map(|(parts, between)| parts.join(between));
    let start = prop::sample::select(vec!["||", "||", "||", "|", "", "*", "*.", "||*."]);
    let end = prop::sample::select(vec!["^", "^", "^", "^|", "|", "", "*", "^*"]);
    (start, body, end).prop_map(|(start, body, end)| format!("{start}{body}{end}"))
}

#[derive(Clone, Debug)]
struct Rule {
    allows: bool,
    is_important: bool,
    pattern: String,
}

fn rule() -> impl Strategy<Value = Rule> {
    let bits = (prop::bool::weighted(0.3), prop::bool::weighted(0.2));
    (bits, pattern()).prop_map(|((allows, is_important), pattern)| Rule {
        allows,
        is_important,
        pattern,
    })
}

/// A name alone, as the documentation has it: a line without special characters.
fn is_name(pattern: &str) -> bool {
    let is_label = |label: &str| {
        let mut bytes = label.bytes();
        bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let top = pattern.rsplit('.').next().expect("a part");
    let is_top = top.len() > 1 && top.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_top && pattern.split('.').all(is_label)
}

/// The special characters, written out as the documentation explains them.
fn regex(rule: &Rule) -> String {
    let pattern = &*rule.pattern;
    if is_name(pattern) && !rule.allows && !rule.is_important {
        return format!("^{}$", regex_syntax::escape(pattern));
    }
    let (start, body) = match pattern {
        _ if pattern.starts_with("||") => (r"^([a-z0-9_.-]+\.)?", &pattern[2..]),
        _ if pattern.starts_with('|') => ("^", &pattern[1..]),
        _ => ("", pattern),
    };
    let (body, end) = match body.strip_suffix('|') {
        Some(body) => (body, "$"),
        None => (body, ""),
    };
    let mut regex = start.to_owned();
    for character in body.chars() {
        match character {
            '*' => regex.push_str(".*"),
            '^' => regex.push('$'),
            '.' => regex.push_str(r"\."),
            other => regex.push(other),
        }
    }
    regex + end
}

/// The decision of the rule of highest priority.
fn expected(rules: &[(Rule, regex::Regex)], name: &str) -> &'static str {
    let matching = rules.iter().filter(|(_, regex)| regex.is_match(name));
    let best = matching.max_by_key(|(rule, _)| (rule.is_important, rule.allows));
    match best {
        None => "pass",
        Some((Rule { allows: true, .. }, _)) => "allow",
        Some(_) => "block",
    }
}

fn text(rules: &[Rule]) -> String {
    let mut text = String::new();
    for rule in rules {
        let allows = if rule.allows { "@@" } else { "" };
        let modifier = if rule.is_important { "$important" } else { "" };
        writeln!(text, "{allows}{}{modifier}", rule.pattern).expect("memory");
    }
    text
}

proptest! {
    #[test]
    fn a_list_decides_as_the_regular_expressions_of_its_rules(
        rules in prop::collection::vec(rule(), 1..12),
        names in prop::collection::vec(name(), 1..30),
    ) {
        // Patterns that are refused for their width are not part of the comparison.
        let rules: Vec<_> = rules.into_iter().filter(|rule| {
            let all = rule.pattern.chars().all(|c| "*^|.".contains(c));
            rule.pattern.len() > 2 && !all
        }).collect();
        let filter = Filter::new(Kind::Block, text(&rules).as_bytes());
        prop_assume!(filter.tally.bad_total() == 0);
        let compiled: Vec<_> = rules.iter().map(|rule| {
            let regex = regex::Regex::new(&regex(rule)).expect("valid");
            (rule.clone(), regex)
        }).collect();
        for name in names {
            let answer = filter.answer(&name, "A");
            prop_assert_eq!(&answer, expected(&compiled, &name), "{} in {}", name, text(&rules));
        }
    }
}
