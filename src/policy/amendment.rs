//! Makes the part of a delta that amends a list, from changes of the list.

use std::collections::BTreeMap;

use super::builder::Builder;
use super::effect::Effect;
use super::image::path::Path;
use super::image::provenance::ImageSource;
use super::image::{Image, TooLarge};
use super::images::Images;
use super::prefix::Prefix;
use super::rule::Scope;

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
        let mut builder = Builder::new();
        let list = source.name.clone();
        let amends = images.is_in_base(&list);
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
                if self.names.contains_key(cursor.path()) {
                    continue;
                }
                for rule in cursor.rules() {
                    if is_list(newest.source_of(rule)) {
                        let effect = newest.clauses().effect(rule.clause);
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
            if amends {
                builder.amend(path, number)?;
            }
            for (scope, effect) in rules {
                builder.insert_path(path, number, *scope, effect)?;
            }
        }
        for (prefix, effect) in self.networks.iter().flatten() {
            builder.insert_prefix(*prefix, number, effect)?;
        }
        builder.finish()
    }
}
