//! Finds the rules that match a name in a list's file, with their lines.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{RuleLine, left_out_text};
use crate::config::{Content, Format, List, regular};
use crate::control::admin::verdict::{MatchingRule, RuleTrigger};
use crate::control::guard::patterns::GuardedPatterns;
use crate::control::guard::policy::GuardPolicy;
use crate::control::guard::protected::Guarded;
use crate::control::guard::suppressed::admits_rule;
use crate::control::list_file::file::MAX_FILE;
use crate::control::list_file::parse::{ParsedRule, ParsedTrigger, Reader, excerpt_of_line};
use crate::control::list_file::suppressed::SuppressedRules;
use crate::policy::effect::Effect;
use crate::policy::explain::Role;
use crate::policy::patterns::{NameText, PatternSet};
use crate::policy::rpz::{rule_lines, rule_owners};
use crate::policy::rule::Scope;
use crate::wire::name::Name;

/// The matching rules in a list's file, the one of highest precedence first, each with its first line. Those that
/// guards leave out are added to `left_out`. The file is read again, because images have neither line numbers nor
/// pruned rules.
pub(super) fn rules_in_file(
    list: &List,
    guard_policy: &GuardPolicy,
    name: &Name,
    left_out: &mut Vec<String>,
) -> Vec<RuleLine> {
    let bytes = match list.content {
        Content::Embedded(text) => text.as_bytes().to_vec(),
        Content::File => regular::read(&list.source.path, MAX_FILE).unwrap_or_default(),
        Content::Transferred => return Vec::new(),
    };
    // The closest encloser of the name, if the list is a policy zone.
    let mut encloser = 0;
    // By rule, in the order of precedence: a file may have the same rule millions of times.
    let (mut found, mut suppressed) = (BTreeMap::new(), SuppressedRules::default());
    let mut patterns: Vec<Pattern> = Vec::new();
    let (protected_names, guarded) = (guard_policy.protected_names(), Guarded::from(list));
    let mut each = |rule: ParsedRule<'_>| {
        let (owner, scope) = match rule.trigger {
            ParsedTrigger::Name(owner, scope) => (owner, scope),
            ParsedTrigger::Network(_) => return,
            ParsedTrigger::Pattern(pattern) => {
                patterns.push((pattern.to_owned(), rule.effect.cloned(), rule.line));
                return;
            }
        };
        let reaches = scope.reaches(owner, name);
        let pairs = owner.labels_from_root().zip(name.labels_from_root());
        let shared = match list.zone {
            Some(_) => pairs.take_while(|(one, other)| one == other).count(),
            None => 0,
        };
        if !reaches && shared <= encloser {
            return;
        }
        // Of the suppressed rules, only those that reach the name are reported.
        let unreported = &mut SuppressedRules::default();
        let suppressed = if reaches { &mut suppressed } else { unreported };
        if admits_rule(suppressed, protected_names, guarded, rule) {
            encloser = encloser.max(shared);
            if reaches {
                let effect = rule.effect.filter(|_| list.zone.is_some());
                let records = |effect| rule_lines(&rule_owners(owner, scope), effect);
                let line = || RuleLine {
                    line: Some(rule.line),
                    records: effect.map_or_else(Vec::new, records),
                    ..RuleLine::new(&list.source, owner, scope)
                };
                let effect = rule.effect.filter(|_| list.format == Format::Adblock);
                let tier = effect.map(|effect| effect.tier).unwrap_or_default();
                let key = (Reverse(tier), precedence(owner, scope), effect.cloned());
                let found = found.entry(key);
                found.or_insert_with(|| (owner.label_count(), line()));
            }
        }
    };
    let mut reader = Reader::new(list.into(), list.apex());
    reader.scan(&bytes);
    reader.feed(&bytes, &mut each);
    let open_line = reader.open_line();
    reader.finish(&mut each);
    let patterns = matching(patterns, name, &mut suppressed, |patterns, suppressed| {
        let mut lines = Vec::new();
        let guard = (protected_names, guarded);
        patterns.finish(suppressed, guard, open_line, &mut |rule| {
            if let ParsedTrigger::Pattern(pattern) = rule.trigger {
                lines.push(RuleLine {
                    rule: RuleTrigger::Pattern(pattern.to_owned()).to_string(),
                    scope: None,
                    line: Some(rule.line),
                    ..RuleLine::new(&list.source, name, Scope::Exact)
                });
            }
        });
        lines
    });
    let (source, path) = (&list.source.name, &list.source.path);
    let texts = suppressed
        .first
        .iter()
        .map(|left| left_out_text(source, path, left));
    left_out.extend(texts);
    let found = found.into_values();
    let found = found.filter(|(labels, _)| *labels >= encloser);
    let mut lines: Vec<_> = found.map(|(_, line)| line).chain(patterns).collect();
    if list.format == Format::Adblock {
        for line in &mut lines {
            let number = line.line.unwrap_or_default();
            line.text = Some(excerpt_of_line(&bytes, number));
        }
    }
    lines
}

