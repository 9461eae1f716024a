//! The precedence of the rules of a snapshot in a view.

use std::collections::HashMap;
use std::sync::Arc;

use fixedbitset::FixedBitSet;

use super::effect::Tier;
use super::ranking::{MAX_RANKED, NO_RANK, Rank};
use super::ranks::TierRank;
use super::rule::{Action, Against, Blocking, EffectAnswer, Kind, Source};
use super::verdicts::{Verdict, Verdicts};
use super::view::{Mode, View};

/// For each exception, the sorted indices of the sources that it suppresses; `None` for an exception against
/// everything. `sources` are sorted by kind.
pub(super) fn suppressed(
    sources: &[Arc<Source>],
    index: &HashMap<&str, usize>,
) -> Vec<Option<Box<[usize]>>> {
    let exceptions = sources
        .iter()
        .take_while(|source| source.kind == Kind::Exception);
    let suppressed = |source: &Arc<Source>| match &source.against {
        Against::Named(names) => {
            let named = names.iter().filter_map(|name| index.get(name.as_str()));
            let mut named: Vec<_> = named.copied().collect();
            named.sort_unstable();
            Some(named.into())
        }
        Against::All => None,
    };
    exceptions.map(suppressed).collect()
}

/// The order of the rules of all sources in a view: exceptions precede orders, and orders precede lists, whose rules are
/// in [classes](Class). Among rules of one class, those of the earlier source precede.
#[derive(Debug, Default)]
pub(super) struct Precedence {
    /// The ranks of each list, by tier. [`NO_RANK`] if no rule is in the tier, or if the list does not count. Exceptions
    /// and orders have the same ranks in all views.
    ranks: Vec<[Rank; Tier::COUNT]>,
    /// By list.
    overrides: Vec<Override>,
    /// Whether some lists are logged only.
    pub(super) has_logged_only: bool,
    /// By rank, from the first list on: whether some rules may allow names, or may leave some names below others free.
    allows: Vec<bool>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Override {
    mode: Mode,
    action: Option<Action>,
}

impl Override {
    /// The override that a source has in every view.
    fn of(source: &Arc<Source>) -> Self {
        let mode = match source.is_disabled() {
            true => Mode::LogOnly,
            false => Mode::Enforce,
        };
        Self { mode, action: None }
    }
}

/// The ranks that the rules of an exception or of an order have in all views: each source has room for all tiers.
fn fixed_rank(source: usize, tier: Tier) -> Rank {
    // The best tier has the highest number.
    (source * Tier::COUNT + Tier::COUNT - 1 - tier as usize) as Rank
}

/// All tiers, the best first.
const BEST_FIRST: [Tier; Tier::COUNT] = [
    Tier::Rewrite,
    Tier::ImportantFirst,
    Tier::Important,
    Tier::First,
    Tier::Usual,
];

/// The classes of the rules of lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Rewrites of a block list whose rules that allow count for all lists.
    RewriteAcross,
    /// Important rules that allow, of such a list.
    ImportantAllowAcross,
    /// Important rules of block lists.
    Important,
    /// Rules of allow lists.
    AllowList,
    /// Rules that allow, of a list whose rules that allow count for all lists.
    AllowAcross,
    /// All other rules of block lists.
    Usual,
}

/// All classes, the best first.
const BEST_CLASS_FIRST: [Class; 6] = [
    Class::RewriteAcross,
    Class::ImportantAllowAcross,
    Class::Important,
    Class::AllowList,
    Class::AllowAcross,
    Class::Usual,
];

impl Class {
    /// The class of a list's rules in a tier.
    fn of(list: &Source, tier: Tier) -> Self {
        match (tier, list.allows_across) {
            _ if list.kind == Kind::Allow => Self::AllowList,
            (Tier::Rewrite, true) => Self::RewriteAcross,
            (Tier::ImportantFirst, true) => Self::ImportantAllowAcross,
            (Tier::Rewrite | Tier::ImportantFirst | Tier::Important, _) => Self::Important,
            (Tier::First, true) => Self::AllowAcross,
            (Tier::First | Tier::Usual, _) => Self::Usual,
        }
    }
}

