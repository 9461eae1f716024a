//! The queries of one worker that wait for upstream, and the answers that it has yet to send.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::worker::{READY_PORTS, Worker};
use crate::serve::cache::Key;
use crate::serve::deferred::Deferred;
use crate::serve::dispatch::{BATCH, Conclusion, Dispatcher};
use crate::serve::inflight::{Datagram, Join, Locked, Outcome, QueryId, Recipient, Waiter};
use crate::serve::observe::Observer;
use crate::serve::resolver::{Job, no_answer, rejection_count};
use crate::serve::responder;
use crate::serve::step::{Attempt, Resolution};
use crate::serve::upstream::PriorAttempt;
use crate::serve::upstream::first_attempt::FirstAttempt;
use crate::serve::upstream::first_attempt::response::{AttemptResult, UpstreamEvent};
use crate::stats::Count;
use crate::sys::udp::{Outbox, Route};
use crate::sys::wait::WaitSet;

/// The maximum number of deferred deliveries that are handled in one round, before the worker receives packets again.
const MOST_DELIVERED: usize = 256;
/// The capacity of an answer's buffer, somewhat more than any answer that is sent.
const ROOM: usize = 4096;
/// How soon to try again after another thread had the lock.
const RETRY: Duration = Duration::from_millis(1);

pub(super) struct Waiting<'w, O: Observer> {
    worker: &'w Worker<O>,
    /// Answers to be sent, for each socket.
    outboxes: Vec<Outbox>,
    first_attempt: FirstAttempt,
    waits: WaitSet,
    /// Reported by upstream in this round.
    events: Vec<UpstreamEvent>,
    /// Outcomes of queries that could not be completed, because another thread had the lock.
    uncompleted: Vec<(QueryId, Outcome)>,
    /// Outcomes to deliver.
    deferred: Deferred,
    /// The time of this round.
    now: Instant,
}

impl<'w, O: Observer> Waiting<'w, O> {
    pub(super) fn new(worker: &'w Worker<O>, waits: WaitSet, first_port: u64) -> Self {
        let outbox = |_| Outbox::new(BATCH, ROOM);
        let (pools, counters) = (worker.pools.clone(), worker.counters.clone());
        Self {
            worker,
            outboxes: worker.sockets.iter().map(outbox).collect(),
            first_attempt: FirstAttempt::new(pools, counters, worker.ports, first_port),
            waits,
            events: Vec::new(),
            uncompleted: Vec::new(),
            deferred: Deferred::new(worker.pace.clone()),
            now: Instant::now(),
        }
    }

    /// Whether no query waits and no answer is deferred.
    pub(super) fn is_empty(&self) -> bool {
        self.first_attempt.is_idle() && self.uncompleted.is_empty() && self.deferred.is_empty()
    }

    pub(super) fn set_time(&mut self, now: Instant) {
        self.now = now;
    }

    /// The number of a socket's listen address.
    pub(super) fn listen(&self, socket: usize) -> usize {
        self.worker.sockets[socket].0
    }

    /// Where the next answer from a socket is written.
    #[inline]
    pub(super) fn draft(&mut self, socket: usize) -> &mut Vec<u8> {
        self.outboxes[socket].draft()
    }

    /// Queues the draft for the next flush.
    #[inline]
    pub(super) fn push(&mut self, socket: usize, route: &Route) {
        self.outboxes[socket].push(Some(route));
        if self.outboxes[socket].is_full() {
            self.flush(socket);
        }
    }

    pub(super) fn flush(&mut self, socket: usize) {
        let failed = self.outboxes[socket].flush(&self.worker.sockets[socket].1);
        self.worker.counters.add(Count::SendErrors, failed as u64);
    }

    fn flush_all(&mut self) {
        for socket in 0..self.outboxes.len() {
            self.flush(socket);
        }
    }

    /// Sends the queries to upstream; those that can't be sent are handed over.
    pub(super) fn flush_queries(&mut self) {
        self.first_attempt.flush();
        while let Some(query_id) = self.first_attempt.unsent() {
            self.hand_over_query(query_id, None);
        }
    }

