//! The rules of one image, ranked by the precedence of their sources in a view.

use super::effect::Tier;
use super::image::Image;
use super::image::values::{SOURCES, Value};
use super::image::walk::Position;
use super::rule::Scope;
use crate::wire::name::MAX_LABELS;

/// The precedence of a source: 0 wins over 1. A rank fits into [`RANK_BITS`] bits of a weight. These suffice for all
/// sources of a snapshot's images.
pub(super) type Rank = u32;

/// The bits of a weight: the lowest 32 for the verdict, two for the scope, seven for the depth, the others for the rank.
const SCOPE_SHIFT: u32 = 32;
const DEPTH_SHIFT: u32 = SCOPE_SHIFT + 2;
const RANK_SHIFT: u32 = DEPTH_SHIFT + 7;
const RANK_BITS: u32 = u64::BITS - RANK_SHIFT;
/// What patterns have in place of a scope.
const PATTERN: u64 = 3;
/// The depth counts down from this number of labels.
const DEPTH_MASK: u64 = (1 << (RANK_SHIFT - DEPTH_SHIFT)) - 1;
const _: () = assert!(MAX_LABELS as u64 <= DEPTH_MASK);

/// The weight of no rule.
pub(super) const NONE: u64 = u64::MAX;
/// The rank of sources that are not configured.
pub(super) const NO_RANK: Rank = (1 << RANK_BITS) - 1;
/// The number of ranks. It is greater than the number of sources that three images can have, times the number of tiers.
pub const MAX_RANKED: usize = NO_RANK as usize;
/// The number of sources that can have ranks in all tiers.
pub(super) const MAX_SOURCES: usize = MAX_RANKED / Tier::COUNT;
const _: () = assert!(MAX_RANKED > 3 * SOURCES * Tier::COUNT);

/// The result of a lookup: which rule matches a name, and what covers the names below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupResult {
    /// The weight of the matching rule with the best precedence; see [`weight`].
    pub(super) best: u64,
    /// The weight of the rule with the best precedence that covers every name below.
    pub(super) cover: u64,
    /// The best rank of a rule on some name below that does not answer NXDOMAIN by the action of its source.
    pub(super) other: Rank,
    /// The weight of the best matching exception that suppresses some sources only.
    pub(super) excepted: u64,
    /// The weight of the best matching rule that is logged only, if it precedes `best`. [`LOOK`] during a lookup that may
    /// find one.
    pub(super) logged: u64,
}

/// A rule that is logged only is to be looked for.
pub(super) const LOOK: u64 = 0;

/// A rule that matches a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The precedence of the rule among all sources; 0 is the best.
    pub rank: u32,
    /// The number of the rule's verdict in the snapshot.
    pub verdict: u32,
    /// What matched.
    pub trigger: Trigger,
}

/// The kind of trigger that matched, and which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A name.
    Name {
        /// The scope of the rule.
        scope: Scope,
        /// The number of labels of the rule's name, which is an ancestor of the looked-up name or the name itself.
        labels: u8,
    },
    /// A pattern, which is found in the name.
    Pattern,
    /// A network of the client: its number in the snapshot.
    Client(u32),
    /// A network of an address in the answer: its number in the snapshot.
    Answer(u32),
}

impl Hit {
    /// The number of labels of the rule's name. `None` if the rule is not on a name.
    pub fn labels(&self) -> Option<usize> {
        match self.trigger {
            Trigger::Name { labels, .. } => Some(labels.into()),
            Trigger::Pattern | Trigger::Client(_) | Trigger::Answer(_) => None,
        }
    }
}

impl Default for LookupResult {
    fn default() -> Self {
        Self {
            best: NONE,
            cover: NONE,
            other: NO_RANK,
            excepted: NONE,
            logged: NONE,
        }
    }
}

impl LookupResult {
    /// The deciding rule: the rule of the best rank on the deepest name. On the same name, [`Scope::Exact`] precedes
    /// [`Scope::Below`], which precedes [`Scope::Subtree`].
    pub fn best(&self) -> Option<Hit> {
        hit(self.best)
    }

    /// The exception that suppressed rules of some sources.
    pub fn excepted(&self) -> Option<Hit> {
        hit(self.excepted)
    }

    /// The rule that would have decided if its list were not logged only.
    pub fn logged(&self) -> Option<Hit> {
        hit(self.logged)
    }

    /// The same result with a rule that also covers all names below. It precedes rules of its rank on names.
    pub(super) fn covered_by(&self, hit: Hit) -> Self {
        let weight = weight(hit.rank, DEPTH_MASK as usize, Scope::Exact, hit.verdict);
        Self {
            cover: self.cover.min(weight),
            ..*self
        }
    }

