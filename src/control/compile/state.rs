//! The state of a list in a compilation.

use std::collections::HashSet;

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

/// Refuses the list that was read and whose patterns are the cause of this error. If the patterns of a list whose rules are
/// carried over have no room any more, that is the last list before it that was read and has patterns. `with_patterns` are the
/// numbers of such lists. Returns whether there is one.
pub(super) fn refuse_by_patterns(
    lists: &[PlanList],
    states: &mut [ListState],
    with_patterns: &HashSet<u16>,
    error: &TooLarge,
) -> bool {
    let Some(named) = lists
        .iter()
        .position(|list| error.list() == Some(&*list.name))
    else {
        return false;
    };
    let is_work = matches!(error, TooLarge::PatternWork { .. });
    let mut culprits = (0..=named).rev().filter(|&number| {
        let may_be = number == named || is_work && with_patterns.contains(&(number as u16));
        may_be && states[number].counts()
    });
    let Some(number) = culprits.next() else {
        return false;
    };
    states[number] = ListState::Refused(Refusal::TooLarge {
        path: lists[number].path.clone(),
        source: error.clone(),
    });
    true
}
