//! Evaluates the rules of a name one by one. Lookups do so only if the image of orders has an exception that may
//! suppress some of them, if the delta voids some of the base, if wildcards of policy zones may not match, if some rules
//! are logged only, or if there are patterns.

use std::collections::HashSet;

use smallvec::SmallVec;

use super::enclosers::ZoneNames;
use super::image::Image;
use super::image::triggers::PatternGroup;
use super::image::walk::Position;
use super::patterns::NameText;
use super::ranking::{
    Hit, LookupResult, NO_RANK, NONE, Rank, hit, pattern_weight, rank_of, weight,
};
use super::ranks::{RankedClause, Ranks};
use super::rule::Scope;
use crate::wire::name::{MAX_LABELS, Name};

/// An image with the ranks that its rules have in a view.
type RankedImage<'r> = (&'r Image, Ranks<'r>);

/// The number of the base among the images.
const BASE: u8 = 0;

/// The rules of all images in a view.
#[derive(Clone, Copy)]
pub(super) struct Evaluation<'r> {
    /// The base, the delta, and the orders.
    pub(super) images: [Option<RankedImage<'r>>; 3],
    /// For each exception, the sorted indices of the sources that it suppresses; `None` for an exception against
    /// everything. Indexed by the source of the exception. Empty if all exceptions are against everything.
    pub(super) suppressed: &'r [Option<Box<[usize]>>],
    pub(super) patterns: &'r RankedPatterns,
}

/// Sources whose rules are ignored because of exceptions, or because they spare signed answers.
#[derive(Clone, Default)]
pub(super) struct IgnoredSources<'r>(SmallVec<[&'r [usize]; 4]>);

impl<'r> IgnoredSources<'r> {
    /// Whether no source is ignored.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|sources| sources.is_empty())
    }

    /// Also ignores these sources, which are sorted.
    pub(super) fn add(&mut self, sources: &'r [usize]) {
        self.0.push(sources);
    }

    pub(super) fn contains(&self, source: usize) -> bool {
        let mut exceptions = self.0.iter();
        exceptions.any(|sources| sources.binary_search(&source).is_ok())
    }
}

/// The groups of patterns of all images in a view.
#[derive(Debug)]
pub(super) struct RankedPatterns {
    /// The rank of each group, the number of its image, and its number in the image; sorted.
    groups: Vec<(Rank, u8, u32)>,
    /// The best rank of a pattern that counts for `other` of a [`LookupResult`]: a pattern may match any name.
    other: Rank,
}

impl Default for RankedPatterns {
    /// No patterns.
    fn default() -> Self {
        Self {
            groups: Vec::new(),
            other: NO_RANK,
        }
    }
}

impl RankedPatterns {
    /// The patterns of the base, the delta and the orders. Of the sources that are `amended`, the delta has all patterns.
    pub(super) fn new(images: [Option<RankedImage<'_>>; 3], amended: &HashSet<u32>) -> Self {
        let mut patterns = Self::default();
        let images = (0..).zip(images);
        for (number, (image, ranks)) in images.filter_map(|(number, image)| Some((number, image?)))
        {
            for (place, group) in (0..).zip(image.pattern_groups()) {
                let clauses = group.rules.iter().map(|(_, clause)| ranks.clause(*clause));
                let is_replaced =
                    |clause: &RankedClause| number == BASE && amended.contains(&clause.source);
                // All rules of a group have the same rank. Patterns of exceptions against some sources decide nothing.
                let mut clauses = clauses
                    .filter(|clause| clause.rank != NO_RANK && !clause.overrides)
                    .filter(|clause| !is_replaced(clause))
                    .peekable();
                if let Some(clause) = clauses.peek() {
                    patterns.groups.push((clause.rank, number, place));
                }
                let others = clauses.map(RankedClause::other);
                patterns.other = others.fold(patterns.other, Rank::min);
            }
        }
        patterns.groups.sort_unstable();
        patterns
    }
}

impl<'r> Evaluation<'r> {
    /// Evaluates the name's rules, without those that an exception suppresses, the delta voids, or a closer encloser hides. `found.other` does not
    /// show which of the rules below are suppressed or void. The effect of this imprecision can only be NODATA instead of NXDOMAIN, or that the
    /// names below do not count as all blocked. Sources that are `ignored` for the queried name are ignored for `name`,
    /// too.
    #[cold]
    pub(super) fn apply_exceptions(
        &self,
        name: &Name,
        ignored: Option<&IgnoredSources<'_>>,
        found: &mut LookupResult,
    ) {
        (found.best, found.cover, found.excepted) = (NONE, NONE, NONE);
        let mut logged = NONE;
        let mut other = found.other;
        let is_some_suppressed = self.each(name, ignored, |position, weight, clause, scope| {
            if clause.overrides {
                // Rules on names below may be suppressed, too.
                other = 0;
                if matches(position, scope) {
                    found.excepted = found.excepted.min(weight);
                }
                return;
            }
            if clause.logs {
                if matches(position, scope) {
                    logged = logged.min(weight);
                }
                return;
            }
            if matches(position, scope) {
                found.best = found.best.min(weight);
            }
            if scope != Scope::Exact {
                found.cover = found.cover.min(weight);
            }
        });
        // A suppressed rule still applies to queries for the names below.
        found.other = if is_some_suppressed { 0 } else { other };
        found.encloser = 0;
        found.logged = if logged < found.best { logged } else { NONE };
    }

