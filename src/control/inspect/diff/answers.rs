//! Finds the names for which clients get different answers under two policies.
//!
//! Rules on names make answers differ only at or below a name that has a rule in either policy. So each of these names
//! is looked up in both policies, and with it an invented name below it that has no rule, as a sample of all others
//! below. The same is done with the names that conditions leave out. If rules are limited to query types, the answers to
//! these types are compared as well.
//! Rules on networks and patterns are compared as rules.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::triggers::{self, TriggerDifference};
use super::{Change, CountsBySource};
use crate::control::inspect::policy_at::PolicyAt;
use crate::control::journal::entry::Setting;
use crate::policy::condition::{Condition, MAX_TYPES, TypeSet};
use crate::policy::decide::{ChainExemption, Decision, Matched};
use crate::policy::image::path::Path;
use crate::policy::image::walk::Position;
use crate::policy::image::{Image, TooLarge};
use crate::policy::images::Images;
use crate::policy::rule::{Action, Against, Blocking, Ede, EffectAnswer, Scope, Source};
use crate::policy::snapshot::Snapshot;
use crate::policy::view::ViewId;
use crate::wire::name::Name;
use crate::wire::rtype;

/// Settings that affect answers for all names.
const GENERAL: &[&str] = &["server.", "local.", "upstream.", "cache."];

/// The answer that clients get for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'s> {
    /// Upstream's answer: no rule matches.
    Upstream,
    /// Upstream's answer: a rule of an allow list decides.
    Allowed,
    /// Upstream's answer: an exception decides.
    Excepted,
    /// A synthesized answer, as the source is configured.
    Blocked {
        /// The action in effect. It is NODATA in place of NXDOMAIN if a name below may exist.
        action: Action,
        /// The answer of the rule, in place of the action's.
        own: Option<&'s EffectAnswer>,
        /// The sinkhole's addresses for A.
        sinkhole_v4: &'s [Ipv4Addr],
        /// The sinkhole's addresses for AAAA.
        sinkhole_v6: &'s [Ipv6Addr],
        /// The TTL in seconds.
        ttl_secs: u32,
        /// The Extended DNS Error.
        ede: Ede,
        /// Its EXTRA-TEXT.
        extra_text: &'s str,
    },
}

/// A name, or a name and those below it, for which clients get different answers under two policies.
#[derive(Debug)]
pub struct AnswerDifference<'s> {
    /// Whether the names are blocked only in the new policy, only in the old one, or in both or neither.
    pub change: Change,
    /// The name.
    pub name: &'s Name,
    /// Whether the answers differ for this name, for it and all names below it, or only for those below it.
    pub scope: Scope,
    /// The source whose rule makes the difference: the one that decides in the new policy, or else in the old one.
    pub source: Option<&'s str>,
    /// The type of the queries with these answers: A, or another one if the answers of type A are equal.
    pub qtype: u16,
    /// The answer under the old policy.
    pub old: Answer<'s>,
    /// The answer under the new policy.
    pub new: Answer<'s>,
}

/// The number of differences, and the settings that differ.
#[derive(Debug)]
pub struct Summary {
    /// How many differences each source makes.
    pub counts: CountsBySource,
    /// The rules on networks and patterns that differ.
    pub triggers: Vec<TriggerDifference>,
    /// The settings that differ and affect answers for all names. If either policy has rules on networks or patterns,
    /// these are all settings that differ, because then every setting of a list may affect answers for any name.
    pub settings: Vec<Setting>,
}

impl Summary {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.settings.is_empty()
    }
}

