//! Connections to one upstream server, over TCP, TLS, HTTPS or QUIC: shared, kept and replaced (RFC 7766, RFC 7858, RFC 8484,
//! RFC 9250).
//!
//! A response is matched to its query by ID and question section. Its records are not read here, so a malformed
//! record does not affect other queries on the connection.

mod connection;
mod https;
mod opening;
pub(super) mod peer;
pub(super) mod placed;
mod prompt;
mod quic;
mod state;
pub(super) mod waiter;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout_at};

use self::connection::{Connection, Room};
use self::opening::SharedConnection;
use self::peer::Peer;
use self::placed::OpenExchange;
use self::state::ConnectionState;
use self::waiter::{Fate, Outcome, Response};
use super::exchange::ExchangeError;
use super::query::OutgoingQuery;
use super::turns::Turns;
use crate::stats::Count;

/// The maximum number of simultaneous connections to one server that serve a single query each.
const SINGLES: usize = 16;
/// The maximum number of times that [`Connections::exchange`] sends a query, each time on another connection, because
/// the one before was cut.
const MOST_TRIES: usize = 8;
/// How long a query waits that the server refused to process on a connection that stays open; doubled with each try.
const REFUSED_PAUSE: Duration = Duration::from_millis(10);

/// The connections to one server.
pub(super) struct Connections {
    shared: Arc<SharedConnection>,
    singles: Arc<Turns>,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            shared: Arc::default(),
            singles: Turns::new(SINGLES),
        }
    }
}

impl Connections {
    /// Sends `query` to `peer` and returns the response. The ID of the query is replaced by one that is free on the
    /// connection. If the connection is cut, the query is sent again on another one. If it is `open`, it has been sent
    /// already.
    ///
    /// If the server does not support pipelining, the query gets its own connection. The number of such
    /// connections to one server is limited, and clients take turns when their queries wait for one. Each such
    /// connection also takes a permit of `places`, which limits the sockets to all servers.
    pub(super) async fn exchange(
        &self,
        peer: &Peer,
        client: Option<usize>,
        query: OutgoingQuery,
        deadline: Instant,
        places: &Semaphore,
        mut open: Option<OpenExchange>,
    ) -> Result<Response, ExchangeError> {
        let mut tries = 0;
        // A query that was not sent can't be the reason why the connection ended, so only the deadline limits that, unless
        // the connection was opened for this query.
        while tries < MOST_TRIES {
            let query = query.clone();
            let is_single = open.is_none() && self.shared.is_single();
            let done = match open.take() {
                Some(open) => self.resume(peer, open, query, deadline).await,
                None if is_single => self.alone(peer, client, query, deadline, places).await,
                None => self.together(peer, query, deadline).await,
            };
            match done? {
                Fate::Answered(response) => return Ok(response),
                Fate::Lost => {
                    tries += 1;
                    peer.counters.bump(Count::UpstreamResent);
                    if self.shared.kept().is_some() {
                        // The server refuses to process it for now, on a connection that stays open.
                        let pause = REFUSED_PAUSE * 2_u32.saturating_pow(tries as u32);
                        sleep_until(deadline.min(Instant::now() + pause)).await;
                    }
                }
                Fate::Unsent => tries += usize::from(is_single),
            }
            if Instant::now() >= deadline {
                return Err(ExchangeError::Timeout);
            }
        }
        Err(ExchangeError::Unreachable)
    }

    /// Room for one query on the shared connection, if that is open and has any.
    pub(super) fn room(&self) -> Option<Room> {
        self.shared.kept()?.room()
    }

    /// Uses the shared connection.
    async fn together(&self, peer: &Peer, query: OutgoingQuery, deadline: Instant) -> Outcome {
        let (connection, is_new) = self.shared.get(peer, deadline).await?;
        let answer = connection.ask(query.clone());
        if is_new {
            return until(deadline, answer).await;
        }
        let asked = (&connection.state, Instant::now());
        self.wait(peer, query, deadline, asked, answer).await
    }

    /// Waits for the response to a query that was sent on the shared connection.
    async fn resume(
        &self,
        peer: &Peer,
        open: OpenExchange,
        query: OutgoingQuery,
        deadline: Instant,
    ) -> Outcome {
        let (connection, since) = (Arc::clone(&open.connection), open.since());
        let asked = (&connection, since);
        self.wait(peer, query, deadline, asked, open.outcome())
            .await
    }

    /// Waits for `answer`, that of a query that was sent at some time on a connection. A connection that was opened earlier
    /// may be dead without any sign of it. So if nothing arrives on it within half of the time from then to the deadline,
    /// the other half is used for another connection.
    async fn wait(
        &self,
        peer: &Peer,
        query: OutgoingQuery,
        deadline: Instant,
        (connection, since): (&Arc<ConnectionState>, Instant),
        answer: impl Future<Output = Outcome>,
    ) -> Outcome {
        let half = since + deadline.saturating_duration_since(since) / 2;
        let mut answer = std::pin::pin!(answer);
        if let Ok(done) = timeout_at(half, &mut answer).await {
            return done;
        }
        if connection.received_since(since) {
            // The connection is not dead; only the answer to this query is slow.
            return until(deadline, answer).await;
        }
        let another = async {
            self.shared.discard(connection);
            let (another, _) = self.shared.get(peer, deadline).await?;
            another.ask(query).await
        };
        let either = async {
            tokio::select! {
                Ok(Fate::Answered(late)) = answer => Ok(Fate::Answered(late)),
                done = another => done,
            }
        };
        until(deadline, either).await
    }

    /// Uses a connection for this query alone.
    async fn alone(
        &self,
        peer: &Peer,
        client: Option<usize>,
        query: OutgoingQuery,
        deadline: Instant,
        places: &Semaphore,
    ) -> Outcome {
        let Ok(_single) = timeout_at(deadline, self.singles.take(client)).await else {
            return Err(ExchangeError::Busy);
        };
        // Without a permit of `places`, which queries to other servers need.
        if timeout_at(deadline, self.shared.pause_over())
            .await
            .is_err()
        {
            return Err(ExchangeError::Timeout);
        }
        let Ok(Ok(_place)) = timeout_at(deadline, places.acquire()).await else {
            return Err(ExchangeError::Busy);
        };
        let began = Instant::now();
        let opened = Connection::open(peer, deadline).await;
        let connection = opened.inspect_err(|_| self.shared.single_ended(began, false))?;
        let outcome = until(deadline, connection.ask(query)).await;
        // An outcome that is an error does not show whether the next connection is of use.
        if let Ok(fate) = &outcome {
            let is_answered = matches!(fate, Fate::Answered(_));
            self.shared.single_ended(began, is_answered);
        }
        outcome
    }
}

/// Waits for an outcome no longer than until the deadline.
async fn until(deadline: Instant, outcome: impl Future<Output = Outcome>) -> Outcome {
    let outcome = timeout_at(deadline, outcome).await;
    outcome.unwrap_or(Err(ExchangeError::Timeout))
}
