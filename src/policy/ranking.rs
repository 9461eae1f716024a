//! The rules of one image, ranked by the precedence of their sources in a snapshot.

use std::sync::Arc;

use super::image::Image;
use super::image::values::{SOURCES, Value};
use super::image::walk::Position;
use super::rule::Scope;
use crate::wire::name::{MAX_LABELS, Name};

/// The precedence of a source: 0 wins over 1. A rank fits into [`RANK_BITS`] bits of a weight. These suffice for all
/// sources of a snapshot's images.
pub(super) type Rank = u32;

/// The bits of a weight: the lowest two for the scope, seven for the depth, the others for the rank.
const DEPTH_SHIFT: u32 = 2;
const RANK_SHIFT: u32 = 9;
const RANK_BITS: u32 = u32::BITS - RANK_SHIFT;
/// The depth counts down from this number of labels.
const DEPTH_MASK: u32 = (1 << (RANK_SHIFT - DEPTH_SHIFT)) - 1;
const _: () = assert!(MAX_LABELS as u32 <= DEPTH_MASK);

/// No rule, or no source.
pub(super) const NONE: u32 = u32::MAX;
/// The rank of sources that are not configured.
pub(super) const NO_RANK: Rank = (1 << RANK_BITS) - 1;
/// The number of sources that can have a rank. It is greater than the number of sources that three images can have.
pub const MAX_RANKED: usize = NO_RANK as usize;
const _: () = assert!(MAX_RANKED > 3 * SOURCES);

/// The result of a lookup: which rule matches a name, and what covers the names below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupResult {
    /// The weight of the matching rule with the best precedence; see [`weight`].
    pub(super) best: u32,
    /// The best source with a rule that covers every name below.
    pub(super) cover: Rank,
    /// The best source that does not answer NXDOMAIN and has a rule on some name below.
    pub(super) other: Rank,
    /// The weight of the best matching exception that suppresses some sources only.
    pub(super) excepted: u32,
}

/// A rule that matches a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Index of the source, in order of precedence.
    pub source: usize,
    /// The scope of the rule.
    pub scope: Scope,
    /// The number of labels of the rule's name, which is an ancestor of the looked-up name or the name
    /// itself.
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
    /// The deciding rule: the rule of the best source on the deepest name. On the same name, [`Scope::Exact`] precedes
    /// [`Scope::Below`], which precedes [`Scope::Subtree`].
    pub fn best(&self) -> Option<Hit> {
        (self.best != NONE).then(|| hit(self.best))
    }

    /// The exception that suppressed rules of some sources.
    pub fn excepted(&self) -> Option<Hit> {
        (self.excepted != NONE).then(|| hit(self.excepted))
    }

    /// Whether NXDOMAIN for the name is true of all names below it: the best source that covers them answers
    /// NXDOMAIN, and no better source that answers otherwise has a rule there. `nxdomain` returns whether a
    /// source answers NXDOMAIN.
    pub fn is_all_nxdomain_below(&self, nxdomain: impl Fn(usize) -> bool) -> bool {
        self.cover != NO_RANK && nxdomain(self.cover as usize) && self.other > self.cover
    }

    /// Whether all names below are blocked: the best source that covers them blocks, and no better source has
    /// a rule there that may allow a name. Every better source that does not answer NXDOMAIN counts as one that
    /// may, even if it blocks; so the result may be false although all names are blocked. `blocks` returns whether
    /// a source blocks.
    pub fn is_all_blocked_below(&self, blocks: impl Fn(usize) -> bool) -> bool {
        self.cover != NO_RANK && blocks(self.cover as usize) && self.other >= self.cover
    }
}

/// The weight of a rule; the lowest weight decides. Compares by rank, then depth, then scope.
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

/// A [`Value`] of an image (the rules of a node), evaluated under the ranks of a snapshot. Weights are those of rules
/// on the root; [`deepen`] corrects them for the depth.
#[derive(Clone, Copy, Debug)]
struct RankedValue {
    /// The best rule if the looked-up name is the value's name.
    at: u32,
    /// The best rule if the looked-up name is below the value's name.
    above: u32,
    cover: Rank,
    /// [`LookupResult::other`] if the looked-up name is the value's name.
    other: Rank,
    /// [`LookupResult::other`] if the looked-up name is above the value's name and has no other rule below;
    /// also the bit [`OVERRIDES`]. Both are stored in one number. So a ranked value has 20 bytes instead of
    /// 24, and more values fit into the processor's cache.
    other_below: u32,
}

