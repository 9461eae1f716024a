//! Decides which rules with patterns the protected names suppress.

use std::collections::HashMap;

use crate::control::guard::protected::{Cover, Guarded, ProtectedName, ProtectedNames};
use crate::control::guard::suppressed::record;
use crate::control::list_file::parse::{ParsedRule, ParsedTrigger};
use crate::control::list_file::suppressed::{LeftOut, SuppressedRules};
use crate::policy::effect::{Effect, Tier};
use crate::policy::patterns::{NameText, PatternSet};
use crate::policy::rule::{Kind, Scope};
use crate::wire::name::Name;

/// The rules with patterns of one list. All protected names are searched with all patterns at once.
#[derive(Default)]
pub(crate) struct GuardedPatterns(Vec<GuardedPattern>);

struct GuardedPattern {
    pattern: String,
    effect: Option<Effect>,
    line: u32,
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

    /// Calls `rule` with each rule that applies, and records those that match protected names. Public suffixes and names below
    /// protected ones are not checked.
    pub(crate) fn finish(
        &self,
        suppressed: &mut SuppressedRules,
        (protected_names, list): (&ProtectedNames, Guarded),
        rule: &mut impl FnMut(ParsedRule<'_>),
    ) {
        let covers = self.covers(protected_names, list);
        for (index, found) in self.0.iter().enumerate() {
            if let Some(protected) = covers.get(&index) {
                let protection = protected.protection;
                let counts = list.warn.has(protection);
                record(suppressed, (protection, counts), list.kept, || LeftOut {
                    line: found.line,
                    rule: format!("/{}/", found.pattern),
                    protection,
                    why: Cover::Name(protected).described(&Name::ROOT),
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

    /// For each rule that blocks a protected name, by index: the first such name that is not only reported, or else the first.
    fn covers<'p>(
        &self,
        protected_names: &'p ProtectedNames,
        list: Guarded,
    ) -> HashMap<usize, &'p ProtectedName> {
        let mut tiers: HashMap<Tier, Vec<usize>> = HashMap::new();
        for (index, found) in self.0.iter().enumerate() {
            let effect = found.effect.as_ref();
            if list.with_effect(effect).kind != Kind::Allow {
                let tier = effect.map_or(Tier::Usual, |effect| effect.tier);
                tiers.entry(tier).or_default().push(index);
            }
        }
        let mut covers = HashMap::new();
        for own in tiers.values() {
            let patterns = own.iter().map(|index| &*self.0[*index].pattern);
            // The patterns of a tier were accepted when they were read.
            let (set, _) = PatternSet::lenient(patterns);
            for (index, protected) in matches(&set, protected_names) {
                let first = covers.entry(own[index]).or_insert(protected);
                if list.warn.has(first.protection) && !list.warn.has(protected.protection) {
                    *first = protected;
                }
            }
        }
        covers
    }
}

/// The patterns that match protected names, by index, with these names.
fn matches<'p>(
    set: &PatternSet,
    protected_names: &'p ProtectedNames,
) -> impl Iterator<Item = (usize, &'p ProtectedName)> {
    let names = protected_names.list().names.iter();
    let names = names.filter(|protected| protected.scope != Scope::Below && !set.is_empty());
    names.flat_map(|protected| {
        let name = Name::from_text(&protected.name).ok();
        let name = name.filter(|name| !protected_names.releases(name));
        let found = name.map(|name| set.find_all(&NameText::new(&name)));
        let found = found.unwrap_or_default();
        found.into_iter().map(move |index| (index, protected))
    })
}
