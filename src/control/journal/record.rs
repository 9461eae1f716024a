//! The policy according to the entries so far, and the entries that a new generation needs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::chain::Entry;
use super::draft::{Draft, OrderRecord, OrderRecords};
use super::entry::{Event, OrderText, Published, Setting, StateChange};
use super::lines::{JournalError, read};
use super::settings::{Settings, setting_changes};
use crate::config::exception::Exception;
use crate::config::order::State;

/// The policy according to the entries so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    /// The file and text of each order, by its ID.
    pub(crate) orders: BTreeMap<String, (PathBuf, String)>,
    pub(super) states: HashMap<String, State>,
    /// Exceptions, by their keys.
    pub(crate) exceptions: BTreeMap<String, Exception>,
    /// The keys of those that ended by their date.
    ended: BTreeSet<String>,
    pub(super) settings: Settings,
}

/// The key of an exception: all its fields except its line, which changes with any edit above it.
fn exception_key(exception: &Exception) -> String {
    let without_line = Exception {
        line: 0,
        ..exception.clone()
    };
    serde_json::to_string(&without_line).expect("texts and numbers have a JSON form")
}

impl Record {
    /// Applies an entry.
    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::Order(order) => {
                let text = (order.path.clone(), order.text.clone());
                self.orders.insert(order.id.clone(), text);
            }
            Event::OrderGone { id, .. } => {
                self.orders.remove(id);
            }
            Event::Published(published) => {
                for change in &published.states {
                    match change.now {
                        Some(state) => self.states.insert(change.order.clone(), state),
                        None => self.states.remove(&change.order),
                    };
                }
                for exception in &published.exceptions_gone {
                    self.exceptions.remove(&exception_key(exception));
                    self.ended.remove(&exception_key(exception));
                }
                let new = published.exceptions.iter();
                self.exceptions
                    .extend(new.map(|exception| (exception_key(exception), exception.clone())));
                self.ended
                    .extend(published.exceptions_ended.iter().map(exception_key));
                for exception in &published.exceptions_resumed {
                    self.ended.remove(&exception_key(exception));
                }
                for Setting { key, now, .. } in &published.settings {
                    match now {
                        Some(value) => self.settings.insert(key.clone(), value.clone()),
                        None => self.settings.remove(key),
                    };
                }
            }
            Event::Start(_) | Event::Stop | Event::Refused { .. } | Event::Lost { .. } => {}
        }
    }

    /// Reads a journal.
    pub(crate) fn replay(path: &Path) -> Result<Self, JournalError> {
        let mut record = Self::default();
        read(path, |Entry { event, .. }| {
            record.apply(&event);
            true
        })?;
        Ok(record)
    }

    /// An entry for the text of each order, for a new file.
    pub(super) fn texts(&self) -> impl Iterator<Item = Event> {
        self.orders.iter().map(|(id, (path, text))| {
            Event::Order(OrderText {
                id: id.clone(),
                path: path.clone(),
                text: text.clone(),
                warnings: Vec::new(),
            })
        })
    }

    /// Makes a draft of this policy with the lists and causes of `published`.
    pub(super) fn into_draft(self, at: Timestamp, generation: u64, published: Published) -> Draft {
        let record = |(id, (path, text)): (String, (PathBuf, String))| OrderRecord {
            id,
            path,
            text: text.into(),
            warnings: Vec::new(),
        };
        let order_records = OrderRecords {
            orders: Some(self.orders.into_iter().map(record).collect()),
            exceptions: Some(self.exceptions.into_values().collect()),
        };
        Draft {
            generation,
            at,
            causes: published.causes,
            lists: published.lists,
            order_records: Some(Arc::new(order_records)),
            states: self.states.into_iter().collect(),
            held: published.held,
            settings: self.settings,
        }
    }

    /// Returns the entries that record a generation and its differences from the entries so far, and applies them.
    pub(super) fn events_for(&mut self, draft: Draft) -> Vec<Event> {
        let mut events = Vec::new();
        let mut published = Published {
            causes: draft.causes,
            lists: draft.lists,
            held: draft.held,
            settings: setting_changes(&self.settings, &draft.settings),
            ..Published::default()
        };
        let order_records = draft.order_records.as_deref();
        if let Some(orders) = order_records.and_then(|order_records| order_records.orders.as_ref())
        {
            self.order_events(orders, &mut events);
        }
        let now = order_records.and_then(|order_records| order_records.exceptions.as_ref());
        let now = now.map(|exceptions| {
            let keyed = |exception: &Exception| (exception_key(exception), exception.clone());
            let now: BTreeMap<_, _> = exceptions.iter().map(keyed).collect();
            published.exceptions = missing(&now, &self.exceptions);
            published.exceptions_gone = missing(&self.exceptions, &now);
            now
        });
        let now = now.as_ref().unwrap_or(&self.exceptions);
        (published.exceptions_ended, published.exceptions_resumed) =
            self.ended_and_resumed(now, draft.at);
        published.states = state_changes(&self.states, &draft.states);
        events.push(Event::Published(published));
        for event in &events {
            self.apply(event);
        }
        events
    }

    fn order_events(&self, orders: &[OrderRecord], events: &mut Vec<Event>) {
        let gone = self.orders.iter().filter(|(id, _)| {
            let at = orders.binary_search_by(|record| record.id.cmp(id));
            at.is_err()
        });
        events.extend(gone.map(|(id, (path, _))| Event::OrderGone {
            id: id.clone(),
            path: path.clone(),
        }));
        for record in orders {
            let known = self.orders.get(&record.id);
            if known.is_none_or(|(path, text)| *path != record.path || **text != *record.text) {
                events.push(Event::Order(OrderText {
                    id: record.id.clone(),
                    path: record.path.clone(),
                    text: record.text.to_string(),
                    warnings: record.warnings.clone(),
                }));
            }
        }
    }

    /// The exceptions among `now` that have ended since the last entry, and those that are in force again.
    fn ended_and_resumed(
        &self,
        now: &BTreeMap<String, Exception>,
        at: Timestamp,
    ) -> (Vec<Exception>, Vec<Exception>) {
        let (mut ended, mut resumed) = (Vec::new(), Vec::new());
        for (key, exception) in now {
            let is_over = exception.until.is_some_and(|until| until.at() <= at);
            match (self.ended.contains(key), is_over) {
                (false, true) => ended.push(exception.clone()),
                (true, false) => resumed.push(exception.clone()),
                _ => {}
            }
        }
        (ended, resumed)
    }
}

/// The orders whose state differs, sorted by their IDs.
pub(crate) fn state_changes(
    was: &HashMap<String, State>,
    states: &[(String, State)],
) -> Vec<StateChange> {
    let now: HashMap<&str, State> = states.iter().map(|(id, state)| (&**id, *state)).collect();
    let gone = was.keys().filter(|id| !now.contains_key(&***id));
    let gone = gone.map(|id| (id, None));
    let here = states.iter().map(|(id, state)| (id, Some(*state)));
    let state_changes = here.chain(gone).filter_map(|(id, now)| {
        let was = was.get(id).copied();
        (was != now).then(|| StateChange {
            order: id.clone(),
            was,
            now,
        })
    });
    let mut state_changes: Vec<_> = state_changes.collect();
    state_changes.sort_by(|one, other| one.order.cmp(&other.order));
    state_changes
}

/// The exceptions that are not among `known`.
fn missing(
    exceptions: &BTreeMap<String, Exception>,
    known: &BTreeMap<String, Exception>,
) -> Vec<Exception> {
    let new = exceptions
        .iter()
        .filter(|(key, _)| !known.contains_key(*key));
    new.map(|(_, exception)| exception.clone()).collect()
}
