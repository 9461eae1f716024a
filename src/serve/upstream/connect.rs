//! Sends one query to one upstream server and returns the response, without reading its records.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::datagram;
use super::exchange::{ExchangeError, How, Reply, Transport, error_of};
use super::query::OutgoingQuery;
use super::server::Server;
use super::stream::placed::OpenExchange;
use crate::serve::cache::Key;
use crate::stats::Counters;
use crate::sys::udp::Ports;

/// Sends queries. Tests implement it by a script.
pub trait Connector: Send + Sync + 'static {
    /// Sends a query for `key` to `server` and returns its reply. Gives up after `patience`.
    fn exchange(
        &self,
        server: &Arc<Server>,
        how: How,
        key: &Key,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Reply, ExchangeError>>;

    /// Waits for the reply to a query that a first attempt sent to `server` on a connection. Sends it again only if that
    /// connection ends, or is dead without a sign. Gives up after `patience`.
    fn resume(
        &self,
        open: OpenExchange,
        server: &Arc<Server>,
        key: &Key,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Reply, ExchangeError>>;

    /// Whether queries wait for a socket: then a late answer may not be the server's fault.
    fn crowded(&self) -> bool {
        false
    }
}

/// Sends queries over the network.
pub struct Network {
    /// Permits for sockets that serve a single query: UDP sockets, and the TCP connections to servers that get a
    /// separate connection for each query. Shared TCP connections need no permit, because there are only one or two per
    /// server.
    places: Arc<Semaphore>,
    ports: Arc<Ports>,
    counters: Arc<Counters>,
}

impl Network {
    /// A network with at most `sockets` sockets for single queries at a time; those of UDP get ports from `ports`. A
    /// query uses one socket for each attempt in progress.
    pub fn new(sockets: usize, ports: Arc<Ports>, counters: Arc<Counters>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(sockets.clamp(1, Semaphore::MAX_PERMITS))),
            ports,
            counters,
        }
    }

    /// Sends a query, unless it is `open`, and waits for the reply.
    fn ask(
        &self,
        server: &Arc<Server>,
        how: How,
        key: &Key,
        patience: Duration,
        open: Option<OpenExchange>,
    ) -> BoxFuture<'static, Result<Reply, ExchangeError>> {
        let mut dialect = how.dialect;
        dialect.random_case &= how.over == Transport::Udp;
        let mut query = OutgoingQuery::new(key, dialect);
        if how.over.is_encrypted() {
            query.pad();
        }
        let (server, counters) = (Arc::clone(server), Arc::clone(&self.counters));
        let deadline = Instant::now() + patience;
        let (places, ports) = (Arc::clone(&self.places), Arc::clone(&self.ports));
        Box::pin(async move {
            match how.over {
                Transport::Udp => {
                    let Ok(Ok(_place)) = timeout_at(deadline, places.acquire()).await else {
                        return Err(ExchangeError::Busy);
                    };
                    let reply = datagram::exchange(server.destination(), &query, &ports, &counters);
                    match timeout_at(deadline, reply).await {
                        Ok(Ok(reply)) => Ok(reply),
                        Ok(Err(error)) => Err(error_of(&error)),
                        Err(_) => Err(ExchangeError::Timeout),
                    }
                }
                Transport::Tcp
                | Transport::Tls
                | Transport::Https
                | Transport::Quic
                | Transport::H3 => {
                    let peer = server.peer(&counters);
                    let connections = &server.connections;
                    let client = how.client;
                    let reply = connections.exchange(&peer, client, query, deadline, &places, open);
                    let (bytes, fit) = reply.await?;
                    Ok(Reply { bytes, fit })
                }
            }
        })
    }
}

impl Connector for Network {
    fn exchange(
        &self,
        server: &Arc<Server>,
        how: How,
        key: &Key,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Reply, ExchangeError>> {
        self.ask(server, how, key, patience, None)
    }

    fn resume(
        &self,
        open: OpenExchange,
        server: &Arc<Server>,
        key: &Key,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Reply, ExchangeError>> {
        self.ask(server, open.how(), key, patience, Some(open))
    }

    fn crowded(&self) -> bool {
        self.places.available_permits() == 0
    }
}
