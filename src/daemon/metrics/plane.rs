//! The state of the data plane, as far as metrics show it.

use crate::control::gauges::RecordingReport;
use crate::serve::upstream::state::ServerState;
use crate::stats::{Count, ListSums, Sums, UsedSlots};

/// A running data plane.
pub(crate) trait Plane: Send + Sync {
    /// Its present state, with the hits of the slots in use.
    fn state(&self, used: UsedSlots) -> PlaneState;

    /// Why it should get no queries now, in one line; `None` if it should.
    fn unready(&self) -> Option<&'static str>;
}

/// The state of a data plane.
pub(crate) struct PlaneState {
    /// The sums of the counters of all threads.
    pub(crate) sums: Sums,
    /// The hits of lists and orders.
    pub(crate) hits: ListSums,
    /// The upstream servers.
    pub(crate) servers: Vec<ServerFigures>,
    /// Queries that wait for upstream.
    pub(crate) waiting: usize,
    /// TCP connections of permitted clients that are open.
    pub(crate) tcp_connections: usize,
    /// The cache.
    pub(crate) cache: CacheFigures,
    /// The sinks of finished queries that are on.
    pub(crate) recording: RecordingReport,
    /// The number of its alarms.
    pub(crate) alarms: u64,
}

/// An upstream server.
pub(crate) struct ServerFigures {
    /// The first of the forwarded zones that it is asked for, which identifies its pool; empty if it is asked for all other
    /// names.
    pub(crate) zone: String,
    /// Its state.
    pub(crate) state: ServerState,
}

/// The cache.
pub(crate) struct CacheFigures {
    /// The number of answers.
    pub(crate) entries: usize,
    /// The memory that they take, in bytes.
    pub(crate) bytes: u64,
    /// The memory that they may take, in bytes.
    pub(crate) capacity: u64,
    /// How many answers were evicted to make room.
    pub(crate) evictions: u64,
}

impl PlaneState {
    /// The number of events.
    pub(super) fn count(&self, wanted: Count) -> u64 {
        // They are in the order of the events.
        self.sums.counts[wanted as usize].1
    }
}
