//! Owns the UDP workers: threads that take packets, answer what they can, and ask upstream the rest.
//! Refuses to compile, to log, and to wait for anything but packets.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::asker::Asker;
use super::cache::{Entry, Key};
use super::deferred::Deferred;
use super::desk::{self, Numbered};
use super::flights::{Boarding, Datagram, Flights, Landed, Locked, Ticket, Waiter, Who};
use super::near::{Near, Place};
use super::pace::Pace;
use super::resolve::{Job, count, unanswered};
use super::respond::{Asked, Client, Resolution, Step, answer, oversized, read};
use super::seats::Seats;
use super::shared::Shared;
use super::upstream::{Heard, Outcome, Pool, Tried};
use crate::policy::ranking::LookupResult;
use crate::policy::snapshot::Snapshot;
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
/// Clients that are told of answers in one round.
const MOST_TOLD: usize = 256;
/// How soon to try again what another thread's lock was in the way of.
const AGAIN: Duration = Duration::from_millis(1);
/// Batches of one socket after which a busy worker looks whether others have something; and if there
/// are no others, whether it is over.
const LOOK: u32 = 8;
const LOOK_ALONE: u32 = 256;
/// Tokens in the wait set: the ear, then the sockets, then upstream's ports.
const EAR: u64 = 0;
const FIRST_SOCKET: u64 = 1;

