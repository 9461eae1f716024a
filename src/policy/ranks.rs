//! The clauses of an image in a snapshot: the verdict that each leads to, and the rank that it has in each view.

use super::effect::{Effect, Tier};
use super::image::Image;
use super::image::values::{SourceBelow, Value};
use super::image::walk::Position;
use super::ranking::{LookupResult, NO_RANK, NONE, Rank, deepen, weight};
use super::rule::Scope;
use super::view::ViewId;
use super::zone_flags::{HIDES, HIDES_BELOW, IN_ZONE, ZonesAt};

/// The verdict of the rules of a clause, the same in all views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClauseVerdict {
    /// The index of its source in the snapshot.
    pub(super) source: u32,
    /// The number of the verdict in the snapshot.
    pub(super) verdict: u32,
    /// Whether it is an exception that suppresses some sources.
    pub(super) overrides: bool,
}

/// The rank and flags that the rules of a source in one tier have in a view, packed into 32 bits: most views fit into a
/// line of the processor's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TierRank(u32);

impl TierRank {
    const NXDOMAIN: u32 = 1 << 31;
    const LOGS: u32 = 1 << 30;
    const ZONE: u32 = 1 << 29;
    const NONE: Self = Self(NO_RANK);

    /// `nxdomain` is whether rules with the default effect answer NXDOMAIN, `logs` whether all rules are logged only.
    pub(super) fn new(rank: Rank, nxdomain: bool, logs: bool) -> Self {
        let flag = |bit, is_set| if is_set { bit } else { 0 };
        Self(rank | flag(Self::NXDOMAIN, nxdomain) | flag(Self::LOGS, logs))
    }

    /// The same, of a policy zone.
    pub(super) fn of_zone(self) -> Self {
        Self(self.0 | Self::ZONE)
    }

    fn rank(self) -> Rank {
        self.0 & NO_RANK
    }

    fn nxdomain(self) -> bool {
        self.0 & Self::NXDOMAIN != 0
    }

    fn logs(self) -> bool {
        self.0 & Self::LOGS != 0
    }

    fn is_zone(self) -> bool {
        self.0 & Self::ZONE != 0
    }
}

const _: () = assert!(NO_RANK & (TierRank::NXDOMAIN | TierRank::LOGS | TierRank::ZONE) == 0);

/// The clauses of an image, and their ranks in all views.
#[derive(Debug)]
pub(super) struct ClauseRanks {
    clauses: Vec<GroupedClause>,
    /// The source (its index in the snapshot) and the tier of each group of clauses.
    groups: Vec<(u32, Tier)>,
    /// By source of the image: the group of its rules with the default effect, and the best group of its other rules.
    sources: Vec<[u32; 2]>,
    /// The ranks of the groups, one view after the other.
    views: Vec<TierRank>,
    /// Whether some of the sources are policy zones.
    has_zones: bool,
    /// All values of the image with their ranks in the default view, to which most clients belong. In another view,
    /// a lookup computes the ranks of each value that it passes. So such a view needs memory only for the ranks of the
    /// groups, and thousands of views stay in the processor's cache.
    values: Box<[RankedValue]>,
}

#[derive(Clone, Copy, Debug)]
struct GroupedClause {
    verdict: ClauseVerdict,
    group: u32,
    is_default: bool,
    is_conditional: bool,
    /// Whether it is the mark that voids the rules on a name.
    is_void: bool,
}

/// The number of no group.
const NO_GROUP: u32 = u32::MAX;

impl ClauseRanks {
    /// The clauses of `image`. They have no ranks until [`add_view`](Self::add_view) adds a view. `verdict` returns the
    /// verdict of the clause with this source and effect, or `None` if the source does not count.
    pub(super) fn new(
        image: &Image,
        verdict: impl Fn(&str, &Effect) -> Option<ClauseVerdict>,
    ) -> Self {
        let named = &image.provenance().sources;
        let mut numbers = vec![[NO_GROUP; Tier::COUNT]; named.len()];
        let mut groups = Vec::new();
        let mut sources = vec![[NO_GROUP; 2]; named.len()];
        let default = Effect::default();
        let clauses = image.clauses().iter().map(|(clause, effect)| {
            let source = usize::from(clause.source);
            let is_default = clause.effect == 0;
            let is_void = effect.is_void();
            // A mark leads to no verdict. In each view, it counts if the rules of its source do.
            let effect = if is_void { &default } else { effect };
            let Some(verdict) = verdict(&named[source].name, effect) else {
                return GroupedClause::NONE;
            };
            let group = &mut numbers[source][effect.tier as usize];
            if *group == NO_GROUP {
                *group = groups.len() as u32;
                groups.push((verdict.source, effect.tier));
            }
            let group = *group;
            let of_source = &mut sources[source][usize::from(!is_default)];
            // In all views, the rules of a source in a better tier precede the others.
            let tier = |group: u32| groups.get(group as usize).map(|(_, tier)| *tier);
            if !is_void && tier(*of_source) < Some(effect.tier) {
                *of_source = group;
            }
            GroupedClause {
                verdict,
                group,
                is_default,
                is_conditional: effect.condition.is_some(),
                is_void,
            }
        });
        Self {
            clauses: clauses.collect(),
            groups,
            sources,
            views: Vec::new(),
            has_zones: false,
            values: Box::default(),
        }
    }

