//! A worker's queries to upstream. The worker makes only the first attempt; retries go to the resolver.
//!
//! A query costs neither a task nor a socket: several ports are open at a time, each query leaves from a random one of
//! them, and a port is replaced after a few queries (RFC 5452, section 9.2).

mod port;
pub(in crate::serve) mod response;

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use self::port::{OpenQuery, PER_PORT, PORT_AGE, Port};
use self::response::{UpstreamEvent, receive, unanswered};
use super::Pool;
use super::pools::Pools;
use super::query::SentQuery;
use crate::serve::cache::Key;
use crate::serve::inflight::QueryId;
use crate::stats::{Count, Counters};
use crate::sys::udp::{Inbox, Outbox, Socket};
use crate::sys::wait::WaitSet;
use crate::wire::UDP_PAYLOAD;
use crate::wire::ask::RANDOM;

/// The number of ports that are in use for sending at one time. More ports make smaller batches: in a flood, a query
/// costs some 13 µs with one port, 0.5 µs more with 8 and 0.7 µs more with 16 ports; with 4 no difference was measured.
const AT_ONCE: usize = 4;
/// The maximum number of queries of one port that are sent together.
const TOGETHER: usize = 16;
/// The length of the longest query, in bytes.
const QUERY: usize = 282;
/// The size of the buffer for one answer: the UDP payload size that we announce, plus some bytes. Without these bytes,
/// the buffers of a batch would map to the same lines of a processor's cache.
const SLOT: usize = UDP_PAYLOAD as usize + 48;

/// A port in use for sending, with its queries that are not sent yet.
struct ActivePort {
    /// The index of the port.
    place: Option<usize>,
    outbox: Outbox,
    /// IDs of the queries in the outbox.
    drafts: Vec<u16>,
}

/// A timeout.
struct Due {
    at: Instant,
    port: usize,
    /// The port's number: when the timeout ends, another port may have the same index.
    number: u64,
    id: u16,
}

/// The ports in use for sending to the servers of one pool.
struct Lane {
    pool: Arc<Pool>,
    active: Box<[ActivePort]>,
}

/// The state of a worker's queries to upstream.
pub(in crate::serve) struct FirstAttempt {
    pools: Arc<Pools>,
    counters: Arc<Counters>,
    /// The ports by index, each with its number.
    ports: Vec<Option<(u64, Port)>>,
    most: usize,
    free: Vec<usize>,
    opened: u64,
    /// That of the default pool, then those of forwarded zones that were asked for.
    lanes: Vec<Lane>,
    /// Open queries of all ports.
    open: usize,
    /// Queries in the outboxes of `lanes`.
    drafted: usize,
    unsent: Vec<QueryId>,
    inbox: Inbox,
    /// `patience` has the times at which to stop waiting for a response, and `closing` the times at which to close a
    /// port in any case. Both are nearly sorted by time.
    patience: VecDeque<Due>,
    closing: VecDeque<Due>,
    random: StdRng,
    /// Token of the first port in the wait set.
    base: u64,
}

impl Lane {
    /// A lane of a worker that may have `most` ports open.
    fn new(pool: Arc<Pool>, most: usize) -> Self {
        let slot = |_| ActivePort {
            place: None,
            outbox: Outbox::new(TOGETHER, QUERY),
            drafts: Vec::with_capacity(TOGETHER),
        };
        Self {
            pool,
            active: (0..AT_ONCE.min(most)).map(slot).collect(),
        }
    }
}

impl FirstAttempt {
    /// Asks the servers of `pools` from at most `most` ports, whose tokens start at `base`.
    pub(in crate::serve) fn new(
        pools: Arc<Pools>,
        counters: Arc<Counters>,
        most: usize,
        base: u64,
    ) -> Self {
        let most = most.max(1);
        let lanes = vec![Lane::new(Arc::clone(pools.default_pool()), most)];
        Self {
            pools,
            counters,
            ports: Vec::new(),
            most,
            free: Vec::new(),
            opened: 0,
            lanes,
            open: 0,
            drafted: 0,
            unsent: Vec::new(),
            inbox: Inbox::new(PER_PORT, SLOT),
            patience: VecDeque::new(),
            closing: VecDeque::new(),
            random: StdRng::from_rng(&mut rand::rng()),
            base,
        }
    }

    /// Whether no query is open.
    pub(in crate::serve) fn is_idle(&self) -> bool {
        self.open == 0
    }

    /// The port with this token; `None` if it is not the token of a port.
    pub(in crate::serve) fn port(&self, token: u64) -> Option<usize> {
        usize::try_from(token.checked_sub(self.base)?).ok()
    }

