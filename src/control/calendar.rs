//! Owns when orders and exceptions change what is in force: at their dates, and when their files change.
//! Refuses to publish, and to let any question wait for a clock.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::journal::entry::Cause;
use super::orders::book::Book;
use super::wall::Wall;
use crate::config::Config;
use crate::policy::rule::Source;

/// How long to wait at most: who sets the clock is heard of at once, where the system can tell it.
const FAR: Duration = Duration::from_secs(3600);
/// How far a clock may go back without a word: that is how clocks are corrected all day.
const SLIP: SignedDuration = SignedDuration::from_secs(1);

/// The orders and exceptions, and the clock that they go by.
#[derive(Debug)]
pub(super) struct Calendar {
    pub(super) book: Book,
    wall: Arc<dyn Wall>,
    /// What was in force when it was asked last.
    sources: Vec<Arc<Source>>,
    /// When that was.
    at: Timestamp,
    /// When something begins or ends next.
    next: Option<Timestamp>,
    /// From when to when the clock was set back.
    set_back: Option<(Timestamp, Timestamp)>,
}

impl Calendar {
    pub(super) fn new(config: &Config, wall: Arc<dyn Wall>) -> Self {
        let book = Book::read(config);
        let at = wall.now();
        Self {
            sources: Vec::new(),
            next: book.next(at),
            book,
            wall,
            at,
            set_back: None,
        }
    }

    /// What is in force.
    pub(super) fn sources(&self) -> &[Arc<Source>] {
        &self.sources
    }

    /// What the clock on the wall shows.
    pub(super) fn now(&self) -> Timestamp {
        self.wall.now()
    }

    /// When it was looked at last.
    pub(super) fn at(&self) -> Timestamp {
        self.at
    }

    /// Looks whether a date has come, or the clock was set back: then something else may be in force.
    pub(super) fn ring(&mut self) -> Option<Cause> {
        let now = self.wall.now();
        if now.duration_since(self.at) < -SLIP {
            return Some(Cause::ClockSetBack { from: self.at });
        }
        if self.next.is_some_and(|next| next <= now) {
            return Some(Cause::Date);
        }
        self.at = self.at.max(now);
        None
    }

    /// Looks at the clock and at all dates: [`sources`](Self::sources) are those of now.
    pub(super) fn turn(&mut self) {
        let now = self.wall.now();
        if now.duration_since(self.at) < -SLIP {
            tracing::error!(from = %self.at, to = %now, "the clock was set back: orders follow it");
            let before = self.set_back.map_or(self.at, |(from, _)| from.max(self.at));
            self.set_back = Some((before, now));
        }
        self.at = now;
        self.next = self.book.next(now);
        self.sources = self.book.sources(now);
    }

    /// Waits until what is in force may change.
    pub(super) async fn wait(&self) {
        let far = self.at.saturating_add(FAR).unwrap_or(Timestamp::MAX);
        self.wall.until(self.next.unwrap_or(far).min(far)).await;
    }

    /// What is wrong, one sentence each.
    pub(super) fn problems(&self) -> Vec<String> {
        let now = self.wall.now();
        let back = self.set_back.filter(|(from, _)| now < *from);
        let back = back.map(|(from, to)| {
            format!("the clock was set back from {from} to {to}: orders follow it")
        });
        self.book.problems().into_iter().chain(back).collect()
    }
}
