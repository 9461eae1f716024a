//! Owns what the journal knows so far: orders' texts and states, exceptions; and what of a draft is new to it.
//! Refuses to write.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::chain::Entry;
use super::draft::{Draft, OrderRecord, OrderRecords};
use super::entry::{Event, OrderText, Published, Setting, Turn};
use super::lines::{JournalError, read};
use super::settings::{Settings, changes};
use crate::config::exception::Exception;
use crate::control::sources::orders::schedule::State;

/// What a reader of all entries so far knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    /// Orders by their ids: file and text.
    pub(crate) orders: BTreeMap<String, (PathBuf, String)>,
    pub(super) states: HashMap<String, State>,
    /// Exceptions by all that they say.
    pub(crate) exceptions: BTreeMap<String, Exception>,
    /// Those of them that ended by their date.
    ended: BTreeSet<String>,
    pub(super) settings: Settings,
}

/// What tells an exception from others: all but its line, which moves when something is written above.
fn key(exception: &Exception) -> String {
    let placeless = Exception {
        line: 0,
        ..exception.clone()
    };
    serde_json::to_string(&placeless).expect("texts and numbers have a JSON form")
}

impl Record {
    /// Takes in an entry.
    pub(super) fn take(&mut self, event: &Event) {
        match event {
            Event::Order(order) => {
                let text = (order.path.clone(), order.text.clone());
                self.orders.insert(order.id.clone(), text);
            }
            Event::OrderGone { id, .. } => {
                self.orders.remove(id);
            }
            Event::Published(published) => {
                for turn in &published.states {
                    match turn.now {
                        Some(state) => self.states.insert(turn.order.clone(), state),
                        None => self.states.remove(&turn.order),
                    };
                }
                for exception in &published.exceptions_gone {
                    self.exceptions.remove(&key(exception));
                    self.ended.remove(&key(exception));
                }
                let new = published.exceptions.iter();
                self.exceptions
                    .extend(new.map(|exception| (key(exception), exception.clone())));
                self.ended
                    .extend(published.exceptions_ended.iter().map(key));
                for exception in &published.exceptions_resumed {
                    self.ended.remove(&key(exception));
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

    /// Takes in what a journal holds.
    pub(crate) fn replay(path: &Path) -> Result<Self, JournalError> {
        let mut record = Self::default();
        read(path, |Entry { event, .. }| {
            record.take(&event);
            true
        })?;
        Ok(record)
    }

    /// All texts, for a file that has none of them.
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

    /// All that is known, with what else a generation puts in force.
    pub(super) fn into_draft(self, at: Timestamp, generation: u64, published: Published) -> Draft {
        let page = |(id, (path, text)): (String, (PathBuf, String))| OrderRecord {
            id,
            path,
            text: text.into(),
            warnings: Vec::new(),
        };
        let pages = OrderRecords {
            orders: Some(self.orders.into_iter().map(page).collect()),
            exceptions: Some(self.exceptions.into_values().collect()),
        };
        Draft {
            generation,
            at,
            causes: published.causes,
            lists: published.lists,
            pages: Some(Arc::new(pages)),
            states: self.states.into_iter().collect(),
            held: published.held,
            settings: self.settings,
        }
    }

    /// What a draft tells that is not known yet, and takes that in.
    pub(super) fn news(&mut self, draft: Draft) -> Vec<Event> {
        let mut events = Vec::new();
        let mut published = Published {
            causes: draft.causes,
            lists: draft.lists,
            held: draft.held,
            settings: changes(&self.settings, &draft.settings),
            ..Published::default()
        };
        let pages = draft.pages.as_deref();
        if let Some(orders) = pages.and_then(|pages| pages.orders.as_ref()) {
            self.order_news(orders, &mut events);
        }
        let now = pages.and_then(|pages| pages.exceptions.as_ref());
        let now = now.map(|exceptions| {
            let keyed = |exception: &Exception| (key(exception), exception.clone());
            let now: BTreeMap<_, _> = exceptions.iter().map(keyed).collect();
            published.exceptions = missing(&now, &self.exceptions);
            published.exceptions_gone = missing(&self.exceptions, &now);
            now
        });
        let now = now.as_ref().unwrap_or(&self.exceptions);
        (published.exceptions_ended, published.exceptions_resumed) = self.dates(now, draft.at);
        published.states = turns(&self.states, &draft.states);
        events.push(Event::Published(published));
        for event in &events {
            self.take(event);
        }
        events
    }

    fn order_news(&self, orders: &[OrderRecord], events: &mut Vec<Event>) {
        let gone = self.orders.iter().filter(|(id, _)| {
            let at = orders.binary_search_by(|page| page.id.cmp(id));
            at.is_err()
        });
        events.extend(gone.map(|(id, (path, _))| Event::OrderGone {
            id: id.clone(),
            path: path.clone(),
        }));
        for page in orders {
            let known = self.orders.get(&page.id);
            if known.is_none_or(|(path, text)| *path != page.path || **text != *page.text) {
                events.push(Event::Order(OrderText {
                    id: page.id.clone(),
                    path: page.path.clone(),
                    text: page.text.to_string(),
                    warnings: page.warnings.clone(),
                }));
            }
        }
    }

    /// The exceptions among `now` that have ended and were not recorded so, and those that count again.
    fn dates(
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

/// The orders whose state is another one, by their ids.
pub(crate) fn turns(was: &HashMap<String, State>, states: &[(String, State)]) -> Vec<Turn> {
    let now: HashMap<&str, State> = states.iter().map(|(id, state)| (&**id, *state)).collect();
    let gone = was.keys().filter(|id| !now.contains_key(&***id));
    let gone = gone.map(|id| (id, None));
    let here = states.iter().map(|(id, state)| (id, Some(*state)));
    let turns = here.chain(gone).filter_map(|(id, now)| {
        let was = was.get(id).copied();
        (was != now).then(|| Turn {
            order: id.clone(),
            was,
            now,
        })
    });
    let mut turns: Vec<_> = turns.collect();
    turns.sort_by(|one, other| one.order.cmp(&other.order));
    turns
}

/// Those that are not among `known`.
fn missing(
    exceptions: &BTreeMap<String, Exception>,
    known: &BTreeMap<String, Exception>,
) -> Vec<Exception> {
    let new = exceptions
        .iter()
        .filter(|(key, _)| !known.contains_key(*key));
    new.map(|(_, exception)| exception.clone()).collect()
}
