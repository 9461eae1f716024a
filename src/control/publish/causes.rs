//! Owns what the journal is told: what goes in force and what made it, and what is not taken.
//! Refuses to write it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::exception::Exception;
use crate::config::order::Order;
use crate::control::Control;
use crate::control::journal::entry::{Cause, Event, ListEntry};
use crate::control::journal::settings::{Settings, settings};
use crate::control::journal::{Draft, Journal, Page, Pages};
use crate::control::publish::provenance;
use crate::control::publish::provenance::legible;
use crate::control::sources::lists::state::ListState;
use crate::control::sources::lists::state::carries;
use crate::control::sources::orders::schedule::State;

/// The journal, and the part of the state that it has.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) journal: Journal,
    /// The version of the orders and exceptions that it has.
    pub(crate) paged: u64,
    /// The problems with files of orders that it has.
    pub(crate) told_problems: Vec<String>,
}

impl Control {
    /// Something else is known, so a new generation is due.
    pub(crate) fn change(&mut self, cause: Cause) {
        self.publication.is_due = true;
        if !self.publication.causes.contains(&cause) {
            self.publication.causes.push(cause);
        }
    }

    /// Files are other ones than they were.
    pub(crate) fn change_files(&mut self, paths: Vec<PathBuf>) {
        // Ten thousand files may change at once, so they are not looked up one by one.
        let known = self
            .publication
            .causes
            .iter()
            .filter_map(|cause| match cause {
                Cause::File { path } => Some(path.clone()),
                _ => None,
            });
        let mut known: HashSet<PathBuf> = known.collect();
        for path in paths {
            self.publication.is_due = true;
            let path = legible(&path);
            if known.insert(path.clone()) {
                self.publication.causes.push(Cause::File { path });
            }
        }
    }

    /// What a load was for: somebody's wish, or the file itself.
    pub(crate) fn cause_of(&self, ticket: u64, path: &Path) -> Cause {
        let mut waiting = self.requests.waiting.iter();
        let asked = waiting.find(|waiting| waiting.tickets.contains(&ticket));
        if let Some(waiting) = asked {
            return waiting.cause.clone();
        }
        let list = self.lists.active.iter().find(|list| carries(list, ticket));
        match list.is_some_and(ListState::is_reread) {
            true => Cause::Guard,
            false => file(path),
        }
    }

    /// What the journal is to hold before a generation goes in force; nothing if there is no journal.
    pub(crate) fn draft(&mut self, generation: u64, states: &[(String, State)]) -> Option<Draft> {
        let causes = std::mem::take(&mut self.publication.causes);
        if !self.record.journal.is_kept() {
            return None;
        }
        let version = self.calendar.book.version();
        let pages = (self.record.paged != version).then(|| Arc::new(self.pages()));
        let is_whole = |pages: &Arc<Pages>| pages.orders.is_some() && pages.exceptions.is_some();
        if pages.as_ref().is_none_or(is_whole) {
            self.record.paged = version;
        }
        let now = self.calendar.at();
        Some(Draft {
            generation,
            at: now,
            causes,
            lists: self.lists.active.iter().filter_map(list_entry).collect(),
            pages,
            states: states.to_vec(),
            held: self.rollback.hold.as_ref().map(|hold| hold.generation),
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

    fn pages(&self) -> Pages {
        let book = &self.calendar.book;
        let page = |(order, text): (&Order, &Arc<str>)| Page {
            id: order.id.clone(),
            path: legible(&order.path),
            text: text.clone(),
            warnings: book.findings(order).to_vec(),
        };
        let mut orders: Vec<_> = book.texts().map(page).collect();
        orders.sort_by(|one, other| one.id.cmp(&other.id));
        let exceptions = book.exceptions().map(|exception| Exception {
            path: legible(&exception.path),
            ..exception.clone()
        });
        Pages {
            orders: (!book.may_have_more_orders()).then_some(orders),
            exceptions: (!book.may_have_more_exceptions()).then(|| exceptions.collect()),
        }
    }

    /// Tells what is wrong with orders' and exceptions' files, if it was not told before.
    pub(crate) fn tell_book_problems(&mut self) {
        let problems = self.calendar.book.problems();
        let known: HashSet<&String> = self.record.told_problems.iter().collect();
        let new = problems.iter().filter(|problem| !known.contains(*problem));
        let new: Vec<_> = new.cloned().collect();
        if !new.is_empty() {
            self.tell_refused("orders and exceptions".to_owned(), new);
        }
        self.record.told_problems = problems;
    }

    /// Tells what was not taken at the start.
    pub(crate) fn tell_what_is_refused(&mut self) {
        let refused = self.lists.active.iter().filter_map(|list| {
            let (refusal, _) = list.refused.as_ref()?;
            Some((format!("list {}", list.name()), vec![refusal.to_string()]))
        });
        let refused: Vec<_> = refused.collect();
        for (what, problems) in refused {
            self.tell_refused(what, problems);
        }
        self.tell_book_problems();
    }

    /// Tells what is not taken, and why.
    pub(crate) fn tell_refused(&self, what: String, problems: Vec<String>) {
        if self.generation() == 0 {
            // It is told with the first generation.
            return;
        }
        let event = Event::Refused { what, problems };
        self.record.journal.tell(self.generation(), event);
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
