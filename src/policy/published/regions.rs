//! The parts of the tree in which two versions of a published zone may differ.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::source::PublishedPolicy;
use super::tree::Tree;
use super::walk::Region;
use crate::policy::effect::Effect;
use crate::policy::enclosers::ZoneNames;
use crate::policy::image::path::Path;
use crate::policy::image::values::ImageRule;
use crate::policy::image::walk::Position;
use crate::policy::rule::{Against, Kind, Scope, Source};
use crate::policy::view::LookupKey;
use crate::wire::name::Name;

/// With more names on which rules differ, all names are compared.
const MAX_NAMES: usize = 1 << 17;

/// The regions in which the versions may differ, sorted.
pub(super) fn differing(old: &PublishedPolicy, new: &PublishedPolicy) -> Vec<Region> {
    let regions = Differences::collect(old, new);
    let regions = regions.map(|regions| {
        let regions = regions.into_iter();
        let region = |(path, is_subtree)| Region { path, is_subtree };
        regions.map(region).collect()
    });
    regions.unwrap_or_else(|| vec![Region::everything()])
}

/// Collects the names on which rules differ.
struct Differences<'p> {
    versions: [Version<'p>; 2],
    /// The sources that only one version has, or that both have with other settings.
    changed: HashSet<&'p str>,
    /// By path: whether the names below are affected.
    regions: BTreeMap<Box<[u8]>, bool>,
}

/// The sources of a version whose rules affect other names than those that they match.
struct Version<'p> {
    policy: &'p PublishedPolicy,
    /// The number of each source that is a policy zone.
    zones: HashMap<&'p str, u32>,
    /// The exceptions against some sources. Below a name on which one of these has a rule, whatever its scope, NODATA takes
    /// the place of NXDOMAIN.
    overrides: HashSet<&'p str>,
}

/// A rule: source, scope, effect.
type NamedRule<'i> = (&'i str, Scope, &'i Effect);

impl<'p> Differences<'p> {
    /// `None` if all names are to be compared: the bases differ, or settings of sources in the base, or too many rules.
    fn collect(
        old: &'p PublishedPolicy,
        new: &'p PublishedPolicy,
    ) -> Option<BTreeMap<Box<[u8]>, bool>> {
        let changed = changed_sources(&old.snapshot.sources, &new.snapshot.sources)?;
        let [old_base, old_overlays @ ..] = &old.trees;
        let [new_base, new_overlays @ ..] = &new.trees;
        let is_base_same = match (old_base, new_base) {
            (Some(old), Some(new)) => {
                old.is_same(new) && !changed.iter().any(|source| old.has_named(source))
            }
            (None, None) => true,
            _ => false,
        };
        if !is_base_same {
            return None;
        }
        let mut differences = Self {
            versions: [old, new].map(Version::new),
            changed,
            regions: BTreeMap::new(),
        };
        for (old, new) in old_overlays.iter().zip(new_overlays) {
            differences.compare(old.as_ref(), new.as_ref())?;
            differences.compare(new.as_ref(), old.as_ref())?;
        }
        Some(differences.regions)
    }

    /// Adds the names of a tree on which the other tree has other rules. `None` if there are too many.
    fn compare(&mut self, tree: Option<&Tree>, other: Option<&Tree>) -> Option<()> {
        let Some(tree) = tree else {
            return Some(());
        };
        let is_same = other.is_some_and(|other| tree.is_same(other));
        if is_same && !self.changed.iter().any(|source| tree.has_named(source)) {
            return Some(());
        }
        let mut cursor = tree.image.cursor();
        while cursor.advance() {
            let rules = named(tree, cursor.rules());
            if rules.is_empty() {
                continue;
            }
            let name = Path::of(cursor.path()).to_name();
            let others = other.map_or_else(Vec::new, |other| rules_on(other, &name));
            self.add(&name, &rules, &others);
            if self.regions.len() > MAX_NAMES {
                return None;
            }
        }
        // A damaged image is reported by the walk over all names.
        cursor.damage().is_none().then_some(())
    }

