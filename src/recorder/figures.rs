//! Which sinks record queries, and their counters.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::control::gauges::SinkReport;
use crate::control::recording::TopReport;

/// The sinks of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sink {
    QueryLog,
    Dnstap,
    Top,
    Tail,
}

impl Sink {
    pub(super) const COUNT: usize = 4;
    pub(super) const ALL: [Self; Self::COUNT] =
        [Self::QueryLog, Self::Dnstap, Self::Top, Self::Tail];
    /// Those of which the configuration has a section with a target and a sample. They come first.
    pub(super) const CONFIGURED: [Self; 2] = [Self::QueryLog, Self::Dnstap];

    /// Its bit in [`Head::sinks`](super::record::Head::sinks).
    pub(super) const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The flag of [`Switch`] that only blocked queries are for the query log.
pub(super) const ONLY_BLOCKED: u32 = 1 << 8;

/// The settings that the data plane's threads read for each query. They are independent of each other.
pub(super) struct Switch {
    /// The bits of the sinks that are on, and flags.
    wanted: AtomicU32,
    /// For each configured sink, the largest random number with which a query is recorded.
    samples: [AtomicU32; Sink::CONFIGURED.len()],
}

impl Default for Switch {
    fn default() -> Self {
        Self {
            wanted: AtomicU32::new(0),
            samples: [const { AtomicU32::new(u32::MAX) }; Sink::CONFIGURED.len()],
        }
    }
}

impl Switch {
    /// 0 if nothing is recorded.
    #[inline(always)]
    pub(super) fn wanted(&self) -> u32 {
        self.wanted.load(Ordering::Relaxed)
    }

    pub(super) fn set_wanted(&self, wanted: u32) {
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    pub(super) fn sample(&self, sink: Sink) -> u32 {
        self.samples[sink as usize].load(Ordering::Relaxed)
    }

    /// Sets the share of the queries that a sink records.
    pub(super) fn set_sample(&self, sink: Sink, share: f64) {
        // The conversion saturates.
        let bound = (share * f64::from(u32::MAX)) as u32;
        self.samples[sink as usize].store(bound, Ordering::Relaxed);
    }
}

/// Counters of one tap, so that threads don't share them.
#[derive(Default)]
pub(super) struct TapTally {
    /// Queries that were not recorded because a ring was full, by sink.
    pub(super) dropped: [AtomicU64; Sink::COUNT],
    /// Queries that were not chosen, by sink.
    pub(super) sampled_out: [AtomicU64; Sink::COUNT],
}

/// Adds 1 to the counters of sinks that are in `bits`.
pub(super) fn bump(counters: &[AtomicU64; Sink::COUNT], bits: u8) {
    for sink in Sink::ALL {
        if bits & sink.bit() != 0 {
            counters[sink as usize].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What the recorder's threads report.
#[derive(Default)]
pub(super) struct Figures {
    /// By configured sink.
    sinks: [SinkFigures; Sink::CONFIGURED.len()],
    /// Why clients are left out although they should be shown.
    clients: Mutex<Option<String>>,
    /// The newest top lists; `None` if they are off.
    top: Mutex<Option<TopReport>>,
}

impl Figures {
    /// The figures of a configured sink.
    pub(super) fn of(&self, sink: Sink) -> &SinkFigures {
        &self.sinks[sink as usize]
    }

    pub(super) fn set_clients_problem(&self, problem: Option<String>) {
        *locked(&self.clients) = problem;
    }

    pub(super) fn clients_problem(&self) -> Option<String> {
        locked(&self.clients).clone()
    }

    pub(super) fn set_top(&self, report: Option<TopReport>) {
        *locked(&self.top) = report;
    }

    /// The newest top lists, with the first entries of each. `None` if they are off.
    pub(super) fn top(&self, entries: usize) -> Option<TopReport> {
        locked(&self.top)
            .as_ref()
            .map(|report| report.first(entries))
    }
}

fn locked<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The figures of one sink.
#[derive(Default)]
pub(super) struct SinkFigures {
    pub(super) recorded: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) errors: AtomicU64,
    state: Mutex<SinkState>,
}

#[derive(Clone, Default)]
struct SinkState {
    /// Where it records; `None` if it is off.
    target: Option<String>,
    problem: Option<String>,
}

impl SinkFigures {
    /// Reports about another target from now on.
    pub(super) fn begin(&self, target: Option<String>) {
        *locked(&self.state) = SinkState {
            target,
            problem: None,
        };
    }

    pub(super) fn set_problem(&self, problem: Option<String>) {
        locked(&self.state).problem = problem;
    }

    /// The report about a sink that is on; `None` if it is off.
    pub(super) fn report(&self, dropped: u64, sampled_out: u64) -> Option<SinkReport> {
        let SinkState { target, problem } = locked(&self.state).clone();
        Some(SinkReport {
            target: target?,
            recorded: self.recorded.load(Ordering::Relaxed),
            dropped,
            sampled_out,
            lost: self.lost.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            problem,
        })
    }
}
