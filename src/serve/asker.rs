//! Owns a worker's own questions to upstream: their sockets, and which of them are still open.
//! Refuses all but the first try: what is not answered well and at once is another's to ask again.
//!
//! A question asked here costs no task and no socket of its own: ports are random, as are IDs and
//! letter case, and a port serves a handful of questions, then there is another (RFC 5452, section 9.2).

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use super::flights::Ticket;
use super::upstream::{First, Heard, Outcome, Pool, Tried, is_usable};
use crate::stats::{Count, Counters};
use crate::sys::udp::{Inbox, Outbox, Socket};
use crate::sys::wait::WaitSet;
use crate::wire::answer::is_cut;
use crate::wire::ask::{self, Fit, LONGEST_ANSWER, RANDOM};
use crate::wire::read_u16;

/// Questions that leave from one port.
const PER_PORT: usize = 32;
/// How long new questions leave from one port.
const PORT_AGE: Duration = Duration::from_secs(1);

/// A question that is open.
struct Sent {
    ticket: Ticket,
    /// The question section as it was sent, letter case and all.
    question: Box<[u8]>,
    id: u16,
    at: Instant,
    /// Others ask it again by now; its answer still counts.
    given_up: bool,
}

/// A socket to one server.
struct Port {
    socket: Socket,
    to: First,
    opened: Instant,
    asked: usize,
    /// Those that are open.
    sent: Vec<Sent>,
}

/// When something is over.
struct Due {
    at: Instant,
    port: usize,
    /// The port's number: another one may have its place by then.
    number: u64,
    id: u16,
}

/// A worker's questions to upstream.
pub(super) struct Asker {
    pool: Arc<Pool>,
    counters: Arc<Counters>,
    /// Ports by their place, with their number.
    ports: Vec<Option<(u64, Port)>>,
    most: usize,
    free: Vec<usize>,
    opened: u64,
    /// The place of the port that questions leave from.
    current: Option<usize>,
    /// Questions that are open, of all ports.
    open: usize,
    /// Questions of the current port that are not sent yet, and their IDs.
    outbox: Outbox,
    drafts: Vec<u16>,
    unsent: Vec<Ticket>,
    inbox: Inbox,
    /// When to stop waiting for a first answer, and when to close a port whatever comes; both in
    /// order, nearly.
    patience: VecDeque<Due>,
    closing: VecDeque<Due>,
    random: StdRng,
    /// Token of the first port in the wait set.
    base: u64,
}

impl Asker {
    /// Asks `pool`'s servers by at most `most` ports, which have tokens from `base` on.
    pub(super) fn new(pool: Arc<Pool>, counters: Arc<Counters>, most: usize, base: u64) -> Self {
        Self {
            pool,
            counters,
            ports: Vec::new(),
            most: most.max(1),
            free: Vec::new(),
            opened: 0,
            current: None,
            open: 0,
            outbox: Outbox::new(PER_PORT, 512),
            drafts: Vec::with_capacity(PER_PORT),
            unsent: Vec::new(),
            inbox: Inbox::new(PER_PORT, LONGEST_ANSWER + 64),
            patience: VecDeque::new(),
            closing: VecDeque::new(),
            random: StdRng::from_rng(&mut rand::rng()),
            base,
        }
    }

    /// Whether no question is open.
    pub(super) fn is_idle(&self) -> bool {
        self.open == 0
    }

