//! Makes the part of a delta that amends a list, from changes of the list.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::builder::Builder;
use super::effect::{Effect, MAX_DATA};
use super::image::cursor::Cursor;
use super::image::path::{Path, labels};
use super::image::provenance::ImageSource;
use super::image::values::ImageRule;
use super::image::walk::{BATCH, Position};
use super::image::{Image, TooLarge};
use super::images::Images;
use super::prefix::Prefix;
use super::rule::Scope;
use crate::wire::name::Name;

/// What changes in a list.
#[derive(Clone, Debug, Default)]
pub struct Amendment {
    /// All rules that the list has from now on, on each name on which some change. The names are given as the bytes of
    /// their [`Path`]s. Without rules, those on the name are removed.
    pub names: BTreeMap<Vec<u8>, Vec<(Scope, Effect)>>,
    /// All rules on networks that the list has from now on; `None` if they do not change.
    pub networks: Option<Vec<(Prefix, Effect)>>,
}

impl Amendment {
    /// The number of rules that `list` has with the amendment. A rule with the scope subtree stands for two, as the
    /// amendment has two in its place.
    pub fn rules_after(&self, images: &Images, list: &str) -> u64 {
        let mut rules = images.find(list).map_or(0, |(_, source)| source.rules);
        for (path, new) in &self.names {
            let old = images.rules_on(&Path::of(path).to_name(), list);
            let old = old
                .iter()
                .map(|rule| 1 + u64::from(rule.scope == Scope::Subtree));
            rules = (rules + new.len() as u64).saturating_sub(old.sum());
        }
        match &self.networks {
            Some(new) => {
                let old = images.networks(list).len() as u64;
                (rules + new.len() as u64).saturating_sub(old)
            }
            None => rules,
        }
    }

    /// An image of one source, `source`, for the next delta. If the base has rules of the list of this name, the image
    /// amends them, and has the earlier amendments as well. Otherwise, the image has all rules of the list.
    ///
    /// # Errors
    /// If an image can't hold the rules, no answer can carry an effect, or all effects of the list are too large.
    pub fn image(&self, images: &Images, source: ImageSource) -> Result<Image, TooLarge> {
        let list = source.name.clone();
        if self.data_after(images, &list) > MAX_DATA {
            return Err(TooLarge::Data);
        }
        let amends = images.is_in_base(&list);
        let delta = images.delta.as_ref();
        let mut builder =
            delta.map_or_else(Builder::new, |delta| Builder::keyed(delta.key().clone()));
        let number = builder.source(ImageSource { amends, ..source })?;
        let base = images.base.as_deref().filter(|_| amends);
        let mut emptied = base.map(|base| Emptied::new(self, base, images, &list));
        // A list that is not in force now may be so again.
        let is_in_delta = images.is_in_delta(&list);
        let newest = match is_in_delta {
            true => &images.delta,
            false => &images.base,
        };
        if let Some(newest) = newest {
            let sources = &newest.provenance().sources;
            let is_list = |source: u16| sources[usize::from(source)].name == list;
            let mut cursor = newest.cursor();
            // If the base has the newest state, there are no amendments yet.
            while is_in_delta && cursor.advance() {
                let is_replaced = self.names.contains_key(cursor.path());
                let own = cursor.rules();
                let mut own = own
                    .filter(|rule| is_list(newest.source_of(*rule)))
                    .peekable();
                if own.peek().is_some()
                    && let Some(emptied) = &mut emptied
                {
                    emptied.add_earlier(cursor.path());
                }
                for rule in own {
                    let effect = newest.clauses().effect(rule.clause);
                    // What is true of the names below stays true.
                    if !is_replaced || effect.is_void() && rule.scope == Scope::Below {
                        builder.insert_path(cursor.path(), number, rule.scope, effect)?;
                    }
                }
            }
            let (prefixes, clauses) = (newest.triggers().prefixes(), newest.clauses());
            for (prefix, clause) in prefixes.iter().filter(|_| self.networks.is_none()) {
                if is_list(clauses.get(*clause).source) {
                    builder.insert_prefix(*prefix, number, clauses.effect(*clause))?;
                }
            }
        }
        for (path, rules) in &self.names {
            // Also names that the base does not have: a base that is being compiled may have them.
            if amends {
                builder.amend(path, number)?;
            }
            for (scope, effect) in rules {
                builder.insert_path(path, number, *scope, effect)?;
            }
        }
        for top in emptied.iter().flat_map(Emptied::tops) {
            builder.amend_below(top, number)?;
        }
        for (prefix, effect) in self.networks.iter().flatten() {
            builder.insert_prefix(*prefix, number, effect)?;
        }
        builder.finish()
    }