    /// How long to wait for the next event. `None` if no timeout is needed, because there is nothing to do until an
    /// event occurs.
    pub(super) fn timeout(&self) -> Option<Duration> {
        if self.deferred.is_ready() {
            return Some(Duration::ZERO);
        }
        if !self.uncompleted.is_empty() {
            return Some(RETRY);
        }
        let dues = [self.first_attempt.next_due(), self.deferred.due()];
        let due = dues.into_iter().flatten().min()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// Waits until any of the worker's file descriptors is ready. `ready` is called with the token of each descriptor
    /// that is ready, and with the index of the upstream port if the token belongs to one.
    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        mut ready: impl FnMut(u64, Option<usize>),
    ) -> io::Result<()> {
        let first_attempt = &self.first_attempt;
        self.waits
            .wait(timeout, |token| ready(token, first_attempt.port(token)))
    }

    /// Asks upstream, or joins an equal query that is in flight.
    pub(super) fn resolve(&mut self, key: Key, datagram: Datagram) {
        let worker = self.worker;
        worker.counters.bump(Count::CacheMisses);
        let permit = match worker.admission.acquire(datagram.route.peer.ip()) {
            Ok(permit) => permit,
            Err(full) => return self.refuse(datagram, rejection_count(full)),
        };
        let recipient = Recipient::Datagram(datagram);
        let (pool, waiter) = (worker.pools.id_of(&key), Waiter { recipient, permit });
        match worker.inflight.try_join(&key, pool, waiter) {
            Ok(Join::First(query_id)) => self.ask(query_id),
            Ok(Join::Joined) => worker.counters.bump(Count::Coalesced),
            Ok(Join::StaleServed(waiter)) => {
                worker.counters.bump(Count::Coalesced);
                self.deferred.push(waiter, Err(Arc::new(no_answer())));
            }
            Err(waiter) => {
                if let Recipient::Datagram(datagram) = waiter.recipient {
                    self.hand_over_packet(datagram);
                }
            }
        }
    }

    /// Asks upstream again for an answer that is about to expire. If there is no room, the entry expires, and the next
    /// query for it goes upstream.
    pub(super) fn refresh(&mut self, key: Key) {
        let worker = self.worker;
        let Some(permit) = worker.admission.acquire_background() else {
            return;
        };
        let recipient = Recipient::CacheOnly;
        let (pool, waiter) = (worker.pools.id_of(&key), Waiter { recipient, permit });
        let joined = worker.inflight.try_join(&key, pool, waiter);
        if let Ok(Join::First(query_id)) = joined {
            worker.counters.bump(Count::Prefetched);
            self.ask(query_id);
        }
    }

    fn ask(&mut self, query_id: QueryId) {
        let (now, waits) = (self.now, &mut self.waits);
        if !self.first_attempt.ask(&query_id, now, waits) {
            self.hand_over_query(query_id, None);
        }
    }

    /// Passes a packet to the async side.
    pub(super) fn hand_over_packet(&mut self, datagram: Datagram) {
        if let Err(full) = self.worker.jobs.try_send(Job::Respond(datagram))
            && let Job::Respond(datagram) = full.into_inner()
        {
            self.refuse(datagram, Count::QueueFull);
        }
    }

    /// Passes a query to the async side, which can try all servers and has more time.
    fn hand_over_query(&mut self, query_id: QueryId, prior: Option<PriorAttempt>) {
        if let Err(full) = self.worker.jobs.try_send(Job::Resolve(query_id, prior))
            && let Job::Resolve(query_id, _) = full.into_inner()
        {
            self.worker.counters.bump(Count::QueueFull);
            self.complete(query_id, Err(Arc::new(no_answer())));
        }
    }

    /// Answers without asking upstream, because there is no room: with a stale answer if there is one.
    fn refuse(&mut self, datagram: Datagram, why: Count) {
        self.worker.counters.bump(why);
        let resolution = Resolution::Overloaded(datagram.stale.clone());
        let attempt = Attempt::Last;
        self.answer(
            Datagram {
                attempt,
                ..datagram
            },
            &resolution,
        );
    }