    /// When [`expire`](Self::expire) is due.
    pub(in crate::serve) fn next_due(&self) -> Option<Instant> {
        let first = |dues: &VecDeque<Due>| dues.front().map(|due| due.at);
        match (first(&self.patience), first(&self.closing)) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Writes a query, which is sent by the next [`flush`](Self::flush). False, without an effect, if there is no port
    /// or server.
    pub(in crate::serve) fn ask(
        &mut self,
        query_id: &QueryId,
        now: Instant,
        waits: &mut WaitSet,
    ) -> bool {
        let lane = self.lane_of(&query_id.key);
        let Some((slot, place)) = self.usable_port(lane, now, waits) else {
            return false;
        };
        let Some((number, port)) = &mut self.ports[place] else {
            return false;
        };
        let mut random = [0; RANDOM];
        // Two open queries of a port must not have the same ID.
        loop {
            self.random.fill(&mut random);
            let id = u16::from_be_bytes([random[0], random[1]]);
            if port.sent.iter().all(|sent| sent.query.id != id) {
                break;
            }
        }
        let dialect = port.to.server.dialect(now);
        let ActivePort { outbox, drafts, .. } = &mut self.lanes[lane].active[slot];
        let draft = outbox.draft();
        let query = SentQuery::write(&query_id.key, dialect, &random, draft);
        let id = query.id;
        outbox.push(None);
        drafts.push(id);
        self.drafted += 1;
        port.asked += 1;
        self.open += 1;
        port.sent.push(OpenQuery {
            query_id: query_id.clone(),
            query,
            at: now,
            handed_over: false,
        });
        self.patience.push_back(Due {
            at: now + port.to.patience,
            port: place,
            number: *number,
            id,
        });
        if outbox.is_full() {
            self.flush_slot(lane, slot);
        }
        true
    }

    /// The lane of the pool that is asked for a key.
    fn lane_of(&mut self, key: &Key) -> usize {
        let Some(pool) = self.pools.forwarded(key) else {
            return 0;
        };
        let is_its = |lane: &Lane| Arc::ptr_eq(&lane.pool, &pool);
        if let Some(known) = self.lanes.iter().position(is_its) {
            return known;
        }
        // Pools of an earlier configuration are not asked any more. Their ports close when they are done.
        self.flush();
        let pools = &self.pools;
        self.lanes.retain(|lane| pools.has(&lane.pool));
        self.lanes.push(Lane::new(pool, self.most));
        self.lanes.len() - 1
    }

    /// A random slot of a lane and the index of its port. If no port can be opened for that slot, this is any slot
    /// with a usable port.
    fn usable_port(
        &mut self,
        lane: usize,
        now: Instant,
        waits: &mut WaitSet,
    ) -> Option<(usize, usize)> {
        let slots = self.lanes[lane].active.len();
        let drawn = self.random.random_range(0..slots);
        if let Some(place) = self.usable_place(lane, drawn, now) {
            return Some((drawn, place));
        }
        if let Some(used_up) = self.lanes[lane].active[drawn].place {
            self.flush_slot(lane, drawn);
            self.lanes[lane].active[drawn].place = None;
            self.close_if_done(used_up, waits);
        }
        if let Some(place) = self.open_port(lane, now, waits) {
            self.lanes[lane].active[drawn].place = Some(place);
            return Some((drawn, place));
        }
        let usable = |slot| Some((slot, self.usable_place(lane, slot, now)?));
        (0..slots).find_map(usable)
    }

    fn usable_place(&self, lane: usize, slot: usize, now: Instant) -> Option<usize> {
        let place = self.lanes[lane].active[slot].place?;
        let (_, port) = self.ports[place].as_ref()?;
        let is_current = port.version == port.pool.version();
        (is_current && port.is_usable(now)).then_some(place)
    }

    fn open_port(&mut self, lane: usize, now: Instant, waits: &mut WaitSet) -> Option<usize> {
        let pool = Arc::clone(&self.lanes[lane].pool);
        let version = pool.version();
        let to = pool.try_first(now)?;
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.ports.len() < self.most => {
                self.ports.push(None);
                self.ports.len() - 1
            }
            None => return None,
        };
        let draw = || pool.ports().draw(&mut self.random);
        let opened = Socket::connect(to.server.destination(), draw).and_then(|socket| {
            waits.add(socket.as_fd(), self.base + place as u64)?;
            Ok(socket)
        });
        let Ok(socket) = opened else {
            self.free.push(place);
            return None;
        };
        self.opened += 1;
        let closes = now + PORT_AGE + pool.timeout();
        let port = Port {
            socket,
            pool,
            to,
            version,
            opened: now,
            asked: 0,
            sent: Vec::with_capacity(PER_PORT),
        };
        self.ports[place] = Some((self.opened, port));
        self.closing.push_back(Due {
            at: closes,
            port: place,
            number: self.opened,
            id: 0,
        });
        Some(place)
    }

    /// Sends the queries. Those that the system refused are [`unsent`](Self::unsent).
    pub(in crate::serve) fn flush(&mut self) {
        if self.drafted > 0 {
            for lane in 0..self.lanes.len() {
                (0..self.lanes[lane].active.len()).for_each(|slot| self.flush_slot(lane, slot));
            }
        }
    }

