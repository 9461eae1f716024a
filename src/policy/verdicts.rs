//! Verdicts: what the rules of a source with one effect lead to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::effect::{Effect, EffectAction, Tier};
use super::images::Images;
use super::ranking::Rank;
use super::record::{LocalRecord, rrsets};
use super::rule::{Action, Blocking, EffectAnswer, Kind, Source};
use super::view::View;

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
    pub(super) all: Vec<Verdict>,
    numbers: BTreeMap<(usize, Effect), u32>,
    /// The number of exceptions and orders. They precede the lists.
    pub(super) others: usize,
    /// The tiers of each source, as bits.
    pub(super) tiers: Vec<u8>,
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
    pub(super) fn changed(&self, verdict: u32, action: Action) -> Option<&Blocking> {
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
    pub(super) fn tier(&self) -> Tier {
        self.effect().map_or(Tier::Usual, |effect| effect.tier)
    }

    pub(super) fn effect(&self) -> Option<&Effect> {
        self.effect.as_ref().map(|found| &found.effect)
    }

    /// The answer, if the rule blocks and no view has another one. `source` is its source.
    pub(super) fn blocking<'v>(&'v self, source: &'v Source) -> &'v Blocking {
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
