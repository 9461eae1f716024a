//! The state of publication: the snapshot in force, the changes since, and their causes. Frees replaced snapshots.

use std::collections::HashSet;
use std::path::PathBuf;

use jiff::Timestamp;

use crate::config::paths::legible;
use crate::control::data_plane::Following;
use crate::control::journal::entry::Cause;
use crate::control::publish::order_changes::OrderStates;
use crate::control::publish::slots::Slots;
use crate::policy::current::Publisher;
use crate::policy::images::Images;
use crate::policy::snapshot::Snapshot;

/// The snapshot in force, and the changes that the next one will have.
pub(crate) struct Publication {
    pub(crate) publisher: Publisher,
    /// The images in force.
    pub(crate) images: Images,
    /// The next generation.
    pub(crate) next: u64,
    pub(crate) published_at: Timestamp,
    /// Whether something changed since the last publication.
    pub(crate) is_due: bool,
    /// The causes of those changes.
    pub(crate) causes: Vec<Cause>,
    /// Where hits of lists are counted.
    pub(crate) slots: Slots,
    /// The states of orders that were logged.
    pub(crate) order_states: OrderStates,
    pub(crate) plane: Following,
}

impl Publication {
    pub(crate) fn new() -> Self {
        Self {
            publisher: Publisher::new(Snapshot::default()),
            images: Images::default(),
            next: 1,
            published_at: Timestamp::now(),
            is_due: true,
            causes: vec![Cause::Start],
            slots: Slots::default(),
            order_states: OrderStates::default(),
            plane: Following::default(),
        }
    }

    /// Something changed, so a new generation is due.
    pub(crate) fn change(&mut self, cause: Cause) {
        self.is_due = true;
        if !self.causes.contains(&cause) {
            self.causes.push(cause);
        }
    }

    /// Files changed.
    pub(crate) fn change_files(&mut self, paths: Vec<PathBuf>) {
        // Ten thousand files may change at once, so they are looked up in a set.
        let known = self.causes.iter().filter_map(|cause| match cause {
            Cause::File { path } => Some(path.clone()),
            _ => None,
        });
        let mut known: HashSet<PathBuf> = known.collect();
        for path in paths {
            self.is_due = true;
            let path = legible(&path);
            if known.insert(path.clone()) {
                self.causes.push(Cause::File { path });
            }
        }
    }

    /// The rules in the delta.
    pub(crate) fn delta_rules(&self) -> u64 {
        let delta = self.images.delta.as_ref();
        delta.map_or(0, |delta| delta.facts().rules)
    }

    /// The number of the next generation, given the last one in the journal. A generation that changed only orders is
    /// kept only in the journal, and the journal may be opened late.
    pub(crate) fn next_generation(&self, journalled: u64) -> u64 {
        self.next.max(journalled + 1)
    }

    /// Frees replaced snapshots that no thread uses, on a thread that no packet waits for. Returns whether some are
    /// still in use.
    pub(crate) fn reclaim(&mut self) -> bool {
        let (free, used) = self.publisher.reclaim();
        if !free.is_empty() {
            tokio::task::spawn_blocking(move || drop(free));
        }
        used > 0
    }
}
