//! Views: which lists count for a group of clients, in which order, and with which overrides.

use super::rule::Action;
use crate::wire::rtype;

/// The number of a view in a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewId(pub u16);

impl ViewId {
    /// The view of clients that belong to no other: all lists count, in the order of the configuration.
    pub const DEFAULT: Self = Self(0);
}

/// What the lookup of a name depends on, besides the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupKey {
    /// The view of the client.
    pub view: ViewId,
    /// The type of the query. If it is `None`, no rule with a condition matches.
    pub qtype: Option<u16>,
}

impl LookupKey {
    /// For the default view, without rules with conditions.
    pub(super) const UNCONDITIONAL: Self = Self {
        view: ViewId::DEFAULT,
        qtype: None,
    };

    /// For queries of this type from clients of a view.
    pub fn new(view: ViewId, qtype: u16) -> Self {
        let qtype = Some(qtype);
        Self { view, qtype }
    }
}

/// For queries of type A from clients of the default view.
impl Default for LookupKey {
    fn default() -> Self {
        Self::new(ViewId::DEFAULT, rtype::A)
    }
}

/// The number of views that a snapshot can have beside the default.
pub const MAX_VIEWS: usize = u16::MAX as usize;

/// The lists that count for a group of clients. Orders and exceptions count in every view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The lists in their order. All others do not count.
    pub lists: Vec<ViewList>,
}

/// A list in a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewList {
    /// The name of the list.
    pub name: String,
    /// Whether its rules decide.
    pub mode: Mode,
    /// The action of all its rules that block, in place of their own.
    pub action: Option<Action>,
}

/// Whether the rules of a list decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They decide.
    #[default]
    Enforce,
    /// They decide nothing. The first of them that would have decided is reported beside the decision.
    LogOnly,
}
