//! Orders and exceptions over time: which are in force now, when that changes next, and when their files are read.
//!
//! ```text
//!   idle -----------------------> reading ------------------------> idle, with a new registry
//!     ^   due, and no new            |   |   read
//!     |   configuration is           |   +-- of outdated directories: everything is read again
//!     |   being joined               |
//!     +------------------------------+
//!         panicked: the old registry stays
//! ```

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::orders::directory::RETRY;
use super::orders::reading::{PendingReads, RegistryRead, RequestedFile};
use super::orders::registry::{Known, OrderRegistry};
use super::wall_clock::WallClock;
use super::watch::Touched;
use crate::config::Config;
use crate::config::order::State;
use crate::config::shown::Show;
use crate::control::file_tasks::FileTasks;
use crate::control::guard::policy::GuardPolicy;
use crate::control::journal::entry::Cause;
use crate::policy::rule::Source;

/// The longest wait. On systems that report when the clock is set, such a report ends a wait earlier.
const FAR: Duration = Duration::from_secs(3600);
/// How far the clock may go back without an alarm, as it is corrected by small steps all the time.
const SLIP: SignedDuration = SignedDuration::from_secs(1);

/// If the files of more orders are removed at once, only this many are logged one by one.
const GONE_LOGGED: usize = 10;

/// The orders and exceptions, and the clock that their dates refer to.
pub(crate) struct Scheduler {
    pub(crate) registry: Arc<OrderRegistry>,
    /// The files that are to be read next.
    pub(crate) asked: PendingReads,
    /// Reads them.
    pub(crate) tasks: FileTasks<(), Box<RegistryRead>>,
    /// The requests that wait for the files that are being read.
    reading: Vec<u64>,
    /// The number of configurations so far.
    configured: u64,
    wall_clock: Arc<dyn WallClock>,
    /// The orders and exceptions in force at `at`.
    sources: Vec<Arc<Source>>,
    /// The time of the last check.
    at: Timestamp,
    /// When the next order or exception begins or ends.
    next: Option<Timestamp>,
    /// If the clock was set back: the times before and after.
    set_back: Option<(Timestamp, Timestamp)>,
}

/// The result of reading files of orders and exceptions.
pub(crate) struct FinishedReading {
    /// The known causes of changes of files.
    pub(crate) causes: Vec<Cause>,
    /// The files that changed without a known cause.
    pub(crate) files: Vec<PathBuf>,
    /// The problems with all files, if they are to be recorded.
    pub(crate) problems: Option<Vec<String>>,
    /// The requests that waited for this.
    pub(crate) tickets: Vec<u64>,
}