    /// Finds the rule that would decide if its list were not logged only.
    #[cold]
    pub(super) fn find_logged(&self, name: &Name, found: &mut LookupResult) {
        let mut logged = NONE;
        self.each(name, None, |position, weight, clause, scope| {
            if clause.logs && matches(position, scope) {
                logged = logged.min(weight);
            }
        });
        found.logged = if logged < found.best { logged } else { NONE };
    }

    /// Calls `each` with every rule on the name and on its ancestors that no exception suppresses: the position of its
    /// name, its weight, its clause, and its scope. Sources that are `ignored` for the queried name are ignored for
    /// `name`, too. Returns whether a rule was suppressed.
    fn each(
        &self,
        name: &Name,
        ignored: Option<&IgnoredSources<'_>>,
        mut each: impl FnMut(Position, u64, RankedClause, Scope),
    ) -> bool {
        let mut is_some_suppressed = false;
        let own = self.suppressed_at(name);
        let is_ignored = |source: usize| {
            own.contains(source) || ignored.is_some_and(|ignored| ignored.contains(source))
        };
        self.each_valid(name, |position, labels, clause, scope| {
            let is_suppressed = !clause.overrides && is_ignored(clause.source as usize);
            is_some_suppressed |= is_suppressed;
            if !is_suppressed {
                let weight = weight(clause.rank, labels, scope, clause.verdict);
                each(position, weight, clause, scope);
            }
        });
        is_some_suppressed
    }

    /// Calls `each` with every rule on the name and on its ancestors: the position of its name, the number of labels of its
    /// name, its clause, and its scope. Leaves out rules in the base that the delta voids, and wildcards of policy zones that
    /// do not match because the zone has a closer encloser.
    fn each_valid(&self, name: &Name, mut each: impl FnMut(Position, usize, RankedClause, Scope)) {
        let [base, delta, orders] = self.images;
        // The source and the number of labels of each mark.
        let mut voided = SmallVec::<[(u32, usize); 4]>::new();
        let zones = ZoneNames { base, delta };
        let mut each_visible = |position, labels, clause: RankedClause, scope| {
            let is_wildcard = position == Position::Above && scope != Scope::Exact;
            let is_hidden =
                clause.is_zone && is_wildcard && zones.hides(clause.source, name, labels);
            if !is_hidden {
                each(position, labels, clause, scope);
            }
        };
        AncestorRules::new(delta, name).each(|position, labels, clause, scope| {
            match (clause.is_void, scope) {
                (true, Scope::Exact) => voided.push((clause.source, labels)),
                (true, _) => {}
                (false, _) => each_visible(position, labels, clause, scope),
            }
        });
        AncestorRules::new(base, name).each(|position, labels, clause, scope| {
            if !voided.contains(&(clause.source, labels)) {
                each_visible(position, labels, clause, scope);
            }
        });
        AncestorRules::new(orders, name).each(each_visible);
    }

    /// All rules on names that match a name, best first.
    pub(super) fn matching(&self, name: &Name) -> Vec<Hit> {
        let mut weights = Vec::new();
        self.each_valid(name, |position, labels, clause, scope| {
            if matches(position, scope) {
                weights.push(weight(clause.rank, labels, scope, clause.verdict));
            }
        });
        weights.sort_unstable();
        weights.into_iter().filter_map(hit).collect()
    }

