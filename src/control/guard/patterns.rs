//! Decides which rules with patterns the guards suppress.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use crate::control::guard::protected::{Cover, Guarded, ProtectedName, ProtectedNames, Protection};
use crate::control::guard::sample::{SUFFIXES, matching_below, matching_usual};
use crate::control::guard::suppressed::{note_release, queries, record};
use crate::control::list_file::parse::{ParsedRule, ParsedTrigger};
use crate::control::list_file::suppressed::{LeftOut, SuppressedRules};
use crate::policy::effect::{Effect, Tier};
use crate::policy::patterns::{NameText, PatternSet};
use crate::policy::rule::{Kind, Scope};
use crate::wire::name::Name;

/// The rules with patterns of one list. Names are searched with all patterns at once: protected names, and names that stand
/// for those below public suffixes and protected subtrees.
#[derive(Default)]
pub(crate) struct GuardedPatterns(Vec<GuardedPattern>);

struct GuardedPattern {
    pattern: String,
    effect: Option<Effect>,
    line: u32,
}

/// What a rule covers.
struct Finding {
    protection: Protection,
    why: String,
    /// Whether the rule applies nevertheless.
    counts: bool,
}

impl GuardedPatterns {
    /// Adds a rule.
    pub(crate) fn add(&mut self, pattern: &str, effect: Option<&Effect>, line: u32) {
        self.0.push(GuardedPattern {
            pattern: pattern.to_owned(),
            effect: effect.cloned(),
            line,
        });
    }

    /// Calls `rule` with each rule that applies, and records those that the guards suppress or report. `open_line` is the
    /// number of a last line without a line end.
    pub(crate) fn finish(
        &self,
        suppressed: &mut SuppressedRules,
        (protected_names, list): (&ProtectedNames, Guarded),
        open_line: Option<u32>,
        rule: &mut impl FnMut(ParsedRule<'_>),
    ) {
        let (distinct, numbers) = self.distinct();
        let mut search = Search {
            rules: &distinct,
            protected_names,
            list,
            suffixes: HashSet::new(),
            findings: HashMap::new(),
            suppressed,
        };
        search.search();
        let findings = search.findings;
        for (found, number) in self.0.iter().zip(numbers) {
            let cut = found.may_be_cut(open_line).then(Finding::cut);
            if let Some(finding) = cut.as_ref().or_else(|| findings.get(&number)) {
                let Finding {
                    protection, counts, ..
                } = *finding;
                record(suppressed, (protection, counts), list.kept, || LeftOut {
                    line: found.line,
                    rule: format!("/{}/", found.pattern),
                    protection,
                    why: finding.why.clone(),
                });
                if !counts {
                    continue;
                }
            }
            rule(ParsedRule {
                trigger: ParsedTrigger::Pattern(&found.pattern),
                effect: found.effect.as_ref(),
                line: found.line,
            });
        }
    }

    /// The rules without those that differ in nothing but their line, and for each rule the number of the one that is equal.
    fn distinct(&self) -> (Vec<&GuardedPattern>, Vec<usize>) {
        let (mut known, mut distinct) = (HashMap::new(), Vec::new());
        let mut numbers = Vec::with_capacity(self.0.len());
        for found in &self.0 {
            let key = (&found.pattern, &found.effect);
            numbers.push(*known.entry(key).or_insert_with(|| {
                distinct.push(found);
                distinct.len() - 1
            }));
        }
        (distinct, numbers)
    }
}

impl GuardedPattern {
    /// Whether the file ends within the text of the pattern. A pattern that does not say where names end matches more names
    /// if its last characters are missing.
    fn may_be_cut(&self, open_line: Option<u32>) -> bool {
        let ends = self.pattern.strip_suffix('$');
        open_line == Some(self.line) && ends.is_none_or(|before| before.ends_with(".*"))
    }

    fn tier(&self) -> Tier {
        self.effect
            .as_ref()
            .map_or(Tier::Usual, |effect| effect.tier)
    }

