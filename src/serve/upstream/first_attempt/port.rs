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
    pub(super) asked: usize,
    /// The queries that wait for a response.
    pub(super) sent: Vec<OpenQuery>,
}

impl Port {
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        self.asked < PER_PORT && now < self.opened + PORT_AGE
    }
}
