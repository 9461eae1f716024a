//! The precedence of the rules of a snapshot, and what each of them leads to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use fixedbitset::FixedBitSet;

use super::effect::{Effect, EffectAction, Tier};
use super::images::Images;
use super::ranking::{MAX_RANKED, NO_RANK, Rank};
use super::ranks::TierRank;
use super::record::{LocalRecord, rrsets};
use super::rule::{Action, Against, Blocking, EffectAnswer, Kind, Source};
use super::view::{Mode, View};

/// The source of a rule, and its effect if that is not the default one.
#[derive(Debug)]
pub(super) struct Verdict {
    /// Index of the source in the snapshot.
    pub(super) source: usize,
    effect: Option<Box<VerdictEffect>>,
}

#[derive(Debug)]
struct VerdictEffect {
    effect: Effect,
    /// The answer, if the rule blocks.
    blocking: Blocking,
}

/// The verdicts of a snapshot, in all views.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    /// First the verdict with the default effect of each source, in the order of the sources; then those with other
    /// effects.
    all: Vec<Verdict>,
    numbers: BTreeMap<(usize, Effect), u32>,
    /// The number of exceptions and orders. They precede the lists.
    others: usize,
    /// The tiers of each source, as bits.
    tiers: Vec<u8>,
    /// The answers of blocking verdicts in views that replace the action; sorted by verdict and action.
    changed: Vec<((u32, Action), Blocking)>,
}

impl Verdicts {
    /// The verdicts of the rules that `sources` have in the images, and their answers in all views. `sources` are
    /// sorted by kind.
    pub(super) fn new(
        sources: &[Arc<Source>],
        index: &HashMap<&str, usize>,
        images: &Images,
        views: &[View],
    ) -> Self {
        let mut all: Vec<_> = (0..sources.len())
            .map(|source| Verdict {
                source,
                effect: None,
            })
            .collect();
        let mut numbers: BTreeMap<_, _> = image_effects(index, images)
            .map(|(source, effect)| ((source, effect.clone()), 0))
            .collect();
        let mut tiers = vec![1 << Tier::Usual as u8; sources.len()];
        for (number, ((source, effect), place)) in (all.len() as u32..).zip(&mut numbers) {
            *place = number;
            tiers[*source] |= 1 << effect.tier as u8;
            let of = &sources[*source];
            let effect = match &of.zone {
                Some(zone) => zone.settings.applied(effect).into_owned(),
                None => effect.clone(),
            };
            let blocking = blocking(&of.blocking, &effect);
            all.push(Verdict {
                source: *source,
                effect: Some(Box::new(VerdictEffect { effect, blocking })),
            });
        }
        let mut actions: BTreeMap<usize, BTreeSet<Action>> = BTreeMap::new();
        for list in views.iter().flat_map(|view| &view.lists) {
            if let (Some(source), Some(action)) = (index.get(list.name.as_str()), list.action) {
                actions.entry(*source).or_default().insert(action);
            }
        }
        let mut changed = Vec::new();
        for (number, verdict) in (0..).zip(&all) {
            let of = &sources[verdict.source];
            let actions = actions.get(&verdict.source).into_iter().flatten();
            changed.extend(actions.filter(|_| verdict.blocks(of)).map(|&action| {
                let blocking = Blocking {
                    action,
                    effect_answer: None,
                    ..verdict.blocking(of).clone()
                };
                ((number, action), blocking)
            }));
        }
        Self {
            others: sources
                .partition_point(|source| precedence(source.kind) < precedence(Kind::Allow)),
            all,
            numbers,
            tiers,
            changed,
        }
    }

    /// Their number.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, verdict: u32) -> &Verdict {
        &self.all[verdict as usize]
    }

    /// The answer of a verdict with this action in place of its own; `None` if the verdict does not block, or if no
    /// view replaces its action by this one.
    fn changed(&self, verdict: u32, action: Action) -> Option<&Blocking> {
        let key = (verdict, action);
        let place = self.changed.binary_search_by_key(&key, |(of, _)| *of);
        place.ok().map(|place| &self.changed[place].1)
    }

    /// The best rank that a list can have. All better ranks are those of exceptions and orders.
    pub(super) fn first_list(&self) -> Rank {
        (self.others * Tier::COUNT) as Rank
    }

    /// The verdict of the rules of a source with this effect.
    pub(super) fn number(&self, source: usize, effect: &Effect) -> u32 {
        match effect.is_default() {
            true => source as u32,
            false => self.numbers[&(source, effect.clone())],
        }
    }
}

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

