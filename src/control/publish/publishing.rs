//! Owns the step by which all that is known goes in force, and the freeing of what it replaces.
//! Refuses to know why: who changes something says so.

use std::collections::HashSet;

use jiff::Timestamp;

use super::compose;
use crate::control::Control;
use crate::control::journal::entry::Cause;
use crate::control::publish::data_plane::Following;
use crate::control::publish::order_changes::OrderStates;
use crate::control::publish::slots::Slots;
use crate::control::sources::lists::state::ListState;
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
    /// Whether something changed since.
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
}

impl Control {
    /// The number of the next generation. Those of orders are kept nowhere but in the journal, which
    /// may be opened late.
    pub(crate) fn next_generation(&self) -> u64 {
        self.publication.next.max(self.record.journal.known() + 1)
    }

    /// The images, with the names of the lists of which they have rules that are not in force.
    pub(crate) fn images_in_force(&self) -> Images {
        let known = self
            .lists
            .active
            .iter()
            .filter(|list| list.loaded.is_some());
        let known: HashSet<_> = known.map(ListState::name).collect();
        self.publication
            .images
            .clone()
            .with_lists(|name| known.contains(name))
    }

    /// Puts a snapshot of all that is known in force.
    pub(crate) fn publish(&mut self) {
        self.calendar.turn();
        let known = self
            .lists
            .active
            .iter()
            .filter(|list| list.loaded.is_some());
        let lists = known.map(|list| list.source.clone());
        let sources = self.calendar.sources().iter().cloned().chain(lists);
        let sources = sources.collect();
        let images = self.images_in_force();
        // A list that left the configuration is in the images still: that it is not in force has to be kept.
        self.persist.unkept |= images.gone != self.publication.images.gone;
        self.publication.images = images;
        self.publication.images.orders = self.calendar.book.rules().cloned();
        let generation = self.next_generation();
        if self.persist.unkept {
            self.persist.imaged = generation;
        }
        if self.persist.keep_again.take().is_some() {
            // The images are still those of an earlier generation.
            self.persist.unkept = true;
        }
        self.publication.next = generation + 1;
        let states = self.calendar.book.states(self.calendar.at());
        let draft = self.draft(generation, &states);
        let receipt = draft.map(|draft| self.record.journal.publish(draft));
        let (config, images) = (&self.configuration.current, self.publication.images.clone());
        // What is in a large delta takes a while to bind, which others on this thread don't wait for.
        let next = tokio::task::block_in_place(|| {
            let next = compose::snapshot(config, sources, images, generation);
            // Written ahead, if the disk lets it be.
            if let Some(receipt) = receipt {
                self.record.journal.wait(receipt);
            }
            next
        });
        self.publication
            .publisher
            .publish(next.with_slots(|name| self.publication.slots.of(name)));
        self.publication.published_at = Timestamp::now();
        self.publication.is_due = false;
        self.publication.order_states.log(generation, states);
        tracing::info!(generation, "published");
        self.follow();
    }

    /// Frees replaced snapshots that nobody uses, on a thread that no packet waits for. Returns
    /// whether some are still in use.
    pub(crate) fn reclaim(&mut self) -> bool {
        let (free, used) = self.publication.publisher.reclaim();
        if !free.is_empty() {
            tokio::task::spawn_blocking(move || drop(free));
        }
        used > 0
    }
}
