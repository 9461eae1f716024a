//! Owns what the journal is told: what goes in force and what made it, and what is not taken.
//! Refuses to write it.

use std::collections::HashSet;

use crate::control::journal::Journal;
use crate::control::journal::entry::Event;

/// The journal, and the part of the state that it has.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) journal: Journal,
    /// The version of the orders and exceptions that it has.
    pub(crate) journalled_version: u64,
    /// The problems with files of orders that it has.
    reported_problems: Vec<String>,
    /// The generation in force; 0 before the first.
    pub(crate) generation: u64,
}

impl Record {
    /// Records that something was refused, and why.
    pub(crate) fn refused(&self, what: String, problems: Vec<String>) {
        // Before the first generation it is recorded with that.
        if self.generation > 0 {
            let event = Event::Refused { what, problems };
            self.journal.append(self.generation, event);
        }
    }

    /// Records the problems with files of orders and exceptions that it does not have.
    pub(crate) fn order_problems(&mut self, problems: Vec<String>) {
        let known: HashSet<&String> = self.reported_problems.iter().collect();
        let new = problems.iter().filter(|problem| !known.contains(*problem));
        let new: Vec<_> = new.cloned().collect();
        if !new.is_empty() {
            self.refused("orders and exceptions".to_owned(), new);
        }
        self.reported_problems = problems;
    }
}
