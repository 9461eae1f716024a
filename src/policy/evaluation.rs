//! Evaluates the rules of a name one by one. Lookups do so only if the image of orders has an exception that may
//! suppress some of them, if the delta voids some of the base, if wildcards of policy zones may not match, if some rules
//! are logged only or have conditions, or if there are patterns.

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

/// The rules of all images in a view, for queries of one type.
#[derive(Clone, Copy)]
pub(super) struct Evaluation<'r> {
    /// The base, the delta, and the orders.
    pub(super) images: [Option<RankedImage<'r>>; 3],
    /// For each exception, the sorted indices of the sources that it suppresses; `None` for an exception against
    /// everything. Indexed by the source of the exception. Empty if all exceptions are against everything.
    pub(super) suppressed: &'r [Option<Box<[usize]>>],
    pub(super) patterns: &'r RankedPatterns,
    /// The type of the query. If it is `None`, no rule with a condition matches.
    pub(super) qtype: Option<u16>,
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
    /// The best rank of a pattern with a condition.
    conditional: Rank,
}

impl Default for RankedPatterns {
    /// No patterns.
    fn default() -> Self {
        Self {
            groups: Vec::new(),
            other: NO_RANK,
            conditional: NO_RANK,
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
                for clause in clauses {
                    patterns.other = patterns.other.min(clause.other());
                    if clause.is_conditional {
                        patterns.conditional = patterns.conditional.min(clause.other());
                    }
                }
            }
        }
        patterns.groups.sort_unstable();
        patterns
    }
}

impl<'r> Evaluation<'r> {
    /// Evaluates the name's rules, without those that an exception suppresses, the delta voids, or a closer encloser hides, and
    /// without those whose condition does not hold. `found.other` does not show which of the rules below are suppressed or
    /// void. The effect of this imprecision can only be NODATA instead of NXDOMAIN, or that the names below do not count as
    /// all blocked. Sources that are `ignored` for the queried name are ignored for `name`, too.
    #[cold]
    pub(super) fn evaluate(
        &self,
        name: &Name,
        ignored: Option<&IgnoredSources<'_>>,
        found: &mut LookupResult,
    ) {
        (found.best, found.cover, found.excepted) = (NONE, NONE, NONE);
        let mut logged = NONE;
        let (mut other, mut conditional) = (found.other, NO_RANK);
        let is_some_suppressed = self.each(name, ignored, |rule| {
            let (clause, weight) = (rule.clause, rule.weight());
            if clause.overrides {
                // Rules on names below may be suppressed, too.
                other = 0;
                if rule.matches() {
                    found.excepted = found.excepted.min(weight);
                }
                return;
            }
            if clause.logs {
                if rule.matches() {
                    logged = logged.min(weight);
                }
                return;
            }
            if rule.matches() {
                found.best = found.best.min(weight);
            }
            if !clause.is_conditional && rule.covers() {
                found.cover = found.cover.min(weight);
            }
            if clause.is_conditional && (rule.covers() || rule.triggers()) {
                conditional = conditional.min(clause.rank);
            }
        });
        // A suppressed rule still applies to queries for the names below.
        found.other = if is_some_suppressed { 0 } else { other };
        if conditional != NO_RANK {
            found.beside_conditional(conditional);
        }
        (found.encloser, found.is_conditional) = (0, false);
        found.logged = if logged < found.best { logged } else { NONE };
    }

    /// Finds the rule that would decide if its list were not logged only.
    #[cold]
    pub(super) fn find_logged(&self, name: &Name, found: &mut LookupResult) {
        let mut logged = NONE;
        self.each(name, None, |rule| {
            if rule.clause.logs && rule.matches() {
                logged = logged.min(rule.weight());
            }
        });
        found.logged = if logged < found.best { logged } else { NONE };
    }

    /// Calls `each` with every rule on the name and on its ancestors that no exception suppresses. Sources that are `ignored`
    /// for the queried name are ignored for `name`, too. Returns whether a rule was suppressed.
    fn each(
        &self,
        name: &Name,
        ignored: Option<&IgnoredSources<'_>>,
        mut each: impl FnMut(AncestorRule),
    ) -> bool {
        let mut is_some_suppressed = false;
        let own = self.suppressed_at(name);
        let is_ignored = |source: usize| {
            own.contains(source) || ignored.is_some_and(|ignored| ignored.contains(source))
        };
        self.each_valid(name, |rule| {
            let is_suppressed = !rule.clause.overrides && is_ignored(rule.clause.source as usize);
            is_some_suppressed |= is_suppressed;
            if !is_suppressed {
                each(rule);
            }
        });
        is_some_suppressed
    }

    /// Calls `each` with every rule on the name and on its ancestors. Leaves out rules in the base that the delta voids, and
    /// wildcards of policy zones that do not match because the zone has a closer encloser.
    fn each_valid(&self, name: &Name, mut each: impl FnMut(AncestorRule)) {
        let [base, delta, orders] = self.images;
        // The source and the number of labels of each mark.
        let mut voided = SmallVec::<[(u32, usize); 4]>::new();
        let zones = ZoneNames { base, delta };
        let mut each_visible = |rule: AncestorRule| {
            let AncestorRule { clause, labels, .. } = rule;
            let is_wildcard = rule.position == Position::Above && rule.scope != Scope::Exact;
            let is_hidden =
                clause.is_zone && is_wildcard && zones.hides(clause.source, name, labels);
            if !is_hidden {
                each(rule);
            }
        };
        let rules = |image| AncestorRules::new(image, name, self.qtype);
        rules(delta).each(|rule| match (rule.clause.is_void, rule.scope) {
            (true, Scope::Exact) => voided.push((rule.clause.source, rule.labels)),
            (true, _) => {}
            (false, _) => each_visible(rule),
        });
        rules(base).each(|rule| {
            if !voided.contains(&(rule.clause.source, rule.labels)) {
                each_visible(rule);
            }
        });
        rules(orders).each(each_visible);
    }

