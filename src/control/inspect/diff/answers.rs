//! For which names clients get different answers under two policies.
//!
//! Answers can begin to differ only at a name that a rule of either policy is on. So each of these names is looked up
//! in both, and with it a name below that no rule is on, as a sample of all others below.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use super::{Change, CountsBySource};
use crate::control::inspect::policy_at::PolicyAt;
use crate::control::journal::entry::Setting;
use crate::policy::image::path::Path;
use crate::policy::image::walk::Position;
use crate::policy::image::{Image, TooLarge};
use crate::policy::images::Images;
use crate::policy::rule::{Action, Against, Blocking, Ede, Scope, Source};
use crate::policy::snapshot::{ChainExemption, Decision, Snapshot};
use crate::wire::name::Name;

/// Settings that affect answers for all names.
const GENERAL: &[&str] = &["server.", "local.", "upstream.", "cache."];

/// How clients are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum Answer<'s> {
    /// By upstream: no rule matches.
    Upstream,
    /// By upstream, as an allow list says.
    Allowed,
    /// By upstream, as an exception says.
    Excepted,
    /// By this server, with the source's answer.
    Blocked {
        /// The action in effect.
        action: Action,
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

/// Names for which clients get different answers under two policies.
#[derive(Debug, Serialize)]
pub struct AnswerDifference<'s> {
    /// Whether they are blocked in one policy alone.
    pub change: Change,
    /// The name.
    #[serde(serialize_with = "super::name_text")]
    pub name: &'s Name,
    /// Whether the answers differ for it alone, for it and all names below it, or for those alone.
    pub scope: Scope,
    /// The source that makes the difference: the new one, or the old one where there is none.
    pub source: Option<&'s str>,
    /// The answer under the old policy.
    pub old: Answer<'s>,
    /// The answer under the new policy.
    pub new: Answer<'s>,
}

/// How two policies differ, apart from the single names.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// How many names differ, by the source that makes the difference.
    pub counts: CountsBySource,
    /// The settings that differ and affect answers for all names.
    pub settings: Vec<Setting>,
}

impl Summary {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.settings.is_empty()
    }
}

/// Compares the answers of two policies, and calls `report` with each difference.
///
/// # Errors
/// When the rules of a policy are too many, and those of `report`.
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
    let both = Both {
        old: &snapshots[0],
        new: &snapshots[1],
        images: all(&old_images).chain(all(&new_images)).collect(),
        label: format!("tapis-{:x}", RandomState::new().hash_one(0)),
    };
    let mut counts = CountsBySource::new();
    for (at, image) in both.images.iter().enumerate() {
        let mut cursor = image.cursor();
        while cursor.advance() {
            let name = Path::of(cursor.path()).to_name();
            if both.images[..at].iter().any(|image| has(image, &name)) {
                continue;
            }
            for (scope, pair) in both.differing(&name) {
                let difference = difference(&name, scope, pair);
                let source = difference.source.unwrap_or("upstream");
                let count = counts.entry(source.to_owned()).or_default();
                count.add(difference.change);
                report(&difference)?;
            }
        }
    }
    let is_general = |change: &Setting| GENERAL.iter().any(|start| change.key.starts_with(start));
    let settings = old.changes(new).into_iter().filter(is_general);
    Ok(Summary {
        counts,
        settings: settings.collect(),
    })
}

fn difference<'s>(name: &'s Name, scope: Scope, (old, new): Pair<'s>) -> AnswerDifference<'s> {
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
        old: old.answer(),
        new: new.answer(),
    }
}