    /// The bytes of the distinct effects that `list` has with the amendment, and of those that it replaces.
    fn data_after(&self, images: &Images, list: &str) -> usize {
        let images = [&images.base, &images.delta].into_iter().flatten();
        let old = images.flat_map(|image| {
            let sources = &image.provenance().sources;
            let clauses = image.clauses().iter();
            clauses.filter(move |(clause, _)| sources[usize::from(clause.source)].name == list)
        });
        let new = self.names.values().flatten().map(|(_, effect)| effect);
        let networks = self.networks.iter().flatten().map(|(_, effect)| effect);
        let all = old.map(|(_, effect)| effect).chain(new).chain(networks);
        let mut distinct = HashSet::new();
        let mut last = None;
        // Most effects equal the one before, which needs no hash.
        for effect in all {
            if last.replace(effect) != Some(effect) {
                distinct.insert(effect);
            }
        }
        distinct.into_iter().map(Effect::size).sum()
    }
}

/// An image of one source, `list`, for the next delta: what `delta` amends in the list that is not in `base` yet. `base` is
/// newer than the base that the delta amended, and may have some of the amendments.
///
/// # Errors
/// If an image can't hold the rules.
pub fn rebased(delta: &Image, list: &str, base: &Arc<Image>) -> Result<Image, TooLarge> {
    let clauses = delta.clauses();
    let base = Images::from(Arc::clone(base));
    let source = delta.provenance().source(list).cloned();
    let source = source.unwrap_or_else(|| ImageSource::named(list));
    let sources = &delta.provenance().sources;
    let is_own = |clause: u32| sources[usize::from(clauses.get(clause).source)].name == list;
    let mut amendment = Amendment::default();
    let mut cursor = delta.cursor();
    while cursor.advance() {
        let own = cursor.rules().filter(|rule| is_own(rule.clause));
        let (marks, rules) = own
            .map(|rule| (rule.scope, clauses.effect(rule.clause)))
            .partition::<Vec<_>, _>(|(_, effect)| effect.is_void());
        // Other marks are made again for this base.
        if marks.iter().all(|(scope, _)| *scope != Scope::Exact) {
            continue;
        }
        let in_base = base.rules_on(&Path::of(cursor.path()).to_name(), list);
        let in_base = in_base.iter().map(|rule| (rule.scope, rule.effect));
        if split(in_base) != split(rules.iter().copied()) {
            let rules = rules.into_iter();
            let rules = rules.map(|(scope, effect)| (scope, effect.clone()));
            amendment
                .names
                .insert(cursor.path().to_vec(), rules.collect());
        }
    }
    let networks = delta.triggers().prefixes().iter();
    let networks = networks.filter(|(_, clause)| is_own(*clause));
    let networks = networks.map(|(prefix, clause)| (*prefix, clauses.effect(*clause).clone()));
    amendment.networks = Some(networks.collect());
    amendment.image(&base, source)
}

/// Rules on a name, with two in place of one for the name and those below: an image may have either. The first of each pair
/// is whether the rule is for the names below.
fn split<'e>(rules: impl Iterator<Item = (Scope, &'e Effect)>) -> BTreeSet<(bool, &'e Effect)> {
    let scopes = |scope| match scope {
        Scope::Exact => &[false][..],
        Scope::Below => &[true],
        Scope::Subtree => &[false, true],
    };
    let rules =
        rules.flat_map(|(scope, effect)| scopes(scope).iter().map(move |below| (*below, effect)));
    rules.collect()
}

/// Finds the names below which all rules that a list has in the base are amended, now or earlier. A lookup asks for such a
/// name only if the name directly above it has a wildcard of the list, so others are neither looked for nor marked: a mark
/// on a top-level domain would make lookups of all names search the delta, and all of the domain would have to be read.
struct Emptied<'a> {
    amendment: &'a Amendment,
    base: &'a Image,
    images: &'a Images,
    list: &'a str,
    /// The names that have wildcards from now on, among those that change.
    changed: HashSet<&'a [u8]>,
    /// The names directly below a wildcard that have an amended name below them, or are amended themselves.
    candidates: BTreeSet<Vec<u8>>,
}

impl<'a> Emptied<'a> {
    fn new(amendment: &'a Amendment, base: &'a Image, images: &'a Images, list: &'a str) -> Self {
        let changed = amendment.names.iter();
        let changed =
            changed.filter(|(_, rules)| rules.iter().any(|(scope, _)| *scope != Scope::Exact));
        let mut emptied = Self {
            amendment,
            base,
            images,
            list,
            changed: changed.map(|(path, _)| path.as_slice()).collect(),
            candidates: BTreeSet::new(),
        };
        let wildcards = emptied.wildcards();
        for (above, name) in amendment.names.keys().flat_map(|path| levels(path)) {
            if wildcards.contains(above) {
                emptied.candidates.insert(name.to_vec());
            }
        }
        emptied
    }

