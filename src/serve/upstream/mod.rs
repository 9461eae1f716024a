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
use crate::stats::{Count, Counters};
use crate::wire::answer::{self, Answer, TtlBounds};
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
    bounds: TtlBounds,
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
        bounds: TtlBounds,
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

    /// Asks until an answer comes or the time is over. A server that keeps us waiting is not given
    /// up: the next one is asked beside it, and the first good answer counts. With one server only,
    /// the question is repeated, for a datagram may be lost.
    ///
    /// # Errors
    /// [`Unanswered`] when no server gave an answer with response code NOERROR or NXDOMAIN.
    pub async fn ask(&self, question: &Key) -> Result<Answer, Unanswered> {
        let start = Instant::now();
        let deadline = start + self.timeout;
        let order = self.order(start);
        let mut failure = Unanswered {
            code: code::NO_REACHABLE_AUTHORITY,
            said: None,
            ours: false,
        };
        let count = (order.len() * ROUNDS).min(MOST_TRIES.max(order.len()));
        let share = self.timeout / count.max(1) as u32;
        let mut plan = order.iter().copied().cycle().take(count);
        let mut heard = vec![false; order.len()];
        // One question is one failure, however often it was repeated.
        let mut charged = heard.clone();
        let mut tries = FuturesUnordered::new();
        loop {
            let asked = plan.find(|&server| !heard[server]);
            let until = match asked {
                Some(server) => {
                    tries.push(self.attempt(server, question, deadline));
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
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let order = health::order(&health, now);
        for &other in order.iter().skip(1) {
            health[other].passed_over();
        }
        order
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

    /// One server, asked by UDP, and by TCP when that answer was cut.
    async fn attempt(&self, server: usize, question: &Key, deadline: Instant) -> Try {
        let start = Instant::now();
        let mut octets = self
            .exchange(server, Transport::Udp, question, deadline)
            .await;
        let took = start.elapsed();
        let heard = matches!(octets, Ok(_) | Err(ExchangeError::Malformed));
        self.counters.bump(Count::UpstreamQueries);
        // Before its records are read: a cut answer may end in the middle of one.
        if octets.as_deref().is_ok_and(answer::is_cut) {
            self.counters.bump(Count::UpstreamTcp);
            octets = self
                .exchange(server, Transport::Tcp, question, deadline)
                .await;
        }
        let result = octets.and_then(|octets| self.read(&octets, question));
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
    fn read(&self, octets: &[u8], question: &Key) -> Result<Answer, ExchangeError> {
        let malformed = ExchangeError::Malformed;
        let (name, _) = Name::read(question.name(), 0).map_err(|_| malformed)?;
        Answer::read(octets, &name, question.rtype(), class::IN, self.bounds)
            .ok()
            .filter(|answer| !answer.truncated())
            .ok_or(malformed)
    }

    /// The answer, if it is one to give; else what is learned from its absence.
    fn judge(&self, done: Try, charged: &mut [bool], failure: &mut Unanswered) -> Option<Answer> {
        const NOERROR: u16 = Rcode::NoError as u16;
        const NXDOMAIN: u16 = Rcode::NxDomain as u16;
        // A server that says anything is up: strangers write the zones that it reads to us.
        if done.heard {
            self.update(done.server, |health| health.answered(done.took));
        } else if !matches!(done.result, Err(ExchangeError::Busy)) {
            self.charge(done.server, charged);
        }
        failure.ours = matches!(done.result, Err(ExchangeError::Busy));
        match done.result {
            Ok(answer) if matches!(answer.rcode(), NOERROR | NXDOMAIN) => return Some(answer),
            Ok(answer) => {
                failure.said.get_or_insert(answer);
            }
            Err(ExchangeError::Unreachable) => failure.code = code::NETWORK_ERROR,
            Err(_) => {}
        }
        None
    }
}

#[cfg(test)]
mod tests;
