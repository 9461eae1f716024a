//! The pool of upstream servers and their health.
//!
//! It does not cache: each call sends a query. The list of servers can be replaced while it serves.

mod asking;
pub(super) mod attempts;
mod blocks;
mod bounds;
pub mod connect;
mod datagram;
pub mod exchange;
mod failures;
pub(super) mod first_attempt;
mod health;
mod http;
pub mod pools;
mod query;
pub mod reply;
pub mod server;
pub mod state;
mod stream;
pub mod traffic;
mod turns;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub use self::blocks::{BlockCounts, RecentBlocks};
use self::bounds::{Bounds, is_usable};
use self::connect::Connector;
pub use self::failures::FailureCounts;
use self::health::Health;
use self::reply::Again;
use self::server::{Server, Target};
pub use self::stream::placed::OpenExchange;
use super::routes::PoolId;
use super::shared::Setting;
use crate::config::selection::{Selection, Strategy};
use crate::stats::Counters;
use crate::sys::udp::Ports;
use crate::wire::answer::{Answer, Intake};

/// The upstream servers.
pub struct Pool {
    id: PoolId,
    servers: Mutex<Servers>,
    /// Whether any server is asked by encrypted connections.
    is_encrypted: AtomicBool,
    version: AtomicU64,
    connector: Arc<dyn Connector>,
    timeout: Setting,
    intake: Bounds,
    ports: Arc<Ports>,
    counters: Arc<Counters>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers = self.lock();
        f.debug_tuple("Pool").field(&servers.all).finish()
    }
}

/// The current servers and their health.
#[derive(Default)]
struct Servers {
    all: Vec<Arc<Server>>,
    health: Vec<Health>,
}

impl Servers {
    fn health(&mut self, server: &Arc<Server>) -> Option<&mut Health> {
        let is_it = |known: &Arc<Server>| Arc::ptr_eq(known, server);
        let at = self.all.iter().position(is_it)?;
        self.health.get_mut(at)
    }

    fn is_encrypted(&self) -> bool {
        self.all.iter().any(|server| server.is_encrypted())
    }

    /// The indices of the servers in the order to ask them, and how many of them to ask at once.
    fn order(&self, selection: &Selection, now: Instant) -> (Vec<usize>, usize) {
        let order = health::order(&self.health, selection.strategy, now);
        (order, self.at_once(selection, now))
    }

    /// Records for a query that the servers of `order` are not asked at first, except `at_once` of them.
    fn pass_over(&mut self, selection: &Selection, order: &[usize], at_once: usize) {
        // With a strict order, times don't matter, and those that are shown should stay as they were measured.
        if selection.strategy != Strategy::Strict {
            for &other in order.iter().skip(at_once) {
                self.health[other].passed_over();
            }
        }
    }

    /// How many servers to ask at once: servers that are down are not among them.
    fn at_once(&self, selection: &Selection, now: Instant) -> usize {
        match selection.strategy {
            Strategy::Fastest | Strategy::Strict => 1,
            Strategy::Parallel => {
                let up = self.health.iter().filter(|health| !health.is_down(now));
                up.count().min(selection.parallel_servers).max(1)
            }
        }
    }
}

/// Why there is no usable answer.
#[derive(Debug)]
pub struct Unanswered {
    /// The INFO-CODE of the Extended DNS Error: 22 or 23 (RFC 8914).
    pub code: u16,
    /// An answer with an error's response code, if a server sent one. While others are asked, it may be an answer by which
    /// a server blocks the name.
    pub said: Option<Answer>,
    /// Whether the cause was that we had no free socket. That says nothing about the name.
    pub ours: bool,
}

impl Unanswered {
    /// Keeps the first answer; a usable one, by which a server blocks the name, takes precedence.
    fn keep(&mut self, answer: Answer) {
        match &self.said {
            Some(kept) if is_usable(kept) || !is_usable(&answer) => {}
            _ => self.said = Some(answer),
        }
    }

    /// The end of a query: an answer by which a server blocks the name is better than none.
    fn end(mut self) -> Result<Answer, Self> {
        match self.said.take_if(|kept| is_usable(kept)) {
            Some(answer) => Ok(answer),
            None => Err(self),
        }
    }
}