    /// Whether the rule has a condition that does not hold for a name.
    fn leaves_out(&self, name: &Name) -> bool {
        let condition = self.effect.as_ref();
        let condition = condition.and_then(|effect| effect.condition.as_ref());
        condition.is_some_and(|condition| condition.left_out_by(name).is_some())
    }
}

impl Finding {
    fn cut() -> Self {
        Self {
            protection: Protection::Cut,
            why: "has no end, and the file ends within its line: cut off?".to_owned(),
            counts: false,
        }
    }
}

/// The search for names that rules cover.
struct Search<'s> {
    /// Rules of which no two are equal.
    rules: &'s [&'s GuardedPattern],
    protected_names: &'s ProtectedNames,
    list: Guarded,
    /// The suffixes that rules match all names below of: the number of the rule, and the wire form.
    suffixes: HashSet<(usize, Box<[u8]>)>,
    /// By the number of a rule: the first name that is not only reported, or else the first.
    findings: HashMap<usize, Finding>,
    suppressed: &'s mut SuppressedRules,
}

impl Search<'_> {
    fn search(&mut self) {
        for (set, numbers) in sets(self.rules) {
            for suffix in SUFFIXES.split_whitespace() {
                let Ok(suffix) = Name::from_text(suffix) else {
                    continue;
                };
                for index in matching_below(&set, &suffix) {
                    self.add_suffix(numbers[index], &suffix);
                }
            }
            for protected in &self.protected_names.list().names {
                let Ok(name) = Name::from_text(&protected.name) else {
                    continue;
                };
                for index in matching(&set, &name, protected.scope) {
                    self.add_protected(numbers[index], &name, protected);
                }
            }
        }
    }

    /// Adds that a rule covers a suffix, unless it covers a suffix above.
    fn add_suffix(&mut self, number: usize, suffix: &Name) {
        let mut above = 1..suffix.label_count();
        if above.any(|labels| {
            self.suffixes
                .contains(&(number, suffix.ancestor(labels).into()))
        }) {
            return;
        }
        self.suffixes.insert((number, suffix.wire().into()));
        let list = self.list.with_effect(self.rules[number].effect.as_ref());
        if let Some((cover, counts)) = self.protected_names.check_suffix(suffix, list) {
            self.add(number, suffix, (cover, counts));
        }
    }

    fn add_protected(&mut self, number: usize, name: &Name, protected: &ProtectedName) {
        let list = self.list.with_effect(self.rules[number].effect.as_ref());
        if list.kind != Kind::Allow {
            let counts = list.warn.has(protected.protection);
            self.add(number, name, (Cover::Name(protected), counts));
        }
    }

    /// Adds that a rule covers `name` or names below it.
    fn add(&mut self, number: usize, name: &Name, (cover, counts): (Cover<'_>, bool)) {
        let rule = self.rules[number];
        if rule.leaves_out(name) {
            return;
        }
        if self.protected_names.releases(name) {
            return note_release(self.suppressed, name);
        }
        let finding = || Finding {
            protection: cover.protection(),
            why: cover.described(name) + &queries(rule.effect.as_ref()),
            counts,
        };
        match self.findings.entry(number) {
            Entry::Vacant(place) => {
                place.insert(finding());
            }
            Entry::Occupied(mut known) if known.get().counts && !counts => {
                known.insert(finding());
            }
            Entry::Occupied(_) => {}
        }
    }
}

/// Sets of the patterns of rules of one tier, as in an image, with the numbers of the rules. A rule whose pattern has no
/// place in a set beside the others is in a further one.
fn sets(rules: &[&GuardedPattern]) -> Vec<(PatternSet, Vec<usize>)> {
    let mut tiers: HashMap<Tier, Vec<usize>> = HashMap::new();
    for (number, rule) in rules.iter().enumerate() {
        tiers.entry(rule.tier()).or_default().push(number);
    }
    let mut sets = Vec::new();
    for mut numbers in tiers.into_values() {
        while !numbers.is_empty() {
            let patterns = numbers.iter().map(|number| &rules[*number].pattern);
            let (set, refused) = PatternSet::lenient(patterns);
            let further: Vec<_> = refused.iter().map(|error| numbers[error.index]).collect();
            let is_last = further.len() == numbers.len();
            sets.push((set, numbers));
            // Patterns that are not accepted without others were refused when they were read.
            numbers = if is_last { Vec::new() } else { further };
        }
    }
    sets
}

/// The patterns of a set that cover a protected name.
fn matching(set: &PatternSet, name: &Name, scope: Scope) -> Vec<usize> {
    let mut found = match scope {
        Scope::Below => Vec::new(),
        Scope::Exact | Scope::Subtree => set.find_all(&NameText::new(name)),
    };
    if scope != Scope::Exact {
        found.extend(matching_usual(set, name));
        found.extend(matching_below(set, name));
    }
    found
}