impl Scheduler {
    /// A scheduler of the orders and exceptions that were read at the start. `is_complete`: all their files were read.
    pub(crate) fn new(
        registry: OrderRegistry,
        is_complete: bool,
        wall_clock: Arc<dyn WallClock>,
    ) -> Self {
        let registry = Arc::new(registry);
        let at = wall_clock.now();
        Self {
            sources: Vec::new(),
            next: registry.next(at),
            registry,
            asked: PendingReads {
                refresh: !is_complete,
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

    /// Adopts the orders and exceptions of a new configuration.
    pub(crate) fn configure(&mut self, registry: OrderRegistry) {
        self.registry = Arc::new(registry);
        self.configured += 1;
        // Files may have changed since they were read.
        self.asked.refresh = true;
    }

    /// Requests that a file is read again, if it may be one of orders or exceptions. Returns whether it is.
    pub(crate) fn touch(&mut self, touched: &Touched, now: Instant) -> bool {
        let ours = self.registry.concerns(&touched.path);
        if ours {
            let path = touched.path.clone();
            self.asked.touched.insert(path, (touched.clone(), now));
        }
        ours
    }

    /// Requests that the file of an order is read at once, for the request with this ticket: its writer is done.
    pub(crate) fn read_order(&mut self, path: PathBuf, cause: Cause, ticket: u64) {
        self.asked.requested.push(RequestedFile {
            path,
            cause,
            ticket,
            at: Instant::now(),
        });
    }

    /// Requests that all changed files are read, for the request with this ticket.
    pub(crate) fn refresh(&mut self, ticket: u64) {
        self.asked.refresh = true;
        // A reload confirms only a loss that is known already, and not one that its own reading finds.
        self.asked.confirms_loss |= self.registry.has_loss();
        self.asked.tickets.push(ticket);
    }

    /// Requests that all files are looked at, for changes that no event reported.
    pub(crate) fn sweep(&mut self) {
        self.asked.sweep = true;
    }

    /// When files are to be read.
    pub(crate) fn due(&self) -> Option<Instant> {
        let idle = !self.tasks.is_running(&());
        let due = self
            .asked
            .due()
            .into_iter()
            .chain(self.registry.due())
            .min();
        due.filter(|_| idle)
    }

    /// Starts to read the files that are due. `boot` is the configuration of the start.
    pub(crate) fn start_reading(&mut self, boot: &Config, guard_policy: &Arc<GuardPolicy>) {
        if self.due().is_none_or(|at| at > Instant::now()) {
            return;
        }
        let asked = std::mem::take(&mut self.asked);
        let (registry, configured) = (Arc::clone(&self.registry), self.configured);
        let requested = asked.requested.iter().map(|requested| requested.ticket);
        self.reading = asked.tickets.iter().copied().chain(requested).collect();
        let folders = registry.folders().map(|folder| folder.shown().to_string());
        let places = folders.collect::<Vec<_>>().join(", ");
        let guard_policy = Arc::clone(guard_policy);
        let config = registry.is_unrecalled().then(|| boot.clone());
        let work =
            move || Box::new(asked.read(&registry, (configured, config.as_ref()), &guard_policy));
        self.tasks.start((), places, work);
    }

    /// Adopts what was read. `refresher` is the cause of the first request that waits for it. Returns `None` if a
    /// new configuration `is_joining`, or if the directories that were read are not used any more: then what was read
    /// is dropped, and all changed files are read again later.
    pub(crate) fn finish_reading(
        &mut self,
        read: RegistryRead,
        refresher: Option<Cause>,
        is_joining: bool,
    ) -> Option<FinishedReading> {
        self.reading.clear();
        if is_joining || read.configured != self.configured {
            self.asked.refresh = true;
            self.asked.tickets.extend(read.tickets);
            self.asked.requested.extend(read.requested);
            return None;
        }
        let is_recorded =
            !read.changed.is_empty() || !read.tickets.is_empty() || !read.requested.is_empty();
        if !read.changed.is_empty() {
            self.log_removed(&read.registry);
        }
        let (mut causes, mut files) = (Vec::new(), Vec::new());
        for changed in read.changed {
            let refresher = refresher.clone().filter(|_| changed.is_refreshed);
            match (changed.causes.is_empty(), refresher) {
                (true, Some(cause)) => causes.push(cause),
                (true, None) => files.push(changed.path),
                (false, _) => causes.extend(changed.causes),
            }
        }
        // A file that changed while it was read is read again before the request is answered.
        let unread = |requested: &mut RequestedFile| read.registry.is_due(&requested.path);
        let mut requested = read.requested;
        let again = requested
            .extract_if(.., unread)
            .map(|requested| RequestedFile {
                at: Instant::now() + RETRY,
                ..requested
            });
        self.asked.requested.extend(again);
        self.registry = Arc::new(read.registry);
        let requested = requested.iter().map(|requested| requested.ticket);
        Some(FinishedReading {
            causes,
            files,
            problems: is_recorded.then(|| self.registry.problems()),
            tickets: read.tickets.iter().copied().chain(requested).collect(),
        })
    }

    /// Ends a reading that panicked. Returns the requests that waited for it.
    pub(crate) fn fail_reading(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.reading)
    }

    /// Logs the orders in force that `newer` lacks.
    fn log_removed(&self, newer: &OrderRegistry) {
        let ids: HashSet<&str> = newer.orders().map(|order| &*order.id).collect();
        let paths: HashSet<&Path> = newer.orders().map(|order| &*order.path).collect();
        let mut gone = self.registry.known().filter(|before| {
            !ids.contains(&*before.order.id) && before.schedule.state(self.at) == State::InForce
        });
        for Known { order, .. } in gone.by_ref().take(GONE_LOGGED) {
            let why = match paths.contains(&*order.path) {
                true => "its file has another id now",
                false => "its file was removed",
            };
            let path = order.path.shown();
            tracing::warn!(order = order.id, %path, "order no longer in force: {why}");
        }
        let more = gone.count();
        if more > 0 {
            tracing::warn!(
                more,
                "more orders are no longer in force: their files were removed"
            );
        }
    }

    /// The orders and exceptions in force.
    pub(crate) fn sources(&self) -> &[Arc<Source>] {
        &self.sources
    }

    /// The time of the wall clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.wall_clock.now()
    }

    /// The time of the last check.
    pub(crate) fn at(&self) -> Timestamp {
        self.at
    }

    /// The reason to publish again, if an order or exception has begun or ended, or the clock was set back.
    pub(crate) fn check_clock(&mut self) -> Option<Cause> {
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

    /// Determines the orders and exceptions that are in force now.
    pub(crate) fn advance(&mut self) {
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

    /// Completes when an order or exception may begin or end, or at the date `other`.
    pub(crate) fn wait(&self, other: Option<Timestamp>) -> impl Future<Output = ()> + use<> {
        let far = self.at.saturating_add(FAR).unwrap_or(Timestamp::MAX);
        let dates = self.next.into_iter().chain(other);
        let (wall_clock, at) = (
            Arc::clone(&self.wall_clock),
            dates.fold(far, Timestamp::min),
        );
        async move { wall_clock.until(at).await }
    }

    /// The problems, one sentence each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let now = self.wall_clock.now();
        let back = self.set_back.filter(|(from, _)| now < *from);
        let back = back.map(|(from, to)| {
            format!("the clock was set back from {from} to {to}: orders follow it")
        });
        self.registry.problems().into_iter().chain(back).collect()
    }
}
