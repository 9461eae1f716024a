//! The state of a list in a compilation.

use super::plan::PlanList;
use crate::control::guard::reading::Reading;
use crate::control::sources::lists::load::Refusal;
use crate::policy::image::TooLarge;

/// Whether a list was read.
pub(super) enum ListState {
    Carried,
    Read(Box<Reading>),
    Refused(Refusal),
}

impl ListState {
    /// Whether the rules that were read are used.
    pub(super) fn counts(&self) -> bool {
        matches!(self, Self::Read(_))
    }
}

/// Refuses the list that was read and whose patterns are the cause of this error. Returns whether there is one.
pub(super) fn refuse_by_patterns(
    lists: &[PlanList],
    states: &mut [ListState],
    error: &TooLarge,
) -> bool {
    let mut named = lists.iter().zip(states).filter(|(list, state)| {
        error.list() == Some(&*list.name) && matches!(state, ListState::Read(_))
    });
    let Some((list, state)) = named.next() else {
        return false;
    };
    *state = ListState::Refused(Refusal::TooLarge {
        path: list.path.clone(),
        source: error.clone(),
    });
    true
}