/// One worker thread's belongings.
pub struct Worker {
    /// Which one it is.
    pub index: usize,
    /// What it shares with all others.
    pub shared: Shared,
    /// Its sockets, in the order of the numbers of their listen addresses.
    pub sockets: Vec<Numbered>,
    /// Whom to ask.
    pub pool: Arc<Pool>,
    /// Most ports to ask by.
    pub ports: usize,
    /// Questions on their way, of all threads.
    pub flights: Arc<Flights>,
    /// The seats for those who wait for them.
    pub seats: Arc<Seats>,
    /// Where goes what it can't do without waiting.
    pub jobs: mpsc::Sender<Job>,
    /// When waiting queries are answered.
    pub pace: Arc<Pace>,
    /// Its own counters.
    pub counters: Arc<Counters>,
    /// Hears when it is over.
    pub ear: Ear,
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
        // There is always room for the ear and all sockets, so that a wait which reports fewer than
        // `MOST_READY` ports has reported all that are ready.
        let mut waits = WaitSet::new(1 + self.sockets.len() + MOST_READY)?;
        waits.add(self.ear.as_fd(), EAR)?;
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
            asker: Asker::new(self.pool.clone(), self.counters.clone(), self.ports, base),
            near: Near::new(self.shared.cache.capacity()),
            waits,
            told: Vec::new(),
            aloft: Vec::new(),
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
    asker: Asker,
    near: Near,
    waits: WaitSet,
    /// What was heard from upstream in this round.
    told: Vec<Heard>,
    /// What could not land yet, as another thread held the flights.
    aloft: Vec<(Ticket, Landed)>,
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
            let is_idle = self.asker.is_idle() && self.aloft.is_empty() && self.deferred.is_empty();
            rounds = rounds.wrapping_add(1);
            if is_idle && self.ready.contains(&true) && !rounds.is_multiple_of(look) {
                continue;
            }
            self.flush_questions();
            if !self.wait(&mut ports)? {
                self.leave();
                return Ok(());
            }
            self.listen(&ports);
        }
    }

    /// Sends the questions for upstream; what can't be sent is the async side's.
    fn flush_questions(&mut self) {
        self.asker.flush();
        while let Some(ticket) = self.asker.unsent() {
            self.ask_elsewhere(ticket, None);
        }
    }

    /// Leaves nobody waiting: the async side asks what is open, and all that came is told.
    fn leave(&mut self) {
        for ticket in self.asker.leave() {
            self.ask_elsewhere(ticket, None);
        }
        for (ticket, landed) in std::mem::take(&mut self.aloft) {
            let waiters = self.worker.flights.land(&ticket, &landed);
            self.deferred.push_all(waiters, &landed);
        }
        for (waiter, landed) in self.deferred.take_all() {
            self.answer(waiter, &landed);
        }
        self.flush_all();
    }

    /// Waits until there is something to do. Returns whether to go on, and fills `ports` with those
    /// of upstream's that may have answers.
    fn wait(&mut self, ports: &mut Vec<usize>) -> io::Result<bool> {
        let patience = self.patience();
        let (asker, ready) = (&self.asker, &mut self.ready);
        let mut over = false;
        ports.clear();
        self.waits.wait(patience, |token| match token {
            EAR => over = true,
            _ => match asker.port(token) {
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
        if !self.aloft.is_empty() {
            return Some(AGAIN);
        }
        let dues = [self.asker.next_due(), self.deferred.due()];
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
        self.judge(inbox, socket, Instant::now(), &snapshot);
        self.flush(socket);
    }

    /// Judges all packets of the inbox: reads all, looks up all their names, then answers.
    fn judge(&mut self, inbox: &Inbox, socket: usize, instant: Instant, snapshot: &Snapshot) {
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
        let mut found = [LookupResult::default(); BATCH];
        let found = &mut found[..names.len()];
        // Each step of the way to an answer's octets is a wait for memory: all go the same step
        // before one goes the next.
        let near = &self.near;
        let places: ArrayVec<Place, BATCH> =
            asked.iter().map(|(_, a)| near.place(&a.query)).collect();
        snapshot.lookup(&names, found);
        places.iter().for_each(|place| near.approach(*place));
        places.iter().for_each(|place| near.reach(*place));
        for (((slot, query), found), place) in asked.iter().zip(found).zip(places) {
            let decision = snapshot.decide_by(found);
            let out = self.outboxes[socket].draft();
            let near = Some((&mut self.near, place));
            let step = answer(
                self.now,
                query,
                &decision,
                snapshot,
                &shared.cache,
                near,
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
            Step::Busy => self.hand_over(Datagram::of(inbox, slot, listen, None, instant)),
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
        let seat = match worker.seats.take(datagram.route.peer.ip()) {
            Ok(seat) => seat,
            Err(full) => return self.refuse(&datagram, count(full)),
        };
        let who = Who::Datagram(datagram);
        match worker.flights.try_board(&key, Waiter { who, seat }) {
            Ok(Boarding::First(ticket)) => self.ask(ticket, instant),
            Ok(Boarding::Joined) => worker.counters.bump(Count::Coalesced),
            Ok(Boarding::TooLate(waiter)) => {
                worker.counters.bump(Count::Coalesced);
                self.deferred.push(waiter, Err(Arc::new(unanswered())));
            }
            Err(waiter) => {
                if let Who::Datagram(datagram) = waiter.who {
                    self.hand_over(datagram);
                }
            }
        }
    }

    /// Asks for an answer that is about to be too old. Where there is no room for that, it grows
    /// old, and is asked for then.
    fn refresh(&mut self, key: Key, instant: Instant) {
        let worker = self.worker;
        let Some(seat) = worker.seats.take_spare() else {
            return;
        };
        let who = Who::Nobody;
        let boarding = worker.flights.try_board(&key, Waiter { who, seat });
        if let Ok(Boarding::First(ticket)) = boarding {
            worker.counters.bump(Count::Prefetched);
            self.ask(ticket, instant);
        }
    }

    fn ask(&mut self, ticket: Ticket, instant: Instant) {
        if !self.asker.ask(&ticket, instant, &mut self.waits) {
            self.ask_elsewhere(ticket, None);
        }
    }

    /// Leaves a packet to the async side.
    fn hand_over(&mut self, datagram: Datagram) {
        if let Err(full) = self.worker.jobs.try_send(Job::Whole(datagram))
            && let Job::Whole(datagram) = full.into_inner()
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
        let Some(socket) = desk::place(&self.worker.sockets, datagram.listen) else {
            return self.worker.counters.bump(Count::SendErrors);
        };
        let snapshot = self.worker.shared.policy.load();
        let out = self.outboxes[socket].draft();
        let counters = &self.worker.counters;
        if desk::write(self.now, datagram, resolution, &snapshot, counters, out) {
            self.push(socket, &datagram.route);
        }
    }

    /// Takes what came from upstream, and what did not, to those who wait.
    fn listen(&mut self, ports: &[usize]) {
        let mut told = std::mem::take(&mut self.told);
        let instant = Instant::now();
        for &port in ports {
            self.asker
                .receive(port, instant, &mut self.waits, &mut told);
        }
        // After a pause there may be answers at ports that this wait had no room to report.
        if ports.len() < MOST_READY {
            self.asker.expire(instant, &mut self.waits, &mut told);
        }
        let Shared { cache, clock, .. } = &self.worker.shared;
        self.now = clock.at(instant);
        for (ticket, landed) in std::mem::take(&mut self.aloft) {
            self.land(ticket, landed);
        }
        for Heard { ticket, outcome } in told.drain(..) {
            match outcome {
                Outcome::Answered(answer) => {
                    let entry = Arc::new(Entry::new(answer, self.now));
                    if !cache.try_insert(ticket.key.clone(), Arc::clone(&entry)) {
                        self.worker.counters.bump(Count::Unkept);
                    }
                    self.land(ticket, Ok(entry));
                }
                Outcome::Tried(tried) => self.ask_elsewhere(ticket, Some(tried)),
            }
        }
        self.told = told;
        self.tell(instant);
    }

    /// Lets the async side ask, which has all servers and more time.
    fn ask_elsewhere(&mut self, ticket: Ticket, tried: Option<Tried>) {
        if let Err(full) = self.worker.jobs.try_send(Job::Ask(ticket, tried))
            && let Job::Ask(ticket, _) = full.into_inner()
        {
            self.worker.counters.bump(Count::QueueFull);
            self.land(ticket, Err(Arc::new(unanswered())));
        }
    }

    /// Ends a flight: those who wait are told soon.
    fn land(&mut self, ticket: Ticket, landed: Landed) {
        match self.worker.flights.try_land(&ticket, &landed) {
            Ok(waiters) => self.deferred.push_all(waiters, &landed),
            Err(Locked) => self.aloft.push((ticket, landed)),
        }
    }

    /// Tells those who wait what came of their questions, as many as don't hold up other packets.
    fn tell(&mut self, now: Instant) {
        let counters = &self.worker.counters;
        for (waiter, landed) in self.deferred.take(now, MOST_TOLD, counters) {
            self.answer(waiter, &landed);
        }
        self.flush_all();
    }

    fn answer(&mut self, waiter: Waiter, landed: &Landed) {
        desk::tell(waiter, landed, |datagram, resolution| {
            self.write(datagram, resolution);
        });
    }

    fn flush_all(&mut self) {
        for socket in 0..self.outboxes.len() {
            self.flush(socket);
        }
    }
}