/// A pattern, its effect and its line.
type Pattern = (String, Option<Effect>, u32);

/// Calls `finish` with the patterns that match a name.
fn matching(
    patterns: Vec<Pattern>,
    name: &Name,
    suppressed: &mut SuppressedRules,
    finish: impl FnOnce(&GuardedPatterns, &mut SuppressedRules) -> Vec<RuleLine>,
) -> Vec<RuleLine> {
    let (set, _) = PatternSet::lenient(patterns.iter().map(|(pattern, ..)| pattern));
    let mut matching = GuardedPatterns::default();
    for index in set.find_all(&NameText::new(name)) {
        let (pattern, effect, line) = &patterns[index];
        matching.add(pattern, effect.as_ref(), *line);
    }
    finish(&matching, suppressed)
}

/// Sets the roles of the rules on names that one source's file has, the one of highest precedence first. The roles can be
/// derived from the source's rules in force, although a rule that another rule of the source covers is missing there. Adds
/// the source's rules on addresses, which are not looked for in the file.
pub(super) fn complete(lines: &mut Vec<RuleLine>, in_force: &[&MatchingRule]) {
    let (on_names, on_addresses): (Vec<&MatchingRule>, Vec<_>) = in_force
        .iter()
        .copied()
        .partition(|rule| rule.trigger.scope().is_some());
    let has = |role| on_names.iter().any(|rule| rule.role == role);
    // All rules of a source that match a name are ignored, or logged only, if one of them is.
    let mut common = [Role::Ignored, Role::LogOnly].into_iter();
    let common = common.find(|role| has(*role)).unwrap_or(Role::Loses);
    let mut decides = has(Role::Decides);
    for line in lines.iter_mut() {
        let in_force = on_names.iter();
        let mut same = in_force.filter(|rule| rule.trigger.to_string() == line.rule);
        let fails = same.next().is_some_and(|rule| rule.role == Role::Fails)
            && same.all(|rule| rule.role == Role::Fails);
        line.role = Some(match fails {
            true => Role::Fails,
            false if std::mem::take(&mut decides) => Role::Decides,
            false => common,
        });
    }
    // Of one source, rules on the client come first, and those on the answer last.
    let (on_client, on_answer): (Vec<&MatchingRule>, Vec<_>) = on_addresses
        .into_iter()
        .partition(|rule| matches!(rule.trigger, RuleTrigger::Client(_)));
    lines.splice(0..0, on_client.into_iter().map(RuleLine::in_force));
    lines.extend(on_answer.into_iter().map(RuleLine::in_force));
}

