//! Compares the lists in force: how many rules other lists have as well, and how many block names that no other list blocks.
//!
//! Only rules on names are compared. Each name on which some list has rules is looked up again with all names above it, in
//! batches, so the memory does not depend on the number of rules.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::effect::EffectAction;
use super::image::ImageError;
use super::image::path::Path;
use super::image::walk::BATCH;
use super::images::Images;
use super::rpz::settings::ZonePolicy;
use super::rule::{Kind, Scope, Source};
use super::rule_cursor::{ListRule, RuleLookup};
use super::snapshot::Snapshot;
use crate::wire::name::Name;

/// The rules of a list, compared with those of all other lists in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListOverlap {
    /// The name of the list or feed.
    pub list: String,
    /// Its distinct rules, including those that other rules of the list cover.
    pub rules: u64,
    /// Its rules on names that are compared: all but those that other rules of the list cover.
    pub compared: u64,
    /// Those of them that another list has as well: a rule on the same name with the same scope.
    pub shared: u64,
    /// Those of them that block a name, or names below it, that no rule of another block list covers; `None` for an allow
    /// list. Conditional rules, and rules of lists that are paused or disabled, cover nothing.
    pub alone: Option<u64>,
    /// Its rules on networks, which are not compared.
    pub networks: u64,
    /// Its rules with patterns, which are not compared.
    pub patterns: u64,
}

/// What a list contributes to the comparison.
#[derive(Clone, Copy)]
struct Traits {
    /// Its place in the result.
    index: usize,
    /// Whether its rules block unless their effect allows.
    blocks: bool,
    /// Whether its rules decide, so that another list is not needed for what they block.
    decides: bool,
}

/// The parts of what a rule matches.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Coverage {
    /// The name itself.
    at: bool,
    /// All names below it.
    below: bool,
}

impl Coverage {
    /// What a rule on the name covers.
    fn of(scope: Scope) -> Self {
        Self {
            at: scope != Scope::Below,
            below: scope != Scope::Exact,
        }
    }

    /// What a rule covers of the name, given whether it is on the name or above it.
    fn by(scope: Scope, is_at: bool) -> Self {
        match is_at {
            true => Self::of(scope),
            false => Self {
                at: scope != Scope::Exact,
                below: scope != Scope::Exact,
            },
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            at: self.at || other.at,
            below: self.below || other.below,
        }
    }

    fn has(self, wanted: Self) -> bool {
        (self.at || !wanted.at) && (self.below || !wanted.below)
    }
}

/// Compares the lists and feeds in force, in the order of the configuration within each kind. `goes_on` is asked now and then;
/// `None` once it returns false.
///
/// # Errors
/// If an image is damaged.
pub fn overlaps(
    snapshot: &Snapshot,
    goes_on: impl Fn() -> bool,
) -> Result<Option<Vec<ListOverlap>>, ImageError> {
    let images = snapshot.rules.images();
    let mut comparison = Comparison::new(snapshot.sources().iter().map(|source| &**source));
    comparison.count_triggers(&images);
    let is_list = |name: &str| comparison.traits.contains_key(name);
    let mut lookup = images.rule_lookup(is_list);
    let mut cursor = images.rule_cursor(is_list);
    let mut batch = Batch::default();
    while cursor.advance() {
        batch.add(Path::of(cursor.path()).to_name(), cursor.rules());
        if batch.names.len() == BATCH {
            comparison.compare(&mut batch, &mut lookup);
            if !goes_on() {
                return Ok(None);
            }
        }
    }
    comparison.compare(&mut batch, &mut lookup);
    match cursor.damage() {
        Some(damage) => Err(damage),
        None => Ok(Some(comparison.lists)),
    }
}