    /// Adds a view of `image`, the default one first.
    pub(super) fn add_view(&mut self, image: &Image, rank: impl Fn(u32, Tier) -> TierRank) {
        let is_default = self.views.is_empty();
        let ranks = self
            .groups
            .iter()
            .map(|(source, tier)| rank(*source, *tier));
        let start = self.views.len();
        self.views.extend(ranks);
        self.has_zones |= self.views[start..].iter().any(|rank| rank.is_zone());
        if is_default {
            let ranks = self.in_view(ViewId::DEFAULT);
            let ranked = |number| RankedValue::new(&ranks, image.value(number), Position::At);
            self.values = (0..image.value_count()).map(ranked).collect();
        }
    }

    /// The ranks in a view; in the default view if this one was not added.
    #[inline]
    pub(super) fn in_view(&self, view: ViewId) -> Ranks<'_> {
        let count = self.groups.len();
        let start = usize::from(view.0) * count;
        let of_view = match start {
            0 => None,
            _ => self.views.get(start..start + count),
        };
        Ranks {
            of: self,
            groups: of_view.unwrap_or_else(|| self.views.get(..count).unwrap_or_default()),
            values: of_view.is_none().then_some(&self.values),
        }
    }

    /// All values of the image with their ranks in the default view.
    pub(super) fn default_values(&self) -> &[RankedValue] {
        &self.values
    }
}

impl GroupedClause {
    const NONE: Self = Self {
        verdict: ClauseVerdict {
            source: u32::MAX,
            verdict: u32::MAX,
            overrides: false,
        },
        group: NO_GROUP,
        is_default: true,
        is_conditional: false,
        is_void: false,
    };
}

/// The ranks of an image's clauses in a view.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranks<'r> {
    of: &'r ClauseRanks,
    groups: &'r [TierRank],
    values: Option<&'r [RankedValue]>,
}

impl Ranks<'_> {
    #[inline]
    pub(super) fn clause(&self, clause: u32) -> RankedClause {
        let clause = self.of.clauses.get(clause as usize);
        let clause = clause.unwrap_or(&GroupedClause::NONE);
        let rank = self.group(clause.group);
        RankedClause {
            rank: rank.rank(),
            verdict: clause.verdict.verdict,
            source: clause.verdict.source,
            nxdomain: clause.is_default && rank.nxdomain(),
            overrides: clause.verdict.overrides,
            logs: rank.logs(),
            is_zone: rank.is_zone(),
            is_conditional: clause.is_conditional,
            is_void: clause.is_void,
        }
    }

    #[inline]
    fn group(&self, group: u32) -> TierRank {
        let rank = self.groups.get(group as usize);
        rank.copied().unwrap_or(TierRank::NONE)
    }

    /// A value of `image`, ranked in this view. `position` is that of the value's name relative to the looked-up name.
    /// `None` if there is no such value.
    #[inline(always)]
    pub(super) fn ranked(
        &self,
        image: &Image,
        position: Position,
        value: u32,
    ) -> Option<RankedValue> {
        match self.values {
            Some(values) => values.get(value as usize).copied(),
            None => Some(self.rank(image.value(value), position)),
        }
    }

    // Inlined, it would enlarge the loop of lookups in the default view, which do not need it.
    #[inline(never)]
    fn rank(&self, value: Value<'_>, position: Position) -> RankedValue {
        RankedValue::new(self, value, position)
    }

    /// The policy zone that has rules below a name: the index of the source in the snapshot, and whether it is logged only.
    /// `None` if the source is no policy zone, or does not count.
    pub(super) fn zone_below(&self, below: SourceBelow) -> Option<(u32, bool)> {
        let [default, effect] = self.of.sources.get(usize::from(below.source))?;
        let group = if below.has_default { default } else { effect };
        let rank = self.group(*group);
        let (source, _) = self.of.groups.get(*group as usize)?;
        (rank.rank() != NO_RANK && rank.is_zone()).then(|| (*source, rank.logs()))
    }

    /// The best rank of the rules that a source has below a name, for [`LookupResult::other`]. Rules that answer
    /// NXDOMAIN by the action of the source, and rules that are logged only, do not count.
    pub(super) fn other(&self, below: SourceBelow) -> Rank {
        let Some([default, effect]) = self.of.sources.get(usize::from(below.source)) else {
            return NO_RANK;
        };
        let rank = |group: u32, is_default: bool| {
            let rank = self.group(group);
            let is_left_out = rank.logs() || is_default && rank.nxdomain();
            if is_left_out { NO_RANK } else { rank.rank() }
        };
        let default = below.has_default.then(|| rank(*default, true));
        let effect = below.has_effect.then(|| rank(*effect, false));
        let ranks = default.into_iter().chain(effect);
        ranks.min().unwrap_or(NO_RANK)
    }
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
    /// also the bits [`OVERRIDES`], [`LOGS`] and [`CONDITIONAL`], and those of [`ZonesAt::flags`]. All are stored in one number. So a ranked
    /// value has 24 bytes instead of 32, and more values fit into the processor's cache.
    other_below: u32,
}

