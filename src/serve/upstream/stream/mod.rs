//! TCP to one upstream server: connections that are shared, kept and replaced (RFC 7766).
//!
//! A response is matched to its query by ID and question section. Its records are not read here, so a malformed
//! record does not affect other queries on the connection. The code is generic over the stream, which may be TCP or a
//! layer over it.

mod connection;
mod state;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Mutex as Gate, Semaphore};
use tokio::time::{Instant, timeout_at};

use self::connection::Ending::{Closed, Failed};
use self::connection::{Connection, Ending, Response};
use self::state::lock;
use super::exchange::ExchangeError;
use super::query::OutgoingQuery;
use super::turns::Turns;
use crate::stats::Counters;

/// If a server closes a connection while pipelined queries are unanswered, each connection to it carries only one query
/// for this time (RFC 7766, section 6.2.4).
const WITHOUT_PIPELINING: Duration = Duration::from_secs(5 * 60);
/// The maximum number of simultaneous connections to one server that serve a single query each.
const SINGLES: usize = 16;
/// The maximum number of times that [`Connections::exchange`] tries a query, each time on another connection.
const MOST_TRIES: usize = 3;

/// The connections to one server.
pub(super) struct Connections {
    /// The shared connection. The lock is held while a new connection is opened, so that other queries wait for that
    /// connection instead of opening more.
    shared: Gate<Option<Connection>>,
    /// Until this time, each connection to the server gets only one query.
    single_until: Mutex<Option<Instant>>,
    singles: Arc<Turns>,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            shared: Gate::default(),
            single_until: Mutex::default(),
            singles: Turns::new(SINGLES),
        }
    }
}

impl Connections {
    /// Sends `query` to `server` and returns the response. The ID of the query is replaced by one that is free on the
    /// connection.
    ///
    /// If the server does not support pipelining, the query gets a connection of its own. The number of such
    /// connections to one server is limited, and clients take turns when their queries wait for one. Each such
    /// connection also takes a permit of `places`, which limits the sockets to all servers.
    pub(super) async fn exchange(
        &self,
        server: SocketAddr,
        client: Option<usize>,
        query: OutgoingQuery,
        deadline: Instant,
        places: &Semaphore,
        counters: &Arc<Counters>,
    ) -> Result<Response, ExchangeError> {
        for _ in 0..MOST_TRIES {
            let query = query.clone();
            let done = match self.is_single() {
                true => {
                    self.alone(server, client, query, deadline, places, counters)
                        .await
                }
                false => self.together(server, query, deadline, counters).await,
            };
            match done {
                Ok(response) => return Ok(response),
                // If the connection ended, the next try uses another one: a connection for this query alone, if the
                // query had been pipelined with others.
                Err(Closed { is_pipelined: true }) => self.be_single(),
                Err(Closed { .. }) => {}
                Err(Failed(error)) => return Err(error),
            }
        }
        Err(ExchangeError::Unreachable)
    }

    /// Uses the shared connection. A connection that was opened earlier may be dead without any sign of it. So if
    /// nothing arrives on it within half of the remaining time, the other half is used for another connection.
    async fn together(
        &self,
        server: SocketAddr,
        query: OutgoingQuery,
        deadline: Instant,
        counters: &Arc<Counters>,
    ) -> Result<Response, Ending> {
        let timed_out = Failed(ExchangeError::Timeout);
        let (connection, is_new) = self.connection(server, deadline, counters).await?;
        let now = Instant::now();
        let half = match is_new {
            true => deadline,
            false => now + deadline.saturating_duration_since(now) / 2,
        };
        let mut answer = std::pin::pin!(connection.ask(query.clone()));
        if let Ok(done) = timeout_at(half, &mut answer).await {
            return done;
        }
        if half == deadline {
            return Err(timed_out);
        }
        if connection.state.received_since(now) {
            // The connection is not dead; only the answer to this query is slow.
            return timeout_at(deadline, answer).await.unwrap_or(Err(timed_out));
        }
        let another = async {
            self.discard(&connection).await;
            let (another, _) = self.connection(server, deadline, counters).await?;
            another.ask(query).await
        };
        let either = async {
            tokio::select! {
                Ok(late) = answer => Ok(late),
                done = another => done,
            }
        };
        timeout_at(deadline, either).await.unwrap_or(Err(timed_out))
    }

    /// Uses a connection for this query alone.
    async fn alone(
        &self,
        server: SocketAddr,
        client: Option<usize>,
        query: OutgoingQuery,
        deadline: Instant,
        places: &Semaphore,
        counters: &Arc<Counters>,
    ) -> Result<Response, Ending> {
        let both = async { (self.singles.take(client).await, places.acquire().await) };
        let Ok((_single, Ok(_place))) = timeout_at(deadline, both).await else {
            return Err(Failed(ExchangeError::Busy));
        };
        let connection = Connection::open(server, deadline, counters).await?;
        let answer = timeout_at(deadline, connection.ask(query)).await;
        answer.unwrap_or(Err(Failed(ExchangeError::Timeout)))
    }

    /// The shared connection, and whether it is new.
    async fn connection(
        &self,
        server: SocketAddr,
        deadline: Instant,
        counters: &Arc<Counters>,
    ) -> Result<(Connection, bool), Ending> {
        let Ok(mut shared) = timeout_at(deadline, self.shared.lock()).await else {
            return Err(Failed(ExchangeError::Timeout));
        };
        if let Some(kept) = shared.as_ref().filter(|kept| !kept.is_closed()) {
            return Ok((kept.clone(), false));
        }
        let new = Connection::open(server, deadline, counters).await?;
        *shared = Some(new.clone());
        Ok((new, true))
    }

    /// Makes later queries use another connection. Queries that wait on this one may still be answered.
    async fn discard(&self, connection: &Connection) {
        let mut shared = self.shared.lock().await;
        if shared.as_ref().is_some_and(|kept| kept.is_same(connection)) {
            *shared = None;
        }
    }

    fn is_single(&self) -> bool {
        let until = *lock(&self.single_until);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn be_single(&self) {
        *lock(&self.single_until) = Some(Instant::now() + WITHOUT_PIPELINING);
    }
}