    /// The names above those that change on which the list has wildcards from now on.
    fn wildcards(&self) -> HashSet<&'a [u8]> {
        let levels = self.amendment.names.keys().flat_map(|path| levels(path));
        let above: HashSet<&[u8]> = levels.map(|(above, _)| above).collect();
        let (changed, kept): (Vec<&[u8]>, _) = above
            .into_iter()
            .partition(|above| self.amendment.names.contains_key(*above));
        let changed = changed
            .into_iter()
            .filter(|above| self.changed.contains(above));
        let mut wildcards: HashSet<&[u8]> = changed.collect();
        in_batches(&kept, |paths, names| {
            let rules = self.images.rules_on_each(names, self.list);
            for (path, rules) in paths.iter().zip(rules) {
                if rules.iter().any(|rule| rule.scope != Scope::Exact) {
                    wildcards.insert(path);
                }
            }
        });
        wildcards
    }

    /// Adds a name that was amended earlier. Wildcards that do not change were known then.
    fn add_earlier(&mut self, path: &[u8]) {
        if self.changed.is_empty() {
            return;
        }
        for (_, name) in levels(path).filter(|(above, _)| self.changed.contains(above)) {
            self.candidates.insert(name.to_vec());
        }
    }

    /// The topmost of the names.
    fn tops(&self) -> Vec<&[u8]> {
        let mut tops: Vec<&[u8]> = Vec::new();
        // Making a cursor takes longer than a search.
        let mut cursor = self.base.cursor();
        // A name precedes those below it.
        for name in self.with_names_below() {
            let is_covered = tops.last().is_some_and(|last| name.starts_with(last));
            if !is_covered && self.has_all_below(name, &mut cursor) {
                tops.push(name);
            }
        }
        tops
    }

    /// The candidates that have names below them in the base: a short search, while a cursor reads a whole bucket.
    fn with_names_below(&self) -> Vec<&[u8]> {
        let candidates: Vec<&[u8]> = self.candidates.iter().map(Vec::as_slice).collect();
        let mut found = Vec::new();
        in_batches(&candidates, |paths, names| {
            let mut has_some = vec![false; paths.len()];
            self.base.walk(names, |which, position, _, value| {
                has_some[which] |= match position {
                    Position::Above => false,
                    Position::At => self.base.value(value).sources_below().next().is_some(),
                    Position::Below => true,
                };
            });
            let has_some = paths.iter().zip(has_some).filter(|(_, has_some)| *has_some);
            found.extend(has_some.map(|(path, _)| *path));
        });
        found
    }

    /// Whether there are names below this one on which the list has rules in the base, and all of them are amended.
    fn has_all_below(&self, top: &[u8], cursor: &mut Cursor<&'a Image>) -> bool {
        let sources = &self.base.provenance().sources;
        let is_own =
            |rule: ImageRule| sources[usize::from(self.base.source_of(rule))].name == self.list;
        cursor.seek(&Path::of(top).to_name());
        let mut has_some = false;
        while cursor.advance() {
            if cursor.path() == top || !cursor.rules().any(is_own) {
                continue;
            }
            has_some = true;
            let name = Path::of(cursor.path()).to_name();
            if !self.amendment.names.contains_key(cursor.path())
                && !self.images.is_voided(&name, self.list)
            {
                return false;
            }
        }
        has_some && cursor.damage().is_none()
    }
}

/// Calls `each` with some paths at a time, and their names: lookups of several names take less time.
fn in_batches<'p>(paths: &[&'p [u8]], mut each: impl FnMut(&[&'p [u8]], &[&Name])) {
    for paths in paths.chunks(BATCH) {
        let names: Vec<Name> = paths.iter().map(|path| Path::of(path).to_name()).collect();
        each(paths, &names.iter().collect::<Vec<_>>());
    }
}

/// The names from the top-level domain down to this one, each after the name directly above it.
fn levels(path: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut end = 0;
    labels(path).map(move |label| {
        let above = end;
        end += 1 + label.len();
        (&path[..above], &path[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::prefix::AddressOf;
    use crate::wire::name::Name;

    #[test]
    fn changes_are_refused_if_the_effects_of_a_list_need_too_much_memory() {
        let source = || ImageSource {
            amendable: true,
            ..ImageSource::named("zone")
        };
        let most = MAX_DATA / Effect::large(0).size();
        let half = most / 2;
        let mut images = Images::default();
        let mut amend = |from: usize, count: usize, has_network: bool| {
            let rule = |number: usize| {
                let name = Name::from_text(&format!("x{number}.example")).expect("a name");
                let rule = (Scope::Exact, Effect::large(number as u32));
                (Path::from(&name).as_bytes().to_vec(), vec![rule])
            };
            let amendment = Amendment {
                names: (from..from + count).map(rule).collect(),
                networks: has_network.then(|| {
                    let network = "192.0.2.0/24".parse().expect("a network");
                    let network = Prefix::new(AddressOf::Answer, network).expect("valid");
                    vec![(network, Effect::large(u32::MAX))]
                }),
            };
            let delta = amendment.image(&images, source())?;
            images.delta = Some(Arc::new(delta));
            Ok(())
        };
        assert_eq!(amend(0, half, false), Ok(()));
        assert_eq!(amend(0, half, false), Ok(()), "equal effects count once");
        assert_eq!(amend(half, half + 2, false), Err(TooLarge::Data));
        assert_eq!(amend(half, most - half, false), Ok(()));
        assert_eq!(amend(0, 1, true), Err(TooLarge::Data), "of a network");
    }
}
