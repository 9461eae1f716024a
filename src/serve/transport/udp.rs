//! Owns the UDP workers: threads that take packets, answer what they can, and ask upstream the rest.
//! Refuses to compile, to log, and to wait for anything but packets.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::policy::rules::Found;
use crate::policy::snapshot::Snapshot;
use crate::serve::admission::Admission;
use crate::serve::cache::{Entry, Key};
use crate::serve::deferred::Deferred;
use crate::serve::inflight::{
    Datagram, InFlight, Join, Locked, Outcome, QueryId, Recipient, Waiter,
};
use crate::serve::pace::Pace;
use crate::serve::resolver::{Job, no_answer, rejection_count};
use crate::serve::respond::{Asked, Client, Resolution, Step, answer, oversized, read};
use crate::serve::responder::{self, ListenSocket};
use crate::serve::shared::Shared;
use crate::serve::upstream::first_attempt::FirstAttempt;
use crate::serve::upstream::{AttemptResult, Pool, PriorAttempt, UpstreamEvent};
use crate::serve::worker_cache::{Location, WorkerCache};
use crate::stats::{Count, Counters};
use crate::sys::process::pin_to_core;
use crate::sys::udp::{Inbox, Outbox, Route};
use crate::sys::wait::{Ear, WaitSet};
use crate::wire::UDP_PAYLOAD;
use crate::wire::name::Name;

/// Packets that are taken at once, and judged together.
pub const BATCH: usize = 64;
/// Longest query that is read: what we announce to take, and some octets that keep slots from
/// falling onto each other in a processor's cache.
const SLOT: usize = UDP_PAYLOAD as usize + 48;
/// Room of an answer while it is written: some more than any that is sent.
const ROOM: usize = 4096;
/// Jobs that may wait between the workers and the async side.
pub const HAND_OVER: usize = 4096;
/// Ports to upstream that one wait reports at least, if so many are ready.
const MOST_READY: usize = 64;
/// Clients that are events of answers in one round.
const MOST_DELIVERED: usize = 256;
/// How soon to try again what another thread's lock was in the way of.
const RETRY: Duration = Duration::from_millis(1);
/// Batches of one socket after which a busy worker looks whether others have something; and if there
/// are no others, whether it is over.
const LOOK: u32 = 8;
const LOOK_ALONE: u32 = 256;
/// Tokens in the wait set: the shutdown, then the sockets, then upstream's ports.
const SHUTDOWN: u64 = 0;
const FIRST_SOCKET: u64 = 1;

/// One worker thread's belongings.
pub struct Worker {
    /// Which one it is.
    pub index: usize,
    /// What it shares with all others.
    pub shared: Shared,
    /// Its sockets, in the order of the numbers of their listen addresses.
    pub sockets: Vec<ListenSocket>,
    /// Whom to ask.
    pub pool: Arc<Pool>,
    /// Most ports to ask by.
    pub ports: usize,
    /// Questions on their way, of all threads.
    pub inflight: Arc<InFlight>,
    /// The seats for those who wait for them.
    pub admission: Arc<Admission>,
    /// Where goes what it can't do without waiting.
    pub jobs: mpsc::Sender<Job>,
    /// When waiting queries are answered.
    pub pace: Arc<Pace>,
    /// Its own counters.
    pub counters: Arc<Counters>,
    /// Hears when it is over.
    pub shutdown: Ear,
}

impl Worker {
    /// Serves until the bell rings.
    ///
    /// # Errors
    /// When the system can't wait for the sockets any more; sockets that fail are retried.
    pub fn run(&self) -> io::Result<()> {
        // One that runs elsewhere works as well, only slower.
        let _ = pin_to_core(self.index);
        let base = FIRST_SOCKET + self.sockets.len() as u64;
        // There is always room for the shutdown and all sockets, so that a wait which reports fewer than
        // `MOST_READY` ports has reported all that are ready.
        let mut waits = WaitSet::new(1 + self.sockets.len() + MOST_READY)?;
        waits.add(self.shutdown.as_fd(), SHUTDOWN)?;
        for ((_, socket), token) in self.sockets.iter().zip(FIRST_SOCKET..) {
            waits.add(socket.as_fd(), token)?;
        }
        let outbox = |_| Outbox::new(BATCH, ROOM);
        let all = Loop {
            worker: self,
            outboxes: self.sockets.iter().map(outbox).collect(),
            ready: vec![true; self.sockets.len()],
            dropped: vec![0; self.sockets.len()],
            now: 0,
            first_attempt: FirstAttempt::new(
                self.pool.clone(),
                self.counters.clone(),
                self.ports,
                base,
            ),
            worker_cache: WorkerCache::new(self.shared.cache.capacity()),
            waits,
            events: Vec::new(),
            uncompleted: Vec::new(),
            deferred: Deferred::new(self.pace.clone()),
        };
        all.serve()
    }
}

