//! Views: which lists count for a group of clients, in which order, and with which overrides.

use super::rule::Action;

/// The number of a view in a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewId(pub u16);

impl ViewId {
    /// The view of clients that belong to no other: all lists count, in the order of the configuration.
    pub const DEFAULT: Self = Self(0);
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