    /// All rules on names whose trigger matches a name, best first, including those whose condition does not hold.
    pub(super) fn matching(&self, name: &Name) -> Vec<Hit> {
        let mut weights = Vec::new();
        self.each_valid(name, |rule| {
            if rule.triggers() {
                weights.push(rule.weight());
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
        if self.patterns.conditional != NO_RANK {
            found.beside_conditional(self.patterns.conditional);
        }
        let (mut text, mut own) = (None, None);
        for &(rank, image, place) in &self.patterns.groups {
            if rank >= rank_of(found.best) {
                break;
            }
            let Some((group, ranked)) = self.pattern_group(image, place) else {
                continue;
            };
            let text = text.get_or_insert_with(|| NameText::new(name));
            let Some(clause) = self.first_of(group, ranked, name, text) else {
                continue;
            };
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

    /// The first pattern of a group that is found in a name, and whose condition holds. Allocates only if a condition does not
    /// hold.
    fn first_of(
        &self,
        group: &PatternGroup,
        (image, ranks): RankedImage<'_>,
        name: &Name,
        text: &NameText,
    ) -> Option<RankedClause> {
        let applies = |which: &usize| {
            let number = group.rules[*which].1;
            holds(image, ranks.clause(number), number, name, self.qtype)
        };
        let first = group.set.find(text)?;
        let first = match applies(&first) {
            true => first,
            false => group.set.find_all(text).into_iter().find(applies)?,
        };
        Some(ranks.clause(group.rules[first].1))
    }

    /// The patterns found in a name, each with the rule that it belongs to, best first.
    pub(super) fn matching_patterns(&self, name: &Name) -> Vec<(Hit, &'r str)> {
        let text = NameText::new(name);
        let mut found = Vec::new();
        for &(rank, image, place) in &self.patterns.groups {
            let Some((group, (_, ranks))) = self.pattern_group(image, place) else {
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

    fn pattern_group(&self, image: u8, place: u32) -> Option<(&'r PatternGroup, RankedImage<'r>)> {
        let ranked = self.images[usize::from(image)]?;
        Some((ranked.0.pattern_groups().get(place as usize)?, ranked))
    }

    /// The sources that are suppressed by exceptions that match a name.
    pub(super) fn suppressed_at(&self, name: &Name) -> IgnoredSources<'r> {
        let mut ignored = IgnoredSources::default();
        if self.suppressed.is_empty() {
            return ignored;
        }
        let [.., orders] = self.images;
        AncestorRules::new(orders, name, self.qtype).each(|exception| {
            let against = self.suppressed.get(exception.clause.source as usize);
            if let Some(Some(against)) = against
                && exception.matches()
            {
                ignored.0.push(against);
            }
        });
        ignored
    }
}

/// The values of a name and of its ancestors in one image.
struct AncestorRules<'r, 'n> {
    image: Option<RankedImage<'r>>,
    name: &'n Name,
    qtype: Option<u16>,
    /// Position, number of labels, value: at most one entry for each label of the name, and one for the root.
    entries: [(Position, u8, u32); MAX_LABELS + 1],
    count: usize,
}

impl<'r, 'n> AncestorRules<'r, 'n> {
    fn new(image: Option<RankedImage<'r>>, name: &'n Name, qtype: Option<u16>) -> Self {
        let mut ancestors = Self {
            image,
            name,
            qtype,
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
    fn each(&self, mut each: impl FnMut(AncestorRule)) {
        let Some((image, ranks)) = self.image else {
            return;
        };
        for &(position, labels, value) in &self.entries[..self.count] {
            for rule in image.value(value).rules() {
                let clause = ranks.clause(rule.clause);
                if clause.rank != NO_RANK {
                    each(AncestorRule {
                        position,
                        labels: labels.into(),
                        clause,
                        scope: rule.scope,
                        holds: holds(image, clause, rule.clause, self.name, self.qtype),
                    });
                }
            }
        }
    }
}

/// Whether the condition of a clause holds for a query. `clause` is the clause in the view, `number` its number in the image.
fn holds(
    image: &Image,
    clause: RankedClause,
    number: u32,
    name: &Name,
    qtype: Option<u16>,
) -> bool {
    !clause.is_conditional || image.clauses().effect(number).applies_to(name, qtype)
}

/// A rule on the looked-up name or on one of its ancestors.
#[derive(Clone, Copy)]
struct AncestorRule {
    /// The position of the rule's name.
    position: Position,
    /// The number of labels of the rule's name.
    labels: usize,
    clause: RankedClause,
    scope: Scope,
    /// Whether its condition holds for the query.
    holds: bool,
}

impl AncestorRule {
    fn weight(&self) -> u64 {
        weight(
            self.clause.rank,
            self.labels,
            self.scope,
            self.clause.verdict,
        )
    }

    /// Whether its trigger matches the looked-up name.
    fn triggers(&self) -> bool {
        match self.position {
            Position::Above => self.scope != Scope::Exact,
            Position::At => self.scope != Scope::Below,
            Position::Below => false,
        }
    }

    /// Whether it matches the query.
    fn matches(&self) -> bool {
        self.holds && self.triggers()
    }

    /// Whether its trigger matches all names below the looked-up one.
    fn covers(&self) -> bool {
        self.scope != Scope::Exact
    }
}
