//! Owns the step by which all that is known goes in force, and the freeing of what it replaces.
//! Refuses to know why: who changes something says so.

use std::collections::HashSet;

use jiff::Timestamp;

use super::compose;
use crate::control::control_loop::Control;
use crate::control::sources::lists::state::ListState;
use crate::policy::images::Images;

impl Control {
    /// The number of the next generation. Those of orders are kept nowhere but in the journal, which
    /// may be opened late.
    pub(in crate::control) fn next_generation(&self) -> u64 {
        self.next.max(self.journal.known() + 1)
    }

    /// The images, with the names of the lists of which they have rules that are not in force.
    pub(in crate::control) fn images_in_force(&self) -> Images {
        let known = self.lists.iter().filter(|list| list.loaded.is_some());
        let known: HashSet<_> = known.map(ListState::name).collect();
        self.images.clone().with_lists(|name| known.contains(name))
    }

    /// Puts a snapshot of all that is known in force.
    pub(in crate::control) fn publish(&mut self) {
        self.calendar.turn();
        let known = self.lists.iter().filter(|list| list.loaded.is_some());
        let lists = known.map(|list| list.source.clone());
        let sources = self.calendar.sources().iter().cloned().chain(lists);
        let sources = sources.collect();
        let images = self.images_in_force();
        // A list that left the configuration is in the images still: that it is not in force has to be kept.
        self.unkept |= images.gone != self.images.gone;
        self.images = images;
        self.images.orders = self.calendar.book.rules().cloned();
        let generation = self.next_generation();
        if self.unkept {
            self.imaged = generation;
        }
        if self.keep_again.take().is_some() {
            // The images are still those of an earlier generation.
            self.unkept = true;
        }
        self.next = generation + 1;
        let states = self.calendar.book.states(self.calendar.at());
        let draft = self.draft(generation, &states);
        let receipt = draft.map(|draft| self.journal.publish(draft));
        let (config, images) = (&self.config, self.images.clone());
        // What is in a large delta takes a while to bind, which others on this thread don't wait for.
        let next = tokio::task::block_in_place(|| {
            let next = compose::snapshot(config, sources, images, generation);
            // Written ahead, if the disk lets it be.
            if let Some(receipt) = receipt {
                self.journal.wait(receipt);
            }
            next
        });
        self.publisher
            .publish(next.with_slots(|name| self.slots.of(name)));
        self.published_at = Timestamp::now();
        self.unpublished = false;
        self.order_states.log(generation, states);
        tracing::info!(generation, "published");
        self.follow();
    }

    /// Frees replaced snapshots that nobody uses, on a thread that no packet waits for. Returns
    /// whether some are still in use.
    pub(in crate::control) fn reclaim(&mut self) -> bool {
        let (free, used) = self.publisher.reclaim();
        if !free.is_empty() {
            tokio::task::spawn_blocking(move || drop(free));
        }
        used > 0
    }
}