    /// Adds the rules with patterns to the result for a name. Searches only for patterns of a better rank than the rule
    /// found so far. Sources that are `ignored` for the queried name are ignored for `name`, too.
    #[inline(never)]
    pub(super) fn add_patterns(
        &self,
        name: &Name,
        ignored: Option<&IgnoredSources<'_>>,
        found: &mut LookupResult,
    ) {
        found.other = found.other.min(self.patterns.other);
        let (mut text, mut own) = (None, None);
        for &(rank, image, place) in &self.patterns.groups {
            if rank >= rank_of(found.best) {
                break;
            }
            let Some((group, ranks)) = self.pattern_group(image, place) else {
                continue;
            };
            let text = text.get_or_insert_with(|| NameText::new(name));
            let Some(first) = group.set.find(text) else {
                continue;
            };
            let clause = ranks.clause(group.rules[first].1);
            let source = clause.source as usize;
            let own = own.get_or_insert_with(|| self.suppressed_at(name));
            if own.contains(source) || ignored.is_some_and(|ignored| ignored.contains(source)) {
                continue;
            }
            let weight = pattern_weight(rank, clause.verdict);
            match clause.logs {
                true => found.logged = found.logged.min(weight),
                false => {
                    found.best = weight;
                    break;
                }
            }
        }
        if found.logged > found.best {
            found.logged = NONE;
        }
    }

    /// The patterns found in a name, each with the rule that it belongs to, best first.
    pub(super) fn matching_patterns(&self, name: &Name) -> Vec<(Hit, &'r str)> {
        let text = NameText::new(name);
        let mut found = Vec::new();
        for &(rank, image, place) in &self.patterns.groups {
            let Some((group, ranks)) = self.pattern_group(image, place) else {
                continue;
            };
            for which in group.set.find_all(&text) {
                let (pattern, clause) = &group.rules[which];
                let weight = pattern_weight(rank, ranks.clause(*clause).verdict);
                found.extend(hit(weight).map(|hit| (hit, &**pattern)));
            }
        }
        found
    }

    fn pattern_group(&self, image: u8, place: u32) -> Option<(&'r PatternGroup, Ranks<'r>)> {
        let (image, ranks) = self.images[usize::from(image)]?;
        Some((image.pattern_groups().get(place as usize)?, ranks))
    }

    /// The sources that are suppressed by exceptions that match a name.
    pub(super) fn suppressed_at(&self, name: &Name) -> IgnoredSources<'r> {
        let mut ignored = IgnoredSources::default();
        if self.suppressed.is_empty() {
            return ignored;
        }
        let [.., orders] = self.images;
        AncestorRules::new(orders, name).each(|position, _, exception, scope| {
            let against = self.suppressed.get(exception.source as usize);
            if let Some(Some(against)) = against
                && matches(position, scope)
            {
                ignored.0.push(against);
            }
        });
        ignored
    }
}

/// The values of a name and of its ancestors in one image.
struct AncestorRules<'r> {
    image: Option<RankedImage<'r>>,
    /// Position, number of labels, value: at most one entry for each label of the name, and one for the root.
    entries: [(Position, u8, u32); MAX_LABELS + 1],
    count: usize,
}

impl<'r> AncestorRules<'r> {
    fn new(image: Option<RankedImage<'r>>, name: &Name) -> Self {
        let mut ancestors = Self {
            image,
            entries: [(Position::Below, 0, 0); MAX_LABELS + 1],
            count: 0,
        };
        if let Some((image, _)) = ancestors.image {
            image.walk(&[name], |_, position, labels, value| {
                if position != Position::Below {
                    ancestors.entries[ancestors.count] = (position, labels as u8, value);
                    ancestors.count += 1;
                }
            });
        }
        ancestors
    }

    /// Calls `each` with every ranked rule.
    fn each(&self, mut each: impl FnMut(Position, usize, RankedClause, Scope)) {
        let Some((image, ranks)) = self.image else {
            return;
        };
        for &(position, labels, value) in &self.entries[..self.count] {
            for rule in image.value(value).rules() {
                let clause = ranks.clause(rule.clause);
                if clause.rank != NO_RANK {
                    each(position, labels.into(), clause, rule.scope);
                }
            }
        }
    }
}

/// Whether a rule of this scope matches the looked-up name, given the position of the rule's name.
fn matches(position: Position, scope: Scope) -> bool {
    match position {
        Position::Above => scope != Scope::Exact,
        Position::At => scope != Scope::Below,
        Position::Below => false,
    }
}
