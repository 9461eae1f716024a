//! The queries that wait on one connection, and the matching of responses to them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::bytes::Bytes;

use super::peer::Peer;
use super::waiter::{Fate, Waiter};
use crate::serve::upstream::failures::{Failure, Failures};
use crate::serve::upstream::query::{OutgoingQuery, SentQuery};
use crate::stats::{Count, Counters};
use crate::wire::{HEADER, read_u16};

/// The maximum number of queries that wait on one connection at a time.
pub(super) const PIPELINE: usize = 1024;

/// A connection ends after this many messages in a row that answer no query.
const MOST_USELESS: usize = 1000;

/// A query to be sent, and where its response goes.
pub(super) struct Request {
    pub(super) query: OutgoingQuery,
    pub(super) answer: Waiter,
}

/// A query that was sent.
struct Open {
    at: Instant,
    sent: SentQuery,
    answer: Waiter,
}

/// The state that the sending and the receiving half of a connection share.
pub(super) struct ConnectionState {
    open: Mutex<HashMap<u16, Open>>,
    /// Room for queries that wait.
    pub(super) places: Arc<Semaphore>,
    /// How many responses were delivered.
    responses: AtomicUsize,
    /// How many messages have arrived since the last response that answer no query.
    useless: AtomicUsize,
    /// Whether the connection ended while several queries were open, or one that was older than the last response.
    lost_pipelined: AtomicBool,
    last_received: Mutex<Instant>,
    /// Set when no further query will be sent.
    pub(super) is_over: AtomicBool,
    /// Where messages that answer no query, and the first response, are recorded; `None` without encryption: anyone may
    /// have sent them.
    failures: Option<Arc<Failures>>,
    counters: Arc<Counters>,
}

/// How a connection ended.
pub(super) struct EndReport {
    pub(super) responses: usize,
    /// Whether queries were lost that had been pipelined.
    pub(super) lost_pipelined: bool,
    /// Whether it ended because of messages that answer no query.
    pub(super) is_flooded: bool,
}

impl ConnectionState {
    pub(super) fn new(peer: &Peer) -> Self {
        Self {
            open: Mutex::default(),
            places: Arc::new(Semaphore::new(PIPELINE)),
            responses: AtomicUsize::new(0),
            useless: AtomicUsize::new(0),
            lost_pipelined: AtomicBool::new(false),
            last_received: Mutex::new(Instant::now()),
            is_over: AtomicBool::new(false),
            failures: peer.tls.is_some().then(|| Arc::clone(&peer.failures)),
            counters: Arc::clone(&peer.counters),
        }
    }

    pub(super) fn received_since(&self, instant: Instant) -> bool {
        *lock(&self.last_received) > instant
    }

    /// How the connection ended, if it has.
    pub(super) fn end_report(&self) -> EndReport {
        EndReport {
            responses: self.responses.load(Ordering::Relaxed),
            lost_pipelined: self.lost_pipelined.load(Ordering::Relaxed),
            is_flooded: self.is_flooded(),
        }
    }

    /// Gives a query a random ID that no other open query has (RFC 5452, section 9.2), records the query as open, and
    /// returns the bytes to send.
    pub(super) fn enter(&self, request: Request) -> Bytes {
        let Request { mut query, answer } = request;
        let mut open = lock(&self.open);
        if open.len() >= PIPELINE {
            open.retain(|_, open| !open.answer.is_closed());
        }
        let id = loop {
            let id = rand::random();
            if !open.contains_key(&id) {
                break id;
            }
        };
        query.set_id(id);
        let OutgoingQuery { bytes, sent } = query;
        let at = Instant::now();
        open.insert(id, Open { at, sent, answer });
        Bytes::from(bytes)
    }

    /// Delivers a response to the query that waits for it.
    pub(super) fn take(&self, response: &[u8]) {
        self.received();
        let Some(id) = read_u16(response, 0).filter(|_| response.len() >= HEADER) else {
            self.counters.bump(Count::UpstreamGarbage);
            return self.useless(Failure::Unreadable);
        };
        let mut all = lock(&self.open);
        let Some(open) = all.get(&id) else {
            self.counters.bump(Count::UpstreamStray);
            return self.useless(Failure::Unasked);
        };
        // The letter case of the qname need not match: responses are not forged within a connection.
        let Some(fit) = open.sent.fit(response, &self.counters) else {
            return self.useless(Failure::Unasked);
        };
        self.answered();
        if let Some(open) = all.remove(&id) {
            let response = Fate::Answered((response.to_vec(), fit));
            open.answer.deliver(Ok(response));
        }
    }

    /// Records that bytes of a response arrived.
    pub(super) fn received(&self) {
        *lock(&self.last_received) = Instant::now();
    }

    /// Records a complete response.
    pub(super) fn answered(&self) {
        self.useless.store(0, Ordering::Relaxed);
        let is_first = self.responses.fetch_add(1, Ordering::Relaxed) == 0;
        // A handshake does not show that the server is of use.
        if let Some(failures) = self.failures.as_ref().filter(|_| is_first) {
            failures.connected();
        }
    }

    /// Records a message that answers no query.
    pub(super) fn useless(&self, failure: Failure) {
        let count = self.useless.fetch_add(1, Ordering::Relaxed) + 1;
        let Some(failures) = &self.failures else {
            return;
        };
        failures.count(failure);
        if count == MOST_USELESS {
            let problem = format!(
                "it sent {MOST_USELESS} messages in a row that answer no query, so the connection was closed"
            );
            failures.not_connected(None, problem);
        }
    }

    /// Whether the connection must end because of messages that answer no query.
    pub(super) fn is_flooded(&self) -> bool {
        self.useless.load(Ordering::Relaxed) >= MOST_USELESS
    }

    /// Whether any waiter is left.
    pub(super) fn is_waited_for(&self) -> bool {
        lock(&self.open)
            .values()
            .any(|open| !open.answer.is_closed())
    }

    /// Reports the end of the connection to all waiters.
    pub(super) fn end(&self) {
        let mut open = lock(&self.open);
        let last = *lock(&self.last_received);
        let is_pipelined = open.len() > 1 || open.values().any(|open| open.at < last);
        self.ended(is_pipelined);
        open.clear();
    }

    /// Records the end of the connection.
    pub(super) fn ended(&self, lost_pipelined: bool) {
        self.lost_pipelined.store(lost_pipelined, Ordering::Relaxed);
        self.is_over.store(true, Ordering::Relaxed);
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
