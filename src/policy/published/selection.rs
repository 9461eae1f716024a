//! The sources that are published, and the policy of these sources alone.

use std::sync::Arc;

use crate::policy::rule::{Kind, Source};
use crate::policy::snapshot::Snapshot;

/// The sources whose rules are published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// All sources.
    #[default]
    All,
    /// The sources with these names. [`ALL_ORDERS`](Self::ALL_ORDERS) and [`ALL_EXCEPTIONS`](Self::ALL_EXCEPTIONS) stand for
    /// all sources of these kinds.
    Named(Vec<String>),
}

impl Selection {
    /// Stands for all orders. It is no name of a source.
    pub const ALL_ORDERS: &str = "order:*";
    /// Stands for all exceptions. It is no name of a source.
    pub const ALL_EXCEPTIONS: &str = "exception:*";

    /// A snapshot in which only the selected sources decide, in the default view, and no patterns. Sources that are logged
    /// only have no part in it.
    pub(super) fn apply(&self, snapshot: &Snapshot) -> Snapshot {
        let sources = snapshot.sources.iter();
        let sources = sources.filter(|source| self.selects(source) && !source.is_logged_only());
        let sources: Vec<Arc<Source>> = sources.cloned().collect();
        let mut published = Snapshot {
            generation: snapshot.generation,
            ..Snapshot::default()
        };
        published = published.with_rules(sources, snapshot.rules.images());
        published.rules = published.rules.without_patterns();
        published
    }

    fn selects(&self, source: &Source) -> bool {
        self.has_list(&source.name) || self.has_all(source.kind)
    }

    /// Whether the list or feed with this name is selected.
    pub fn has_list(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.iter().any(|selected| selected == name),
        }
    }

    /// Whether all orders are selected, or all exceptions.
    pub fn has_all(&self, kind: Kind) -> bool {
        let Self::Named(names) = self else {
            return true;
        };
        names.iter().any(|name| match name.as_str() {
            Self::ALL_ORDERS => kind == Kind::Order,
            Self::ALL_EXCEPTIONS => kind == Kind::Exception,
            _ => false,
        })
    }
}