/// Names that are looked up together, and the rules that were read on each.
#[derive(Default)]
struct Batch<'i> {
    names: Vec<Name>,
    /// The number of the name, and the rule.
    rules: Vec<(usize, ListRule<'i>)>,
    /// For each name, all rules on it and above it, and whether they are on it.
    found: Vec<Vec<(bool, ListRule<'i>)>>,
}

impl<'i> Batch<'i> {
    fn add(&mut self, name: Name, rules: &[ListRule<'i>]) {
        let number = self.names.len();
        self.rules.extend(rules.iter().map(|rule| (number, *rule)));
        self.names.push(name);
    }
}

struct Comparison<'s> {
    traits: HashMap<&'s str, Traits>,
    lists: Vec<ListOverlap>,
}

impl<'s> Comparison<'s> {
    fn new(sources: impl Iterator<Item = &'s Source>) -> Self {
        let (mut traits, mut lists) = (HashMap::new(), Vec::new());
        for source in sources.filter(|source| source.kind.is_list()) {
            let zone = source.zone.as_ref();
            let passes = zone.is_some_and(|zone| zone.settings.policy == ZonePolicy::Passthru);
            let blocks = source.kind == Kind::Block && !passes;
            let one = Traits {
                index: lists.len(),
                blocks,
                decides: !source.is_logged_only(),
            };
            traits.insert(&*source.name, one);
            lists.push(ListOverlap {
                list: source.name.clone(),
                alone: blocks.then_some(0),
                ..ListOverlap::default()
            });
        }
        Self { traits, lists }
    }

    /// Counts the rules of each list, and those that are not on names.
    fn count_triggers(&mut self, images: &Images) {
        for list in &mut self.lists {
            let Some((image, source)) = images.find(&list.list) else {
                continue;
            };
            let sources = &image.provenance().sources;
            let is_own = |clause: u32| {
                let source = image.clauses().get(clause).source;
                sources[usize::from(source)].name == list.list
            };
            list.rules = source.rules;
            list.networks = images.networks(&list.list).len() as u64;
            let groups = image.pattern_groups().iter();
            let patterns = groups.flat_map(|group| &group.rules);
            list.patterns = patterns.filter(|(_, clause)| is_own(*clause)).count() as u64;
        }
    }

    /// Compares the rules of a batch with all rules on their names and above, and empties it.
    fn compare<'i>(&mut self, batch: &mut Batch<'i>, lookup: &mut RuleLookup<'i>) {
        let names: Vec<&Name> = batch.names.iter().collect();
        let found = &mut batch.found;
        found.resize_with(names.len(), Vec::new);
        found.iter_mut().for_each(Vec::clear);
        lookup.each(&names, |which, is_at, rule| {
            found[which].push((is_at, rule));
        });
        for (number, rule) in &batch.rules {
            self.compare_rule(rule, &batch.found[*number]);
        }
        batch.names.clear();
        batch.rules.clear();
    }

    fn compare_rule(&mut self, rule: &ListRule<'_>, found: &[(bool, ListRule<'_>)]) {
        let Some(own) = self.traits.get(rule.list).copied() else {
            return;
        };
        let others = || found.iter().filter(|(_, other)| other.list != rule.list);
        let mut shared = others().filter(|(is_at, other)| *is_at && other.scope == rule.scope);
        let is_shared = shared.next().is_some();
        let covering = others().filter(|(_, other)| {
            let decides = self.traits.get(other.list).is_some_and(|list| list.decides);
            decides && other.effect.condition.is_none() && self.is_block(other)
        });
        let covered = covering.fold(Coverage::default(), |covered, (is_at, other)| {
            covered.and(Coverage::by(other.scope, *is_at))
        });
        let is_alone = self.is_block(rule) && !covered.has(Coverage::of(rule.scope));
        let list = &mut self.lists[own.index];
        list.compared += 1;
        list.shared += u64::from(is_shared);
        if let Some(alone) = &mut list.alone {
            *alone += u64::from(is_alone);
        }
    }

    /// Whether a rule blocks.
    fn is_block(&self, rule: &ListRule<'_>) -> bool {
        let blocks = self.traits.get(rule.list).is_some_and(|list| list.blocks);
        blocks && rule.effect.action != EffectAction::Allow
    }
}