    fn answer(&mut self, datagram: Datagram, resolution: &Resolution) {
        let worker = self.worker;
        let client = datagram.client();
        let message = datagram.message(&client);
        let snapshot = worker.shared.policy.load();
        let dispatcher = Dispatcher::new(&snapshot, &worker.shared, &worker.observer, self.now);
        // The server may no longer listen on the address that received the datagram.
        let Some(socket) = responder::socket_index(&worker.sockets, datagram.listen) else {
            return dispatcher.abandon(message, Some(Count::SendErrors));
        };
        let out = self.outboxes[socket].draft();
        match dispatcher.conclude(message, resolution, datagram.attempt, out) {
            Conclusion::Reply => self.push(socket, &datagram.route),
            Conclusion::Nothing => {}
            // The async side has the time for it.
            Conclusion::Restart => self.hand_over_packet(datagram.again()),
        }
    }

    /// Receives upstream's responses on these ports, ends attempts that took too long, and delivers the outcomes.
    pub(super) fn receive(&mut self, ports: &[usize]) {
        let mut events = std::mem::take(&mut self.events);
        let now = Instant::now();
        self.now = now;
        for &port in ports {
            self.first_attempt
                .receive(port, now, &mut self.waits, &mut events);
        }
        // If `READY_PORTS` or more ports were reported, further ports may have answers that have not been received yet.
        // Then timeouts are not evaluated in this round.
        if ports.len() < READY_PORTS {
            self.first_attempt.expire(now, &mut self.waits, &mut events);
        }
        for (query_id, outcome) in std::mem::take(&mut self.uncompleted) {
            self.complete(query_id, outcome);
        }
        let shared = &self.worker.shared;
        for UpstreamEvent { query_id, result } in events.drain(..) {
            match result {
                AttemptResult::Answered(answer, pool) => {
                    let at = shared.clock.at(now);
                    let entry = self.worker.pools.entry(answer, at, pool);
                    let entry = Arc::new(entry.numbered(query_id.number()));
                    let key = query_id.key.clone();
                    if !shared.cache.try_insert(key, Arc::clone(&entry)) {
                        self.worker.counters.bump(Count::Unkept);
                    }
                    self.complete(query_id, Ok(entry));
                }
                AttemptResult::Unfinished(prior) => self.hand_over_query(query_id, Some(prior)),
            }
        }
        self.events = events;
        self.deliver();
    }

    /// Ends an in-flight query; its waiters are answered soon.
    fn complete(&mut self, query_id: QueryId, outcome: Outcome) {
        match self.worker.inflight.try_complete(&query_id, &outcome) {
            Ok(waiters) => {
                let is_refresh = waiters.iter().flatten().any(Waiter::is_refresh);
                if is_refresh && let Ok(entry) = &outcome {
                    let shared = &self.worker.shared;
                    let now = shared.clock.at(self.now);
                    let next = shared.cache.next_due(&query_id.key, entry, now);
                    next.into_iter().for_each(|next| self.refresh(next));
                }
                self.deferred.push_all(waiters, &outcome);
            }
            Err(Locked) => self.uncompleted.push((query_id, outcome)),
        }
    }

    /// Answers waiters that are due, but only a limited number, so that other packets are not delayed.
    fn deliver(&mut self) {
        let (worker, now) = (self.worker, self.now);
        let discard = |datagram: &Datagram| {
            let client = datagram.client();
            let snapshot = worker.shared.policy.load();
            Dispatcher::new(&snapshot, &worker.shared, &worker.observer, now)
                .abandon(datagram.message(&client), Some(Count::Discarded));
        };
        let due = self
            .deferred
            .take(now, MOST_DELIVERED, &worker.counters, discard);
        self.deliver_all(due);
    }

    fn deliver_all(&mut self, due: impl IntoIterator<Item = (Waiter, Outcome)>) {
        for (waiter, outcome) in due {
            responder::deliver(waiter, &outcome, |datagram, resolution| {
                self.answer(datagram, resolution);
            });
        }
        self.flush_all();
    }

    /// Hands all open queries over to the async side, and answers all waiters whose outcome is known.
    pub(super) fn drain(&mut self) {
        self.now = Instant::now();
        for query_id in self.first_attempt.drain() {
            self.hand_over_query(query_id, None);
        }
        for (query_id, outcome) in std::mem::take(&mut self.uncompleted) {
            let waiters = self.worker.inflight.complete(&query_id, &outcome);
            self.deferred.push_all(waiters, &outcome);
        }
        let all = self.deferred.take_all();
        self.deliver_all(all);
    }
}
