//! Owns what counts for a question about the past: which orders, exceptions and lists, and what of that is not known.
//! Refuses to guess: what nobody wrote down is told as unknown.

use jiff::Timestamp;

use crate::config::{Config, Content, List};
use crate::control::hold_file::held;
use crate::control::journal::entry::ListEntry;
use crate::control::journal::past::{Moment, Past};
use crate::control::load::digest;
use crate::control::orders::book::Book;

/// What counted at some instant.
pub(super) struct Then<'c> {
    pub(super) book: Book,
    /// Lists whose files are still what they were, and how many rules of each counted, where that is
    /// known.
    pub(super) lists: Vec<(&'c List, Option<usize>)>,
    /// What is not known, a sentence each.
    pub(super) unknown: Vec<String>,
}

impl<'c> Then<'c> {
    /// Now: all files as they are.
    pub(super) fn now(config: &'c Config) -> Self {
        let held = config.state.dir.as_deref().and_then(held);
        let held = held.map(|generation| {
            format!(
                "lists are held as they were in generation {generation}: the server answers by those, \
                 and not by the files as they are"
            )
        });
        Self {
            book: Book::read(config),
            lists: config.lists.iter().map(|list| (list, None)).collect(),
            unknown: held.into_iter().collect(),
        }
    }

    /// As the journal tells it; before its first entry by the orders' dates alone.
    pub(super) fn at(config: &'c Config, at: Timestamp) -> Self {
        let by_dates = |why: String| Self {
            book: Book::read(config),
            lists: Vec::new(),
            unknown: vec![format!(
                "{why}: orders and exceptions count as their files say today, lists don't count"
            )],
        };
        let Some(path) = &config.journal else {
            return by_dates("there is no journal".to_owned());
        };
        match Past::read(path, Moment::At(at)) {
            Ok(Some(past)) => Self::of(config, past),
            Ok(None) => by_dates("the journal does not reach back so far".to_owned()),
            Err(error) => by_dates(error.to_string()),
        }
    }

    fn of(config: &'c Config, past: Past) -> Self {
        let (generation, since) = (past.generation, past.since);
        let mut unknown = Vec::new();
        if let Some(stopped) = past.stopped {
            unknown.push(format!(
                "the server was not running: it was stopped at {stopped}"
            ));
        }
        let mut lists = Vec::new();
        for entry in &past.lists {
            match same(config, entry) {
                Some(list) => lists.push((list, Some(entry.rules))),
                None => unknown.push(format!(
                    "list {}: what it held in generation {generation} (since {since}) is not known, \
                     as its file has changed since",
                    entry.name
                )),
            }
        }
        Self {
            book: Book::of_past(config, past.orders, past.exceptions),
            lists,
            unknown,
        }
    }
}

/// The list, if its file holds the same as then and is read in the same way.
fn same<'c>(config: &'c Config, then: &ListEntry) -> Option<&'c List> {
    let mut lists = config.lists.iter();
    let list = lists.find(|list| list.source.name == then.name)?;
    let text = match list.content {
        Content::Embedded(text) => Some(text),
        Content::File => None,
    };
    let read = (list.source.kind, list.scope, list.source.blocking.action);
    let same = read == (then.kind, then.scope, then.action)
        && then.comments == list.comments
        && then.format.is_none_or(|format| format == list.format)
        && digest(&list.source.path, text).is_ok_and(|now| now == then.digest);
    same.then_some(list)
}