/// What a worker thread works with.
struct Loop<'w> {
    worker: &'w Worker,
    /// Answers, for each socket.
    outboxes: Vec<Outbox>,
    /// Sockets that may have packets.
    ready: Vec<bool>,
    /// How many packets the kernel dropped at each socket.
    dropped: Vec<u32>,
    /// The time of this round, in seconds of the server's clock.
    now: u32,
    first_attempt: FirstAttempt,
    worker_cache: WorkerCache,
    waits: WaitSet,
    /// What was heard from upstream in this round.
    events: Vec<UpstreamEvent>,
    /// What could not land yet, as another thread held the flights.
    uncompleted: Vec<(QueryId, Outcome)>,
    /// Outcomes to deliver.
    deferred: Deferred,
}

impl Loop<'_> {
    fn serve(mut self) -> io::Result<()> {
        let mut inbox = Inbox::new(BATCH, SLOT);
        let mut ports = Vec::new();
        let mut rounds = 0_u32;
        let look = if self.ready.len() > 1 {
            LOOK
        } else {
            LOOK_ALONE
        };
        loop {
            for socket in 0..self.ready.len() {
                if self.ready[socket] {
                    self.take(&mut inbox, socket);
                }
            }
            // As long as packets come, only open questions are a reason to look elsewhere; and that
            // a flood at one socket must neither silence the others nor the bell.
            let is_idle = self.first_attempt.is_idle()
                && self.uncompleted.is_empty()
                && self.deferred.is_empty();
            rounds = rounds.wrapping_add(1);
            if is_idle && self.ready.contains(&true) && !rounds.is_multiple_of(look) {
                continue;
            }
            self.flush_questions();
            if !self.wait(&mut ports)? {
                self.drain();
                return Ok(());
            }
            self.listen(&ports);
        }
    }

    /// Sends the questions for upstream; what can't be sent is the async side's.
    fn flush_questions(&mut self) {
        self.first_attempt.flush();
        while let Some(query_id) = self.first_attempt.unsent() {
            self.hand_over_query(query_id, None);
        }
    }

    /// Leaves nobody waiting: the async side asks what is open, and all that came is events.
    fn drain(&mut self) {
        for query_id in self.first_attempt.drain() {
            self.hand_over_query(query_id, None);
        }
        for (query_id, outcome) in std::mem::take(&mut self.uncompleted) {
            let waiters = self.worker.inflight.complete(&query_id, &outcome);
            self.deferred.push_all(waiters, &outcome);
        }
        for (waiter, outcome) in self.deferred.take_all() {
            self.answer(waiter, &outcome);
        }
        self.flush_all();
    }

    /// Waits until there is something to do. Returns whether to go on, and fills `ports` with those
    /// of upstream's that may have answers.
    fn wait(&mut self, ports: &mut Vec<usize>) -> io::Result<bool> {
        let patience = self.patience();
        let (first_attempt, ready) = (&self.first_attempt, &mut self.ready);
        let mut over = false;
        ports.clear();
        self.waits.wait(patience, |token| match token {
            SHUTDOWN => over = true,
            _ => match first_attempt.port(token) {
                Some(port) => ports.push(port),
                None => ready[(token - FIRST_SOCKET) as usize] = true,
            },
        })?;
        Ok(!over)
    }

    /// How long to wait for the next packet; without end if nothing else is to be done.
    fn patience(&self) -> Option<Duration> {
        if self.ready.contains(&true) || self.deferred.is_ready() {
            return Some(Duration::ZERO);
        }
        if !self.uncompleted.is_empty() {
            return Some(RETRY);
        }
        let dues = [self.first_attempt.next_due(), self.deferred.due()];
        let due = dues.into_iter().flatten().min()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// Takes what has come to a socket, and answers it, under one snapshot and at one time.
    fn take(&mut self, inbox: &mut Inbox, socket: usize) {
        let worker = self.worker;
        // Nothing has come, or an ICMP error of an earlier answer; if there is more, a wait tells it.
        if inbox.receive(&worker.sockets[socket].1).is_err() {
            self.ready[socket] = false;
            return;
        }
        let counters = &worker.counters;
        counters.add(Count::UdpQueries, inbox.len() as u64);
        if let Some(dropped) = inbox.dropped() {
            let before = std::mem::replace(&mut self.dropped[socket], dropped);
            counters.add(Count::KernelDrops, dropped.wrapping_sub(before).into());
        }
        let snapshot = worker.shared.policy.load();
        self.answer_batch(inbox, socket, Instant::now(), &snapshot);
        self.flush(socket);
    }

    /// Judges all packets of the inbox: reads all, looks up all their names, then answers.
    fn answer_batch(
        &mut self,
        inbox: &Inbox,
        socket: usize,
        instant: Instant,
        snapshot: &Snapshot,
    ) {
        let Worker {
            shared, counters, ..
        } = self.worker;
        self.now = shared.clock.at(instant);
        let mut asked: ArrayVec<(usize, Asked<'_>), BATCH> = ArrayVec::new();
        for slot in 0..inbox.len() {
            let (packet, peer) = (inbox.packet(slot), inbox.peer(slot));
            if peer.port() == 0 {
                // Nothing can be sent there, and trying to would hold up the others.
                counters.bump(Count::SourcePort);
                continue;
            }
            let client = Client {
                ip: peer.ip(),
                stream: false,
            };
            let out = self.outboxes[socket].draft();
            let step = match inbox.is_cut(slot) {
                true => Err(oversized(client, packet, snapshot, out)),
                false => read(client, packet, snapshot, out),
            };
            match step {
                Ok(query) => {
                    counters.bump_type(query.query.rtype);
                    asked.push((slot, query));
                }
                Err(step) => self.act(step, socket, inbox, slot, instant),
            }
        }
        let names: ArrayVec<&Name, BATCH> = asked.iter().map(|(_, a)| &a.query.name).collect();
        let mut found = [Found::default(); BATCH];
        let found = &mut found[..names.len()];
        // Each step of the way to an answer's octets is a wait for memory: all go the same step
        // before one goes the next.
        let worker_cache = &self.worker_cache;
        let locations: ArrayVec<Location, BATCH> = asked
            .iter()
            .map(|(_, a)| worker_cache.locate(&a.query))
            .collect();
        snapshot.look(&names, found);
        locations
            .iter()
            .for_each(|place| worker_cache.prefetch_entry(*place));
        locations
            .iter()
            .for_each(|place| worker_cache.prefetch_bytes(*place));
        for (((slot, query), found), place) in asked.iter().zip(found).zip(locations) {
            let decision = snapshot.judge(found);
            let out = self.outboxes[socket].draft();
            let worker_cache = Some((&mut self.worker_cache, place));
            let step = answer(
                self.now,
                query,
                &decision,
                snapshot,
                &shared.cache,
                worker_cache,
                out,
            );
            self.act(step, socket, inbox, *slot, instant);
        }
    }

    /// Does what was decided about a packet.
    fn act(&mut self, step: Step, socket: usize, inbox: &Inbox, slot: usize, instant: Instant) {
        let counters = &self.worker.counters;
        let listen = self.worker.sockets[socket].0;
        match step {
            Step::Drop(tally) => tally.add_to(counters),
            Step::Reply(tally) => {
                tally.add_to(counters);
                self.push(socket, &inbox.route(slot));
            }
            Step::Refresh(key) => {
                counters.bump(Count::CacheHits);
                self.push(socket, &inbox.route(slot));
                self.refresh(key, instant);
            }
            Step::Resolve(key, stale) => {
                let datagram = Datagram::of(inbox, slot, listen, stale, instant);
                self.resolve(key, datagram, instant);
            }
            Step::Busy => self.hand_over_packet(Datagram::of(inbox, slot, listen, None, instant)),
        }
    }

    /// The draft is an answer.
    fn push(&mut self, socket: usize, route: &Route) {
        self.outboxes[socket].push(Some(route));
        if self.outboxes[socket].is_full() {
            self.flush(socket);
        }
    }

    fn flush(&mut self, socket: usize) {
        let failed = self.outboxes[socket].flush(&self.worker.sockets[socket].1);
        self.worker.counters.add(Count::SendErrors, failed as u64);
    }

    /// Asks upstream, or joins those who wait for the same.
    fn resolve(&mut self, key: Key, datagram: Datagram, instant: Instant) {
        let worker = self.worker;
        let permit = match worker.admission.acquire(datagram.route.peer.ip()) {
            Ok(permit) => permit,
            Err(full) => return self.refuse(&datagram, rejection_count(full)),
        };
        let recipient = Recipient::Datagram(datagram);
        match worker.inflight.try_join(&key, Waiter { recipient, permit }) {
            Ok(Join::First(query_id)) => self.ask(query_id, instant),
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

    /// Asks for an answer that is about to be too old. Where there is no room for that, it grows
    /// old, and is asked for then.
    fn refresh(&mut self, key: Key, instant: Instant) {
        let worker = self.worker;
        let Some(permit) = worker.admission.acquire_background() else {
            return;
        };
        let recipient = Recipient::CacheOnly;
        let join = worker.inflight.try_join(&key, Waiter { recipient, permit });
        if let Ok(Join::First(query_id)) = join {
            worker.counters.bump(Count::Prefetched);
            self.ask(query_id, instant);
        }
    }

    fn ask(&mut self, query_id: QueryId, instant: Instant) {
        if !self.first_attempt.ask(&query_id, instant, &mut self.waits) {
            self.hand_over_query(query_id, None);
        }
    }

    /// Leaves a packet to the async side.
    fn hand_over_packet(&mut self, datagram: Datagram) {
        if let Err(full) = self.worker.jobs.try_send(Job::Respond(datagram))
            && let Job::Respond(datagram) = full.into_inner()
        {
            self.refuse(&datagram, Count::QueueFull);
        }
    }

    /// Answers that there is no room for the question; with an old answer if there is one.
    fn refuse(&mut self, datagram: &Datagram, why: Count) {
        self.worker.counters.bump(why);
        let resolution = Resolution::Overloaded(datagram.stale.clone());
        self.write(datagram, &resolution);
    }

    fn write(&mut self, datagram: &Datagram, resolution: &Resolution) {
        // Its address may be listened on no more.
        let Some(socket) = responder::socket_index(&self.worker.sockets, datagram.listen) else {
            return self.worker.counters.bump(Count::SendErrors);
        };
        let snapshot = self.worker.shared.policy.load();
        let out = self.outboxes[socket].draft();
        let counters = &self.worker.counters;
        if responder::write(self.now, datagram, resolution, &snapshot, counters, out) {
            self.push(socket, &datagram.route);
        }
    }

    /// Takes what came from upstream, and what did not, to those who wait.
    fn listen(&mut self, ports: &[usize]) {
        let mut events = std::mem::take(&mut self.events);
        let instant = Instant::now();
        for &port in ports {
            self.first_attempt
                .receive(port, instant, &mut self.waits, &mut events);
        }
        // After a pause there may be answers at ports that this wait had no room to report.
        if ports.len() < MOST_READY {
            self.first_attempt
                .expire(instant, &mut self.waits, &mut events);
        }
        let Shared { cache, clock, .. } = &self.worker.shared;
        self.now = clock.at(instant);
        for (query_id, outcome) in std::mem::take(&mut self.uncompleted) {
            self.complete(query_id, outcome);
        }
        for UpstreamEvent { query_id, outcome } in events.drain(..) {
            match outcome {
                AttemptResult::Answered(answer) => {
                    let entry = Arc::new(Entry::new(answer, self.now));
                    if !cache.try_insert(query_id.key.clone(), Arc::clone(&entry)) {
                        self.worker.counters.bump(Count::Unkept);
                    }
                    self.complete(query_id, Ok(entry));
                }
                AttemptResult::Unfinished(prior) => self.hand_over_query(query_id, Some(prior)),
            }
        }
        self.events = events;
        self.deliver(instant);
    }

    /// Lets the async side ask, which has all servers and more time.
    fn hand_over_query(&mut self, query_id: QueryId, prior: Option<PriorAttempt>) {
        if let Err(full) = self.worker.jobs.try_send(Job::Resolve(query_id, prior))
            && let Job::Resolve(query_id, _) = full.into_inner()
        {
            self.worker.counters.bump(Count::QueueFull);
            self.complete(query_id, Err(Arc::new(no_answer())));
        }
    }

    /// Ends a flight: those who wait are events soon.
    fn complete(&mut self, query_id: QueryId, outcome: Outcome) {
        match self.worker.inflight.try_complete(&query_id, &outcome) {
            Ok(waiters) => self.deferred.push_all(waiters, &outcome),
            Err(Locked) => self.uncompleted.push((query_id, outcome)),
        }
    }

    /// Tells those who wait what came of their questions, as many as don't hold up other packets.
    fn deliver(&mut self, now: Instant) {
        let counters = &self.worker.counters;
        for (waiter, outcome) in self.deferred.take(now, MOST_DELIVERED, counters) {
            self.answer(waiter, &outcome);
        }
        self.flush_all();
    }

    fn answer(&mut self, waiter: Waiter, outcome: &Outcome) {
        responder::deliver(waiter, outcome, |datagram, resolution| {
            self.write(datagram, resolution);
        });
    }

    fn flush_all(&mut self) {
        for socket in 0..self.outboxes.len() {
            self.flush(socket);
        }
    }
}