/// Compares the answers of two policies, and calls `report` with each difference. The answers are those for a client of
/// the default view that queries over UDP and whose address matches no rule. They follow from the queried name alone:
/// targets of CNAMEs and addresses in upstream's answers are not known here. The differences in rules on networks and
/// patterns are in [`Summary::triggers`].
///
/// # Errors
/// If a policy has more rules than an image can hold, and the errors of `report`.
pub fn compare<E: From<TooLarge>>(
    old: &PolicyAt,
    new: &PolicyAt,
    mut report: impl FnMut(&AnswerDifference<'_>) -> Result<(), E>,
) -> Result<Summary, E> {
    let (old_images, new_images) = (old.images()?, new.images()?);
    let snapshots = [
        old.snapshot(old_images.clone()),
        new.snapshot(new_images.clone()),
    ];
    let images: Vec<_> = all_images(&old_images)
        .chain(all_images(&new_images))
        .collect();
    let policies = Policies {
        old: &snapshots[0],
        new: &snapshots[1],
        types: query_types(&images),
        images,
        label: format!("tapis-{:x}", RandomState::new().hash_one(0)),
    };
    let mut counts = CountsBySource::new();
    let mut report_at = |name: &Name| {
        for (scope, pair) in policies.differences_at(name) {
            let difference = difference(name, scope, pair);
            let source = difference.source.unwrap_or("upstream");
            let count = counts.entry(source.to_owned()).or_default();
            count.add(difference.change);
            report(&difference)?;
        }
        Ok::<_, E>(())
    };
    for (at, image) in policies.images.iter().enumerate() {
        let mut cursor = image.cursor();
        while cursor.advance() {
            let name = Path::of(cursor.path()).to_name();
            if policies.images[..at]
                .iter()
                .any(|image| has_rule_on(image, &name))
            {
                continue;
            }
            report_at(&name)?;
        }
    }
    for name in policies.left_out() {
        report_at(name)?;
    }
    let triggers = triggers::compare(&old_images, &new_images);
    for difference in &triggers {
        let count = counts.entry(difference.source.clone()).or_default();
        count.add(difference.change);
    }
    let has_triggers = [&old_images, &new_images]
        .into_iter()
        .any(triggers::has_any);
    let is_general = |change: &Setting| {
        has_triggers || GENERAL.iter().any(|start| change.key.starts_with(start))
    };
    let settings = old.changes(new).into_iter().filter(is_general);
    Ok(Summary {
        counts,
        triggers,
        settings: settings.collect(),
    })
}

fn difference<'s>(
    name: &'s Name,
    scope: Scope,
    Pair { qtype, old, new }: Pair<'s>,
) -> AnswerDifference<'s> {
    let change = match (old.is_blocked(), new.is_blocked()) {
        (false, true) => Change::Added,
        (true, false) => Change::Removed,
        _ => Change::Changed,
    };
    let source = match change {
        Change::Removed => old.source(),
        _ => new.source().or(old.source()),
    };
    AnswerDifference {
        change,
        name,
        scope,
        source: source.map(|source| &*source.name),
        qtype,
        old: old.answer(),
        new: new.answer(),
    }
}

/// The decision about a name, with its effect on the answer.
#[derive(Clone, Copy)]
enum Outcome<'s> {
    /// Upstream's answer. Its CNAMEs are checked with this exemption. The source is that of the rule that decided, if
    /// one did.
    Upstream(ChainExemption, Option<&'s Source>),
    /// A synthesized answer by this rule, with this action in effect.
    Blocked(Matched<'s>, Action),
}

impl<'s> Outcome<'s> {
    fn new(snapshot: &'s Snapshot, name: &Name, qtype: u16) -> Self {
        let view = snapshot.view(ViewId::DEFAULT).for_type(qtype);
        let decision = view.decide(name);
        let exemption = decision.chain_exemption();
        match decision {
            Decision::Pass => Self::Upstream(exemption, None),
            Decision::Excepted(by) | Decision::Allowed(by) => {
                Self::Upstream(exemption, Some(by.source))
            }
            Decision::Blocked { by, nxdomain, .. } => {
                let action = match by.blocking.action {
                    Action::Nxdomain if !nxdomain => Action::Nodata,
                    action => action,
                };
                Self::Blocked(by, action)
            }
        }
    }

    fn source(&self) -> Option<&'s Source> {
        match self {
            Self::Upstream(_, source) => *source,
            Self::Blocked(by, _) => Some(by.source),
        }
    }

    fn is_blocked(&self) -> bool {
        matches!(self, Self::Blocked(..))
    }

    fn answer(&self) -> Answer<'s> {
        match self {
            Self::Upstream(ChainExemption::None, _) => Answer::Upstream,
            Self::Upstream(ChainExemption::Lists, _) => Answer::Allowed,
            Self::Upstream(..) => Answer::Excepted,
            Self::Blocked(by, action) => Answer::Blocked {
                action: *action,
                own: by.blocking.effect_answer.as_ref(),
                sinkhole_v4: &by.blocking.sinkhole_v4,
                sinkhole_v6: &by.blocking.sinkhole_v6,
                ttl_secs: by.blocking.ttl_secs,
                ede: by.blocking.ede,
                extra_text: &by.blocking.extra_text,
            },
        }
    }
}

