//! The task of a connection over QUIC.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::super::peer::Peer;
use super::super::state::{ConnectionState, Request};
use super::super::waiter::{Fate, Response, Waiter};
use super::protocol::{End, Fault, Protocol};
use crate::serve::upstream::exchange::ExchangeError;
use crate::serve::upstream::failures::{Failure, Failures};
use crate::serve::upstream::query::{OutgoingQuery, SentQuery};
use crate::stats::Counters;

/// The end of a query, and where it is delivered.
type Done = (Waiter, Result<Response, End>);

/// How the queries of a connection fared.
#[derive(Default)]
struct Course {
    /// How many were lost with the connection.
    lost: usize,
    /// Whether a fault was reported since the last answer.
    is_faulty: bool,
}

/// Sends and receives on one connection.
pub(super) struct Driver<P> {
    quic: quinn::Connection,
    protocol: Arc<P>,
    state: Arc<ConnectionState>,
    failures: Arc<Failures>,
    counters: Arc<Counters>,
}

impl<P: Protocol> Driver<P> {
    pub(super) fn new(
        quic: quinn::Connection,
        protocol: P,
        state: Arc<ConnectionState>,
        peer: &Peer,
    ) -> Self {
        Self {
            quic,
            protocol: Arc::new(protocol),
            state,
            failures: Arc::clone(&peer.failures),
            counters: Arc::clone(&peer.counters),
        }
    }

    /// Runs the connection until it is closed, or idle for too long, or until no query waits and none will come. `closed`
    /// waits until the server closes it.
    pub(super) async fn drive(
        self,
        closed: impl Future<Output = Option<Fault>>,
        mut queue: mpsc::Receiver<Request>,
        idle: Duration,
    ) {
        let mut closed = pin!(closed);
        let mut exchanges = FuturesUnordered::new();
        let (mut is_over, mut course) = (false, Course::default());
        let mut idle_at = Instant::now() + idle;
        loop {
            tokio::select! {
                biased;
                Some(done) = exchanges.next() => {
                    self.deliver(done, &mut course, exchanges.len());
                    idle_at = Instant::now() + idle;
                }
                fault = &mut closed => {
                    if let Some(fault) = fault {
                        self.report(fault);
                    }
                    break;
                }
                request = queue.recv(), if !is_over => match request {
                    Some(request) => exchanges.push(self.exchange(request)),
                    None => is_over = true,
                },
                () = sleep_until(idle_at), if exchanges.is_empty() => break,
            }
            if is_over && exchanges.is_empty() || self.state.is_flooded() {
                break;
            }
        }
        // Responses may have arrived together with the end.
        while let Some(Some(done)) = exchanges.next().now_or_never() {
            self.deliver(done, &mut course, exchanges.len());
        }
        // Before the open queries are dropped, so that they are sent again on another connection.
        self.state.ended(course.lost + exchanges.len() > 1);
        queue.close();
        while let Ok(Request { answer, .. }) = queue.try_recv() {
            answer.deliver(Ok(Fate::Unsent));
        }
        self.quic.close(P::NO_ERROR, b"");
    }

    /// Sends a query and waits for its response. If the query gives up, its stream is cancelled.
    fn exchange(&self, request: Request) -> impl Future<Output = Done> + use<P> {
        let Request {
            mut query,
            mut answer,
        } = request;
        // RFC 9250, section 4.2.1, and RFC 8484, section 4.1.
        query.set_id(0);
        let OutgoingQuery { bytes, sent } = query;
        let (protocol, state) = (Arc::clone(&self.protocol), Arc::clone(&self.state));
        let counters = Arc::clone(&self.counters);
        async move {
            let message = tokio::select! {
                biased;
                message = protocol.exchange(bytes, &state) => message,
                () = answer.closed() => Err(End::Unwanted),
            };
            let response = message.and_then(|message| fitting(message, &sent, &counters));
            (answer, response)
        }
    }

    /// Delivers the end of a query, while so many others are `open`.
    fn deliver(&self, (answer, done): Done, course: &mut Course, open: usize) {
        let delivered = match done {
            Ok(response) => {
                self.state.answered();
                if std::mem::take(&mut course.is_faulty) {
                    self.failures.connected();
                }
                Ok(Fate::Answered(response))
            }
            Err(End::Fault(fault)) => {
                self.state.answered();
                course.is_faulty = true;
                self.report(fault);
                Err(ExchangeError::Refused)
            }
            Err(End::Unasked) => {
                self.state.useless(Failure::Unasked);
                Err(ExchangeError::Refused)
            }
            Err(End::Lost) => {
                course.lost += 1;
                return self.state.ended(course.lost + open > 1);
            }
            Err(End::Unprocessed { is_over }) => {
                if is_over {
                    self.state.ended(false);
                }
                return;
            }
            Err(End::Unwanted) => return,
        };
        answer.deliver(delivered);
    }

    fn report(&self, fault: Fault) {
        self.failures.not_connected(Some(fault.kind), fault.problem);
    }
}

/// A message, if it is a response to the query.
fn fitting(message: Vec<u8>, sent: &SentQuery, counters: &Counters) -> Result<Response, End> {
    let fit = sent.fit(&message, counters).ok_or(End::Unasked)?;
    Ok((message, fit))
}
