//! Everything that is ready, into one snapshot in force.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use crate::config::exception::Exception;
use crate::config::order::Order;
use crate::control::Control;
use crate::control::journal::entry::{Cause, ListEntry};
use crate::control::journal::settings::{Settings, settings};
use crate::control::journal::{Draft, OrderRecord, OrderRecords};
use crate::control::publish::provenance::legible;
use crate::control::publish::{compose, provenance};
use crate::control::sources::lists::state::{ListState, has_load};
use crate::control::sources::orders::schedule::State;
use crate::policy::images::Images;

impl Control {
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
        self.scheduler.turn();
        let known = self
            .lists
            .active
            .iter()
            .filter(|list| list.loaded.is_some());
        let lists = known.map(|list| list.source.clone());
        let sources = self.scheduler.sources().iter().cloned().chain(lists);
        let sources = sources.collect();
        let images = self.images_in_force();
        // A list that left the configuration is in the images still: that it is not in force has to be kept.
        self.persist.is_dirty |= images.gone != self.publication.images.gone;
        self.publication.images = images;
        self.publication.images.orders = self.scheduler.registry.rules().cloned();
        let generation = self
            .publication
            .next_generation(self.record.journal.last_generation());
        if self.persist.is_dirty {
            self.persist.images_generation = generation;
        }
        if self.persist.retry_at.take().is_some() {
            // The images are still those of an earlier generation.
            self.persist.is_dirty = true;
        }
        self.publication.next = generation + 1;
        let states = self.scheduler.registry.states(self.scheduler.at());
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
        self.record.generation = generation;
        self.publication.order_states.log(generation, states);
        tracing::info!(generation, "published");
        self.files.refresh();
    }

    /// What a load was for: somebody's wish, or the file itself.
    pub(crate) fn cause_of(&self, ticket: u64, path: &Path) -> Cause {
        if let Some(cause) = self.requests.cause_of(ticket) {
            return cause;
        }
        let list = self.lists.active.iter().find(|list| has_load(list, ticket));
        match list.is_some_and(ListState::is_reread) {
            true => Cause::Guard,
            false => file(path),
        }
    }

    /// What the journal is to hold before a generation goes in force; nothing if there is no journal.
    pub(crate) fn draft(&mut self, generation: u64, states: &[(String, State)]) -> Option<Draft> {
        let causes = std::mem::take(&mut self.publication.causes);
        if !self.record.journal.is_enabled() {
            return None;
        }
        let version = self.scheduler.registry.version();
        let order_records =
            (self.record.journalled_version != version).then(|| Arc::new(self.order_records()));
        let is_whole = |order_records: &Arc<OrderRecords>| {
            order_records.orders.is_some() && order_records.exceptions.is_some()
        };
        if order_records.as_ref().is_none_or(is_whole) {
            self.record.journalled_version = version;
        }
        let now = self.scheduler.at();
        Some(Draft {
            generation,
            at: now,
            causes,
            lists: self.lists.active.iter().filter_map(list_entry).collect(),
            order_records,
            states: states.to_vec(),
            held: self.rollback.record.as_ref().map(|hold| hold.generation),
            settings: self.settings(),
        })
    }

    fn settings(&self) -> Settings {
        let known = self
            .lists
            .active
            .iter()
            .filter(|list| list.loaded.is_some());
        let lists = known.map(ListState::as_read);
        settings(&self.configuration.current, lists)
    }

    fn order_records(&self) -> OrderRecords {
        let registry = &self.scheduler.registry;
        let page = |(order, text): (&Order, &Arc<str>)| OrderRecord {
            id: order.id.clone(),
            path: legible(&order.path),
            text: text.clone(),
            warnings: registry.findings(order).to_vec(),
        };
        let mut orders: Vec<_> = registry.texts().map(page).collect();
        orders.sort_by(|one, other| one.id.cmp(&other.id));
        let exceptions = registry.exceptions().map(|exception| Exception {
            path: legible(&exception.path),
            ..exception.clone()
        });
        OrderRecords {
            orders: (!registry.may_have_more_orders()).then_some(orders),
            exceptions: (!registry.may_have_more_exceptions()).then(|| exceptions.collect()),
        }
    }

    /// Tells what was not taken at the start.
    pub(crate) fn record_refusals(&mut self) {
        let refused = self.lists.active.iter().filter_map(|list| {
            let (refusal, _) = list.refused.as_ref()?;
            Some((format!("list {}", list.name()), vec![refusal.to_string()]))
        });
        let refused: Vec<_> = refused.collect();
        for (what, problems) in refused {
            self.record.refused(what, problems);
        }
        self.record
            .order_problems(self.scheduler.registry.problems());
    }
}

fn file(path: &Path) -> Cause {
    Cause::File {
        path: legible(path),
    }
}

fn list_entry(list: &ListState) -> Option<ListEntry> {
    let loaded = list.loaded.as_ref()?;
    let (source, read) = (&list.source, list.as_read());
    Some(ListEntry {
        name: source.name.clone(),
        path: provenance::place(read),
        kind: source.kind,
        format: Some(read.format),
        scope: read.scope,
        comments: read.comments,
        action: source.blocking.action,
        digest: loaded.digest.clone(),
        rules: loaded.rules,
        bad: loaded.tally.bad_total(),
        left_out: loaded.tally.guarded.total(),
        content: Some(provenance::content(read, loaded)),
    })
}