/// The order of the rules of all sources in a view: exceptions precede orders, orders precede important rules of block
/// lists, these precede allow lists, and allow lists precede the other rules of block lists. Among sources of one kind,
/// the earlier one precedes.
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
        let mode = match source.is_logged_only() {
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
    Tier::ImportantFirst,
    Tier::Important,
    Tier::First,
    Tier::Usual,
];

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
        let mut number = |kind: Kind, tiers: &[Tier]| {
            for &source in order.iter().filter(|source| sources[**source].kind == kind) {
                for tier in tiers {
                    let rank = &mut ranks[source - first][*tier as usize];
                    let is_used = verdicts.tiers[source] & 1 << *tier as u8 != 0;
                    if is_used {
                        *rank = next as Rank;
                        next += 1;
                    }
                }
            }
        };
        number(Kind::Block, &BEST_FIRST[..2]);
        number(Kind::Allow, &BEST_FIRST);
        number(Kind::Block, &BEST_FIRST[2..]);
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

/// The sources with rules that have another effect than the default, and these effects.
fn image_effects<'i>(
    index: &HashMap<&str, usize>,
    images: &'i Images,
) -> impl Iterator<Item = (usize, &'i Effect)> {
    let all = [&images.base, &images.delta, &images.orders];
    all.into_iter().flatten().flat_map(|image| {
        let sources = &image.provenance().sources;
        image.clauses().iter().filter_map(|(clause, effect)| {
            if effect.is_default() || effect.is_void() {
                return None;
            }
            let source = index.get(&*sources[usize::from(clause.source)].name)?;
            Some((*source, effect))
        })
    })
}

impl Verdict {
    fn tier(&self) -> Tier {
        self.effect().map_or(Tier::Usual, |effect| effect.tier)
    }

    pub(super) fn effect(&self) -> Option<&Effect> {
        self.effect.as_ref().map(|found| &found.effect)
    }

    /// The answer, if the rule blocks and no view has another one. `source` is its source.
    fn blocking<'v>(&'v self, source: &'v Source) -> &'v Blocking {
        self.effect
            .as_ref()
            .map_or(&source.blocking, |found| &found.blocking)
    }

    /// Whether the rule blocks. `source` is its source. An exception never does.
    pub(super) fn blocks(&self, source: &Source) -> bool {
        if source.kind == Kind::Exception {
            return false;
        }
        match self.effect().map(|effect| &effect.action) {
            None | Some(EffectAction::Source) => source.blocks(),
            Some(EffectAction::Allow | EffectAction::Void) => false,
            Some(
                EffectAction::Block(_)
                | EffectAction::Addresses(..)
                | EffectAction::Records(_)
                | EffectAction::Cname { .. }
                | EffectAction::TcpOnly,
            ) => true,
        }
    }
}

/// The answer of a source, changed by an effect.
fn blocking(of: &Blocking, effect: &Effect) -> Blocking {
    let mut blocking = of.clone();
    blocking.as_written |= effect.as_written;
    if let Some(ttl_secs) = effect.ttl_secs {
        blocking.ttl_secs = ttl_secs;
    }
    blocking.effect_answer = effect_answer(effect, blocking.ttl_secs);
    match &effect.action {
        EffectAction::Source | EffectAction::Allow | EffectAction::Void => {}
        EffectAction::Block(action) => blocking.action = *action,
        EffectAction::Addresses(v4, v6) => {
            blocking.action = Action::Sinkhole;
            blocking.sinkhole_v4.clone_from(v4);
            blocking.sinkhole_v6.clone_from(v6);
        }
        EffectAction::Records(_) | EffectAction::Cname { .. } | EffectAction::TcpOnly => {
            blocking.action = Action::Nodata;
        }
    }
    if let Some(ede) = effect.ede {
        blocking.ede = ede;
    }
    if let Some(text) = &effect.extra_text {
        blocking.extra_text.clone_from(text);
    }
    blocking
}

/// The answer of an effect, if no action describes it. `ttl_secs` is the TTL of records without one.
fn effect_answer(effect: &Effect, ttl_secs: u32) -> Option<EffectAnswer> {
    match &effect.action {
        EffectAction::Source
        | EffectAction::Block(_)
        | EffectAction::Addresses(..)
        | EffectAction::Allow
        | EffectAction::Void => None,
        EffectAction::Records(records) => {
            let target = records.first().and_then(LocalRecord::cname_target);
            Some(match (target, &**records) {
                (Some(target), [record]) => EffectAnswer::Cname {
                    target: Arc::new(target),
                    prepend: false,
                    ttl_secs: record.ttl_secs.unwrap_or(ttl_secs),
                },
                _ => EffectAnswer::Records(rrsets(records, ttl_secs)),
            })
        }
        EffectAction::Cname { target, prepend } => Some(EffectAnswer::Cname {
            target: target.clone(),
            prepend: *prepend,
            ttl_secs,
        }),
        EffectAction::TcpOnly => Some(EffectAnswer::TcpOnly),
    }
}

/// The kind with the lower number wins, whatever the order of the configuration.
pub(super) fn precedence(kind: Kind) -> u8 {
    match kind {
        Kind::Exception => 0,
        Kind::Order => 1,
        Kind::Allow => 2,
        Kind::Block => 3,
    }
}