impl Precedence {
    /// The precedence in a view; in the default view if it is `None`.
    ///
    /// # Panics
    /// If there are more than [`MAX_RANKED`] ranks.
    pub(super) fn new(
        sources: &[Arc<Source>],
        index: &HashMap<&str, usize>,
        verdicts: &Verdicts,
        view: Option<&View>,
    ) -> Self {
        let first = verdicts.others;
        let lists = sources.len() - first;
        let mut overrides = sources[first..]
            .iter()
            .map(Override::of)
            .collect::<Vec<_>>();
        let order: Vec<usize> = match view {
            None => (first..sources.len()).collect(),
            Some(view) => {
                let mut order = Vec::with_capacity(view.lists.len());
                let mut known = FixedBitSet::with_capacity(sources.len());
                for list in &view.lists {
                    let source = index.get(list.name.as_str()).copied();
                    let source = source.filter(|source| *source >= first);
                    // If a view names a list twice, its first place counts.
                    if let Some(source) = source.filter(|source| !known.put(*source)) {
                        let list_override = &mut overrides[source - first];
                        list_override.action = list.action;
                        if list.mode == Mode::LogOnly {
                            list_override.mode = list.mode;
                        }
                        order.push(source);
                    }
                }
                order
            }
        };
        let mut ranks = vec![[NO_RANK; Tier::COUNT]; lists];
        let mut next = first * Tier::COUNT;
        for class in BEST_CLASS_FIRST {
            for &source in &order {
                let tiers = BEST_FIRST.iter().filter(|tier| {
                    let is_used = verdicts.tiers[source] & 1 << **tier as u8 != 0;
                    is_used && Class::of(&sources[source], **tier) == class
                });
                for tier in tiers {
                    ranks[source - first][*tier as usize] = next as Rank;
                    next += 1;
                }
            }
        }
        assert!(
            next <= MAX_RANKED,
            "a snapshot has at most MAX_RANKED ranks"
        );
        let mut precedence = Self {
            ranks,
            allows: vec![false; next - first * Tier::COUNT],
            has_logged_only: overrides.iter().any(|list| list.mode == Mode::LogOnly),
            overrides,
        };
        for verdict in &verdicts.all {
            let Some(list) = verdict.source.checked_sub(first) else {
                continue;
            };
            let source = &sources[verdict.source];
            let rank = precedence.ranks[list][verdict.tier() as usize];
            let blocks = verdict.blocks(source);
            let action = precedence.overrides[list].action;
            let blocking = verdict.blocking(source);
            let own = blocking.effect_answer.as_ref().filter(|_| action.is_none());
            // Between two names of a policy zone there may be one that no rule matches.
            let is_zone = source.zone.is_some();
            let may_allow = !blocks || is_zone || own.is_some_and(EffectAnswer::may_allow);
            if rank != NO_RANK && may_allow {
                precedence.allows[rank as usize - first * Tier::COUNT] = true;
            }
        }
        precedence
    }

    /// Whether some rules of a rank allow names.
    pub(super) fn allows(&self, rank: Rank, verdicts: &Verdicts) -> bool {
        let rank = (rank as usize).checked_sub(verdicts.others * Tier::COUNT);
        let allows = rank.and_then(|rank| self.allows.get(rank));
        allows.copied().unwrap_or(true)
    }

    /// The rank and flags of a source's rules in a tier, in this view. `of` is the source.
    pub(super) fn tier_rank(
        &self,
        source: usize,
        tier: Tier,
        of: &Source,
        verdicts: &Verdicts,
    ) -> TierRank {
        let action = self.action(source, verdicts).unwrap_or(of.blocking.action);
        // A name of a policy zone ends what a wildcard above it covers. So the names of a zone always count as ones that may
        // have another answer.
        let is_zone = of.zone.is_some();
        let rank = TierRank::new(
            self.rank(source, tier, verdicts),
            of.blocks() && action == Action::Nxdomain && !is_zone,
            self.is_logged_only(source, verdicts),
        );
        if is_zone { rank.of_zone() } else { rank }
    }

    /// The rank of the rules with a verdict; [`NO_RANK`] if their source does not count. Also whether they are logged only.
    pub(super) fn ranked(&self, verdict: u32, verdicts: &Verdicts) -> (Rank, bool) {
        let Verdict { source, .. } = *verdicts.get(verdict);
        let rank = self.rank(source, verdicts.get(verdict).tier(), verdicts);
        (rank, self.is_logged_only(source, verdicts))
    }

    fn rank(&self, source: usize, tier: Tier, verdicts: &Verdicts) -> Rank {
        match source.checked_sub(verdicts.others) {
            Some(list) => self.ranks[list][tier as usize],
            None => fixed_rank(source, tier),
        }
    }

    /// Whether a source is logged only.
    pub(super) fn is_logged_only(&self, source: usize, verdicts: &Verdicts) -> bool {
        let list = self.overrides(source, verdicts);
        list.is_some_and(|list| list.mode == Mode::LogOnly)
    }

    /// The action of all rules of a source that block, in place of their own.
    fn action(&self, source: usize, verdicts: &Verdicts) -> Option<Action> {
        self.overrides(source, verdicts)?.action
    }

    fn overrides(&self, source: usize, verdicts: &Verdicts) -> Option<&Override> {
        let list = source.checked_sub(verdicts.others)?;
        self.overrides.get(list)
    }

    /// The answer of a verdict that blocks. `of` is its source.
    pub(super) fn blocking<'v>(
        &self,
        number: u32,
        of: &'v Source,
        verdicts: &'v Verdicts,
    ) -> &'v Blocking {
        let verdict = verdicts.get(number);
        let action = self.action(verdict.source, verdicts);
        let changed = action.and_then(|action| verdicts.changed(number, action));
        changed.unwrap_or_else(|| verdict.blocking(of))
    }
}