/// An attempt that was made before the pool is asked, and brought no usable answer.
#[derive(Debug)]
pub struct PriorAttempt {
    /// The server that was asked.
    pub server: Arc<Server>,
    /// When it was asked: the timeout of the whole query starts then.
    pub since: Instant,
    /// Whether it responded.
    pub responded: bool,
    /// Its answer, if that had an error's response code, or blocks the name and other servers are to be asked then.
    pub said: Option<Answer>,
    /// How to ask the same server again, if its response is a reason to do so.
    pub again: Option<Again>,
    /// The query, if it waits on a connection, where its response may still arrive.
    pub open: Option<OpenExchange>,
}

/// The server to ask first.
#[derive(Clone, Debug)]
pub(super) struct First {
    /// The server.
    pub(super) server: Arc<Server>,
    /// How long to wait for it alone, before the query is handed over.
    pub(super) patience: Duration,
}

impl Pool {
    /// The default pool. Asks these servers through `connector`; one query takes at most `timeout`. Workers send from
    /// `ports`.
    pub fn new(
        servers: Vec<Server>,
        connector: Arc<dyn Connector>,
        timeout: Duration,
        intake: Intake,
        ports: Arc<Ports>,
        counters: Arc<Counters>,
    ) -> Self {
        let all: Vec<_> = servers.into_iter().map(Arc::new).collect();
        let health = vec![Health::default(); all.len()];
        let servers = Servers { all, health };
        Self {
            id: PoolId::DEFAULT,
            is_encrypted: AtomicBool::new(servers.is_encrypted()),
            servers: Mutex::new(servers),
            version: AtomicU64::default(),
            connector,
            timeout: Setting::new(timeout),
            intake: Bounds::new(intake),
            ports,
            counters,
        }
    }

    /// Changes how long one query may take, and the limits on answers.
    pub fn tune(&self, timeout: Duration, intake: Intake) {
        self.timeout.set(timeout);
        self.intake.set(intake);
    }

    /// Makes workers send later queries from new ports, because the open ones were opened under earlier settings.
    pub fn renew(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Increases with each change to the servers or to how they are asked.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// How long one query may take.
    pub fn timeout(&self) -> Duration {
        self.timeout.get()
    }

    /// The ports that workers send from.
    pub(super) fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Replaces the servers. The health of those that stay is kept. Queries that are in flight continue with the
    /// servers that were configured when they began. Later queries are not sent to servers that were removed.
    pub fn replace(&self, servers: &[Target]) {
        let mut held = self.lock();
        let mut next = Servers::default();
        for target in servers {
            let known = held.all.iter().position(|server| server.is(target));
            let (server, health) = match known {
                Some(at) => (Arc::clone(&held.all[at]), held.health[at]),
                None => {
                    let server = Server::of(target.clone());
                    (Arc::new(server), Health::default())
                }
            };
            next.all.push(server);
            next.health.push(health);
        }
        self.is_encrypted
            .store(next.is_encrypted(), Ordering::Release);
        *held = next;
        self.renew();
    }

    /// Whether any server is asked by encrypted connections. Then workers send nothing: they would send it in clear.
    pub(super) fn is_encrypted(&self) -> bool {
        self.is_encrypted.load(Ordering::Acquire)
    }

    /// The server to ask first, if `accept` takes it, with what that returned. `None` without an effect otherwise, or if
    /// several servers are to be asked at once, or if another thread holds the lock: this never waits.
    pub(super) fn try_first<T>(
        &self,
        now: Instant,
        accept: impl FnOnce(&Server) -> Option<T>,
    ) -> Option<(First, T)> {
        let selection = self.intake.selection();
        let mut servers = self.servers.try_lock().ok()?;
        let (order, at_once) = servers.order(&selection, now);
        if at_once > 1 {
            return None;
        }
        let first = *order.first()?;
        let server = Arc::clone(&servers.all[first]);
        let accepted = accept(&server)?;
        servers.pass_over(&selection, &order, at_once);
        let patience = servers.health[first].patience(selection.strategy);
        let patience = patience.min(self.timeout() / 2);
        Some((First { server, patience }, accepted))
    }

    /// Records that a server answered, unless another thread holds the lock.
    pub(super) fn try_answered(&self, server: &Arc<Server>, took: Duration) {
        if let Ok(mut servers) = self.servers.try_lock()
            && let Some(health) = servers.health(server)
        {
            health.answered(took);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Servers> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a server's health; `None` if the server was removed meanwhile.
    fn update<T>(&self, server: &Arc<Server>, change: impl FnOnce(&mut Health) -> T) -> Option<T> {
        self.lock().health(server).map(change)
    }
}

#[cfg(test)]
mod tests;