impl PartialEq for Outcome<'_> {
    fn eq(&self, other: &Self) -> bool {
        let against =
            |source: &Option<&Source>| source.map_or(Against::All, |one| one.against.clone());
        match (self, other) {
            (Self::Upstream(one, source), Self::Upstream(other, other_source)) => {
                one == other
                    && (*one != ChainExemption::Suppressed
                        || against(source) == against(other_source))
            }
            (Self::Blocked(one, action), Self::Blocked(other, other_action)) => {
                let (one, other) = (one.blocking, other.blocking);
                let metadata = |blocking: &Blocking| {
                    (blocking.ttl_secs, blocking.ede, blocking.extra_text.clone())
                };
                let addresses = |blocking: &Blocking| {
                    (blocking.sinkhole_v4.clone(), blocking.sinkhole_v6.clone())
                };
                let is_sinkhole = *action == Action::Sinkhole;
                action == other_action
                    && one.effect_answer == other.effect_answer
                    && (*action == Action::Drop || metadata(one) == metadata(other))
                    && (!is_sinkhole || addresses(one) == addresses(other))
            }
            _ => false,
        }
    }
}

/// The outcomes of the old and the new policy for one name and type.
#[derive(Clone, Copy, PartialEq)]
struct Pair<'s> {
    qtype: u16,
    old: Outcome<'s>,
    new: Outcome<'s>,
}

impl Pair<'_> {
    fn differs(&self) -> bool {
        self.old != self.new
    }
}

/// Two policies, the old and the new one.
struct Policies<'s> {
    old: &'s Snapshot,
    new: &'s Snapshot,
    /// All images of both.
    images: Vec<&'s Image>,
    /// The types of queries that are compared.
    types: Vec<u16>,
    /// A label that no rule has.
    label: String,
}

fn all_images(images: &Images) -> impl Iterator<Item = &Image> {
    let all = [&images.base, &images.delta, &images.orders];
    all.into_iter().flatten().map(|image| &**image)
}

/// The conditions of all rules.
fn conditions<'i>(images: &[&'i Image]) -> impl Iterator<Item = &'i Condition> {
    let effects = images.iter().flat_map(|image| image.clauses().iter());
    effects.filter_map(|(_, effect)| effect.condition.as_deref())
}

/// The types of queries to compare: A, and the first types that conditions list. TXT stands for those that they do not.
fn query_types(images: &[&Image]) -> Vec<u16> {
    let listed = conditions(images).filter_map(Condition::types);
    let mut listed: BTreeSet<_> = listed.flat_map(TypeSet::types).copied().collect();
    if !listed.is_empty() {
        listed.insert(rtype::TXT);
    }
    listed.remove(&rtype::A);
    let listed = listed.into_iter().take(MAX_TYPES);
    std::iter::once(rtype::A).chain(listed).collect()
}

/// Whether an image has a rule on exactly this name.
fn has_rule_on(image: &Image, name: &Name) -> bool {
    let mut found = false;
    image.walk(&[name], |_, position, _, value| {
        found |= position == Position::At && image.value(value).rules().next().is_some();
    });
    found
}

