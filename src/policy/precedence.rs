//! The precedence of the rules of a snapshot, and what each of them leads to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fixedbitset::FixedBitSet;

use super::effect::{Effect, EffectAction, Tier};
use super::images::Images;
use super::ranking::{MAX_RANKED, NO_RANK, Rank, RankedClause};
use super::record::{LocalRecord, rrsets};
use super::rule::{Action, Against, Blocking, EffectAnswer, Kind, Source};
use super::view::{Mode, View};

/// What a rule leads to: its source, and its effect if that is not the default one.
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
    /// The first of them are those of the sources with the default effect, in the order of the sources.
    all: Vec<Verdict>,
    numbers: BTreeMap<(usize, Effect), u32>,
    /// The number of exceptions and orders. They precede the lists.
    others: usize,
    /// The tiers of each source, as bits.
    tiers: Vec<u8>,
}

impl Verdicts {
    /// The verdicts of `sources`, which are sorted by kind, in images.
    pub(super) fn new(
        sources: &[Arc<Source>],
        index: &HashMap<&str, usize>,
        images: &Images,
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
            let blocking = blocking(&sources[*source].blocking, effect);
            let effect = effect.clone();
            all.push(Verdict {
                source: *source,
                effect: Some(Box::new(VerdictEffect { effect, blocking })),
            });
        }
        Self {
            others: sources
                .partition_point(|source| precedence(source.kind) < precedence(Kind::Allow)),
            all,
            numbers,
            tiers,
        }
    }

    pub(super) fn get(&self, verdict: u32) -> &Verdict {
        &self.all[verdict as usize]
    }

    /// The rank from which on rules are those of lists.
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

/// The sources that exceptions suppress, by index of the exception, sorted. `None` for an exception against everything.
/// `sources` are sorted by kind.
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
    /// By rank, from the first list on: whether some rules allow names.
    allows: Vec<bool>,
    /// The answers of verdicts with another action in this view, sorted by verdict.
    blockings: Vec<(u32, Blocking)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Override {
    mode: Mode,
    action: Option<Action>,
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
        let mut overrides = vec![Override::default(); lists];
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
                        overrides[source - first] = Override {
                            mode: list.mode,
                            action: list.action,
                        };
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
            overrides,
            blockings: Vec::new(),
        };
        for (number, verdict) in verdicts.all.iter().enumerate() {
            let Some(list) = verdict.source.checked_sub(first) else {
                continue;
            };
            let source = &sources[verdict.source];
            let rank = precedence.ranks[list][verdict.tier() as usize];
            let blocks = verdict.blocks(source);
            let action = precedence.overrides[list].action;
            let blocking = verdict.blocking(source);
            let own = blocking.effect_answer.as_ref().filter(|_| action.is_none());
            let may_allow = !blocks || own.is_some_and(EffectAnswer::may_allow);
            if rank != NO_RANK && may_allow {
                precedence.allows[rank as usize - first * Tier::COUNT] = true;
            }
            if blocks && let Some(action) = action {
                let blocking = Blocking {
                    action,
                    effect_answer: None,
                    ..blocking.clone()
                };
                precedence.blockings.push((number as u32, blocking));
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

    /// The rules of a source with this effect, in this view.
    pub(super) fn clause(
        &self,
        source: usize,
        effect: &Effect,
        of: &Source,
        verdicts: &Verdicts,
    ) -> RankedClause {
        let verdict = verdicts.number(source, effect);
        let rank = self.rank(source, effect.tier, verdicts);
        let action = self.blocking(verdict, verdicts.get(verdict), of).action;
        RankedClause {
            rank,
            verdict,
            source: source as u32,
            nxdomain: effect.is_default() && of.blocks() && action == Action::Nxdomain,
            overrides: of.kind == Kind::Exception && of.against != Against::All,
            logs: self.is_logged_only(source, verdicts),
        }
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
        let list = source.checked_sub(verdicts.others);
        let list = list.and_then(|list| self.overrides.get(list));
        list.is_some_and(|list| list.mode == Mode::LogOnly)
    }

    /// The answer of a verdict that blocks. `source` is its source.
    pub(super) fn blocking<'v>(
        &'v self,
        number: u32,
        verdict: &'v Verdict,
        source: &'v Source,
    ) -> &'v Blocking {
        let other = self.blockings.binary_search_by_key(&number, |(of, _)| *of);
        match other {
            Ok(place) => &self.blockings[place].1,
            Err(_) => verdict.blocking(source),
        }
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
            if effect.is_default() {
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
            Some(EffectAction::Allow) => false,
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
        EffectAction::Source | EffectAction::Allow => {}
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
        | EffectAction::Allow => None,
        EffectAction::Records(records) => {
            let target = records.first().and_then(LocalRecord::cname_target);
            Some(match (target, &**records) {
                (Some(target), [record]) => EffectAnswer::Cname {
                    target: Box::new(target),
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