/// How a name is decided.
#[derive(Clone, Copy)]
enum Outcome<'s> {
    /// Upstream's answer; the rules that count on its CNAMEs depend on the source, if there is one.
    Upstream(ChainExemption, Option<&'s Source>),
    /// The source's answer, with this action in effect.
    Blocked(&'s Source, Action),
}

impl<'s> Outcome<'s> {
    fn of(snapshot: &'s Snapshot, name: &Name) -> Self {
        let decision = snapshot.decide(name);
        let past = decision.chain_exemption();
        match decision {
            Decision::Pass => Self::Upstream(past, None),
            Decision::Excepted(by) | Decision::Allowed(by) => Self::Upstream(past, Some(by.source)),
            Decision::Blocked { by, nxdomain, .. } => {
                let action = match by.source.blocking.action {
                    Action::Nxdomain if !nxdomain => Action::Nodata,
                    action => action,
                };
                Self::Blocked(by.source, action)
            }
        }
    }

    fn source(&self) -> Option<&'s Source> {
        match self {
            Self::Upstream(_, source) => *source,
            Self::Blocked(source, _) => Some(source),
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
            Self::Blocked(source, action) => Answer::Blocked {
                action: *action,
                sinkhole_v4: &source.blocking.sinkhole_v4,
                sinkhole_v6: &source.blocking.sinkhole_v6,
                ttl_secs: source.blocking.ttl_secs,
                ede: source.blocking.ede,
                extra_text: &source.blocking.extra_text,
            },
        }
    }
}

impl PartialEq for Outcome<'_> {
    fn eq(&self, other: &Self) -> bool {
        let against =
            |source: &Option<&Source>| source.map_or(Against::All, |one| one.against.clone());
        match (self, other) {
            (Self::Upstream(one, by), Self::Upstream(other, of)) => {
                one == other && (*one != ChainExemption::Suppressed || against(by) == against(of))
            }
            (Self::Blocked(one, action), Self::Blocked(other, acts)) => {
                let (one, other) = (&one.blocking, &other.blocking);
                let texts = |blocking: &Blocking| {
                    (blocking.ttl_secs, blocking.ede, blocking.extra_text.clone())
                };
                let sinks = |blocking: &Blocking| {
                    (blocking.sinkhole_v4.clone(), blocking.sinkhole_v6.clone())
                };
                let is_sinkhole = *action == Action::Sinkhole;
                action == acts
                    && (*action == Action::Drop || texts(one) == texts(other))
                    && (!is_sinkhole || sinks(one) == sinks(other))
            }
            _ => false,
        }
    }
}

/// The decisions of the old and the new policy.
type Pair<'s> = (Outcome<'s>, Outcome<'s>);

struct Both<'s> {
    old: &'s Snapshot,
    new: &'s Snapshot,
    /// The images with rules of either.
    images: Vec<&'s Image>,
    /// A label that no rule has.
    label: String,
}

fn all(images: &Images) -> impl Iterator<Item = &Image> {
    let all = [&images.base, &images.delta, &images.orders];
    all.into_iter().flatten().map(|image| &**image)
}

/// Whether an image has a rule on exactly that name.
fn has(image: &Image, name: &Name) -> bool {
    let mut found = false;
    image.walk(&[name], |_, lies, _, value| {
        found |= lies == Position::At && image.value(value).rules().next().is_some();
    });
    found
}

impl<'s> Both<'s> {
    fn pair(&self, name: &Name) -> Pair<'s> {
        (Outcome::of(self.old, name), Outcome::of(self.new, name))
    }

    /// The decisions on names below, unless the name is too long to have any.
    fn below(&self, name: &Name) -> Option<Pair<'s>> {
        let mut path = Path::from(name);
        path.try_push(self.label.as_bytes())
            .then(|| self.pair(&path.to_name()))
    }

    /// The decisions on names between this one and the next one above that a rule is on.
    fn above(&self, name: &Name) -> Option<Pair<'s>> {
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
            if self.images.iter().any(|image| has(image, &name)) {
                return self.below(&name);
            }
        }
        None
    }

    /// How answers differ at a name and below it, unless they differ in the same way below the next name above that is
    /// compared.
    fn differing(&self, name: &Name) -> Vec<(Scope, Pair<'s>)> {
        let differs = |pair: &Pair<'_>| pair.0 != pair.1;
        let (at, below) = (self.pair(name), self.below(name));
        let at = Some(at).filter(differs);
        let below = below.filter(differs);
        if at.is_none() && below.is_none() {
            return Vec::new();
        }
        let above = self.above(name);
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