impl<'s> Policies<'s> {
    /// The names that conditions leave out and that have no rule.
    fn left_out(&self) -> BTreeSet<&'s Name> {
        let names = conditions(&self.images).flat_map(Condition::except);
        let has_rule = |name: &&Name| self.images.iter().any(|image| has_rule_on(image, name));
        names.filter(|name| !has_rule(name)).collect()
    }

    /// The outcomes for queries of the first type for which they differ, or of type A.
    fn outcomes(&self, name: &Name) -> Pair<'s> {
        let pair = |qtype| Pair {
            qtype,
            old: Outcome::new(self.old, name, qtype),
            new: Outcome::new(self.new, name, qtype),
        };
        let mut pairs = self.types.iter().map(|qtype| pair(*qtype));
        pairs.find(Pair::differs).unwrap_or_else(|| pair(rtype::A))
    }

    /// The outcomes for names below this one; `None` if it is too long to have any.
    fn outcomes_below(&self, name: &Name) -> Option<Pair<'s>> {
        let mut path = Path::from(name);
        path.try_push(self.label.as_bytes())
            .then(|| self.outcomes(&path.to_name()))
    }

    /// The outcomes for names below the closest ancestor that has a rule.
    fn outcomes_above(&self, name: &Name) -> Option<Pair<'s>> {
        let mut path = Path::from(name);
        let sizes = name.labels_from_root().map(|label| 1 + label.len());
        let mut ends: Vec<usize> = Vec::new();
        for size in sizes {
            ends.push(ends.last().unwrap_or(&0) + size);
        }
        ends.pop()?;
        for end in ends.into_iter().rev().chain([0]) {
            path.truncate(end);
            let name = path.to_name();
            if self.images.iter().any(|image| has_rule_on(image, &name)) {
                return self.outcomes_below(&name);
            }
        }
        None
    }

    /// The differences at a name and below it. Leaves out a difference that equals the one below the closest ancestor
    /// with a rule: the latter is reported for all names below that ancestor.
    fn differences_at(&self, name: &Name) -> Vec<(Scope, Pair<'s>)> {
        let (at, below) = (self.outcomes(name), self.outcomes_below(name));
        let at = Some(at).filter(Pair::differs);
        let below = below.filter(Pair::differs);
        if at.is_none() && below.is_none() {
            return Vec::new();
        }
        let above = self.outcomes_above(name);
        let at = at.filter(|_| at != above);
        let below = below.filter(|_| below != above);
        match (at, below) {
            (Some(at), Some(below)) if at == below => vec![(Scope::Subtree, at)],
            (at, below) => {
                let at = at.map(|pair| (Scope::Exact, pair));
                at.into_iter()
                    .chain(below.map(|pair| (Scope::Below, pair)))
                    .collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::policy::builder::Builder;
    use crate::policy::effect::Effect;
    use crate::policy::image::provenance::ImageSource;
    use crate::policy::rule::Kind;
    use crate::policy::tests::sources;

    fn name(text: &str) -> Name {
        Name::from_text(text).expect("a name")
    }

    /// A policy with a list that blocks `.test` under a condition.
    fn policy(types: Option<TypeSet>, except: &[&str]) -> (Arc<Image>, Snapshot) {
        let except = except.iter().map(|text| name(text));
        let effect = Effect {
            condition: Condition::new(types, except).ok().map(Box::new),
            ..Effect::default()
        };
        let mut builder = Builder::new();
        let ads = builder.source(ImageSource::named("ads")).expect("few");
        let added = builder.insert_effect(&name("test"), ads, Scope::Subtree, &effect);
        added.expect("room");
        let image = Arc::new(builder.finish().expect("room"));
        let source = sources::source("ads", Kind::Block, Action::Nodata);
        let sources = vec![Arc::new(source)];
        let snapshot = Snapshot::default().with_rules(sources, image.clone().into());
        (image, snapshot)
    }

    /// The differences at all names of both policies, with the types of the queries.
    fn differences(
        old: (Option<TypeSet>, &[&str]),
        new: (Option<TypeSet>, &[&str]),
    ) -> Vec<String> {
        let [old, new] = [old, new].map(|(types, except)| policy(types, except));
        let images = vec![&*old.0, &*new.0];
        let policies = Policies {
            old: &old.1,
            new: &new.1,
            types: query_types(&images),
            images,
            label: "other".to_owned(),
        };
        let with_rule = name("test");
        let names = std::iter::once(&with_rule).chain(policies.left_out());
        let differences = names.flat_map(|name| {
            let differences = policies.differences_at(name).into_iter();
            differences.map(move |(scope, pair)| format!("{} {}", scope.notation(name), pair.qtype))
        });
        differences.collect()
    }

    #[test]
    fn answers_of_other_types_are_compared_if_rules_are_limited_to_types() {
        let only = |qtype: u16| Some(TypeSet::Only([qtype].into()));
        assert_eq!(differences((only(1), &[]), (only(1), &[])), [""; 0]);
        assert_eq!(differences((only(1), &[]), (only(28), &[])), [".test 1"]);
        let both = Some(TypeSet::Only([1, 28].into()));
        assert_eq!(differences((only(1), &[]), (both, &[])), [".test 28"]);
        let all = (None, &[][..]);
        assert_eq!(differences((only(1), &[]), all), [".test 16"]);
    }

    #[test]
    fn names_that_a_condition_leaves_out_are_compared() {
        let (all, but) = ((None, &[][..]), (None, &["a.test", "b.test"][..]));
        assert_eq!(differences(all, but.clone()), [".a.test 1", ".b.test 1"]);
        assert_eq!(differences(but, (None, &["b.test"])), [".a.test 1"]);
    }
}
