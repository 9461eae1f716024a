//! The state of each upstream server for `status`, and whether there is an outage: no server gives usable answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Pool;
use super::blocks::BlockCounts;
use super::exchange::Transport;
use super::failures::FailureCounts;
use super::health::Health;
use super::server::{Server, Target};
use super::traffic::TrafficCounts;
use crate::serve::cache::Key;
use crate::wire::ask::Dialect;

/// An outage ends after this many consecutive checks in which at least one server was not failing, even if no server
/// answers the test query.
const CALM: u32 = 10;

/// One server as `status` shows it.
#[derive(Clone, Debug)]
pub struct ServerState {
    /// Its address.
    pub address: SocketAddr,
    /// Whether it is not asked for a while because it does not answer.
    pub down: bool,
    /// Whether it left its last queries unanswered, even if it is asked again by now.
    pub silent: bool,
    /// How many queries in a row it has left unanswered up to now.
    pub unanswered: u32,
    /// Whether its answers come after the time for which queries wait.
    pub late: bool,
    /// Smoothed round-trip time; `None` before its first answer.
    pub latency: Option<Duration>,
    /// The extensions that it is asked with.
    pub dialect: Dialect,
    /// How often it referred to other servers instead of answering.
    pub referrals: u64,
    /// Whether its last answers were all unusable.
    pub failing: bool,
    /// When its certificate ends, as of the last TLS handshake.
    pub certificate_end: Option<Timestamp>,
    /// The transport of a first query to it.
    pub transport: Transport,
    /// Why no connection to it can be established or used; `None` once one can.
    pub problem: Option<String>,
    /// The counts of its unusable answers.
    pub failures: FailureCounts,
    /// The counts of its answers that blocked names.
    pub blocks: BlockCounts,
    /// The counts of the queries to it, and its response times.
    pub traffic: TrafficCounts,
}

impl Pool {
    /// The state of each server.
    pub fn state(&self) -> Vec<ServerState> {
        let (now, timeout) = (Instant::now(), self.timeout());
        // Copied, because workers need the lock.
        let both: Vec<(Arc<Server>, Health)> = {
            let servers = self.lock();
            let health = servers.health.iter().copied();
            servers.all.iter().cloned().zip(health).collect()
        };
        let state = |(server, health): (Arc<Server>, Health)| ServerState {
            address: server.address(),
            down: health.is_down(now),
            silent: health.is_silent(),
            unanswered: health.unanswered(),
            late: health.is_late(timeout),
            latency: health.latency(),
            dialect: server.dialect(now),
            referrals: server.referrals(),
            failing: server.is_failing(),
            transport: server.transport(),
            certificate_end: server.certificate_end(),
            problem: server.problem(),
            failures: server.failures(),
            blocks: server.block_counts(now),
            traffic: server.traffic.counts(),
        };
        both.into_iter().map(state).collect()
    }

    /// Whether a server is silent, and its pause is over.
    fn has_untested(&self) -> bool {
        let now = Instant::now();
        let servers = self.lock();
        servers.health.iter().any(|health| health.needs_test(now))
    }

    /// The servers that are silent, or late, or answer every query with an error.
    pub fn failing(&self) -> Vec<Target> {
        let timeout = self.timeout();
        let servers = self.lock();
        let both = servers.all.iter().zip(&servers.health);
        let failing = both.filter(|(server, health)| fails(server, health, timeout));
        failing.map(|(server, _)| server.target().clone()).collect()
    }

    /// Whether each server is silent, or late, or answers every query with an error.
    fn is_failing(&self) -> bool {
        let timeout = self.timeout();
        let servers = self.lock();
        let mut both = servers.all.iter().zip(&servers.health);
        !servers.all.is_empty() && both.all(|(server, health)| fails(server, health, timeout))
    }
}

fn fails(server: &Server, health: &Health, timeout: Duration) -> bool {
    health.is_silent() || health.is_late(timeout) || server.is_failing()
}

/// Finds out from time to time whether any server gives usable answers.
///
/// Servers that are silent or answer with errors may do so for a few broken zones only. And while no client sends
/// queries, nothing would show that a server works again. Therefore the servers are asked a test query that they always
/// can answer: for the name servers of the root, which a resolver knows, or for the SOA record of a forwarded zone.
///
/// Without an outage, only servers that are silent are asked, after each of their pauses.
#[derive(Debug, Default)]
pub struct OutageWatch {
    is_out: bool,
    /// The number of consecutive checks in which at least one server was not failing, while no server answered the
    /// test query.
    calm: u32,
}

impl OutageWatch {
    /// Whether there was an outage at the last check, and no server gave usable answers since.
    pub fn goes_on(&self, pool: &Pool) -> bool {
        self.is_out && pool.is_failing()
    }

    /// Whether the next check asks servers the test query. If not, there is no outage.
    pub fn needs_test(&self, pool: &Pool) -> bool {
        self.is_out || pool.is_failing() || pool.has_untested()
    }

    /// Whether no server gives usable answers. Takes as long as a query, for which `test` is the key.
    ///
    /// An outage ends if a server answers the test query, or if clients have got usable answers for a while. A
    /// single answer to a client does not end it, because that may come from the cache of a server that can reach
    /// nothing.
    pub async fn look(&mut self, pool: &Arc<Pool>, test: &Key) -> bool {
        let is_failing = pool.is_failing();
        if !self.is_out && !is_failing {
            pool.test_silent(test);
            return false;
        }
        self.calm = if is_failing { 0 } else { self.calm + 1 };
        let answer = pool.ask(test, None, None).await;
        self.is_out = answer.is_err()
            && match self.is_out {
                true => self.calm < CALM,
                // Clients may have got answers meanwhile.
                false => pool.is_failing(),
            };
        self.is_out
    }
}
