//! Owns the images that rules in force come from, and who has the rules of which list.
//! Refuses to make them, and to look names up.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::image::Image;
use super::image::provenance::ImageSource;

/// The compiled rules of all sources.
#[derive(Clone, Debug, Default)]
pub struct Images {
    /// Those of large lists, and of small ones that were too many for a delta.
    pub base: Option<Arc<Image>>,
    /// Those of the other small ones, which stand before what the base has of the same lists.
    pub delta: Option<Arc<Image>>,
    /// Those of orders and exceptions, whether they are in force or not.
    pub orders: Option<Arc<Image>>,
    /// Lists that the base or the delta has rules of, none of which are in force: they left the configuration, and
    /// no image has been made without them since.
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
    /// The names of all sources that have rules.
    pub fn source_names(&self) -> HashSet<&str> {
        let images = [&self.base, &self.delta, &self.orders];
        let images = images.into_iter().flatten();
        let sources = images.flat_map(|image| &image.provenance().sources);
        sources.map(|source| source.name.as_str()).collect()
    }

    /// Whether the rules of a list are those of the base.
    pub fn is_in_base(&self, list: &str) -> bool {
        source(self.base.as_deref(), list).is_some() && !self.is_in_delta(list)
    }

    /// Whether the rules of a list are those of the delta.
    pub fn is_in_delta(&self, list: &str) -> bool {
        self.in_delta(list).is_some()
    }

    /// How many rules lists have, all together.
    pub fn list_rules(&self) -> u64 {
        let images = [(&self.base, true), (&self.delta, false)].into_iter();
        let sources = images.flat_map(|(image, is_base)| {
            let sources = image.iter().flat_map(|image| &image.provenance().sources);
            sources.filter(move |source| !is_base || !self.is_in_delta(&source.name))
        });
        let in_force = sources.filter(|source| !self.gone.contains(&source.name));
        in_force.map(|source| source.rules).sum()
    }

    /// The same images, of which only the rules of these lists are in force.
    pub fn with_lists(mut self, is_in_force: impl Fn(&str) -> bool) -> Self {
        let images = [&self.base, &self.delta].into_iter().flatten();
        let sources = images.flat_map(|image| &image.provenance().sources);
        let gone = sources.filter(|source| !is_in_force(&source.name));
        self.gone = Arc::new(gone.map(|source| source.name.clone()).collect());
        self
    }

    /// What the delta says of a list whose rules it has.
    pub fn in_delta(&self, list: &str) -> Option<&ImageSource> {
        source(self.delta.as_deref(), list)
    }
}

fn source<'i>(image: Option<&'i Image>, list: &str) -> Option<&'i ImageSource> {
    let sources = image
        .into_iter()
        .flat_map(|image| &image.provenance().sources);
    sources.into_iter().find(|source| source.name == list)
}
