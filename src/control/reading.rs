//! Reads files of orders and exceptions on another thread, and takes what they say when that ends.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::time::Instant;

use super::errands::{Errand, Landed};
use super::guard::rails::Rails;
use super::orders::book::Book;
use super::reload::Control;
use super::watch::Touched;
use crate::config::shown::Show;

/// What is asked of the files of orders and exceptions.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Files that changed, with the instant of the newest event.
    pub(super) touched: HashMap<PathBuf, (Touched, Instant)>,
    /// Changes are looked for that nothing reported.
    pub(super) sweep: bool,
    /// All files that changed are read, whoever writes them.
    pub(super) refresh: bool,
    /// The same, if nothing else changes.
    pub(super) refresh_otherwise: bool,
    /// Who waits for it.
    pub(super) tickets: Vec<u64>,
}

impl Asked {
    /// When to start.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.sweep || self.refresh || self.refresh_otherwise {
            return Some(Instant::now());
        }
        let touched = self.touched.values();
        touched.map(|(touched, at)| *at + touched.quiet).min()
    }

    /// Does it, with a copy of what is known.
    fn read(self, known: &Book, configured: u64, rails: &Arc<Rails>) -> BookRead {
        let mut book = known.clone();
        for (touched, at) in self.touched.values() {
            book.touch(touched, *at);
        }
        if self.refresh {
            // Only what could be seen before.
            book.confirm_loss();
        }
        let now = Instant::now();
        if self.sweep {
            book.sweep(now);
        }
        let mut changed = book.read_due(now);
        if self.refresh || (self.refresh_otherwise && changed.is_empty()) {
            changed.extend(book.refresh());
        }
        book.check(rails);
        BookRead {
            book,
            changed,
            configured,
            tickets: self.tickets,
        }
    }
}

/// What reading came to.
pub(super) struct BookRead {
    book: Book,
    changed: Vec<PathBuf>,
    /// Which configuration it is of.
    configured: u64,
    tickets: Vec<u64>,
}

impl Control {
    /// Starts to read files of orders and exceptions, if some are to be read.
    pub(super) fn start_reading(&mut self) {
        let due = self.calendar.due();
        let idle = !self.stage_joining && !self.errands.is_running(&Errand::Book);
        if !idle || due.is_none_or(|at| at > Instant::now()) {
            return;
        }
        let asked = std::mem::take(&mut self.calendar.asked);
        let (book, configured) = (Arc::clone(&self.calendar.book), self.calendar.configured);
        self.reading.clone_from(&asked.tickets);
        let folders = book.folders().map(|folder| folder.shown().to_string());
        let places = folders.collect::<Vec<_>>().join(", ");
        let rails = Arc::clone(&self.rails);
        let work = move || Landed::Book(Box::new(asked.read(&book, configured, &rails)));
        self.errands.start(Errand::Book, places, work);
    }

    /// Takes what reading came to.
    pub(super) fn land_book(&mut self, read: BookRead) {
        self.reading.clear();
        if self.stage_joining || read.configured != self.calendar.configured {
            // It is of directories that don't count any more, or the new configuration's were read beside it.
            self.calendar.asked.refresh = true;
            self.calendar.asked.tickets.extend(read.tickets);
            return;
        }
        self.calendar.book = Arc::new(read.book);
        let mut waiting = self.waiting.iter();
        let asked =
            waiting.find(|waiting| read.tickets.iter().any(|t| waiting.tickets.contains(t)));
        match asked.map(|waiting| waiting.cause.clone()) {
            Some(cause) if !read.changed.is_empty() => self.change(cause),
            Some(_) => {}
            None => self.change_files(read.changed.clone()),
        }
        if !read.changed.is_empty() || !read.tickets.is_empty() {
            self.tell_book_problems();
        }
        self.end_reading(&read.tickets, &self.calendar.book.problems());
    }

    /// Reading broke off: those who waited are told.
    pub(super) fn break_off_reading(&mut self) {
        let tickets = std::mem::take(&mut self.reading);
        let problem = "orders and exceptions: reading them broke off inside tapis, which is a bug; \
                       please report it";
        self.end_reading(&tickets, &[problem.to_owned()]);
    }

    fn end_reading(&mut self, tickets: &[u64], problems: &[String]) {
        for waiting in &mut self.waiting {
            let before = waiting.tickets.len();
            waiting.tickets.retain(|ticket| !tickets.contains(ticket));
            // A new configuration may have other directories: what is wrong there is told when it is taken.
            if waiting.tickets.len() < before && !waiting.staged {
                waiting.report.problems.extend_from_slice(problems);
            }
        }
    }
}