    /// The port that has this token, if it is one's.
    pub(super) fn port(&self, token: u64) -> Option<usize> {
        usize::try_from(token.checked_sub(self.base)?).ok()
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let first = |dues: &VecDeque<Due>| dues.front().map(|due| due.at);
        match (first(&self.patience), first(&self.closing)) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Asks upstream; the question leaves with the next [`flush`](Self::flush). False when there is
    /// no port or server to ask by: nothing was done.
    pub(super) fn ask(&mut self, ticket: &Ticket, now: Instant, waits: &mut WaitSet) -> bool {
        let Some(place) = self.usable_port(now, waits) else {
            return false;
        };
        let Some((number, port)) = &mut self.ports[place] else {
            return false;
        };
        let mut random = [0; RANDOM];
        // Two open questions of a port must not have the same ID.
        loop {
            self.random.fill(&mut random);
            let id = u16::from_be_bytes([random[0], random[1]]);
            if port.sent.iter().all(|sent| sent.id != id) {
                break;
            }
        }
        let draft = self.outbox.draft();
        ask::write(&ticket.key.question(), &random, draft);
        let id = u16::from_be_bytes([random[0], random[1]]);
        let question = ask::question_of(draft).into();
        self.outbox.push(None);
        self.drafts.push(id);
        port.asked += 1;
        self.open += 1;
        port.sent.push(Sent {
            ticket: ticket.clone(),
            question,
            id,
            at: now,
            given_up: false,
        });
        self.patience.push_back(Due {
            at: now + port.to.patience,
            port: place,
            number: *number,
            id,
        });
        true
    }

    /// The place of a port that has questions left; a new one if need be.
    fn usable_port(&mut self, now: Instant, waits: &mut WaitSet) -> Option<usize> {
        if let Some(place) = self.current {
            if let Some((_, port)) = &self.ports[place]
                && port.asked < PER_PORT
                && now < port.opened + PORT_AGE
            {
                return Some(place);
            }
            self.flush();
            self.current = None;
            self.close_if_done(place, waits);
        }
        let to = self.pool.try_first(now)?;
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.ports.len() < self.most => {
                self.ports.push(None);
                self.ports.len() - 1
            }
            None => return None,
        };
        let opened = Socket::connect(to.address).and_then(|socket| {
            waits.add(socket.as_fd(), self.base + place as u64)?;
            Ok(socket)
        });
        let Ok(socket) = opened else {
            self.free.push(place);
            return None;
        };
        self.opened += 1;
        let port = Port {
            socket,
            to,
            opened: now,
            asked: 0,
            sent: Vec::with_capacity(PER_PORT),
        };
        self.ports[place] = Some((self.opened, port));
        self.closing.push_back(Due {
            at: now + PORT_AGE + self.pool.timeout(),
            port: place,
            number: self.opened,
            id: 0,
        });
        self.current = Some(place);
        Some(place)
    }

    /// Sends what was asked. What our own system did not take is [`unsent`](Self::unsent).
    pub(super) fn flush(&mut self) {
        if self.outbox.is_empty() {
            return;
        }
        let port = self.current.and_then(|place| self.ports[place].as_mut());
        let Some((_, port)) = port else {
            return;
        };
        let failed = self.outbox.flush(&port.socket);
        let sent = self.drafts.len() - failed;
        self.counters.add(Count::UpstreamQueries, sent as u64);
        if failed > 0 {
            // Which ones is not told; one that is asked twice does no harm.
            let open = port.sent.len();
            let drafts = &self.drafts;
            let unsent = port.sent.extract_if(.., |sent| drafts.contains(&sent.id));
            self.unsent.extend(unsent.map(|sent| sent.ticket));
            self.open -= open - port.sent.len();
        }
        self.drafts.clear();
    }

    /// The questions that could not be sent since this was asked last: that says nothing of the server.
    pub(super) fn unsent(&mut self) -> Option<Ticket> {
        self.unsent.pop()
    }

