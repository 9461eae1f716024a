//! Ranks and weights: which of several rules decides; and the result of a lookup.

use super::effect::Tier;
use super::image::values::SOURCES;
use super::rule::Scope;
use crate::wire::name::MAX_LABELS;

/// The precedence of the rules of a source in one tier: 0 wins over 1. A rank fits into [`RANK_BITS`] bits of a weight.
/// These suffice for all sources of a snapshot's images.
pub(super) type Rank = u32;

/// The bits of a weight: the lowest 32 for the verdict, two for the scope, seven for the depth, the others for the rank.
const SCOPE_SHIFT: u32 = 32;
const DEPTH_SHIFT: u32 = SCOPE_SHIFT + 2;
const RANK_SHIFT: u32 = DEPTH_SHIFT + 7;
const RANK_BITS: u32 = u64::BITS - RANK_SHIFT;
/// The scope bits of a pattern, which has no scope.
const PATTERN: u64 = 3;
/// The depth counts down from this number of labels.
const DEPTH_MASK: u64 = (1 << (RANK_SHIFT - DEPTH_SHIFT)) - 1;
const _: () = assert!(MAX_LABELS as u64 <= DEPTH_MASK);

/// The weight of no rule.
pub(super) const NONE: u64 = u64::MAX;
/// The rank of rules that do not count: those of sources that are not configured, or that the view does not have.
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
    /// The best rank of the rules on names below, and of the patterns, which may match such names. Rules that answer
    /// NXDOMAIN by the action of their source, and rules that are logged only, do not count.
    pub(super) other: Rank,
    /// The weight of the best matching exception that suppresses some sources only.
    pub(super) excepted: u64,
    /// The weight of the best matching rule that is logged only, if it precedes `best`. [`LOOK`] during a lookup that may
    /// find one.
    pub(super) logged: u64,
    /// During a lookup, the number of labels of the closest encloser known in any policy zone. Wildcards of this zone on names
    /// with fewer labels do not match.
    pub(super) encloser: u8,
    /// During a lookup, whether rules on the name or above it have conditions.
    pub(super) is_conditional: bool,
}

/// A rule that is logged only is to be looked for.
pub(super) const LOOK: u64 = 0;

/// A rule that matches a query or its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The precedence of the rule among all sources; 0 is the best.
    pub rank: u32,
    /// The number of the rule's verdict in the snapshot.
    pub verdict: u32,
    /// The trigger that matched.
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
            encloser: 0,
            is_conditional: false,
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

    /// Notes that there are rules on the name or above it that are logged only, or that have conditions. These are then
    /// evaluated one by one.
    #[cold]
    pub(super) fn look_for(&mut self, logged: bool, conditional: bool) {
        if logged {
            self.logged = LOOK;
        }
        self.is_conditional |= conditional;
    }

    /// Takes account of a rule with a condition on the name, above it, or on the client. Whether or not it holds for this query,
    /// it may decide about a query of another type, or for a name below.
    pub(super) fn beside_conditional(&mut self, rank: Rank) {
        // NXDOMAIN would also deny records of the other types.
        let may_decide = rank <= rank_of(self.best);
        self.other = if may_decide { 0 } else { self.other.min(rank) };
    }

    /// Whether a rule that was found may not match, because a name of its policy zone is closer to the looked-up name. The
    /// rules are then evaluated one by one.
    #[inline]
    pub(super) fn may_be_hidden(&self) -> bool {
        let is_shallow = |weight| weight != NONE && labels(weight) < u64::from(self.encloser);
        is_shallow(self.best) || is_shallow(self.cover)
    }

    /// The same result, if this rule also covers all names below. The rule precedes rules on names that have the same
    /// rank.
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

/// The weight of a rule; the lowest weight decides. Weights are compared by rank, then depth, then scope, then verdict.
#[inline]
pub(super) fn weight(rank: Rank, labels: usize, scope: Scope, verdict: u32) -> u64 {
    u64::from(rank) << RANK_SHIFT
        | (DEPTH_MASK - labels as u64) << DEPTH_SHIFT
        | u64::from(scope.weight()) << SCOPE_SHIFT
        | u64::from(verdict)
}

/// The weight that a rule has on a name of `labels` labels, given its weight on the root.
#[inline]
pub(super) fn deepen(weight: u64, labels: usize) -> u64 {
    // `NONE` stays the highest weight.
    if weight == NONE {
        NONE
    } else {
        weight - ((labels as u64) << DEPTH_SHIFT)
    }
}

/// The weight of a rule with a pattern. Rules on names precede it, even those on the root.
pub(super) fn pattern_weight(rank: Rank, verdict: u32) -> u64 {
    u64::from(rank) << RANK_SHIFT
        | DEPTH_MASK << DEPTH_SHIFT
        | PATTERN << SCOPE_SHIFT
        | u64::from(verdict)
}

/// The number of labels of the name of the rule with this weight.
#[inline]
fn labels(weight: u64) -> u64 {
    DEPTH_MASK - (weight >> DEPTH_SHIFT & DEPTH_MASK)
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
            let labels = labels(weight) as u8;
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
