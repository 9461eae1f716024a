//! The state of publication: the snapshot in force, the changes since, and their causes. Frees replaced snapshots.
//!
//! ```text
//!                 a list, an order or the
//!                 configuration changed            all that is ready is composed
//!   in force ------------------------------> due ------------------------------> in force, with the next generation
//!                                           |   ^                                 |
//!                                           +---+ further changes:                |  the replaced snapshot
//!                                                 their causes are collected      v
//!                                                                        waits for its readers ----> freed
//! ```

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use crate::config::order::State;
use crate::config::paths::legible;
use crate::control::data_plane::Following;
use crate::control::figures::Work;
use crate::control::journal::entry::Cause;
use crate::control::publish::order_changes::OrderStates;
use crate::control::publish::slots::Slots;
use crate::policy::current::Publisher;
use crate::policy::image::Image;
use crate::policy::images::Images;
use crate::policy::snapshot::Snapshot;

/// The snapshot in force, and the changes that the next one will have.
pub(crate) struct Publication {
    pub(crate) publisher: Publisher,
    images: Images,
    /// The next generation.
    next: u64,
    published_at: Timestamp,
    /// Whether something changed since the last publication.
    is_due: bool,
    /// The causes of those changes.
    causes: Vec<Cause>,
    /// Where hits of lists are counted.
    pub(crate) slots: Slots,
    /// The states of orders that were logged.
    order_states: OrderStates,
    pub(crate) plane: Following,
    /// How often a generation was put in force, and how long that took.
    pub(crate) work: Work,
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
            work: Work::default(),
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

    /// The images in force.
    pub(crate) fn images(&self) -> &Images {
        &self.images
    }

    /// The image that the compiler made of lists, in force with the next generation.
    pub(crate) fn set_base(&mut self, base: Arc<Image>) {
        self.images.base = Some(base);
    }

    /// The image of the rules that the base does not have yet, in force with the next generation.
    pub(crate) fn set_delta(&mut self, delta: Arc<Image>) {
        self.images.delta = Some(delta);
    }

    /// Sets the images of the next generation. They are those of an earlier generation, or the images in force with one
    /// change: the rules of orders are others, or other lists are marked as not in force.
    pub(crate) fn set_images(&mut self, images: Images) {
        self.images = images;
    }

    /// The rules in the delta.
    pub(crate) fn delta_rules(&self) -> u64 {
        let delta = self.images.delta.as_ref();
        delta.map_or(0, |delta| delta.facts().rules)
    }

    /// The number of the next generation, given the last one in the journal. The journal may have higher numbers: a
    /// generation that changed only orders is kept only there, and the journal may be opened late.
    pub(crate) fn next_generation(&self, journalled: u64) -> u64 {
        self.next.max(journalled + 1)
    }

    /// Like [`next_generation`](Self::next_generation), but the number is used then: the next call returns a higher
    /// one.
    pub(crate) fn take_generation(&mut self, journalled: u64) -> u64 {
        let generation = self.next_generation(journalled);
        self.next = generation + 1;
        generation
    }

    /// Continues the numbers after a generation whose images were stored.
    pub(crate) fn continue_after(&mut self, generation: u64) {
        self.next = generation + 1;
    }

    /// When the snapshot in force was published.
    pub(crate) fn published_at(&self) -> Timestamp {
        self.published_at
    }

    /// Whether something changed since the last publication.
    pub(crate) fn is_due(&self) -> bool {
        self.is_due
    }

    /// Takes the causes of the changes since the last publication. The next call returns only those added since.
    pub(crate) fn take_causes(&mut self) -> Vec<Cause> {
        std::mem::take(&mut self.causes)
    }

    /// Puts a snapshot in force, in which the orders have these states.
    pub(crate) fn publish(&mut self, next: Snapshot, states: Vec<(String, State)>) {
        let generation = next.generation;
        self.publisher
            .publish(next.with_slots(|name| self.slots.of(name)));
        self.published_at = Timestamp::now();
        self.is_due = false;
        self.order_states.log(generation, states);
        tracing::info!(generation, "published");
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
