//! The rules of a list that have patterns. They are checked together at the end of the list, and those that can't be
//! accepted are bad lines.

use std::collections::{HashMap, HashSet};

use crate::control::list_file::parse::bad::Bad;
use crate::control::list_file::parse::bad_rule::BadRule;
use crate::control::list_file::parse::rule::{ParsedRule, ParsedTrigger};
use crate::control::list_file::parse::tally::Tally;
use crate::policy::effect::{Effect, Tier};
use crate::policy::patterns::{MAX_PATTERNS, PatternSet, SearchCost};

/// The most bytes that the lines of all patterns of a list may have.
const MAX_BYTES: usize = 32 << 20;
/// The bytes of a line that its excerpt can need.
const SHOWN: usize = 400;

/// The patterns of a list.
#[derive(Default)]
pub(super) struct PatternRules {
    rules: Vec<PatternRule>,
    bytes: usize,
}

struct PatternRule {
    pattern: String,
    effect: Option<Effect>,
    line: u32,
    /// The start of the line.
    content: Box<[u8]>,
}

impl PatternRule {
    fn tier(&self) -> Tier {
        self.effect
            .as_ref()
            .map_or(Tier::Usual, |effect| effect.tier)
    }
}

impl PatternRules {
    /// Adds the rule in a line. Its pattern is checked later.
    ///
    /// # Errors
    /// If there are too many.
    pub(super) fn add(
        &mut self,
        pattern: String,
        effect: Option<&Effect>,
        line: u32,
        content: &[u8],
    ) -> Result<(), BadRule> {
        if self.rules.len() == MAX_PATTERNS {
            return Err(BadRule::TooManyPatterns);
        }
        let content = &content[..content.len().min(SHOWN)];
        let bytes = pattern.len() + content.len() + effect.map_or(0, Effect::size);
        if self.bytes + bytes > MAX_BYTES {
            return Err(BadRule::PatternsTooLarge);
        }
        self.bytes += bytes;
        self.rules.push(PatternRule {
            pattern,
            effect: effect.cloned(),
            line,
            content: content.into(),
        });
        Ok(())
    }

    /// Calls `rule` with the rules that can be accepted, in the order of the list. The others are bad lines.
    pub(super) fn finish(mut self, tally: &mut Tally, rule: &mut impl FnMut(ParsedRule<'_>)) {
        self.join_records();
        let refused = self.refused();
        for (index, found) in self.rules.iter().enumerate() {
            if let Some(problem) = refused.get(&index) {
                tally.reject(found.line, &found.content, Bad::Rule(*problem));
                continue;
            }
            tally.rules += 1;
            rule(ParsedRule {
                trigger: ParsedTrigger::Pattern(&found.pattern),
                effect: found.effect.as_ref(),
                line: found.line,
            });
        }
    }

    /// Makes one rule of those with one pattern that answer with records. It has the records of all of them that fit into an
    /// answer.
    fn join_records(&mut self) {
        let mut groups: HashMap<(&str, Effect), Vec<usize>> = HashMap::new();
        for (index, found) in self.rules.iter().enumerate() {
            if let Some(common) = found.effect.as_ref().and_then(Effect::common) {
                let group = (&*found.pattern, common);
                groups.entry(group).or_default().push(index);
            }
        }
        let groups: Vec<_> = groups.into_values().collect();
        let mut is_joined = vec![false; self.rules.len()];
        for group in groups {
            let effects = group.iter();
            let effects = effects.filter_map(|index| self.rules[*index].effect.as_ref());
            let joined = Effect::join(&effects.collect::<Vec<_>>());
            self.rules[group[0]].effect = joined.into_iter().next();
            for index in &group[1..] {
                is_joined[*index] = true;
            }
        }
        let mut is_joined = is_joined.into_iter();
        self.rules.retain(|_| is_joined.next() != Some(true));
    }

    /// The rules that can't be accepted, by index.
    fn refused(&self) -> HashMap<usize, BadRule> {
        let mut refused = HashMap::new();
        let mut tiers: Vec<_> = self.rules.iter().map(PatternRule::tier).collect();
        tiers.sort_unstable();
        tiers.dedup();
        let mut cost = SearchCost::default();
        for tier in tiers {
            let own = self.rules.iter().enumerate();
            let own: Vec<_> = own.filter(|(_, found)| found.tier() == tier).collect();
            self.check(own, &mut cost, &mut refused);
        }
        refused
    }

    /// Checks the rules of one tier, whose patterns are searched together.
    fn check(
        &self,
        own: Vec<(usize, &PatternRule)>,
        cost: &mut SearchCost,
        refused: &mut HashMap<usize, BadRule>,
    ) {
        // Equal rules are one in an image.
        let mut known = HashMap::new();
        let mut copies = Vec::new();
        let mut distinct = Vec::new();
        for (index, found) in own {
            match known.insert((&found.pattern, &found.effect), index) {
                Some(first) => {
                    known.insert((&found.pattern, &found.effect), first);
                    copies.push((index, first));
                }
                None => distinct.push((index, &*found.pattern)),
            }
        }
        while !distinct.is_empty() {
            let (set, problems) = PatternSet::lenient(distinct.iter().map(|(_, pattern)| pattern));
            let mut bad = HashSet::new();
            for problem in &problems {
                let index = distinct[problem.index].0;
                refused.insert(index, BadRule::from(&problem.problem));
                bad.insert(index);
            }
            distinct.retain(|(index, _)| !bad.contains(index));
            let mut all = cost.clone();
            set.add_cost(&mut all);
            if all.check_list().is_ok() {
                *cost = all;
                break;
            }
            // The last patterns are left out until the others are not too much work.
            let kept = distinct.len() * 3 / 4;
            let dropped = distinct.drain(kept..);
            refused.extend(dropped.map(|(index, _)| (index, BadRule::PatternsTooLarge)));
        }
        for (index, first) in copies {
            if let Some(problem) = refused.get(&first).copied() {
                refused.insert(index, problem);
            }
        }
    }
}
