//! The names of one image that are in the tree of a published policy.

use std::sync::Arc;

use crate::policy::image::Image;
use crate::policy::image::values::{ImageRule, Value};
use crate::policy::image::walk::Position;
use crate::policy::images::Images;
use crate::policy::rule::Source;
use crate::wire::name::Name;

/// An image, and which of its sources are published. Its tree has the names on which these sources have rules, and all names
/// above them. Marks are no rules.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) image: Arc<Image>,
    /// By source of the image.
    published: Arc<[bool]>,
}

impl Tree {
    /// The trees of the base, the delta and the orders, as far as the images exist.
    pub(super) fn all(images: &Images, sources: &[Arc<Source>]) -> [Option<Self>; 3] {
        let names = sources.iter().map(|source| source.name.as_str());
        let names: std::collections::HashSet<_> = names.collect();
        let tree = |image: &Option<Arc<Image>>, counts: &dyn Fn(&str) -> bool| {
            let image = image.clone()?;
            let sources = image.provenance().sources.iter();
            let published =
                sources.map(|source| names.contains(&*source.name) && counts(&source.name));
            Some(Self {
                published: published.collect(),
                image,
            })
        };
        [
            tree(&images.base, &|name| images.is_in_base(name)),
            tree(&images.delta, &|_| true),
            tree(&images.orders, &|_| true),
        ]
    }

    /// Whether both have the same names, because they are the same parts of one image.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.image, &other.image) && self.published == other.published
    }

    /// Whether no source is published.
    pub(super) fn is_empty(&self) -> bool {
        !self.published.contains(&true)
    }

    /// Whether a rule belongs to a published source, and is no mark.
    pub(super) fn has(&self, rule: ImageRule) -> bool {
        self.has_with_marks(rule) && !self.image.clauses().is_void(rule.clause)
    }

    /// Whether a rule or a mark belongs to a published source.
    pub(super) fn has_with_marks(&self, rule: ImageRule) -> bool {
        self.has_source(self.image.source_of(rule))
    }

    /// Whether the source with this name is published.
    pub(super) fn has_named(&self, name: &str) -> bool {
        let sources = (0..).zip(&self.image.provenance().sources);
        let mut named = sources.filter(|(_, source)| source.name == name);
        named.any(|(source, _)| self.has_source(source))
    }

    fn has_source(&self, source: u16) -> bool {
        self.published
            .get(usize::from(source))
            .copied()
            .unwrap_or(false)
    }

    /// Whether a name is in the tree.
    pub(super) fn contains(&self, name: &Name) -> bool {
        let mut found = false;
        self.image.walk(&[name], |_, position, _, value| {
            let value = self.image.value(value);
            found |= match position {
                Position::Above => false,
                Position::At | Position::Below => self.has_rules(value) || self.has_below(value),
            };
        });
        found
    }

    /// Whether a name below this one is in the tree.
    pub(super) fn contains_below(&self, name: &Name) -> bool {
        let mut found = false;
        self.image.walk(&[name], |_, position, _, value| {
            let value = self.image.value(value);
            found |= match position {
                Position::Above => false,
                Position::At => self.has_below(value),
                Position::Below => self.has_rules(value) || self.has_below(value),
            };
        });
        found
    }

    fn has_rules(&self, value: Value<'_>) -> bool {
        value.rules().any(|rule| self.has(rule))
    }

    fn has_below(&self, value: Value<'_>) -> bool {
        let mut below = value.sources_below();
        below.any(|below| self.has_source(below.source))
    }
}
