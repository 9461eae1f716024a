//! The guards that a reload releases for each list, and the mistakes in such releases.

use crate::control::guard::policy::GuardPolicy;
use crate::control::guard::release;
use crate::control::guard::release::{Guards, NoRelease};
use crate::control::sources::lists::state::ListState;

/// The guards that a reload releases for a list.
pub(crate) fn released(accept: &[String], list: &str) -> Guards {
    let all = accept.iter().filter_map(|text| release::read(text).ok());
    let named = all.filter(|(name, _)| *name == list);
    named.map(|(_, guard)| guard).collect()
}

/// The mistakes in a reload's releases for these lists, a sentence each. `is_unchanged`: the reload changes neither the
/// configuration nor the protected names. In that case, a release is a mistake if the newest state of the list is in
/// force and no guard has a finding about it.
pub(crate) fn invalid_releases(
    accept: &[String],
    lists: &[&ListState],
    guard_policy: &GuardPolicy,
    is_unchanged: bool,
) -> Vec<String> {
    let mut problems = Vec::new();
    for text in accept {
        let read = release::read(text);
        let name = match &read {
            Ok((list, _)) => list,
            Err(NoRelease::Unknown { list, .. } | NoRelease::Unnamed(list)) => list.as_str(),
        };
        // A list of a new configuration comes after the one in force.
        let list = lists.iter().rfind(|list| list.name() == name);
        let is_vain = |list: &ListState| is_unchanged && list.is_free_of_guards(guard_policy);
        problems.extend(match (list, &read) {
            (None, _) => Some(format!("there is no list or feed `{name}`")),
            (Some(list), Ok((_, guard))) => is_vain(list).then(|| {
                format!("no guard holds {name} for `{guard}`, so there is nothing to accept")
            }),
            (Some(list), Err(why)) => Some(format!("{why}{}", holding(list))),
        });
    }
    problems
}

/// Whether a guard rejected a list's newest state.
pub(crate) fn is_held(list: &ListState) -> bool {
    !guards(list).is_empty()
}

/// The guards that rejected a list's newest state.
fn guards(list: &ListState) -> Guards {
    let refused = list.refused.as_ref();
    refused.map_or(Guards::NONE, |(refusal, _)| refusal.guards())
}

/// The guards that rejected a list's newest state, as the end of a sentence; empty while that state is not read.
pub(crate) fn holding(list: &ListState) -> String {
    let (name, held) = (list.name(), guards(list));
    if list.loading.is_some() || list.changed() {
        return String::new();
    }
    let words: Vec<_> = held.iter().map(|guard| format!("{name}:{guard}")).collect();
    match words.is_empty() {
        true => format!("; no guard holds {name} now"),
        false => format!(
            "; the guards that hold it now are released by {}",
            words.join(" and ")
        ),
    }
}
