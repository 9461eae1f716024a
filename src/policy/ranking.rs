//! The rules of one image in the precedence order of a snapshot.

use std::sync::Arc;

use super::image::Image;
use super::image::values::{SOURCES, Value};
use super::image::walk::Position;
use super::rule::Scope;
use crate::wire::name::{MAX_LABELS, Name};

/// How much a source weighs: 0 wins over 1. Fits [`RANK_BITS`] bits, so that a weight has room for it.
/// All images together have fewer sources than there are ranks.
pub(super) type Rank = u32;

/// Bits of a weight, from the lowest: two of the scope, seven of the depth, the rank in the others.
const DEPTH_SHIFT: u32 = 2;
const RANK_SHIFT: u32 = 9;
const RANK_BITS: u32 = u32::BITS - RANK_SHIFT;
/// The most labels that a name has, as the depth is counted down from it.
const DEPTH_MASK: u32 = (1 << (RANK_SHIFT - DEPTH_SHIFT)) - 1;
const _: () = assert!(MAX_LABELS as u32 <= DEPTH_MASK);

/// No rule, or no source.
pub(super) const NONE: u32 = u32::MAX;
/// A rank that no source has.
pub(super) const NO_RANK: Rank = (1 << RANK_BITS) - 1;
/// How many sources can have a rank: more than three images name.
pub const MAX_RANKED: usize = NO_RANK as usize;
const _: () = assert!(MAX_RANKED > 3 * SOURCES);

/// What is found out about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupResult {
    /// The rule that wins; see [`weight`].
    pub(super) best: u32,
    /// The best source that speaks of every name beneath the asked one.
    pub(super) cover: Rank,
    /// The best source that speaks of some name beneath, of those that don't answer NXDOMAIN.
    pub(super) other: Rank,
    /// The weight of the best exception that stands against some sources and speaks of the name.
    pub(super) excepted: u32,
}

/// A rule that matches a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Index of the source, in the order of precedence.
    pub source: usize,
    /// The rule's scope.
    pub scope: Scope,
    /// How many labels the rule's name has: it is that ancestor of the asked name.
    pub labels: u8,
}

impl Default for LookupResult {
    fn default() -> Self {
        Self {
            best: NONE,
            cover: NO_RANK,
            other: NO_RANK,
            excepted: NONE,
        }
    }
}

impl LookupResult {
    /// The rule that wins: the best source's, there the deepest name's, there exact before below
    /// before subtree.
    pub fn best(&self) -> Option<Hit> {
        (self.best != NONE).then(|| hit(self.best))
    }

    /// The exception because of which rules of some sources were passed over.
    pub fn excepted(&self) -> Option<Hit> {
        (self.excepted != NONE).then(|| hit(self.excepted))
    }

    /// Whether all names beneath get NXDOMAIN if the asked one does: the best source that speaks
    /// of all of them says so (`nxdomain` tells), and none before it has anything else to say.
    pub fn is_all_nxdomain_below(&self, nxdomain: impl Fn(usize) -> bool) -> bool {
        self.cover != NO_RANK && nxdomain(self.cover as usize) && self.other > self.cover
    }

    /// Whether all names below are blocked: the best source that covers them blocks (`blocks` says
    /// which do), and no better one that may allow something has a rule there. May be false where that
    /// better source blocks as well.
    pub fn is_all_blocked_below(&self, blocks: impl Fn(usize) -> bool) -> bool {
        self.cover != NO_RANK && blocks(self.cover as usize) && self.other >= self.cover
    }
}

/// A rule's weight as one number, of which the lowest wins: rank, then depth, then scope.
#[inline]
pub(super) fn weight(rank: Rank, labels: usize, scope: Scope) -> u32 {
    rank << RANK_SHIFT | (DEPTH_MASK - labels as u32) << DEPTH_SHIFT | scope.weight()
}

pub(super) fn hit(weight: u32) -> Hit {
    Hit {
        source: (weight >> RANK_SHIFT) as usize,
        scope: match weight & ((1 << DEPTH_SHIFT) - 1) {
            0 => Scope::Exact,
            1 => Scope::Below,
            _ => Scope::Subtree,
        },
        labels: (DEPTH_MASK - (weight >> DEPTH_SHIFT & DEPTH_MASK)) as u8,
    }
}

/// What a value of an image comes to, given the ranks of the sources. Weights are those of a name
/// without labels; see [`deepen`].
#[derive(Clone, Copy, Debug)]
struct RankedValue {
    /// The best rule if the asked name is this one.
    at: u32,
    /// The best rule if it lies beneath.
    above: u32,
    cover: Rank,
    /// As in [`LookupResult`], if the asked name is this one.
    other: Rank,
    /// The same if the asked name lies above, and nothing else beneath it; and [`OVERRIDES`]. A verdict of
    /// 20 bytes keeps more of them in the processor's cache than one of 24.
    other_below: u32,
}

