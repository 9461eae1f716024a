//! Owns the guard rails while serving: read again at each reload, and lists read again where those differ.
//! Refuses to hold anything itself: that happens where lists are read.

use crate::control::admin::status::ReloadRequest;
use crate::control::guard::release;
use crate::control::guard::release::Guards;
use crate::control::sources::lists::state::ListState;

/// The guards that a reload releases for a list.
pub(crate) fn released(wish: &ReloadRequest, list: &str) -> Guards {
    let all = wish
        .accept
        .iter()
        .filter_map(|text| release::read(text).ok());
    let named = all.filter(|(name, _)| *name == list);
    named.map(|(_, guard)| guard).collect()
}

/// Whether a guard holds a list's newest state.
pub(crate) fn is_held(list: &ListState) -> bool {
    !guards(list).is_empty()
}

/// The guards that hold a list's newest state.
fn guards(list: &ListState) -> Guards {
    let refused = list.refused.as_ref();
    refused.map_or(Guards::NONE, |(refusal, _)| refusal.guards())
}

/// Which guards hold a list, as the end of a sentence; nothing while its newest state is not read.
pub(crate) fn holding(list: &ListState) -> String {
    let (name, held) = (list.name(), guards(list));
    if list.loading.is_some() || list.changed() {
        return String::new();
    }
    let words: Vec<_> = held.iter().map(|guard| format!("{name}:{guard}")).collect();
    match words.is_empty() {
        true => format!("; no guard holds {name} now"),
        false => format!("; what holds it now is released by {}", words.join(" and ")),
    }
}
