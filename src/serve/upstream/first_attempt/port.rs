//! A port to upstream and the queries that were sent from it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::serve::inflight::QueryId;
use crate::serve::upstream::query::SentQuery;
use crate::serve::upstream::{First, Pool};
use crate::sys::udp::Socket;

/// The maximum number of queries that are sent from one port.
pub(super) const PER_PORT: usize = 32;
/// How long new queries are sent from one port.
pub(super) const PORT_AGE: Duration = Duration::from_secs(1);

/// A query that waits for its response.
pub(super) struct OpenQuery {
    pub(super) query_id: QueryId,
    pub(super) query: SentQuery,
    pub(super) at: Instant,
    /// Whether the resolver has taken over; an answer that arrives here still counts.
    pub(super) handed_over: bool,
}

/// A socket to one server.
pub(super) struct Port {
    pub(super) socket: Socket,
    pub(super) pool: Arc<Pool>,
    pub(super) to: First,
    /// The pool's version when its server was chosen.
    pub(super) version: u64,
    pub(super) opened: Instant,
    /// When to close it in any case.
    pub(super) closes: Instant,
    /// When to look at it next: the time of its earliest entry among the worker's timeouts.
    pub(super) due: Instant,
    pub(super) asked: usize,
    /// The queries that wait for a response.
    pub(super) sent: Vec<OpenQuery>,
}

impl Port {
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        self.asked < PER_PORT && now < self.opened + PORT_AGE
    }

    /// When the first query that the resolver has not taken over will have waited for long enough; at the latest, when the
    /// port closes.
    pub(super) fn next_due(&self) -> Instant {
        let waiting = self.sent.iter().filter(|sent| !sent.handed_over);
        let first = waiting.map(|sent| sent.at + self.to.patience).min();
        first.map_or(self.closes, |first| first.min(self.closes))
    }
}
