//! Owns what was in force at an instant or in a generation, as the journal tells it.
//! Refuses to guess what happened before its first entry.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::entry::{Event, ListEntry};
use super::file::JournalError;
use super::record::Record;
use crate::config::exception::Exception;
use crate::control::orders::life::State;

/// What was in force.
#[derive(Clone, Debug)]
pub struct Past {
    /// The generation.
    pub generation: u64,
    /// When it went in force.
    pub since: Timestamp,
    /// When the server ended that had it in force, if it ended before that moment, as it should.
    pub stopped: Option<Timestamp>,
    /// The lists.
    pub lists: Vec<ListEntry>,
    /// The orders' files and texts, whether they were in force or not.
    pub orders: Vec<(PathBuf, String)>,
    /// The exceptions, with those that were over.
    pub exceptions: Vec<Exception>,
}

/// Which moment of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// At that instant.
    At(Timestamp),
    /// When that generation was in force.
    Generation(u64),
}

impl Past {
    /// What was in force then; nothing if the journal does not reach back so far, or knows no such
    /// generation.
    ///
    /// # Errors
    /// [`JournalError`] when it can't be read.
    pub fn read(path: &Path, moment: Moment) -> Result<Option<Self>, JournalError> {
        let Some(last) = Self::number(path, moment)? else {
            return Ok(None);
        };
        let mut record = Record::default();
        let mut past: Option<Self> = None;
        super::read(path, |entry| {
            match &entry.event {
                Event::Published(published) if entry.number == last => {
                    past = Some(Self {
                        generation: entry.generation,
                        since: entry.at,
                        stopped: None,
                        lists: published.lists.clone(),
                        orders: Vec::new(),
                        exceptions: Vec::new(),
                    });
                }
                Event::Published(_) if entry.number > last => return false,
                Event::Stop if moment.includes(entry.at) => {
                    if let Some(past) = &mut past {
                        past.stopped = Some(entry.at);
                    }
                }
                _ => {}
            }
            if entry.number <= last {
                record.take(&entry.event);
            }
            true
        })?;
        Ok(past.map(|past| Self {
            orders: record.orders.into_values().collect(),
            exceptions: record.exceptions.into_values().collect(),
            ..past
        }))
    }

    /// The number of the last entry by which a generation went in force until then: the last of all, as
    /// clocks are set back.
    fn number(path: &Path, moment: Moment) -> Result<Option<u64>, JournalError> {
        let mut last = None;
        super::read(path, |entry| {
            let published = matches!(entry.event, Event::Published(_));
            let found = match moment {
                Moment::At(_) => moment.includes(entry.at),
                Moment::Generation(generation) => entry.generation == generation,
            };
            if published && found {
                last = Some(entry.number);
            }
            true
        })?;
        Ok(last)
    }
}

impl Moment {
    fn includes(self, at: Timestamp) -> bool {
        match self {
            Self::At(moment) => at <= moment,
            Self::Generation(_) => false,
        }
    }
}

/// When an order was in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// When it came into force first.
    pub begun: Option<Timestamp>,
    /// When it stopped being in force last, if it is not in force.
    pub freed: Option<Timestamp>,
}

/// When orders were in force, by their ids: not by their dates, but by what was published. What
/// they were before the first entry is not known, so those that came or ended then are not among them.
///
/// # Errors
/// [`JournalError`] when it can't be read.
pub fn spans(path: &Path) -> Result<BTreeMap<String, Span>, JournalError> {
    let mut spans = BTreeMap::<String, Span>::new();
    let mut first = true;
    super::read(path, |entry| {
        let Event::Published(published) = entry.event else {
            return true;
        };
        let known_from_here = std::mem::take(&mut first);
        for turn in published.states {
            if known_from_here {
                continue;
            }
            let span = spans.entry(turn.order).or_default();
            if turn.now == Some(State::InForce) {
                span.begun.get_or_insert(entry.at);
                span.freed = None;
            } else if turn.was == Some(State::InForce) {
                span.freed = Some(entry.at);
            }
        }
        true
    })?;
    Ok(spans)
}