/// The value has an exception that suppresses some sources, or a mark that voids rules in the base. So the name's rules
/// must be evaluated one by one.
pub(super) const OVERRIDES: u32 = 1 << 31;
/// The value has a rule that is logged only.
pub(super) const LOGS: u32 = 1 << 30;
/// The value has a rule with a condition, which may not hold for the query.
pub(super) const CONDITIONAL: u32 = 1 << 26;
const FLAGS: u32 = OVERRIDES | LOGS | CONDITIONAL | IN_ZONE | HIDES;
const _: () = assert!(size_of::<RankedValue>() == 24 && NO_RANK & FLAGS == 0);

impl RankedValue {
    /// Ranks the rules of a value. If its name is above the looked-up one, the rules below matter only in policy zones.
    #[inline]
    pub(super) fn new(ranks: &Ranks<'_>, value: Value<'_>, position: Position) -> Self {
        let mut flags = 0;
        let mut ranked = Self {
            at: NONE,
            above: NONE,
            other: NO_RANK,
            other_below: NO_RANK,
        };
        if position != Position::Above {
            let others = value.sources_below().map(|below| ranks.other(below));
            ranked.other = others.fold(NO_RANK, Rank::min);
        }
        ranked.other_below = ranked.other;
        let mut zones = ZonesAt::default();
        if ranks.of.has_zones {
            let below = value.sources_below();
            let below = below.filter_map(|below| ranks.zone_below(below));
            // Rules that are logged only are always evaluated one by one.
            for (zone, _) in below.filter(|(_, logs)| !logs) {
                zones.add_below(zone);
            }
        }
        for rule in value.rules() {
            let clause = ranks.clause(rule.clause);
            if clause.rank == NO_RANK {
                continue;
            }
            if clause.is_void {
                flags |= OVERRIDES;
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
            if clause.is_zone {
                zones.add_rule(clause.source, rule.scope);
            }
            if clause.is_conditional {
                flags |= CONDITIONAL;
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
        ranked.other_below |= flags | zones.flags();
        ranked
    }

    /// Merges the rules of the value into the result for a name. The value's name has `labels` labels, and `position`
    /// is its position relative to the looked-up name. Returns flags: [`OVERRIDES`], [`LOGS`] and [`CONDITIONAL`] of a
    /// value whose name is not below, and some of [`HIDES`] if wildcards above may not match the looked-up name.
    #[inline(always)]
    pub(super) fn merge_into(
        self,
        found: &mut LookupResult,
        position: Position,
        labels: usize,
    ) -> u32 {
        let flags = self.other_below & FLAGS;
        if flags & (LOGS | CONDITIONAL) != 0 && position != Position::Below {
            found.look_for(flags & LOGS != 0, flags & CONDITIONAL != 0);
        }
        let (weight, hiding) = match position {
            Position::Above => (self.above, HIDES_BELOW),
            Position::At => {
                found.other = found.other.min(self.other);
                (self.at, HIDES)
            }
            Position::Below => {
                found.other = found.other.min(self.other_below & !FLAGS);
                // No rule of the value matches the name.
                if flags & IN_ZONE == 0 {
                    return 0;
                }
                found.encloser = labels as u8;
                return HIDES;
            }
        };
        if flags & hiding != 0 {
            found.encloser = found.encloser.max(labels as u8);
        }
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
    /// Whether its source is a policy zone.
    pub(super) is_zone: bool,
    /// Whether its rules have a condition.
    pub(super) is_conditional: bool,
    /// Whether it is the mark that voids the rules of its source on a name in the base.
    pub(super) is_void: bool,
}

impl RankedClause {
    /// The rank that counts for [`LookupResult::other`].
    pub(super) fn other(self) -> Rank {
        if self.nxdomain || self.logs {
            NO_RANK
        } else {
            self.rank
        }
    }
}
