//! The images of a snapshot, and which of them has the rules of which list.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::image::Image;
use super::image::provenance::ImageSource;

/// The compiled rules of all sources.
#[derive(Clone, Debug, Default)]
pub struct Images {
    /// The rules of large lists, and of small ones that no longer fitted the delta.
    pub base: Option<Arc<Image>>,
    /// All rules of the other small lists. Rules of the same lists in the base do not count, except those of the lists
    /// that the delta [amends](ImageSource::amends).
    pub delta: Option<Arc<Image>>,
    /// The rules of orders and exceptions, whether in force or not.
    pub orders: Option<Arc<Image>>,
    /// Lists that are not in force although the base or the delta still has their rules. These lists were
    /// removed from the configuration, and no image has been compiled without them yet.
    pub gone: Arc<BTreeSet<String>>,
}

impl From<Arc<Image>> for Images {
    fn from(base: Arc<Image>) -> Self {
        Self {
            base: Some(base),
            ..Self::default()
        }
    }
}

impl Images {
    /// The names of all sources that the images have, with or without rules.
    pub fn source_names(&self) -> HashSet<&str> {
        let images = [&self.base, &self.delta, &self.orders];
        let images = images.into_iter().flatten();
        let sources = images.flat_map(|image| &image.provenance().sources);
        sources.map(|source| source.name.as_str()).collect()
    }

    /// Whether this image, the base or the delta, has the newest state of `list`: all its rules, or at least all those on
    /// networks and with patterns, and the provenance of them all.
    pub fn is_in(&self, image: &Arc<Image>, list: &str) -> bool {
        let found = self.find(list);
        found.is_some_and(|(found, _)| Arc::ptr_eq(found, image))
    }

    /// Whether rules of `list` on names are read from the base. The delta may amend them.
    pub fn is_in_base(&self, list: &str) -> bool {
        let is_kept = || self.in_delta(list).is_none_or(|source| source.amends);
        source(&self.base, list).is_some() && is_kept()
    }

    /// Whether rules of `list` are read from the delta, which replaces or amends those in the base.
    pub fn is_in_delta(&self, list: &str) -> bool {
        self.in_delta(list).is_some()
    }

    /// The number of rules of all lists in force.
    pub fn list_rules(&self) -> u64 {
        let images = [(&self.base, true), (&self.delta, false)].into_iter();
        let sources = images.flat_map(|(image, is_base)| {
            let sources = image.iter().flat_map(|image| &image.provenance().sources);
            sources.filter(move |source| !is_base || !self.is_in_delta(&source.name))
        });
        let in_force = sources.filter(|source| !self.gone.contains(&source.name));
        in_force.map(|source| source.rules).sum()
    }

    /// The same images, with only those lists in force that `is_in_force` selects.
    pub fn with_lists(mut self, is_in_force: impl Fn(&str) -> bool) -> Self {
        let images = [&self.base, &self.delta].into_iter().flatten();
        let sources = images.flat_map(|image| &image.provenance().sources);
        let gone = sources.filter(|source| !is_in_force(&source.name));
        self.gone = Arc::new(gone.map(|source| source.name.clone()).collect());
        self
    }

    /// Whether the delta amends the rules that the base has of `list`.
    pub fn is_amended(&self, list: &str) -> bool {
        self.in_delta(list).is_some_and(|source| source.amends)
    }

    /// The provenance of `list` in the delta. `None` if the delta does not have the list. If the delta has the list
    /// without rules, rules of the list in the base do not count either, unless the delta amends the list.
    pub fn in_delta(&self, list: &str) -> Option<&ImageSource> {
        source(&self.delta, list)
    }

    /// The image that has the newest state of `list`, and the provenance of the list in it. `None` if the list is not in
    /// force. If the image is a delta that amends the list, other rules of the list are in the base:
    /// [`rule_cursor`](Self::rule_cursor) reads them all.
    pub fn find(&self, list: &str) -> Option<(&Arc<Image>, &ImageSource)> {
        if self.gone.contains(list) {
            return None;
        }
        let image = match self.is_in_delta(list) {
            true => &self.delta,
            false => &self.base,
        };
        let source = source(image, list)?;
        Some((image.as_ref()?, source))
    }
}

fn source<'i>(image: &'i Option<Arc<Image>>, list: &str) -> Option<&'i ImageSource> {
    image.as_ref()?.provenance().source(list)
}
