//! How the upstream servers do: each for `status`, and whether all of them are silent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Pool;
use super::failures::FailureCounts;
use super::health::Health;
use super::server::Server;
use crate::serve::cache::Key;
use crate::wire::ask::Dialect;

/// One server as `status` shows it.
#[derive(Clone, Debug)]
pub struct ServerState {
    /// Its address.
    pub address: SocketAddr,
    /// Whether it is left alone because it does not answer.
    pub down: bool,
    /// Whether it has left its last queries without a word, be it asked again by now.
    pub silent: bool,
    /// Smoothed round-trip time; `None` before its first answer.
    pub latency: Option<Duration>,
    /// What it is asked with.
    pub dialect: Dialect,
    /// How often it referred to other servers instead of answering.
    pub referrals: u64,
    /// Answers that were no use.
    pub failures: FailureCounts,
}

impl Pool {
    /// The servers and how they do.
    pub fn state(&self) -> Vec<ServerState> {
        let now = Instant::now();
        let servers = self.lock();
        let state = |(server, health): (&Arc<Server>, &Health)| ServerState {
            address: server.address(),
            down: health.is_down(now),
            silent: health.is_silent(),
            latency: health.latency(),
            dialect: server.dialect(now),
            referrals: server.referrals(),
            failures: server.failures(),
        };
        let both = servers.all.iter().zip(&servers.health);
        both.map(state).collect()
    }

    /// Whether none of the servers answers. Takes as long as a query.
    ///
    /// Servers that left some queries without a word may do so for a few broken zones only, and where
    /// no client asks, nobody learns that they are back. So they are asked for the name servers of the
    /// root, which a resolver always knows.
    ///
    /// While an outage goes on (`stands`), only an answer ends it: servers that were put in place of the silent
    /// ones have not been asked yet.
    pub async fn is_out(&self, stands: bool) -> bool {
        if !stands && !self.is_silent() {
            return false;
        }
        // What counts is whether any server says anything, not what.
        let _ = self.ask(&Key::root_servers(), None, None).await;
        match stands {
            true => !self.is_heard(),
            false => self.is_silent(),
        }
    }

    /// Whether one of the servers answered and is not silent since.
    fn is_heard(&self) -> bool {
        let heard = |health: &Health| health.latency().is_some() && !health.is_silent();
        self.lock().health.iter().any(heard)
    }

    fn is_silent(&self) -> bool {
        let servers = self.lock();
        !servers.health.is_empty() && servers.health.iter().all(|health| health.is_silent())
    }
}