    /// Adds a name if its rules differ.
    fn add<'r>(&mut self, name: &Name, rules: &[NamedRule<'r>], others: &[NamedRule<'r>]) {
        let mut differing = self.only(rules, others);
        differing.extend(self.only(others, rules));
        if differing.is_empty() {
            return;
        }
        let (mut labels, mut is_subtree) = (name.label_count(), false);
        for (source, scope, effect) in differing {
            // A mark voids rules of the base, whose scopes are not known here.
            is_subtree |= scope != Scope::Exact || effect.is_void() || self.overrides(source);
            if let Some(first) = self.first_of_zone(source, name) {
                labels = labels.min(first);
                is_subtree = true;
            }
        }
        if let Ok((top, _)) = Name::parse(name.ancestor(labels), 0) {
            let path = Path::from(&top).as_bytes().into();
            *self.regions.entry(path).or_default() |= is_subtree;
        }
    }

    /// Whether a source is an exception against some sources in one version.
    fn overrides(&self, source: &str) -> bool {
        let mut versions = self.versions.iter();
        versions.any(|version| version.overrides.contains(source))
    }

    /// The rules that are not among `others`, and those of sources that changed.
    fn only<'r>(&self, rules: &[NamedRule<'r>], others: &[NamedRule<'r>]) -> Vec<NamedRule<'r>> {
        let rules = rules.iter();
        let is_changed = |rule: &&NamedRule<'r>| self.changed.contains(rule.0);
        let differs = |rule: &&NamedRule<'r>| !others.contains(rule) || is_changed(rule);
        rules.filter(differs).copied().collect()
    }

    /// The number of labels of the first name on the way to `name` that is perhaps a name of this policy zone in one version
    /// only: such a name hides wildcards of the zone from all names below it. `None` if the source is no policy zone.
    fn first_of_zone(&self, source: &str, name: &Name) -> Option<usize> {
        let mut versions = self.versions.iter();
        if !versions.any(|version| version.zones.contains_key(source)) {
            return None;
        }
        let is_in_both = |labels: &usize| {
            let ancestor = Name::parse(name.ancestor(*labels), 0);
            ancestor.is_ok_and(|(ancestor, _)| {
                self.versions
                    .iter()
                    .all(|version| version.has(source, &ancestor))
            })
        };
        let common = (0..name.label_count()).take_while(is_in_both).count();
        Some(common)
    }
}

impl<'p> Version<'p> {
    fn new(policy: &'p PublishedPolicy) -> Self {
        let sources = (0..).zip(&policy.snapshot.sources);
        let zones = sources.clone().filter(|(_, source)| source.zone.is_some());
        let overrides = sources
            .filter(|(_, source)| source.kind == Kind::Exception && source.against != Against::All);
        Self {
            zones: zones
                .map(|(number, source)| (&*source.name, number))
                .collect(),
            overrides: overrides.map(|(_, source)| &*source.name).collect(),
            policy,
        }
    }

    /// Whether a policy zone has this name.
    fn has(&self, source: &str, name: &Name) -> bool {
        let rules = self.policy.snapshot.rules.in_view(LookupKey::UNCONDITIONAL);
        let (Some(rules), Some(zone)) = (rules, self.zones.get(source)) else {
            return false;
        };
        let [base, delta, _] = rules.images;
        ZoneNames { base, delta }.has(*zone, name)
    }
}

/// The published rules among these, and marks.
fn named(tree: &Tree, rules: impl Iterator<Item = ImageRule>) -> Vec<NamedRule<'_>> {
    let image = &tree.image;
    let rules = rules.filter(|rule| tree.has_with_marks(*rule));
    let rules = rules.map(|rule| {
        let source = usize::from(image.source_of(rule));
        let source = &*image.provenance().sources[source].name;
        (source, rule.scope, image.clauses().effect(rule.clause))
    });
    rules.collect()
}

/// The published rules on exactly this name, and marks.
fn rules_on<'t>(tree: &'t Tree, name: &Name) -> Vec<NamedRule<'t>> {
    let mut found = None;
    tree.image.walk(&[name], |_, position, _, value| {
        if position == Position::At {
            found = Some(value);
        }
    });
    let rules = found
        .into_iter()
        .flat_map(|value| tree.image.value(value).rules());
    named(tree, rules)
}

/// The sources that only one version has, or that both have with other settings. `None` if those of both are in another
/// order.
fn changed_sources<'p>(old: &'p [Arc<Source>], new: &'p [Arc<Source>]) -> Option<HashSet<&'p str>> {
    let by_name = |sources: &'p [Arc<Source>]| -> HashMap<&'p str, &'p Source> {
        let sources = sources.iter();
        sources.map(|source| (&*source.name, &**source)).collect()
    };
    let (olds, news) = (by_name(old), by_name(new));
    let common = |sources: &'p [Arc<Source>], others: &HashMap<&str, &Source>| {
        let names = sources.iter().map(|source| &*source.name);
        names
            .filter(|name| others.contains_key(name))
            .collect::<Vec<_>>()
    };
    if common(old, &news) != common(new, &olds) {
        return None;
    }
    let names = olds.keys().chain(news.keys()).copied();
    let changed = names.filter(|name| match (olds.get(name), news.get(name)) {
        (Some(old), Some(new)) => !decide_alike(old, new),
        _ => true,
    });
    Some(changed.collect())
}

/// Whether the rules of two versions of a source lead to the same records.
fn decide_alike(old: &Source, new: &Source) -> bool {
    let blocking = |source: &Source| {
        let of = &source.blocking;
        let addresses = (of.sinkhole_v4.clone(), of.sinkhole_v6.clone());
        (of.action, addresses, of.ttl_secs)
    };
    // The SOA of a policy zone changes with each version of it.
    let zone = |source: &Source| {
        let zone = source.zone.as_ref();
        zone.map(|zone| (zone.settings.policy.clone(), zone.settings.max_ttl_secs))
    };
    std::ptr::eq(old, new)
        || (old.kind, old.allows_across) == (new.kind, new.allows_across)
            && old.against == new.against
            && blocking(old) == blocking(new)
            && zone(old) == zone(new)
}