    fn flush_slot(&mut self, lane: usize, slot: usize) {
        let ActivePort {
            place,
            outbox,
            drafts,
        } = &mut self.lanes[lane].active[slot];
        if outbox.is_empty() {
            return;
        }
        let port = place.and_then(|place| self.ports[place].as_mut());
        let Some((_, port)) = port else {
            return;
        };
        let failed = outbox.flush(&port.socket);
        let sent = drafts.len() - failed;
        self.counters.add(Count::UpstreamQueries, sent as u64);
        if failed > 0 {
            // The system does not report which queries failed, so all queries of the outbox become unsent. A query
            // that is sent twice does no harm.
            let open = port.sent.len();
            let unsent = port
                .sent
                .extract_if(.., |sent| drafts.contains(&sent.query.id));
            self.unsent.extend(unsent.map(|sent| sent.query_id));
            self.open -= open - port.sent.len();
        }
        self.drafted -= drafts.len();
        drafts.clear();
    }

    /// Returns the next query that could not be sent, which is no sign of a fault of the server.
    pub(in crate::serve) fn unsent(&mut self) -> Option<QueryId> {
        self.unsent.pop()
    }

    /// Receives responses on a port and adds the attempts that ended to `events`.
    pub(in crate::serve) fn receive(
        &mut self,
        place: usize,
        now: Instant,
        waits: &mut WaitSet,
        events: &mut Vec<UpstreamEvent>,
    ) {
        let Some(Some((_, port))) = self.ports.get_mut(place) else {
            return;
        };
        match self.inbox.receive(&port.socket) {
            Ok(count) => {
                let before = port.sent.len();
                for slot in 0..count {
                    let event = receive(port, &self.inbox, slot, now, &self.pools, &self.counters);
                    events.extend(event);
                }
                self.open -= before - port.sent.len();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // ICMP reports that the server's port is closed.
            Err(_) => {
                let server = &port.to.server;
                self.open -= port.sent.len();
                let open = port.sent.drain(..).filter(|sent| !sent.handed_over);
                events.extend(open.map(|sent| unanswered(sent.query_id, server, sent.at)));
            }
        }
        if self.slot_of(place).is_none() {
            self.close_if_done(place, waits);
        }
    }

    /// Adds the queries that were not answered in time to `events`, and closes ports that are done.
    pub(in crate::serve) fn expire(
        &mut self,
        now: Instant,
        waits: &mut WaitSet,
        events: &mut Vec<UpstreamEvent>,
    ) {
        while self.patience.front().is_some_and(|due| due.at <= now) {
            let Some(due) = self.patience.pop_front() else {
                break;
            };
            let Some(Some((number, port))) = self.ports.get_mut(due.port) else {
                continue;
            };
            let open = port.sent.iter_mut().find(|sent| sent.query.id == due.id);
            if *number == due.number
                && let Some(sent) = open
                && !sent.handed_over
            {
                sent.handed_over = true;
                self.counters.bump(Count::UpstreamSlow);
                events.push(unanswered(sent.query_id.clone(), &port.to.server, sent.at));
            }
        }
        while self.closing.front().is_some_and(|due| due.at <= now) {
            let Some(due) = self.closing.pop_front() else {
                break;
            };
            let is_it = |port: &Option<(u64, Port)>| {
                port.as_ref()
                    .is_some_and(|(number, _)| *number == due.number)
            };
            if self.ports.get(due.port).is_some_and(is_it) {
                self.close(due.port, waits);
            }
        }
    }

    /// Removes the open queries and returns them, for the resolver.
    pub(in crate::serve) fn drain(&mut self) -> Vec<QueryId> {
        let ports = self.ports.drain(..).flatten();
        let sent = ports.flat_map(|(_, port)| port.sent);
        sent.filter(|sent| !sent.handed_over)
            .map(|sent| sent.query_id)
            .collect()
    }

    fn close_if_done(&mut self, place: usize, waits: &mut WaitSet) {
        let is_done = |(_, port): &(u64, Port)| port.sent.is_empty();
        if self.ports[place].as_ref().is_some_and(is_done) {
            self.close(place, waits);
        }
    }

    /// The lane that has this port in use for sending, and the slot.
    fn slot_of(&self, place: usize) -> Option<(usize, usize)> {
        let mut lanes = self.lanes.iter().enumerate();
        lanes.find_map(|(lane, of)| {
            let mut slots = of.active.iter();
            let slot = slots.position(|slot| slot.place == Some(place))?;
            Some((lane, slot))
        })
    }

    fn close(&mut self, place: usize, waits: &mut WaitSet) {
        if let Some((lane, slot)) = self.slot_of(place) {
            self.flush_slot(lane, slot);
            self.lanes[lane].active[slot].place = None;
        }
        if let Some((_, port)) = self.ports[place].take() {
            self.open -= port.sent.len();
            waits.remove(port.socket.as_fd());
            self.free.push(place);
        }
    }
}

#[cfg(test)]
mod tests;
