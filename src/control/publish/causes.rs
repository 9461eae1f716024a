//! Writes rejected configurations and files to the journal, and keeps track of what the journal has already.

use std::collections::HashSet;

use crate::control::journal::Journal;
use crate::control::journal::entry::Event;

/// The journal, and the state that it has recorded.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) journal: Journal,
    /// The version of the order registry that is recorded.
    pub(crate) journalled_version: u64,
    /// The problems with files of orders and exceptions at the last call of [`Record::order_problems`].
    reported_problems: Vec<String>,
    /// The generation in force; 0 before the first.
    pub(crate) generation: u64,
}

impl Record {
    /// Records that `what` was rejected, and why. Does nothing before the first generation.
    pub(crate) fn refused(&self, what: String, problems: Vec<String>) {
        // The entry of the first generation has the rejections before it.
        if self.generation > 0 {
            let event = Event::Refused { what, problems };
            self.journal.tell(self.generation, event);
        }
    }

    /// Records those problems with files of orders and exceptions that are new since the last call.
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