/// There is an exception that overrides some sources, so the name's rules are weighed one by one.
const OVERRIDES: u32 = 1 << 31;
const _: () = assert!(size_of::<RankedValue>() == 20);

/// The weight of the same rule on a name with so many labels.
#[inline]
fn deepen(weight: u32, labels: usize) -> u32 {
    // Of no rule it is that of none still: nothing weighs more.
    if weight == NONE {
        NONE
    } else {
        weight - ((labels as u32) << DEPTH_SHIFT)
    }
}

/// What the sources' ranks come to, in their order.
#[derive(Clone, Debug, Default)]
pub struct RankTraits {
    /// Whether it answers NXDOMAIN.
    pub nxdomain: Vec<bool>,
    /// For an exception, the ranks that it stands against, in their order; nothing for what counts
    /// by itself, an exception against everything as well. May be shorter than there are ranks.
    pub suppressed: Vec<Option<Box<[usize]>>>,
}

impl RankTraits {
    pub(super) fn suppresses(&self, rank: Rank) -> Option<&[usize]> {
        self.suppressed.get(rank as usize)?.as_deref()
    }
}

/// An image whose sources have ranks.
#[derive(Debug)]
pub(super) struct RankedImage {
    pub(super) image: Arc<Image>,
    ranks: Vec<Rank>,
    verdicts: Box<[RankedValue]>,
}

impl RankedImage {
    pub(super) fn new(image: Arc<Image>, ranks: Vec<Rank>, weights: &RankTraits) -> Self {
        let rank_value = |number| verdict(image.value(number), &ranks, weights);
        let ranked_values = (0..image.value_count()).map(rank_value).collect();
        Self {
            image,
            ranks,
            verdicts: ranked_values,
        }
    }

    pub(super) fn rank(&self, source: u16) -> Rank {
        let rank = self.ranks.get(usize::from(source));
        rank.copied().unwrap_or(NO_RANK)
    }

    /// Improves what `found` says of each name: of `names[i]` at `place(i)`. Calls `overridden`
    /// when an exception that overrides some sources is on or above a name.
    #[inline]
    pub(super) fn improve(
        &self,
        names: &[&Name],
        found: &mut [LookupResult],
        place: impl Fn(usize) -> usize,
        mut overridden: impl FnMut(),
    ) {
        self.image.walk(names, |which, position, labels, value| {
            let Some(verdict) = self.verdicts.get(value as usize) else {
                return;
            };
            let Some(found) = found.get_mut(place(which)) else {
                return;
            };
            if verdict.other_below & OVERRIDES != 0 {
                overridden();
            }
            let weight = match position {
                Position::Above => verdict.above,
                Position::At => {
                    found.other = found.other.min(verdict.other);
                    verdict.at
                }
                Position::Below => {
                    found.other = found.other.min(verdict.other_below & !OVERRIDES);
                    return;
                }
            };
            found.best = found.best.min(deepen(weight, labels));
            found.cover = found.cover.min(verdict.cover);
        });
    }
}

fn verdict(value: Value<'_>, ranks: &[Rank], weights: &RankTraits) -> RankedValue {
    let rank = |source: u16| ranks.get(usize::from(source)).copied().unwrap_or(NO_RANK);
    let nxdomain = |rank: Rank| weights.nxdomain.get(rank as usize);
    let other = |rank: Rank| {
        let other = rank != NO_RANK && !nxdomain(rank).copied().unwrap_or(false);
        if other { rank } else { NO_RANK }
    };
    let mut overrides = false;
    let mut verdict = RankedValue {
        at: NONE,
        above: NONE,
        cover: NO_RANK,
        other: NO_RANK,
        other_below: NO_RANK,
    };
    for source in value.below() {
        verdict.other = verdict.other.min(other(rank(source)));
    }
    verdict.other_below = verdict.other;
    for rule in value.rules() {
        let rank = rank(rule.source);
        if rank == NO_RANK {
            continue;
        }
        verdict.other_below = verdict.other_below.min(other(rank));
        if weights.suppresses(rank).is_some() {
            overrides = true;
            continue;
        }
        let weight = weight(rank, 0, rule.scope);
        if rule.scope != Scope::Below {
            verdict.at = verdict.at.min(weight);
        }
        if rule.scope != Scope::Exact {
            verdict.above = verdict.above.min(weight);
            verdict.cover = verdict.cover.min(rank);
        }
    }
    verdict.other_below |= if overrides { OVERRIDES } else { 0 };
    verdict
}