    /// Takes what has come to a port, and tells it.
    pub(super) fn receive(
        &mut self,
        place: usize,
        now: Instant,
        waits: &mut WaitSet,
        told: &mut Vec<Heard>,
    ) {
        let Some(Some((_, port))) = self.ports.get_mut(place) else {
            return;
        };
        match self.inbox.receive(&port.socket) {
            Ok(count) => {
                let before = port.sent.len();
                for slot in 0..count {
                    let heard = listen(port, &self.inbox, slot, now, &self.pool, &self.counters);
                    told.extend(heard);
                }
                self.open -= before - port.sent.len();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // ICMP says that nobody is there.
            Err(_) => {
                let server = port.to.server;
                self.open -= port.sent.len();
                let open = port.sent.drain(..).filter(|sent| !sent.given_up);
                told.extend(open.map(|sent| silent(sent.ticket, server, sent.at)));
            }
        }
        if self.current != Some(place) {
            self.close_if_done(place, waits);
        }
    }

    /// Tells what was not answered in time, and closes ports that nothing is expected of any more.
    pub(super) fn expire(&mut self, now: Instant, waits: &mut WaitSet, told: &mut Vec<Heard>) {
        while self.patience.front().is_some_and(|due| due.at <= now) {
            let Some(due) = self.patience.pop_front() else {
                break;
            };
            let Some(Some((number, port))) = self.ports.get_mut(due.port) else {
                continue;
            };
            let open = port.sent.iter_mut().find(|sent| sent.id == due.id);
            if *number == due.number
                && let Some(sent) = open
                && !sent.given_up
            {
                sent.given_up = true;
                self.counters.bump(Count::UpstreamSlow);
                told.push(silent(sent.ticket.clone(), port.to.server, sent.at));
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

    /// The questions that are open, for others to ask.
    pub(super) fn leave(&mut self) -> Vec<Ticket> {
        let ports = self.ports.drain(..).flatten();
        let sent = ports.flat_map(|(_, port)| port.sent);
        sent.filter(|sent| !sent.given_up)
            .map(|sent| sent.ticket)
            .collect()
    }

    fn close_if_done(&mut self, place: usize, waits: &mut WaitSet) {
        let is_done = |(_, port): &(u64, Port)| port.sent.is_empty();
        if self.ports[place].as_ref().is_some_and(is_done) {
            self.close(place, waits);
        }
    }

    fn close(&mut self, place: usize, waits: &mut WaitSet) {
        if let Some((_, port)) = self.ports[place].take() {
            self.open -= port.sent.len();
            waits.remove(port.socket.as_fd());
            self.free.push(place);
        }
        if self.current == Some(place) {
            self.current = None;
        }
    }
}

/// A question that was not answered.
fn silent(ticket: Ticket, server: usize, since: Instant) -> Heard {
    let tried = Tried {
        server,
        since,
        heard: false,
        said: None,
        by_tcp: false,
    };
    Heard {
        ticket,
        outcome: Outcome::Tried(tried),
    }
}

/// What a datagram that came to a port says of one of its open questions.
fn listen(
    port: &mut Port,
    inbox: &Inbox,
    slot: usize,
    now: Instant,
    pool: &Pool,
    counters: &Counters,
) -> Option<Heard> {
    let octets = inbox.packet(slot);
    let id = read_u16(octets, 0);
    let Some(at) = port.sent.iter().position(|sent| Some(sent.id) == id) else {
        counters.bump(Count::UpstreamStray);
        return None;
    };
    let fit = ask::fit(octets, &port.sent[at].question);
    if fit == Fit::Foreign {
        // The true one may still come (RFC 5452, section 9.1).
        counters.bump(Count::UpstreamForeign);
        return None;
    }
    let sent = port.sent.swap_remove(at);
    let took = now.saturating_duration_since(sent.at);
    counters.upstream_took(took);
    pool.try_answered(port.to.server, took);
    let tried = |said, by_tcp| Tried {
        server: port.to.server,
        since: sent.at,
        said,
        by_tcp,
        heard: true,
    };
    let outcome = if fit == Fit::OtherCase {
        counters.bump(Count::UpstreamCase);
        Outcome::Tried(tried(None, true))
    } else if inbox.is_cut(slot) || is_cut(octets) {
        Outcome::Tried(tried(None, true))
    } else {
        match pool.read(octets, &sent.ticket.key) {
            Ok(answer) if is_usable(&answer) => Outcome::Answered(answer),
            Ok(answer) => Outcome::Tried(tried(Some(answer), false)),
            Err(_) => {
                counters.bump(Count::UpstreamGarbage);
                Outcome::Tried(tried(None, false))
            }
        }
    };
    // What was given up is in other hands: only an answer is news to them.
    let is_news = !sent.given_up || matches!(outcome, Outcome::Answered(_));
    is_news.then_some(Heard {
        ticket: sent.ticket,
        outcome,
    })
}
