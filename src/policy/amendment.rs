//! Makes the part of a delta that amends a list, from changes of the list.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::builder::Builder;
use super::effect::Effect;
use super::image::path::Path;
use super::image::provenance::ImageSource;
use super::image::values::ImageRule;
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
    /// If an image can't hold the rules, or no answer can carry an effect.
    pub fn image(&self, images: &Images, source: ImageSource) -> Result<Image, TooLarge> {
        let list = source.name.clone();
        let amends = images.is_in_base(&list);
        let delta = images.delta.as_ref();
        let mut builder =
            delta.map_or_else(Builder::new, |delta| Builder::keyed(delta.key().clone()));
        let number = builder.source(ImageSource { amends, ..source })?;
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
                for rule in cursor.rules() {
                    let effect = newest.clauses().effect(rule.clause);
                    // What is true of the names below stays true.
                    let stays = !is_replaced || effect.is_void() && rule.scope == Scope::Below;
                    if stays && is_list(newest.source_of(rule)) {
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
        let amended = self.amended(images, &list);
        for (path, rules) in &self.names {
            // A name that is neither in the base nor has rules needs no mark. One with rules needs it in any case: a name
            // of the base may end its wildcard.
            let needs_mark = |amended: &Amended<'_>| {
                !rules.is_empty() || amended.is_in_base(&Path::of(path).to_name())
            };
            if amended.as_ref().is_some_and(needs_mark) {
                builder.amend(path, number)?;
            }
            for (scope, effect) in rules {
                builder.insert_path(path, number, *scope, effect)?;
            }
        }
        for top in amended.iter().flat_map(Amended::emptied) {
            builder.amend_below(&top, number)?;
        }
        for (prefix, effect) in self.networks.iter().flatten() {
            builder.insert_prefix(*prefix, number, effect)?;
        }
        builder.finish()
    }

    /// The names that are amended if the base has rules of the list.
    fn amended<'a>(&'a self, images: &'a Images, list: &'a str) -> Option<Amended<'a>> {
        let base = images.base.as_deref().filter(|_| images.is_in_base(list))?;
        Some(Amended {
            base,
            list,
            names: &self.names,
            images,
        })
    }
}

/// The names of the base that are amended, now or earlier.
struct Amended<'a> {
    base: &'a Image,
    list: &'a str,
    /// Those that are amended now.
    names: &'a BTreeMap<Vec<u8>, Vec<(Scope, Effect)>>,
    images: &'a Images,
}

impl Amended<'_> {
    /// The topmost names below which all rules that the list has in the base are amended now. Only names that change now,
    /// and those above them, are looked at.
    fn emptied(&self) -> BTreeSet<Vec<u8>> {
        let mut tops = BTreeSet::new();
        let mut known = HashMap::new();
        for path in self.names.keys() {
            let name = Path::of(path).to_name();
            if !self.is_in_base(&name) {
                continue;
            }
            for level in 1..=name.label_count() {
                let Ok((above, _)) = Name::parse(name.ancestor(level), 0) else {
                    continue;
                };
                let above_path = Path::from(&above);
                let above_path = above_path.as_bytes();
                let is_emptied = match known.get(above_path) {
                    Some(is_emptied) => *is_emptied,
                    None => {
                        let is_emptied = self.has_all_below(&above);
                        known.insert(above_path.to_vec(), is_emptied);
                        is_emptied
                    }
                };
                if is_emptied {
                    tops.insert(above_path.to_vec());
                    break;
                }
            }
        }
        tops
    }

    /// Whether the list has rules on exactly this name in the base.
    fn is_in_base(&self, name: &Name) -> bool {
        let mut value = None;
        self.base.locate(&[name], |_, _, found| value = Some(found));
        value.is_some_and(|value| self.has_rules(self.base.value(value).rules()))
    }

    fn has_rules(&self, mut rules: impl Iterator<Item = ImageRule>) -> bool {
        let sources = &self.base.provenance().sources;
        rules.any(|rule| sources[usize::from(self.base.source_of(rule))].name == self.list)
    }

    /// Whether there are names below `top` on which the list has rules in the base, and all of them are amended.
    fn has_all_below(&self, top: &Name) -> bool {
        let mut cursor = self.base.cursor();
        cursor.seek(top);
        let own = Path::from(top);
        let mut has_some = false;
        while cursor.advance() {
            if cursor.path() == own.as_bytes() || !self.has_rules(cursor.rules()) {
                continue;
            }
            has_some = true;
            let name = Path::of(cursor.path()).to_name();
            if !self.names.contains_key(cursor.path()) && !self.images.is_voided(&name, self.list) {
                return false;
            }
        }
        has_some && cursor.damage().is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_name_that_comes_and_goes_leaves_no_mark() {
        let source = || ImageSource {
            amendable: true,
            ..ImageSource::named("zone")
        };
        let name = |text: &str| Name::from_text(text).expect("a name");
        let mut builder = Builder::new();
        let zone = builder.source(source()).expect("few");
        let old = name("old.example");
        builder.insert(&old, zone, Scope::Exact).expect("room");
        let mut images = Images::from(Arc::new(builder.finish().expect("few")));
        let mut rules_of_delta = |text: &str, rules: Vec<(Scope, Effect)>| {
            let path = Path::from(&name(text)).as_bytes().to_vec();
            let amendment = Amendment {
                names: BTreeMap::from([(path, rules)]),
                networks: None,
            };
            let delta = amendment.image(&images, source()).expect("few");
            let rules = delta.facts().rules;
            images.delta = Some(Arc::new(delta));
            rules
        };
        let rule = || vec![(Scope::Exact, Effect::default())];
        assert_eq!(rules_of_delta("new.example", rule()), 2);
        assert_eq!(rules_of_delta("new.example", Vec::new()), 0);
        // Two marks: on the name, and on the one above it, which has no other name below.
        assert_eq!(rules_of_delta("old.example", Vec::new()), 2);
        assert_eq!(rules_of_delta("old.example", rule()), 3);
    }
}
