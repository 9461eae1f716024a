//! For which names clients get another answer in one policy than in another.
//!
//! Only at names that a rule of either policy is on can the answer begin to differ. So each of them is asked for in
//! both, and with it a name below it that no rule is on, as a sample of all of those.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;

use super::Counts;
use crate::cli::failure::Failure;
use crate::control::inspect::policy_at::PolicyAt;
use crate::policy::image::Image;
use crate::policy::image::order::Path;
use crate::policy::image::walk::Lies;
use crate::policy::images::Images;
use crate::policy::rule::{Action, Against, Blocking, Source};
use crate::policy::snapshot::{Decision, Past, Snapshot};
use crate::wire::name::Name;

/// Settings that clients feel at any name.
const GENERAL: &[&str] = &["server.", "local.", "upstream.", "cache."];

/// What a client gets.
#[derive(Clone, Copy)]
enum Outcome<'s> {
    /// Upstream's answer; what counts on its CNAMEs depends on the source, if there is one.
    Upstream(Past, Option<&'s Source>),
    /// The source's answer, with this action in effect.
    Blocked(&'s Source, Action),
}

impl<'s> Outcome<'s> {
    fn of(snapshot: &'s Snapshot, name: &Name) -> Self {
        let decision = snapshot.decide(name);
        let past = decision.past();
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
}

impl PartialEq for Outcome<'_> {
    fn eq(&self, other: &Self) -> bool {
        let against =
            |source: &Option<&Source>| source.map_or(Against::All, |one| one.against.clone());
        match (self, other) {
            (Self::Upstream(one, by), Self::Upstream(other, of)) => {
                one == other && (*one != Past::Excepted || against(by) == against(of))
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

/// An outcome beside another one: in full where the action alone would not show what differs.
struct Shown<'s>(Outcome<'s>, bool);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(outcome, in_full) = self;
        let (source, action) = match outcome {
            Outcome::Upstream(Past::Nothing, _) => return f.write_str("upstream"),
            Outcome::Upstream(Past::Lists, _) => return f.write_str("allowed"),
            Outcome::Upstream(..) => return f.write_str("excepted"),
            Outcome::Blocked(source, action) => (source, action),
        };
        f.write_str(match action {
            Action::Nxdomain => "nxdomain",
            Action::Nodata => "nodata",
            Action::Sinkhole => "sinkhole",
            Action::Refused => "refused",
            Action::Drop => "drop",
        })?;
        if !in_full {
            return Ok(());
        }
        let blocking = &source.blocking;
        if *action == Action::Sinkhole {
            let v4 = blocking.sinkhole_v4.iter().map(ToString::to_string);
            let v6 = blocking.sinkhole_v6.iter().map(ToString::to_string);
            for address in v4.chain(v6) {
                write!(f, " {address}")?;
            }
        }
        write!(f, ", TTL {}", blocking.ttl_secs)?;
        match blocking.ede.code() {
            Some(code) => write!(f, ", EDE {code} {:?}", blocking.extra_text),
            None => Ok(()),
        }
    }
}

/// What clients get in both policies.
type Pair<'s> = (Outcome<'s>, Outcome<'s>);

struct Both<'s> {
    old: &'s Snapshot,
    new: &'s Snapshot,
    /// The images with rules of either.
    images: Vec<&'s Image>,
    /// A label that no rule has.
    label: String,
}

/// Compares the answers. Returns whether any differ.
pub(super) fn compare(
    old: &PolicyAt,
    new: &PolicyAt,
    summary: bool,
    out: &mut impl Write,
) -> Result<bool, Failure> {
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
    let mut counts = BTreeMap::<String, Counts>::new();
    for (at, image) in both.images.iter().enumerate() {
        let mut cursor = image.cursor();
        while cursor.advance() {
            let name = Path::of(cursor.path()).to_name();
            if both.images[..at].iter().any(|image| has(image, &name)) {
                continue;
            }
            for (sign, pair) in both.differing(&name) {
                count(&mut counts, pair);
                if !summary {
                    line(sign, &name, pair, out)?;
                }
            }
        }
    }
    super::summarise(&counts, out)?;
    let mut differs = !counts.is_empty();
    for change in old.changes(new) {
        if GENERAL.iter().any(|start| change.key.starts_with(start)) {
            let shown = |value: Option<serde_json::Value>| {
                value.map_or_else(|| "none".to_owned(), |value| value.to_string())
            };
            let (key, was, now) = (change.key, shown(change.was), shown(change.now));
            writeln!(out, "~ {key}: {was} -> {now}")?;
            differs = true;
        }
    }
    Ok(differs)
}

fn all(images: &Images) -> impl Iterator<Item = &Image> {
    let all = [&images.base, &images.delta, &images.orders];
    all.into_iter().flatten().map(|image| &**image)
}

/// Whether an image has a rule on exactly that name.
fn has(image: &Image, name: &Name) -> bool {
    let mut found = false;
    image.walk(&[name], |_, lies, _, value| {
        found |= lies == Lies::At && image.value(value).rules().next().is_some();
    });
    found
}

impl<'s> Both<'s> {
    fn pair(&self, name: &Name) -> Pair<'s> {
        (Outcome::of(self.old, name), Outcome::of(self.new, name))
    }

    /// Of the names below, if there can be any.
    fn below(&self, name: &Name) -> Option<Pair<'s>> {
        let mut path = Path::from(name);
        path.try_push(self.label.as_bytes())
            .then(|| self.pair(&path.to_name()))
    }

    /// Of the names between this one and the next one above that a rule is on.
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

    /// How answers differ at a name and below it, each with the sign before the name: not where they
    /// differ as below the next name above that is compared.
    fn differing(&self, name: &Name) -> Vec<(&'static str, Pair<'s>)> {
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
            (Some(at), Some(below)) if at == below => vec![(".", at)],
            (at, below) => {
                let at = at.map(|pair| ("", pair));
                at.into_iter()
                    .chain(below.map(|pair| ("*.", pair)))
                    .collect()
            }
        }
    }
}

fn line(
    sign: &str,
    name: &Name,
    (was, now): Pair<'_>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let change = match (was.is_blocked(), now.is_blocked()) {
        (false, true) => '+',
        (true, false) => '-',
        _ => '~',
    };
    let source = decides((was, now));
    let of = source.map_or_else(String::new, |source| format!(" ({})", source.name));
    let in_full = match (was, now) {
        (Outcome::Blocked(_, one), Outcome::Blocked(_, other)) => one == other,
        _ => false,
    };
    let (was, now) = (Shown(was, in_full), Shown(now, in_full));
    writeln!(out, "{change} {sign}{name}{of}: {was} -> {now}")?;
    Ok(())
}

/// The source that makes the difference: the new one, or the old one where there is none.
fn decides<'s>((was, now): Pair<'s>) -> Option<&'s Source> {
    match (was.is_blocked(), now.is_blocked()) {
        (true, false) => was.source(),
        _ => now.source().or(was.source()),
    }
}

fn count(counts: &mut BTreeMap<String, Counts>, pair: Pair<'_>) {
    let name = decides(pair).map_or("upstream", |source| &*source.name);
    let count = counts.entry(name.to_owned()).or_default();
    match (pair.0.is_blocked(), pair.1.is_blocked()) {
        (false, true) => count.added += 1,
        (true, false) => count.removed += 1,
        _ => count.changed += 1,
    }
}
