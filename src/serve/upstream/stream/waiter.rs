//! Where the outcome of a query on a connection is delivered.

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::serve::upstream::exchange::ExchangeError;
use crate::wire::ask::Fit;

/// A response, and how it fits its query.
pub(in crate::serve) type Response = (Vec<u8>, Fit);

/// What became of a query on one connection.
pub(in crate::serve) enum Fate {
    /// It was answered.
    Answered(Response),
    /// The connection ended before the response came.
    Lost,
    /// The connection ended before the query was sent.
    Unsent,
}

/// What became of a query on one connection, or why it failed.
pub(in crate::serve) type Outcome = Result<Fate, ExchangeError>;

/// The end of a first attempt.
pub(in crate::serve) struct AttemptEnd {
    /// Its number.
    pub(in crate::serve) number: u64,
    /// What became of its query.
    pub(in crate::serve) outcome: Outcome,
}

/// Reports the end of a first attempt, at the latest when it is dropped.
pub(in crate::serve) struct AttemptHandle {
    number: u64,
    /// When nobody waits for the answer any more.
    until: Instant,
    ends: mpsc::UnboundedSender<AttemptEnd>,
    is_reported: bool,
}

impl AttemptHandle {
    pub(in crate::serve) fn new(
        number: u64,
        until: Instant,
        ends: mpsc::UnboundedSender<AttemptEnd>,
    ) -> Self {
        Self {
            number,
            until,
            ends,
            is_reported: false,
        }
    }

    fn report(&mut self, outcome: Outcome) {
        self.is_reported = true;
        let number = self.number;
        // The receiver is dropped when the server ends.
        let _ = self.ends.send(AttemptEnd { number, outcome });
    }
}

impl Drop for AttemptHandle {
    fn drop(&mut self) {
        if !self.is_reported {
            self.report(Ok(Fate::Lost));
        }
    }
}

/// Where an outcome is delivered. If this is dropped, the connection has ended.
pub(super) enum Waiter {
    /// A task.
    Task(oneshot::Sender<Outcome>),
    /// The first attempts.
    Attempt(AttemptHandle),
}

impl Waiter {
    /// Whether it has given up.
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Task(task) => task.is_closed(),
            Self::Attempt(attempt) => attempt.until <= Instant::now(),
        }
    }

    /// Waits until it has given up.
    pub(super) async fn closed(&mut self) {
        match self {
            Self::Task(task) => task.closed().await,
            Self::Attempt(attempt) => sleep_until(attempt.until).await,
        }
    }

    /// Delivers an outcome. It may have given up.
    pub(super) fn deliver(self, outcome: Outcome) {
        match self {
            Self::Task(task) => drop(task.send(outcome)),
            Self::Attempt(mut attempt) => attempt.report(outcome),
        }
    }
}
