//! Sends one query to one upstream server and returns the response, without reading its records.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::datagram;
use super::query::OutgoingQuery;
use super::server::Server;
use crate::serve::cache::Key;
use crate::stats::Counters;
use crate::sys::udp::Ports;
use crate::wire::ask::{Dialect, Fit};

/// How a query travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One datagram from a random port with a random ID (RFC 5452).
    Udp,
    /// A connection that is shared and kept open (RFC 7766).
    Tcp,
}

/// How a query is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct How {
    /// By which transport.
    pub over: Transport,
    /// The client that it is sent for; `None` for a prefetch. Clients take turns where connections are few.
    pub client: Option<usize>,
    /// With which extensions. By TCP the letter case is not random: forging is not a risk there.
    pub dialect: Dialect,
}

/// The response to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The message.
    pub bytes: Vec<u8>,
    /// How it fits the query; never [`Fit::Foreign`].
    pub fit: Fit,
}

/// Why a server gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeError {
    /// It did not answer in time.
    Timeout,
    /// It can't be reached.
    Unreachable,
    /// No socket was free; this is no sign of a fault of the server.
    Busy,
}

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

    /// Whether queries wait for a socket: then a late answer may not be the server's fault.
    fn crowded(&self) -> bool {
        false
    }
}

/// Sends queries over the network.
pub struct Network {
    /// Permits for sockets of one query: UDP, and TCP to servers that get a connection for each query. The shared TCP
    /// connections need none: there are one or two to each server.
    places: Arc<Semaphore>,
    ports: Arc<Ports>,
    counters: Arc<Counters>,
}

impl Network {
    /// With at most `sockets` sockets of one query at a time, those of UDP from `ports`. A query has one for each
    /// attempt that waits.
    pub fn new(sockets: usize, ports: Arc<Ports>, counters: Arc<Counters>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(sockets.clamp(1, Semaphore::MAX_PERMITS))),
            ports,
            counters,
        }
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
        let mut dialect = how.dialect;
        dialect.random_case &= how.over == Transport::Udp;
        let query = OutgoingQuery::new(key, dialect);
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
                Transport::Tcp => {
                    let address = server.destination();
                    let connections = &server.connections;
                    let reply = connections
                        .exchange(address, how.client, query, deadline, &places, &counters);
                    let (bytes, fit) = reply.await?;
                    Ok(Reply { bytes, fit })
                }
            }
        })
    }

    fn crowded(&self) -> bool {
        self.places.available_permits() == 0
    }
}

/// The error of an exchange for an error of a socket: `Busy` if the cause is our lack of sockets.
pub(super) fn error_of(error: &io::Error) -> ExchangeError {
    let ours = [
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOBUFS,
        libc::ENOMEM,
        libc::EADDRINUSE,
        libc::EADDRNOTAVAIL,
        libc::EAGAIN,
        libc::EPERM,
    ];
    match error.raw_os_error() {
        Some(number) if ours.contains(&number) => ExchangeError::Busy,
        _ if error.kind() == io::ErrorKind::TimedOut => ExchangeError::Timeout,
        _ => ExchangeError::Unreachable,
    }
}
