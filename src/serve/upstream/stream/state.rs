//! The queries that wait on one connection, and the matching of responses to them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::bytes::Bytes;

use crate::serve::upstream::query::{OutgoingQuery, SentQuery};
use crate::stats::{Count, Counters};
use crate::wire::ask::Fit;
use crate::wire::{HEADER, read_u16};

/// The maximum number of queries that wait on one connection at a time.
pub(super) const PIPELINE: usize = 1024;

/// A response, and how it fits its query.
pub(super) type Response = (Vec<u8>, Fit);

/// A query to be sent, and where its response goes.
pub(super) struct Request {
    pub(super) query: OutgoingQuery,
    pub(super) answer: oneshot::Sender<Response>,
}

/// A query that was sent.
struct Open {
    sent: SentQuery,
    answer: oneshot::Sender<Response>,
}

/// The state that the sending and the receiving half of a connection share.
pub(super) struct ConnectionState {
    open: Mutex<HashMap<u16, Open>>,
    pub(super) places: Semaphore,
    /// How many queries were open when the connection ended.
    lost: AtomicUsize,
    last_received: Mutex<Instant>,
    /// Set when no further query will be sent.
    pub(super) is_over: AtomicBool,
    counters: Arc<Counters>,
}

impl ConnectionState {
    pub(super) fn new(counters: &Arc<Counters>) -> Self {
        Self {
            open: Mutex::default(),
            places: Semaphore::new(PIPELINE),
            lost: AtomicUsize::new(0),
            last_received: Mutex::new(Instant::now()),
            is_over: AtomicBool::new(false),
            counters: Arc::clone(counters),
        }
    }

    pub(super) fn received_since(&self, instant: Instant) -> bool {
        *lock(&self.last_received) > instant
    }

    /// Whether a query that was sent at `start`, and lost with the connection, had been pipelined with others. This is
    /// so if other queries were lost as well, or if a response arrived after `start`. Neither is the case if the server
    /// only closed an idle connection.
    pub(super) fn lost_others(&self, start: Instant) -> bool {
        self.lost.load(Ordering::Relaxed) > 1 || self.received_since(start)
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
        open.insert(id, Open { sent, answer });
        Bytes::from(bytes)
    }

    /// Delivers a response to the query that waits for it.
    pub(super) fn take(&self, response: &[u8]) {
        *lock(&self.last_received) = Instant::now();
        let Some(id) = read_u16(response, 0).filter(|_| response.len() >= HEADER) else {
            return self.counters.bump(Count::UpstreamGarbage);
        };
        let mut all = lock(&self.open);
        let Some(open) = all.get(&id) else {
            return self.counters.bump(Count::UpstreamStray);
        };
        // The letter case of the qname need not match: responses are not forged within a connection.
        let Some(fit) = open.sent.fit(response, &self.counters) else {
            return;
        };
        if let Some(open) = all.remove(&id) {
            // The waiter may have given up.
            let _ = open.answer.send((response.to_vec(), fit));
        }
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
        self.lost.store(open.len(), Ordering::Relaxed);
        self.is_over.store(true, Ordering::Relaxed);
        open.clear();
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