    /// Whether NXDOMAIN for the name is true of all names below it: the best rule that covers them answers NXDOMAIN,
    /// and no better or equal rank has a rule there that may answer otherwise. A rule with another effect than the default counts
    /// as one that may. `nxdomain` returns whether a verdict answers NXDOMAIN.
    pub fn is_all_nxdomain_below(&self, nxdomain: impl Fn(u32) -> bool) -> bool {
        let cover = hit(self.cover);
        cover.is_some_and(|cover| nxdomain(cover.verdict) && self.other > cover.rank)
    }

    /// Whether all names below are blocked: the best rule that covers them blocks, and no better rank has a rule there
    /// that may allow a name. Every better rank whose rules do not all answer NXDOMAIN counts as one that may, even if
    /// they block; so the result may be false although all names are blocked. `blocks` returns whether a verdict
    /// blocks, and `allows` whether a rank has rules that allow a name.
    pub fn is_all_blocked_below(
        &self,
        blocks: impl Fn(u32) -> bool,
        allows: impl Fn(u32) -> bool,
    ) -> bool {
        hit(self.cover).is_some_and(|cover| {
            let other = self.other;
            let is_clear = other > cover.rank || (other == cover.rank && !allows(other));
            blocks(cover.verdict) && is_clear
        })
    }
}

/// The weight of a rule; the lowest weight decides. Compares by rank, then depth, then scope, then verdict.
#[inline]
pub(super) fn weight(rank: Rank, labels: usize, scope: Scope, verdict: u32) -> u64 {
    u64::from(rank) << RANK_SHIFT
        | (DEPTH_MASK - labels as u64) << DEPTH_SHIFT
        | u64::from(scope.weight()) << SCOPE_SHIFT
        | u64::from(verdict)
}

/// The weight of a rule with a pattern. Rules on names precede it, even those on the root.
pub(super) fn pattern_weight(rank: Rank, verdict: u32) -> u64 {
    u64::from(rank) << RANK_SHIFT
        | DEPTH_MASK << DEPTH_SHIFT
        | PATTERN << SCOPE_SHIFT
        | u64::from(verdict)
}

/// The rank of a weight; [`NO_RANK`] for [`NONE`].
#[inline]
pub(super) fn rank_of(weight: u64) -> Rank {
    (weight >> RANK_SHIFT) as Rank
}

/// The rule of a weight; `None` for [`NONE`].
pub(super) fn hit(weight: u64) -> Option<Hit> {
    (weight != NONE).then(|| Hit {
        rank: (weight >> RANK_SHIFT) as u32,
        verdict: weight as u32,
        trigger: {
            let labels = (DEPTH_MASK - (weight >> DEPTH_SHIFT & DEPTH_MASK)) as u8;
            let name = |scope| Trigger::Name { scope, labels };
            match weight >> SCOPE_SHIFT & 3 {
                0 => name(Scope::Exact),
                1 => name(Scope::Below),
                2 => name(Scope::Subtree),
                _ => Trigger::Pattern,
            }
        },
    })
}

/// A [`Value`] of an image (the rules of a node), evaluated in a view. Weights are those of rules
/// on the root; [`deepen`] corrects them for the depth.
#[derive(Clone, Copy, Debug)]
pub(super) struct RankedValue {
    /// The best rule if the looked-up name is the value's name.
    at: u64,
    /// The best rule if the looked-up name is below the value's name. It also covers all names below.
    above: u64,
    /// [`LookupResult::other`] if the looked-up name is the value's name.
    other: Rank,
    /// [`LookupResult::other`] if the looked-up name is above the value's name and has no other rule below;
    /// also the bits [`OVERRIDES`] and [`LOGS`]. All are stored in one number. So a ranked value has 24 bytes instead of
    /// 32, and more values fit into the processor's cache.
    other_below: u32,
}

/// The value has an exception that suppresses some sources, so the name's rules must be evaluated one by one.
pub(super) const OVERRIDES: u32 = 1 << 31;
/// The value has a rule that is logged only.
pub(super) const LOGS: u32 = 1 << 30;
const FLAGS: u32 = OVERRIDES | LOGS;
const _: () = assert!(size_of::<RankedValue>() == 24 && NO_RANK & FLAGS == 0);

/// The weight of the same rule on a name of `labels` labels.
#[inline]
fn deepen(weight: u64, labels: usize) -> u64 {
    // `NONE` stays the highest weight.
    if weight == NONE {
        NONE
    } else {
        weight - ((labels as u64) << DEPTH_SHIFT)
    }
}

impl RankedValue {
    /// Merges the rules of the value into the result for a name. The value's name has `labels` labels, and is at this position
    /// to the looked-up name. Returns the flags of the value: [`OVERRIDES`] and [`LOGS`].
    #[inline(always)]
    pub(super) fn merge_into(
        self,
        found: &mut LookupResult,
        position: Position,
        labels: usize,
    ) -> u32 {
        let flags = self.other_below & FLAGS;
        if flags & LOGS != 0 && position != Position::Below {
            found.logged = LOOK;
        }
        let weight = match position {
            Position::Above => self.above,
            Position::At => {
                found.other = found.other.min(self.other);
                self.at
            }
            Position::Below => {
                found.other = found.other.min(self.other_below & !FLAGS);
                // No rule of the value matches the name.
                return 0;
            }
        };
        found.best = found.best.min(deepen(weight, labels));
        found.cover = found.cover.min(deepen(self.above, labels));
        flags
    }
}