/// The value has an exception that suppresses some sources, so the name's rules must be evaluated one by one.
const OVERRIDES: u32 = 1 << 31;
const _: () = assert!(size_of::<RankedValue>() == 20);

/// The weight of the same rule on a name of `labels` labels.
#[inline]
fn deepen(weight: u32, labels: usize) -> u32 {
    // `NONE` stays the highest weight.
    if weight == NONE {
        NONE
    } else {
        weight - ((labels as u32) << DEPTH_SHIFT)
    }
}

/// Properties of the ranked sources, indexed by rank.
#[derive(Clone, Debug, Default)]
pub struct RankTraits {
    /// Whether the source answers NXDOMAIN.
    pub nxdomain: Vec<bool>,
    /// For an exception that names sources: their ranks, sorted. `None` for all other sources, and for an
    /// exception against everything. May be shorter than the number of ranks.
    pub suppressed: Vec<Option<Box<[usize]>>>,
}

impl RankTraits {
    pub(super) fn suppresses(&self, rank: Rank) -> Option<&[usize]> {
        self.suppressed.get(rank as usize)?.as_deref()
    }
}

/// An image together with the ranks of its sources.
#[derive(Debug)]
pub(super) struct RankedImage {
    pub(super) image: Arc<Image>,
    ranks: Vec<Rank>,
    values: Box<[RankedValue]>,
}

impl RankedImage {
    pub(super) fn new(image: Arc<Image>, ranks: Vec<Rank>, traits: &RankTraits) -> Self {
        let ranked = |number| rank_value(image.value(number), &ranks, traits);
        let values = (0..image.value_count()).map(ranked).collect();
        Self {
            image,
            ranks,
            values,
        }
    }

    pub(super) fn rank(&self, source: u16) -> Rank {
        let rank = self.ranks.get(usize::from(source));
        rank.copied().unwrap_or(NO_RANK)
    }

    /// Merges the rules of this image into the results: those of `names[i]` into `found[place(i)]`. Calls
    /// `overridden` if a name or one of its ancestors has an exception that suppresses some sources.
    #[inline]
    pub(super) fn merge_into(
        &self,
        names: &[&Name],
        found: &mut [LookupResult],
        place: impl Fn(usize) -> usize,
        mut overridden: impl FnMut(),
    ) {
        self.image.walk(names, |which, position, labels, value| {
            let Some(ranked) = self.values.get(value as usize) else {
                return;
            };
            let Some(found) = found.get_mut(place(which)) else {
                return;
            };
            if ranked.other_below & OVERRIDES != 0 {
                overridden();
            }
            let weight = match position {
                Position::Above => ranked.above,
                Position::At => {
                    found.other = found.other.min(ranked.other);
                    ranked.at
                }
                Position::Below => {
                    found.other = found.other.min(ranked.other_below & !OVERRIDES);
                    return;
                }
            };
            found.best = found.best.min(deepen(weight, labels));
            found.cover = found.cover.min(ranked.cover);
        });
    }
}

fn rank_value(value: Value<'_>, ranks: &[Rank], traits: &RankTraits) -> RankedValue {
    let rank = |source: u16| ranks.get(usize::from(source)).copied().unwrap_or(NO_RANK);
    let nxdomain = |rank: Rank| traits.nxdomain.get(rank as usize);
    let other = |rank: Rank| {
        let other = rank != NO_RANK && !nxdomain(rank).copied().unwrap_or(false);
        if other { rank } else { NO_RANK }
    };
    let mut overrides = false;
    let mut ranked = RankedValue {
        at: NONE,
        above: NONE,
        cover: NO_RANK,
        other: NO_RANK,
        other_below: NO_RANK,
    };
    for source in value.sources_below() {
        ranked.other = ranked.other.min(other(rank(source)));
    }
    ranked.other_below = ranked.other;
    for rule in value.rules() {
        let rank = rank(rule.source);
        if rank == NO_RANK {
            continue;
        }
        ranked.other_below = ranked.other_below.min(other(rank));
        if traits.suppresses(rank).is_some() {
            overrides = true;
            continue;
        }
        let weight = weight(rank, 0, rule.scope);
        if rule.scope != Scope::Below {
            ranked.at = ranked.at.min(weight);
        }
        if rule.scope != Scope::Exact {
            ranked.above = ranked.above.min(weight);
            ranked.cover = ranked.cover.min(rank);
        }
    }
    ranked.other_below |= if overrides { OVERRIDES } else { 0 };
    ranked
}
