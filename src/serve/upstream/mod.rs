//! Owns the choice of upstream servers: whom to ask first, when to ask another, when to give up.
//! Refuses to cache: each call asks.

pub mod connect;
mod datagram;
mod health;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};

use self::connect::{Connector, ExchangeError, Transport};
use self::health::Health;
use super::cache::Key;
use super::flights::Ticket;
use crate::stats::{Count, Counters};
use crate::wire::answer::{self, Answer, Intake};
use crate::wire::edns::code;
use crate::wire::name::Name;
use crate::wire::{Rcode, class};

/// Most times that one question is sent: to each server, and to all together; but each server
/// is asked once, however many there are, and never again once it has said anything.
const ROUNDS: usize = 3;
const MOST_TRIES: usize = 6;

/// The upstream servers.
pub struct Pool {
    servers: Vec<SocketAddr>,
    health: Mutex<Vec<Health>>,
    connector: Arc<dyn Connector>,
    timeout: Duration,
    bounds: Intake,
    counters: Arc<Counters>,
}

/// One server as `status` tells of it.
#[derive(Clone, Debug)]
pub struct ServerState {
    /// Its address.
    pub address: SocketAddr,
    /// Whether it is left alone because it does not answer.
    pub down: bool,
    /// Smoothed round-trip time; nothing before its first answer.
    pub latency: Option<Duration>,
}

/// Why there is no usable answer.
#[derive(Debug)]
pub struct Unanswered {
    /// INFO-CODE that says so: 22 or 23 (RFC 8914).
    pub code: u16,
    /// An answer with an error's response code, if a server gave one.
    pub said: Option<Answer>,
    /// It was for want of a socket of our own, which says nothing of the question.
    pub ours: bool,
}

/// A try that was made before the pool is asked, and did not end the matter.
#[derive(Debug)]
pub struct Tried {
    /// Which server was asked.
    pub server: usize,
    /// When that was: the time for the whole question counts from then.
    pub since: Instant,
    /// Whether anything came from it.
    pub heard: bool,
    /// Its answer with an error's response code, if it was that.
    pub said: Option<Answer>,
    /// Its answer by UDP can't be used, but the one by TCP may be: it was cut, or in other letters.
    pub by_tcp: bool,
}

/// What came of a question that a worker asked.
#[derive(Debug)]
pub(super) struct Heard {
    /// The flight that asks.
    pub(super) ticket: Ticket,
    /// What came of it.
    pub(super) outcome: Outcome,
}

/// See [`Heard`].
#[derive(Debug)]
pub(super) enum Outcome {
    /// The answer.
    Answered(Answer),
    /// Nothing that is good enough: the pool has to be asked.
    Tried(Tried),
}

/// The server to ask first.
#[derive(Clone, Copy, Debug)]
pub(super) struct First {
    /// Which one it is.
    pub(super) server: usize,
    /// Its address.
    pub(super) address: SocketAddr,
    /// How long to wait for it alone.
    pub(super) patience: Duration,
}

/// Whether an answer's response code is one to give at once.
pub(super) fn is_usable(answer: &Answer) -> bool {
    const NOERROR: u16 = Rcode::NoError as u16;
    const NXDOMAIN: u16 = Rcode::NxDomain as u16;
    matches!(answer.rcode(), NOERROR | NXDOMAIN)
}

/// What one try ended with.
struct Try {
    server: usize,
    took: Duration,
    /// Whether anything came from it, usable or not.
    heard: bool,
    result: Result<Answer, ExchangeError>,
}

impl Pool {
    /// These servers, asked through `connector`; one question takes at most `timeout`.
    pub fn new(
        servers: Vec<SocketAddr>,
        connector: Arc<dyn Connector>,
        timeout: Duration,
        bounds: Intake,
        counters: Arc<Counters>,
    ) -> Self {
        let health = Mutex::new(vec![Health::default(); servers.len()]);
        Self {
            servers,
            health,
            connector,
            timeout,
            bounds,
            counters,
        }
    }

    /// How long one question may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The servers and how they do.
    pub fn state(&self) -> Vec<ServerState> {
        let now = Instant::now();
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let state = |(&address, health): (&SocketAddr, &Health)| ServerState {
            address,
            down: health.is_down(now),
            latency: health.latency(),
        };
        self.servers.iter().zip(health.iter()).map(state).collect()
    }

    /// The server to ask first; nothing when there is none, or another thread has the record of
    /// their health: this never waits.
    pub(super) fn try_first(&self, now: Instant) -> Option<First> {
        let mut health = self.health.try_lock().ok()?;
        let server = *order(&mut health, now).first()?;
        Some(First {
            server,
            address: self.servers[server],
            patience: health[server].patience().min(self.timeout / 2),
        })
    }

    /// Notes that a server answered, unless another thread is about to note something.
    pub(super) fn try_answered(&self, server: usize, took: Duration) {
        if let Ok(mut health) = self.health.try_lock() {
            health[server].answered(took);
        }
    }

