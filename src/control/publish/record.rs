//! Makes the entries of the journal: for each generation with its causes, and for each rejection.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;

use crate::config::Config;
use crate::config::exception::Exception;
use crate::config::order::Order;
use crate::config::order::State;
use crate::config::paths;
use crate::config::paths::legible;
use crate::control::journal::entry::{Cause, Event, ListEntry};
use crate::control::journal::pauses;
use crate::control::journal::settings::settings;
use crate::control::journal::{Draft, Journal, OrderRecord, OrderRecords};
use crate::control::sources::lists::provenance;
use crate::control::sources::lists::state::ListState;
use crate::control::sources::orders::registry::OrderRegistry;
use crate::control::sources::pauses::BySource;

/// The journal, and the state that is already recorded in it.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) journal: Journal,
    /// The version of the orders and exceptions that the journal has.
    journalled_version: u64,
    /// Those problems with files of orders and exceptions that are already recorded.
    reported_problems: Vec<String>,
    /// The generation in force; 0 before the first.
    pub(crate) generation: u64,
}

/// A generation that is to be recorded.
pub(crate) struct NextGeneration<'g> {
    pub(crate) generation: u64,
    pub(crate) at: Timestamp,
    pub(crate) causes: Vec<Cause>,
    pub(crate) lists: &'g [ListState],
    pub(crate) pauses: &'g BySource,
    pub(crate) registry: &'g OrderRegistry,
    /// The state of each order.
    pub(crate) states: &'g [(String, State)],
    /// The generation whose lists are held.
    pub(crate) held: Option<u64>,
    pub(crate) config: &'g Config,
}

impl Record {
    /// Records all orders and exceptions with the next generation, because another process may have written to the journal.
    pub(crate) fn record_orders_again(&mut self) {
        self.journalled_version = u64::MAX;
    }

    /// Records that something was rejected, and why.
    pub(crate) fn refused(&self, what: String, problems: Vec<String>) {
        // Rejections at the start are recorded with the first generation.
        if self.generation > 0 {
            let event = Event::Refused { what, problems };
            self.journal.append(self.generation, event);
        }
    }

    /// Records the lists that were refused at the start.
    pub(crate) fn refused_at_start(&self, lists: &[ListState]) {
        for list in lists {
            // A feed has no rules before its first transfer, nor has a list before its first download.
            if let Some((refusal, _)) = &list.refused
                && !refusal.is_first()
            {
                self.refused(list.label(), vec![refusal.to_string()]);
            }
        }
    }

    /// Records the problems with files of orders and exceptions that are not recorded yet.
    pub(crate) fn order_problems(&mut self, problems: Vec<String>) {
        let known: HashSet<&String> = self.reported_problems.iter().collect();
        let new = problems.iter().filter(|problem| !known.contains(*problem));
        let new: Vec<_> = new.cloned().collect();
        if !new.is_empty() {
            self.refused("orders and exceptions".to_owned(), new);
        }
        self.reported_problems = problems;
    }

    /// The entry of a generation, which is written before it comes into force; `None` if there is no journal.
    pub(crate) fn draft(&mut self, next: NextGeneration<'_>) -> Option<Draft> {
        if !self.journal.is_enabled() {
            return None;
        }
        let version = next.registry.version();
        let is_new = self.journalled_version != version;
        let records = is_new.then(|| Arc::new(order_records(next.registry)));
        let is_whole =
            |records: &Arc<OrderRecords>| records.orders.is_some() && records.exceptions.is_some();
        if records.as_ref().is_none_or(is_whole) {
            self.journalled_version = version;
        }
        let known = next.lists.iter().filter(|list| list.loaded.is_some());
        let sources = next.lists.iter().map(|list| &*list.source);
        let mut settings = settings(next.config, known.map(ListState::as_read));
        settings.extend(pauses::settings(sources, next.pauses));
        Some(Draft {
            generation: next.generation,
            at: next.at,
            causes: next.causes,
            lists: next.lists.iter().filter_map(list_entry).collect(),
            order_records: records,
            states: next.states.to_vec(),
            held: next.held,
            settings,
        })
    }
}

/// The orders and exceptions. Each of the two is `None` if some of its files could not be read.
fn order_records(registry: &OrderRegistry) -> OrderRecords {
    let record = |(order, text): (&Order, &Arc<str>)| OrderRecord {
        id: order.id.clone(),
        path: legible(&order.path),
        text: text.clone(),
        warnings: registry.findings(order).to_vec(),
    };
    let mut orders: Vec<_> = registry.texts().map(record).collect();
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

fn list_entry(list: &ListState) -> Option<ListEntry> {
    let loaded = list.loaded.as_ref()?;
    let (source, read) = (&list.source, list.as_read());
    Some(ListEntry {
        name: source.name.clone(),
        path: paths::place(read),
        kind: source.kind,
        format: Some(read.format),
        scope: read.scope,
        comments: read.comments,
        column: read.column.clone(),
        action: source.blocking.action,
        digest: loaded.digest.clone(),
        rules: loaded.rules,
        bad: loaded.tally.bad_total(),
        left_out: loaded.tally.guarded.total(),
        content: Some(provenance::content(read, loaded)),
    })
}
