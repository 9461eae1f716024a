//! A first attempt's query on a shared connection, and its continuation by the resolver.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::state::ConnectionState;
use super::waiter::{Fate, Outcome};
use crate::serve::upstream::exchange::How;

/// A query that was sent on a shared connection, and takes a place there until this is dropped.
pub(in crate::serve) struct PlacedQuery {
    pub(super) connection: Arc<ConnectionState>,
    pub(super) _place: OwnedSemaphorePermit,
}

impl PlacedQuery {
    /// Has another task wait for the outcome, which is to be sent to the returned sender.
    pub(in crate::serve) fn hand_over(
        &self,
        how: How,
        since: Instant,
    ) -> (oneshot::Sender<Outcome>, OpenExchange) {
        let (outcome, received) = oneshot::channel();
        let exchange = OpenExchange {
            how,
            since,
            connection: Arc::clone(&self.connection),
            outcome: received,
        };
        (outcome, exchange)
    }
}

/// A query that was sent on a shared connection and has no response yet. The holder waits for it.
pub struct OpenExchange {
    how: How,
    since: Instant,
    pub(super) connection: Arc<ConnectionState>,
    outcome: oneshot::Receiver<Outcome>,
}

impl OpenExchange {
    /// How it was sent.
    pub fn how(&self) -> How {
        self.how
    }

    /// When it was sent.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Waits for the outcome, without a timeout.
    pub(super) async fn outcome(self) -> Outcome {
        // The first attempts end before this when the server stops. Then the query is sent again, as if it were lost.
        self.outcome.await.unwrap_or(Ok(Fate::Lost))
    }
}

impl fmt::Debug for OpenExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("OpenExchange");
        shown.field("how", &self.how).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(in crate::serve) mod tests {
    use super::*;
    use crate::serve::upstream::server::Server;

    /// A query to `server` that a scripted connector continues.
    pub(in crate::serve) fn open_exchange(
        server: &Server,
        how: How,
        since: Instant,
    ) -> OpenExchange {
        let (_, outcome) = oneshot::channel();
        OpenExchange {
            how,
            since,
            connection: Arc::new(ConnectionState::new(&server.peer(&Arc::default()))),
            outcome,
        }
    }
}
