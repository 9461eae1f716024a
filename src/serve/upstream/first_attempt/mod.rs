//! A worker's queries to upstream. The worker makes only the first attempt; retries go to the resolver.
//!
//! A query costs neither a task nor a socket: several ports are open at a time, each query leaves from a random one of
//! them, and a port is replaced after a few queries (RFC 5452, section 9.2).

mod lanes;
mod port;
pub(in crate::serve) mod response;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use self::lanes::{ActivePort, Lanes};
use self::port::{OpenQuery, PER_PORT, PORT_AGE, Port};
use self::response::{UpstreamEvent, receive, unanswered};
use super::pools::Pools;
use super::query::SentQuery;
use crate::serve::inflight::QueryId;
use crate::serve::routes::PoolId;
use crate::stats::{Count, Counters};
use crate::sys::udp::{Inbox, Socket};
use crate::sys::wait::WaitSet;
use crate::wire::UDP_PAYLOAD;
use crate::wire::ask::RANDOM;

/// The size of the buffer for one answer: the UDP payload size that we announce, plus some bytes. Without these bytes,
/// the buffers of a batch would map to the same lines of a processor's cache.
const SLOT: usize = UDP_PAYLOAD as usize + 48;

/// When to look at a port, by time. A port may have several entries; those that differ from [`Port::due`] have no effect.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Instant,
    port: usize,
    /// The port's number: another port may have the same index by then.
    number: u64,
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
    lanes: Lanes,
    /// Open queries of all ports.
    open: usize,
    unsent: Vec<QueryId>,
    inbox: Inbox,
    /// The earliest first: pools have timeouts of their own, and servers have response times of their own.
    dues: BinaryHeap<Reverse<Due>>,
    random: StdRng,
    /// Token of the first port in the wait set.
    base: u64,
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
        let lanes = Lanes::new(Arc::clone(pools.default_pool()), most);
        Self {
            pools,
            counters,
            ports: Vec::new(),
            most,
            free: Vec::new(),
            opened: 0,
            lanes,
            open: 0,
            unsent: Vec::new(),
            inbox: Inbox::new(PER_PORT, SLOT),
            dues: BinaryHeap::new(),
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
        self.dues.peek().map(|Reverse(due)| due.at)
    }

    /// Writes a query, which is sent by the next [`flush`](Self::flush). False, without an effect, if there is no port
    /// or server.
    pub(in crate::serve) fn ask(
        &mut self,
        query_id: &QueryId,
        now: Instant,
        waits: &mut WaitSet,
    ) -> bool {
        // A worker sends datagrams, which are not encrypted. A pool with encrypted servers is asked by the resolver alone:
        // the first server to ask may change at any time.
        let of = match self.pools.forwarded(&query_id.key) {
            Some(pool) if pool.is_encrypted() => return false,
            None if self.pools.default_pool().is_encrypted() => return false,
            Some(pool) if pool.id() == query_id.pool => self.lanes.open(pool),
            None if query_id.pool == PoolId::DEFAULT => PoolId::DEFAULT,
            // Another pool is the one to ask now. The resolver ends the query.
            _ => return false,
        };
        let Some((slot, place)) = self.usable_port(of, now, waits) else {
            self.lanes.close_unused(of);
            return false;
        };
        let (Some((number, port)), Some(lane)) = (&mut self.ports[place], self.lanes.get_mut(of))
        else {
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
        let ActivePort { outbox, drafts, .. } = &mut lane.active[slot];
        let draft = outbox.draft();
        let query = SentQuery::write(&query_id.key, dialect, &random, draft);
        drafts.push(query.id);
        outbox.push(None);
        let is_full = outbox.is_full();
        port.asked += 1;
        self.open += 1;
        port.sent.push(OpenQuery {
            query_id: query_id.clone(),
            query,
            at: now,
            handed_over: false,
        });
        let at = now + port.to.patience;
        if at < port.due {
            port.due = at;
            self.dues.push(Reverse(Due {
                at,
                port: place,
                number: *number,
            }));
        }
        match is_full {
            true => self.flush_slot(of, slot),
            false => self.lanes.list(of),
        }
        true
    }

    /// A random slot of a lane and the index of its port. If no port can be opened for that slot, this is any slot
    /// with a usable port.
    fn usable_port(
        &mut self,
        of: PoolId,
        now: Instant,
        waits: &mut WaitSet,
    ) -> Option<(usize, usize)> {
        let slots = self.lanes.get(of)?.active.len();
        let drawn = self.random.random_range(0..slots);
        if let Some(place) = self.usable_place(of, drawn, now) {
            return Some((drawn, place));
        }
        if let Some(used_up) = self.lanes.get(of)?.active[drawn].place {
            self.flush_slot(of, drawn);
            self.lanes.get_mut(of)?.active[drawn].place = None;
            if self.is_done(used_up) {
                self.close_port(used_up, waits);
            }
        }
        if let Some(place) = self.open_port(of, now, waits) {
            self.lanes.get_mut(of)?.active[drawn].place = Some(place);
            return Some((drawn, place));
        }
        let usable = |slot| Some((slot, self.usable_place(of, slot, now)?));
        (0..slots).find_map(usable)
    }

    fn usable_place(&self, of: PoolId, slot: usize, now: Instant) -> Option<usize> {
        let place = self.lanes.get(of)?.active[slot].place?;
        let (_, port) = self.ports[place].as_ref()?;
        let is_current = port.version == port.pool.version();
        (is_current && port.is_usable(now)).then_some(place)
    }

    fn open_port(&mut self, of: PoolId, now: Instant, waits: &mut WaitSet) -> Option<usize> {
        let pool = Arc::clone(&self.lanes.get(of)?.pool);
        let version = pool.version();
        let (to, ()) = pool.try_first(now, |first| (!first.is_encrypted()).then_some(()))?;
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
            closes,
            due: closes,
            asked: 0,
            sent: Vec::with_capacity(PER_PORT),
        };
        self.ports[place] = Some((self.opened, port));
        self.dues.push(Reverse(Due {
            at: closes,
            port: place,
            number: self.opened,
        }));
        Some(place)
    }

    /// Sends the queries. Those that the system refused are [`unsent`](Self::unsent).
    pub(in crate::serve) fn flush(&mut self) {
        while let Some(of) = self.lanes.take_listed() {
            for slot in 0..self.lanes.get(of).map_or(0, |lane| lane.active.len()) {
                self.flush_slot(of, slot);
            }
        }
    }

    fn flush_slot(&mut self, of: PoolId, slot: usize) {
        let Some(lane) = self.lanes.get_mut(of) else {
            return;
        };
        let ActivePort {
            place,
            outbox,
            drafts,
        } = &mut lane.active[slot];
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
        port.to.server.traffic.sent(true, sent as u64);
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
                    let event = receive(port, &self.inbox, slot, now, &self.counters);
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
        if self.slot_of(place).is_none() && self.is_done(place) {
            self.close_port(place, waits);
        }
    }

    /// Adds the queries that were not answered in time to `events`, and closes ports that are done.
    pub(in crate::serve) fn expire(
        &mut self,
        now: Instant,
        waits: &mut WaitSet,
        events: &mut Vec<UpstreamEvent>,
    ) {
        while let Some(Reverse(due)) = self.dues.peek().copied()
            && due.at <= now
        {
            self.dues.pop();
            let Some(Some((number, port))) = self.ports.get_mut(due.port) else {
                continue;
            };
            if *number != due.number || port.due != due.at {
                continue;
            }
            let (patience, server) = (port.to.patience, &port.to.server);
            let is_late = |sent: &&mut OpenQuery| !sent.handed_over && sent.at + patience <= now;
            for sent in port.sent.iter_mut().filter(is_late) {
                sent.handed_over = true;
                self.counters.bump(Count::UpstreamSlow);
                server.traffic.timed_out();
                events.push(unanswered(sent.query_id.clone(), server, sent.at));
            }
            if port.closes <= now {
                self.close(due.port, waits);
                continue;
            }
            port.due = port.next_due();
            self.dues.push(Reverse(Due {
                at: port.due,
                ..due
            }));
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

    fn is_done(&self, place: usize) -> bool {
        let port = self.ports[place].as_ref();
        port.is_some_and(|(_, port)| port.sent.is_empty())
    }

    /// The pool whose lane has this port in use for sending, and the slot.
    fn slot_of(&self, place: usize) -> Option<(PoolId, usize)> {
        let (_, port) = self.ports[place].as_ref()?;
        let of = port.pool.id();
        let slot = self.lanes.get(of)?.slot_of(place)?;
        Some((of, slot))
    }

    /// Closes a port, whether it is in use for sending or not.
    fn close(&mut self, place: usize, waits: &mut WaitSet) {
        if let Some((of, slot)) = self.slot_of(place) {
            self.flush_slot(of, slot);
            if let Some(lane) = self.lanes.get_mut(of) {
                lane.active[slot].place = None;
            }
            self.lanes.close_unused(of);
        }
        self.close_port(place, waits);
    }

    /// Closes a port that is not in use for sending.
    fn close_port(&mut self, place: usize, waits: &mut WaitSet) {
        if let Some((_, port)) = self.ports[place].take() {
            self.open -= port.sent.len();
            waits.remove(port.socket.as_fd());
            self.free.push(place);
        }
    }
}

#[cfg(test)]
mod tests;
