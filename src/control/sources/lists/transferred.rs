//! Starts to load the zone of a feed that was transferred: all of it, or its changes.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::amendment::amended;
use super::comparison::Differences;
use super::load::{LoadedRules, Refusal};
use super::reading::{FinishedLoad, broken};
use super::state::{ListState, Loading};
use super::zone_load::{Job, finish_amendment, whole};
use crate::control::guard::policy::GuardPolicy;
use crate::control::sources::feeds::delivery::ZoneChange;
use crate::policy::images::Images;
use crate::wire::transfer::{Request, Soa};

/// Starts to load a small zone from the messages of its transfer. Returns the number of the load.
pub(crate) fn start_small(
    list: &mut ListState,
    guard_policy: &Arc<GuardPolicy>,
    ticket: u64,
    (request, messages): (Box<Request>, Vec<u8>),
    done: &mpsc::Sender<FinishedLoad>,
) -> u64 {
    start(list, guard_policy, ticket, done, move |job| {
        whole(&job, &request, &messages)
    })
}

/// Starts to apply changes to the rules in force, which are in `images`. Returns the number of the load.
pub(crate) fn start_changes(
    list: &mut ListState,
    guard_policy: &Arc<GuardPolicy>,
    ticket: u64,
    (soa, changes): (Box<Soa>, Vec<ZoneChange>),
    images: Images,
    done: &mpsc::Sender<FinishedLoad>,
) -> u64 {
    let before = list.loaded.as_ref().map(|loaded| {
        let protected_names = loaded.protected_names.clone();
        (loaded.tally.clone(), loaded.digest.clone(), protected_names)
    });
    start(list, guard_policy, ticket, done, move |job| {
        let zone = job.config.apex().cloned().unwrap_or_default();
        let before = before.ok_or(Refusal::BrokenChanges(Box::new(zone)))?;
        let (tally, digest, protected_names) = before;
        let mut new = amended(&job, (&soa, &changes), (tally, &digest), &images)?;
        // The rules that did not change are not checked again.
        new.loaded.protected_names = protected_names;
        Ok(new)
    })
}

/// Starts to amend the rules in force, which are in `images`, by the differences of a new version. Returns the number of
/// the load; `None` if they are the differences from another version.
pub(crate) fn start_differences(
    list: &mut ListState,
    ticket: u64,
    differences: Box<Differences>,
    images: Images,
    done: &mpsc::Sender<FinishedLoad>,
) -> Option<u64> {
    let Differences {
        amendment,
        from,
        reading,
        guard_policy,
    } = *differences;
    list.loaded
        .as_ref()
        .filter(|loaded| loaded.digest == from)?;
    Some(start(list, &guard_policy, ticket, done, move |job| {
        let rules = amendment.rules_after(&images, &job.config.source.name);
        finish_amendment(&job, reading, rules, &amendment, &images)
    }))
}

fn start(
    list: &mut ListState,
    guard_policy: &Arc<GuardPolicy>,
    ticket: u64,
    done: &mpsc::Sender<FinishedLoad>,
    load: impl FnOnce(Job) -> Result<LoadedRules, Refusal> + Send + 'static,
) -> u64 {
    let Loading {
        ticket, released, ..
    } = list.start(ticket);
    let job = Job {
        config: list.config.clone(),
        guard_policy: Arc::clone(guard_policy),
        before: list.in_force(),
        released,
    };
    let loading = tokio::task::spawn_blocking(move || load(job));
    let (broken, done) = (broken(list), done.clone());
    tokio::spawn(async move {
        let result = loading.await.unwrap_or(Err(broken));
        // The receiver is gone when the server ends.
        let _ = done.send(FinishedLoad { ticket, result }).await;
    });
    ticket
}