/// Gives the rules of a filter list that are in force, the one of highest precedence first, the lines that its file has. The
/// other rules in the file have no effect beside them.
pub(super) fn complete_filter(lines: &mut Vec<RuleLine>, in_force: &[&MatchingRule]) {
    let mut in_file = std::mem::take(lines);
    for rule in in_force {
        let mut line = RuleLine::in_force(rule);
        // Rules with one trigger are in the order of their precedence in both.
        if let Some(at) = in_file.iter().position(|other| other.rule == line.rule) {
            let found = in_file.remove(at);
            (line.line, line.text) = (found.line, found.text);
        }
        lines.push(line);
    }
    lines.extend(in_file.into_iter().map(|line| RuleLine {
        role: Some(Role::Loses),
        ..line
    }));
}

/// Of several matching rules of one source, the one with the lowest value decides.
pub(super) fn precedence(owner: &Name, scope: Scope) -> (Reverse<usize>, u32) {
    (Reverse(owner.label_count()), scope.weight())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use jiff::Timestamp;

    use super::*;
    use crate::config::Config;
    use crate::control::inspect::policy_at::PolicyAt;
    use crate::policy::decide::Decision;

    #[test]
    fn a_rule_of_a_zone_that_allows_a_protected_name_is_shown_as_in_force_with_its_record() {
        let folder = tempfile::tempdir().expect("a folder");
        let zone = "$ORIGIN zone.\n@ SOA . . 1 60 60 600 60\nbank.example 30 CNAME rpz-passthru.\n\
                    *.bank.example 30 CNAME .\n";
        fs::write(folder.path().join("zone"), zone).expect("written");
        fs::write(folder.path().join("protect"), "bank.example\n").expect("written");
        let text = "[[list]]\nname = \"zone\"\npath = \"zone\"\nformat = \"rpz\"\n[guard]\nprotect = \"protect\"\n";
        let config = Config::parse(text, &folder.path().join("tapis.toml")).expect("valid");
        let guard_policy = GuardPolicy::read(&config);
        let list = &config.lists[0];
        let mut left_out = Vec::new();
        let name = Name::from_text("bank.example").expect("a name");
        let lines = rules_in_file(list, &guard_policy, &name, &mut left_out);
        assert!(left_out.is_empty(), "{left_out:?}");
        assert_eq!(lines[0].records, ["bank.example CNAME rpz-passthru."]);
    }

    #[test]
    fn wildcards_of_a_zone_that_a_closer_name_ends_are_neither_applied_nor_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let zone = "$ORIGIN zone.\n@ SOA . . 1 60 60 600 60\n*.a.example CNAME .\nd.c.b.a.example CNAME .\n";
        fs::write(folder.path().join("zone"), zone).expect("written");
        let text = "[[list]]\nname = \"zone\"\npath = \"zone\"\nformat = \"rpz\"\n";
        let config = Config::parse(text, &folder.path().join("tapis.toml")).expect("valid");
        let guard_policy = GuardPolicy::read(&config);
        let policy = PolicyAt::now(&config, &guard_policy, Timestamp::now());
        for (asked, expected) in [
            ("x.a.example", Some("*.a.example")),
            ("b.a.example", None),
            ("x.b.a.example", None),
            ("x.c.b.a.example", None),
            ("d.c.b.a.example", Some("d.c.b.a.example")),
            ("x.d.c.b.a.example", None),
        ] {
            let name = Name::from_text(asked).expect("a name");
            let (snapshot, matching) = policy.snapshot_for(&name).expect("room");
            let is_blocked = matches!(snapshot.decide(&name), Decision::Blocked { .. });
            assert_eq!(is_blocked, expected.is_some(), "{asked}");
            let expected: Vec<_> = expected.into_iter().collect();
            let shown = matching.iter();
            let shown = shown.map(|rule| rule.scope.notation(&rule.owner));
            assert_eq!(shown.collect::<Vec<_>>(), expected, "{asked}");
            let list = &policy.lists[0].list;
            let lines = rules_in_file(list, &guard_policy, &name, &mut Vec::new());
            let lines: Vec<_> = lines.iter().map(|line| &*line.rule).collect();
            assert_eq!(lines, expected, "{asked}");
        }
    }
}
