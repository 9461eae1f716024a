//! Lists under a rollback, which holds them as they were in an earlier generation until it is released.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::load::Loaded;
use super::state::{ListState, Tickets};
use crate::config::{Content, List};
use crate::control::guard::acceptance::InForce;
use crate::control::guard::policy::GuardPolicy;
use crate::control::guard::release::Guards;

/// Makes lists use the rules of restored images; `loaded` returns the facts about the rules that a list has in these
/// images. Lists named in `held` keep the restored rules until the release. Other lists that have rules in force keep
/// those.
pub(crate) fn restore(
    lists: &mut [ListState],
    held: &[String],
    loaded: impl Fn(&List) -> Option<Loaded>,
) {
    for list in lists {
        let loaded = loaded(&list.config);
        list.set_frozen(loaded.is_some() && held.iter().any(|name| name == list.name()));
        if list.is_frozen() || list.loaded.is_none() {
            list.restore(loaded);
        }
    }
}

/// For each list, the state that its guards and the operator accepted last. That is the state in force, or the state
/// before a rollback, from `before`.
pub(crate) fn accepted(
    lists: &[ListState],
    before: Option<&BTreeMap<String, InForce>>,
) -> BTreeMap<String, InForce> {
    let known = lists.iter().filter_map(|list| {
        let before = before.and_then(|before| before.get(list.name())).copied();
        let before = before.or(list.earlier.accepted);
        let in_force = || list.loaded.as_ref().map(Loaded::in_force);
        Some((list.name().to_owned(), before.or_else(in_force)?))
    });
    known.collect()
}

/// Starts a load for each held list that is due, or whose file has changed. Returns the tickets of these loads, which
/// are all to be refused.
pub(crate) fn start_refusals(lists: &mut [ListState], tickets: &mut Tickets) -> Vec<u64> {
    let now = Instant::now();
    let mut refused = Vec::new();
    for list in lists.iter_mut().filter(|list| list.is_frozen()) {
        let is_settled = list.take_settled();
        let is_due = list.take_due(now) || is_settled || list.loading.is_some();
        if is_due || list.changed() {
            let loading = match list.loading {
                Some(loading) => loading,
                None => list.start(tickets.next()),
            };
            refused.push(loading.ticket);
        }
    }
    refused
}

/// Requests the lists that a rollback does not hold, if their loads were dropped, if another rollback held them, or if
/// they have no rules in force. Returns the tickets of these loads, and of the dropped ones.
pub(crate) fn request_others(
    lists: &mut [ListState],
    tickets: &mut Tickets,
) -> (Vec<u64>, Vec<u64>) {
    let now = Instant::now();
    let (mut requested, mut gone) = (Vec::new(), Vec::new());
    for list in lists.iter_mut().filter(|list| !list.is_frozen()) {
        let loading = list.abandon_load();
        gone.extend(loading.map(|loading| loading.ticket));
        let was_held = list.refused.take_if(|(refusal, _)| refusal.is_rollback());
        if loading.is_some() || was_held.is_some() || list.loaded.is_none() {
            let released = loading.map_or(Guards::NONE, |loading| loading.released);
            requested.push(list.request(tickets.next(), released, now));
        }
    }
    (requested, gone)
}

/// Makes all lists follow their files again, and requests those that have changed meanwhile. Their guards compare them
/// with the state before the rollback, `accepted`, too. Returns the tickets of the loads.
pub(crate) fn release(
    lists: &mut [ListState],
    mut accepted: BTreeMap<String, InForce>,
    guard_policy: &GuardPolicy,
    tickets: &mut Tickets,
) -> Vec<u64> {
    let now = Instant::now();
    let mut requested = Vec::new();
    for list in lists {
        list.set_frozen(false);
        list.earlier.accepted = accepted.remove(list.name());
        if list.config.content == Content::Transferred {
            // Its primaries are asked again, and may have the version in force.
            list.refused.take_if(|(refusal, _)| refusal.is_rollback());
        }
        if list.refused.is_some() || list.changed() || list.is_outdated(guard_policy) {
            requested.push(list.request(tickets.next(), Guards::NONE, now));
        }
    }
    requested
}