    /// Asks until an answer comes or the time is over. A server that keeps us waiting is not given
    /// up: the next one is asked beside it, and the first good answer counts. With one server only,
    /// the question is repeated, for a datagram may be lost. What was `tried` before counts.
    ///
    /// # Errors
    /// [`Unanswered`] when no server gave an answer with response code NOERROR or NXDOMAIN.
    pub async fn ask(&self, question: &Key, tried: Option<Tried>) -> Result<Answer, Unanswered> {
        let now = Instant::now();
        let deadline = tried.as_ref().map_or(now, |tried| tried.since) + self.timeout;
        let mut failure = Unanswered {
            code: code::NO_REACHABLE_AUTHORITY,
            said: None,
            ours: false,
        };
        let mut heard = vec![false; self.servers.len()];
        // One question is one failure, however often it was repeated.
        let mut charged = heard.clone();
        let mut tries = FuturesUnordered::new();
        let mut first = None;
        let mut order = self.order(now);
        let count = (order.len() * ROUNDS).min(MOST_TRIES.max(order.len()));
        let share = self.timeout / count.max(1) as u32;
        let left = count - usize::from(tried.is_some()).min(count);
        if let Some(tried) = tried {
            failure.said = tried.said;
            if tried.by_tcp {
                tries.push(self.attempt(tried.server, Transport::Tcp, question, deadline));
                first = Some(tried.server);
            }
            if !tried.heard {
                self.charge(tried.server, &mut charged);
                // It had its turn: all others come before it.
                order.retain(|&server| server != tried.server);
                order.push(tried.server);
            }
            heard[tried.server] = tried.heard;
            charged[tried.server] = true;
        }
        let mut plan = order.iter().copied().cycle().take(left);
        loop {
            let asked = first.take().or_else(|| {
                let next = plan.find(|&server| !heard[server])?;
                tries.push(self.attempt(next, Transport::Udp, question, deadline));
                Some(next)
            });
            let until = match asked {
                Some(server) => {
                    let patience = self.update(server, |health| health.patience());
                    deadline.min(Instant::now() + patience.min(share))
                }
                None if tries.is_empty() => return Err(failure),
                None => deadline,
            };
            tokio::select! {
                biased;
                Some(done) = tries.next() => {
                    heard[done.server] |= done.heard;
                    if let Some(answer) = self.judge(done, &mut charged, &mut failure) {
                        return Ok(answer);
                    }
                }
                () = sleep_until(until) => {
                    if let Some(late) = asked && !self.connector.crowded() {
                        self.charge(late, &mut charged);
                    }
                    if until == deadline {
                        return Err(failure);
                    }
                }
            }
        }
    }

    fn order(&self, now: Instant) -> Vec<usize> {
        order(
            &mut self.health.lock().unwrap_or_else(PoisonError::into_inner),
            now,
        )
    }

    fn update<T>(&self, server: usize, change: impl FnOnce(&mut Health) -> T) -> T {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut health[server])
    }

    fn charge(&self, server: usize, charged: &mut [bool]) {
        if !std::mem::replace(&mut charged[server], true) {
            self.update(server, |health| health.failed(Instant::now()));
        }
    }

    /// One server, asked by UDP, and by TCP when that answer was cut; or by TCP at once.
    async fn attempt(
        &self,
        server: usize,
        over: Transport,
        question: &Key,
        deadline: Instant,
    ) -> Try {
        let start = Instant::now();
        let mut octets = self.exchange(server, over, question, deadline).await;
        let took = start.elapsed();
        let mut heard = false;
        if over == Transport::Udp {
            self.counters.bump(Count::UpstreamQueries);
            heard = matches!(octets, Ok(_) | Err(ExchangeError::Malformed));
            if octets.is_ok() {
                self.counters.upstream_took(took);
            }
            // Before its records are read: a cut answer may end in the middle of one.
            if octets.as_deref().is_ok_and(answer::is_cut) {
                self.counters.bump(Count::UpstreamTcp);
                octets = self
                    .exchange(server, Transport::Tcp, question, deadline)
                    .await;
            }
        } else {
            self.counters.bump(Count::UpstreamTcp);
        }
        let result = octets.and_then(|octets| {
            let read = self.read(&octets, question);
            if read.is_err() {
                self.counters.bump(Count::UpstreamGarbage);
            }
            read
        });
        Try {
            server,
            took,
            heard,
            result,
        }
    }

    async fn exchange(
        &self,
        server: usize,
        over: Transport,
        question: &Key,
        deadline: Instant,
    ) -> Result<Vec<u8>, ExchangeError> {
        let patience = deadline.saturating_duration_since(Instant::now());
        let address = self.servers[server];
        let octets = self.connector.exchange(address, over, question, patience);
        octets.await
    }

    /// The answer in the octets. By TCP nothing need be cut: such an answer is not whole, and none
    /// to keep.
    pub(super) fn read(&self, octets: &[u8], question: &Key) -> Result<Answer, ExchangeError> {
        let malformed = ExchangeError::Malformed;
        let (name, _) = Name::read(question.name(), 0).map_err(|_| malformed)?;
        Answer::read(octets, &name, question.rtype(), class::IN, self.bounds)
            .ok()
            .filter(|answer| !answer.truncated())
            .ok_or(malformed)
    }

    /// The answer, if it is one to give; else what is learned from its absence.
    fn judge(&self, done: Try, charged: &mut [bool], failure: &mut Unanswered) -> Option<Answer> {
        // A server that says anything is up: strangers write the zones that it reads to us.
        if done.heard {
            self.update(done.server, |health| health.answered(done.took));
        } else if !matches!(done.result, Err(ExchangeError::Busy)) {
            self.charge(done.server, charged);
        }
        failure.ours = matches!(done.result, Err(ExchangeError::Busy));
        match done.result {
            Ok(answer) if is_usable(&answer) => return Some(answer),
            Ok(answer) => {
                failure.said.get_or_insert(answer);
            }
            Err(ExchangeError::Unreachable) => failure.code = code::NETWORK_ERROR,
            Err(_) => {}
        }
        None
    }
}

/// The servers in the order to ask them; the first one is about to be.
fn order(health: &mut [Health], now: Instant) -> Vec<usize> {
    let order = health::order(health, now);
    for &other in order.iter().skip(1) {
        health[other].passed_over();
    }
    order
}

#[cfg(test)]
mod tests;