/// A clause of an image in a view.
#[derive(Clone, Copy, Debug)]
pub(super) struct RankedClause {
    pub(super) rank: Rank,
    /// The number of its verdict.
    pub(super) verdict: u32,
    /// The index of its source in the snapshot.
    pub(super) source: u32,
    /// Whether it answers NXDOMAIN by the action of its source.
    pub(super) nxdomain: bool,
    /// Whether it is an exception that suppresses some sources.
    pub(super) overrides: bool,
    /// Whether it is logged only.
    pub(super) logs: bool,
}

impl RankedClause {
    /// Of a source that is not configured.
    pub(super) const NONE: Self = Self {
        rank: NO_RANK,
        verdict: u32::MAX,
        source: u32::MAX,
        nxdomain: false,
        overrides: false,
        logs: false,
    };

    /// The rank that counts for [`LookupResult::other`].
    pub(super) fn other(self) -> Rank {
        if self.nxdomain || self.logs {
            NO_RANK
        } else {
            self.rank
        }
    }
}

/// The ranks of an image's clauses in a view.
#[derive(Debug)]
pub(super) struct Ranks {
    clauses: Vec<RankedClause>,
    others: OtherRanks,
    /// All values of the image, ranked. A view without them ranks each value that a lookup passes: it needs little memory,
    /// and thousands of views stay in the processor's cache.
    values: Option<Box<[RankedValue]>>,
}

/// The best ranks that count for [`LookupResult::other`], by source of an image: of rules with the default effect, and of
/// others.
type OtherRanks = Vec<[Rank; 2]>;

impl Ranks {
    pub(super) fn new(image: &Image, clauses: Vec<RankedClause>) -> Self {
        let mut others: OtherRanks = vec![[NO_RANK; 2]; image.provenance().sources.len()];
        for ((clause, _), ranked) in image.clauses().iter().zip(&clauses) {
            let other = &mut others[usize::from(clause.source)][usize::from(clause.effect != 0)];
            *other = ranked.other().min(*other);
        }
        Self {
            clauses,
            others,
            values: None,
        }
    }

    /// The same ranks, with all values of the image ranked in advance.
    pub(super) fn with_values(mut self, image: &Image) -> Self {
        let ranked = |number| self.rank(image.value(number), Position::At);
        self.values = Some((0..image.value_count()).map(ranked).collect());
        self
    }

    pub(super) fn clause(&self, clause: u32) -> RankedClause {
        let ranked = self.clauses.get(clause as usize);
        ranked.copied().unwrap_or(RankedClause::NONE)
    }

    /// All values of the image, if they were ranked in advance.
    pub(super) fn values(&self) -> Option<&[RankedValue]> {
        self.values.as_deref()
    }

    /// A value of `image`, whose name is at this position to the looked-up one. `None` if there is no such value.
    #[inline(always)]
    pub(super) fn ranked(
        &self,
        image: &Image,
        position: Position,
        value: u32,
    ) -> Option<RankedValue> {
        match &self.values {
            Some(values) => values.get(value as usize).copied(),
            None => Some(self.rank(image.value(value), position)),
        }
    }

    /// Ranks a value. For a name above the looked-up one, the rules below do not matter.
    // Inlined, it would enlarge the loop of lookups in the default view, which do not need it.
    #[inline(never)]
    fn rank(&self, value: Value<'_>, position: Position) -> RankedValue {
        let mut flags = 0;
        let mut ranked = RankedValue {
            at: NONE,
            above: NONE,
            other: NO_RANK,
            other_below: NO_RANK,
        };
        if position != Position::Above {
            for below in value.sources_below() {
                let [default, effect] = match self.others.get(usize::from(below.source)) {
                    Some(others) => *others,
                    None => continue,
                };
                if below.has_default {
                    ranked.other = ranked.other.min(default);
                }
                if below.has_effect {
                    ranked.other = ranked.other.min(effect);
                }
            }
        }
        ranked.other_below = ranked.other;
        for rule in value.rules() {
            let clause = self.clause(rule.clause);
            if clause.rank == NO_RANK {
                continue;
            }
            ranked.other_below = ranked.other_below.min(clause.other());
            if clause.overrides {
                flags |= OVERRIDES;
                continue;
            }
            if clause.logs {
                flags |= LOGS;
                continue;
            }
            let weight = weight(clause.rank, 0, rule.scope, clause.verdict);
            if rule.scope != Scope::Below {
                ranked.at = ranked.at.min(weight);
            }
            if rule.scope != Scope::Exact {
                ranked.above = ranked.above.min(weight);
            }
        }
        ranked.other_below |= flags;
        ranked
    }
}
