//! Owns when orders and exceptions change what is in force: at their dates, and when their files change.
//! Refuses to publish, and to let any question wait for a clock.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::orders::reading::{PendingReads, RegistryRead};
use super::orders::registry::OrderRegistry;
use super::wall_clock::WallClock;
use super::watch::Touched;
use crate::control::file_tasks::FileTasks;
use crate::control::journal::entry::Cause;
use crate::policy::rule::Source;

/// How long to wait at most: who sets the clock is heard of at once, where the system can tell it.
const FAR: Duration = Duration::from_secs(3600);
/// How far a clock may go back without a word: that is how clocks are corrected all day.
const SLIP: SignedDuration = SignedDuration::from_secs(1);

/// The orders and exceptions, and the clock that they go by.
pub(crate) struct Scheduler {
    pub(crate) registry: Arc<OrderRegistry>,
    /// What is to be read of their files.
    pub(crate) asked: PendingReads,
    /// Reads them.
    pub(crate) tasks: FileTasks<(), Box<RegistryRead>>,
    /// Requests that wait for the files that are being read.
    pub(crate) reading: Vec<u64>,
    /// Counts configurations up.
    pub(crate) configured: u64,
    wall_clock: Arc<dyn WallClock>,
    /// What was in force when it was asked last.
    sources: Vec<Arc<Source>>,
    /// When that was.
    at: Timestamp,
    /// When something begins or ends next.
    next: Option<Timestamp>,
    /// From when to when the clock was set back.
    set_back: Option<(Timestamp, Timestamp)>,
}

impl Scheduler {
    /// With the orders and exceptions that were read at the start, and whether those are all.
    pub(crate) fn new(registry: OrderRegistry, all: bool, wall_clock: Arc<dyn WallClock>) -> Self {
        let registry = Arc::new(registry);
        let at = wall_clock.now();
        Self {
            sources: Vec::new(),
            next: registry.next(at),
            registry,
            asked: PendingReads {
                refresh: !all,
                ..PendingReads::default()
            },
            tasks: FileTasks::new(),
            reading: Vec::new(),
            configured: 0,
            wall_clock,
            at,
            set_back: None,
        }
    }

    /// The orders and exceptions of another configuration, whose files are read.
    pub(crate) fn configure(&mut self, registry: OrderRegistry) {
        self.registry = Arc::new(registry);
        self.configured += 1;
        // Files may have changed since they were read.
        self.asked.refresh = true;
    }

    /// Something happened to a file. Returns whether it may be one of orders or exceptions.
    pub(crate) fn touch(&mut self, touched: &Touched, now: Instant) -> bool {
        let ours = self.registry.concerns(&touched.path);
        if ours {
            let path = touched.path.clone();
            self.asked.touched.insert(path, (touched.clone(), now));
        }
        ours
    }

    /// When files are to be read.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.asked
            .due()
            .into_iter()
            .chain(self.registry.due())
            .min()
    }

    /// What is in force.
    pub(crate) fn sources(&self) -> &[Arc<Source>] {
        &self.sources
    }

    /// What the clock on the wall shows.
    pub(crate) fn now(&self) -> Timestamp {
        self.wall_clock.now()
    }

    /// When it was looked at last.
    pub(crate) fn at(&self) -> Timestamp {
        self.at
    }

    /// Looks whether a date has come, or the clock was set back: then something else may be in force.
    pub(crate) fn ring(&mut self) -> Option<Cause> {
        let now = self.wall_clock.now();
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
    pub(crate) fn turn(&mut self) {
        let now = self.wall_clock.now();
        if now.duration_since(self.at) < -SLIP {
            tracing::error!(from = %self.at, to = %now, "the clock was set back: orders follow it");
            let before = self.set_back.map_or(self.at, |(from, _)| from.max(self.at));
            self.set_back = Some((before, now));
        }
        self.at = now;
        self.next = self.registry.next(now);
        self.sources = self.registry.sources(now);
    }

    /// Waits until what is in force may change.
    pub(crate) fn wait(&self) -> impl Future<Output = ()> + use<> {
        let far = self.at.saturating_add(FAR).unwrap_or(Timestamp::MAX);
        let (wall_clock, at) = (
            Arc::clone(&self.wall_clock),
            self.next.unwrap_or(far).min(far),
        );
        async move { wall_clock.until(at).await }
    }

    /// What is wrong, one sentence each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let now = self.wall_clock.now();
        let back = self.set_back.filter(|(from, _)| now < *from);
        let back = back.map(|(from, to)| {
            format!("the clock was set back from {from} to {to}: orders follow it")
        });
        self.registry.problems().into_iter().chain(back).collect()
    }
}
