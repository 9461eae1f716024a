//! The rules of a list that have patterns. They are checked together at the end of the list, and those that can't be
//! accepted are bad lines.

use std::collections::HashMap;

use crate::control::list_file::parse::bad::Bad;
use crate::control::list_file::parse::bad_rule::BadRule;
use crate::control::list_file::parse::rule::{ParsedRule, ParsedTrigger};
use crate::control::list_file::parse::tally::Tally;
use crate::policy::effect::{Effect, Tier};
use crate::policy::patterns::{MAX_PATTERNS, PatternSet, SearchCost, TooMuchWork};

/// The most bytes that the lines of all patterns of a list may have.
const MAX_BYTES: usize = 32 << 20;
/// How often those of the patterns that look for the same texts are left out. To leave some out may lead the others to other
/// texts.
const MAX_ROUNDS: usize = 8;
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
        // An exception that is missing blocks a name by mistake, so exceptions come first.
        let blocks = |tier: &Tier| !matches!(tier, Tier::First | Tier::ImportantFirst);
        tiers.sort_unstable_by_key(|tier| (blocks(tier), *tier));
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
        for round in 0.. {
            if distinct.is_empty() {
                break;
            }
            let (set, problems) = PatternSet::lenient(distinct.iter().map(|(_, pattern)| pattern));
            let problems = problems.iter();
            let mut bad: HashMap<_, _> = problems
                .map(|error| (error.index, BadRule::from(&error.problem)))
                .collect();
            let mut all = cost.clone();
            set.add_cost(&mut all);
            let fits = all.check_list();
            if let Err(why) = fits {
                let (mut beyond, problem) = beyond(&set, &distinct, (cost, round), why);
                if beyond.is_empty() || round >= MAX_ROUNDS {
                    let accepted = (0..distinct.len()).filter(|place| !bad.contains_key(place));
                    let accepted: Vec<_> = accepted.collect();
                    beyond = accepted[accepted.len() * 3 / 4..].to_vec();
                }
                bad.extend(beyond.into_iter().map(|place| (place, problem)));
            }
            refused.extend(
                bad.iter()
                    .map(|(place, problem)| (distinct[*place].0, *problem)),
            );
            let mut places = 0..;
            distinct.retain(|_| places.next().is_some_and(|place| !bad.contains_key(&place)));
            if fits.is_ok() {
                *cost = all;
                break;
            }
        }
        for (index, first) in copies {
            if let Some(problem) = refused.get(&first).copied() {
                refused.insert(index, problem);
            }
        }
    }
}

/// The places of patterns of a set that are to be left out because they are the cause of too much work, and the problem. None
/// if the cause is not known. The patterns of the same list in other sets cost `before`. `round` counts the attempts, from 0.
fn beyond(
    set: &PatternSet,
    patterns: &[(usize, &str)],
    (before, round): (&SearchCost, usize),
    why: TooMuchWork,
) -> (Vec<usize>, BadRule) {
    match why {
        TooMuchWork::Unfiltered => {
            let places = set.unfiltered();
            (
                unfiltered_beyond(places, patterns, before),
                BadRule::UnfilteredWork,
            )
        }
        TooMuchWork::Filtered | TooMuchWork::Compared => {
            let places = set.alike_beyond_list(before, round);
            (places.into_iter().collect(), BadRule::AlikeWork)
        }
        TooMuchWork::Sets | TooMuchWork::Memory => (Vec::new(), BadRule::PatternsTooLarge),
    }
}

/// Which patterns without a fixed text have no room beside those before them. There are few.
fn unfiltered_beyond(
    places: Vec<usize>,
    patterns: &[(usize, &str)],
    before: &SearchCost,
) -> Vec<usize> {
    let mut kept: Vec<&str> = Vec::new();
    let mut beyond = Vec::new();
    for place in places {
        kept.push(patterns[place].1);
        let (set, _) = PatternSet::lenient(&kept);
        let mut cost = before.clone();
        set.add_cost(&mut cost);
        if cost.check_list() == Err(TooMuchWork::Unfiltered) {
            kept.pop();
            beyond.push(place);
        }
    }
    beyond
}
