//! An open connection with HTTP/2 (RFC 8484), and the task that sends and receives on it.
//!
//! One task serves all requests of a connection. Each query is a stream of HTTP, so its response needs no ID.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use h2::Reason;
use h2::client::{Builder, ResponseFuture, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::bytes::Bytes;

use super::state::{ConnectionState, Request};
use super::waiter::{Fate, Response, Waiter};
use crate::serve::upstream::exchange::ExchangeError;
use crate::serve::upstream::failures::{Failure, Failures};
use crate::serve::upstream::http::{Body, Endpoint, HttpFault};
use crate::serve::upstream::query::{OutgoingQuery, SentQuery};
use crate::stats::Counters;

/// How many bytes of one response, and of all responses, the server may send before we have read them.
const WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// The maximum length of the headers of a response.
const HEADERS: u32 = 16 << 10;
/// How many requests are open at a time until the server's limit is known. No server should permit fewer (RFC 9113,
/// section 6.5.2).
const FIRST_REQUESTS: usize = 100;

/// A connection.
pub(super) struct Connection {
    pub(super) endpoint: Endpoint,
    pub(super) state: Arc<ConnectionState>,
    pub(super) failures: Arc<Failures>,
    pub(super) counters: Arc<Counters>,
}

/// Why a request has no response that fits it.
enum End {
    /// The connection ended, or the server did not process the request: it is sent again.
    Lost {
        /// Whether the server takes no further requests on this connection.
        is_over: bool,
    },
    /// The response has no DNS message.
    Fault(HttpFault),
    /// The response belongs to another query.
    Unasked,
    /// The query has given up.
    Unwanted,
}

/// The end of a request, and where it is delivered.
type Done = (Waiter, Result<Response, End>);

/// Queries that were not sent. When this is dropped, they are sent on another connection.
struct Unsent(Vec<Request>);

impl Unsent {
    /// Takes all that wait, and closes the queue for further ones.
    fn take(queue: &mut mpsc::Receiver<Request>) -> Self {
        queue.close();
        Self(std::iter::from_fn(|| queue.try_recv().ok()).collect())
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        for Request { answer, .. } in self.0.drain(..) {
            answer.deliver(Ok(Fate::Unsent));
        }
    }
}

/// How the requests of a connection fared.
#[derive(Default)]
struct Course {
    /// How many requests were lost.
    lost: usize,
    /// Whether one was answered since the last one was sent: then those that are open are older than the answer.
    is_answered: bool,
    /// Whether a fault was reported since the last answer.
    is_faulty: bool,
}

impl Course {
    /// Whether requests were lost that had been sent before others were answered, if `open` ones are lost now.
    fn lost_pipelined(&self, open: usize) -> bool {
        match self.lost + open {
            0 => false,
            1 => self.is_answered,
            _ => true,
        }
    }
}

impl Connection {
    /// Runs the connection to its end: until the server closes it, or it is idle for too long, or no query waits and none
    /// will come.
    pub(super) async fn drive<S>(
        self,
        stream: S,
        mut queue: mpsc::Receiver<Request>,
        idle: Duration,
    ) where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADERS)
            .initial_max_send_streams(FIRST_REQUESTS);
        let (mut requests, connection) = match builder.handshake(stream).await {
            Ok(both) => both,
            Err(error) => {
                self.broke(&error);
                return self.state.ended(false);
            }
        };
        let mut connection = Box::pin(connection);
        let mut exchanges = FuturesUnordered::new();
        let mut course = Course::default();
        let mut is_over = false;
        let mut idle_at = Instant::now() + idle;
        loop {
            tokio::select! {
                biased;
                ended = &mut connection => {
                    if let Err(error) = ended {
                        self.broke(&error);
                    }
                    break;
                }
                Some(done) = exchanges.next() => {
                    self.deliver(done, &mut course);
                    idle_at = Instant::now() + idle;
                }
                next = poll_fn(|context| next(&mut requests, &mut queue, context)), if !is_over => {
                    match next.and_then(|request| self.send(&mut requests, request)) {
                        Some(exchange) => {
                            course.is_answered = false;
                            exchanges.push(exchange);
                        }
                        None => {
                            is_over = true;
                            let unsent = Unsent::take(&mut queue);
                            self.state.ended(course.lost_pipelined(unsent.0.len()));
                        }
                    }
                }
                () = sleep_until(idle_at), if exchanges.is_empty() => break,
            }
            if is_over && exchanges.is_empty() || self.state.is_flooded() {
                break;
            }
        }
        // A response may have arrived together with the end. The other requests end once the connection is dropped.
        drop(connection);
        let mut lost = Vec::new();
        while let Some(done) = exchanges.next().await {
            match done {
                (answer, Err(End::Lost { .. })) => lost.push(answer),
                done => self.deliver(done, &mut course),
            }
        }
        // Before the lost requests are dropped, so that their queries are sent again on another connection.
        let unsent = Unsent::take(&mut queue);
        self.state
            .ended(course.lost_pipelined(lost.len() + unsent.0.len()));
    }

    /// Sends a query. `None` if the connection takes no further requests: then the query is sent again on another one.
    fn send(
        &self,
        requests: &mut SendRequest<Bytes>,
        request: Request,
    ) -> Option<impl Future<Output = Done> + use<>> {
        let Request { mut query, answer } = request;
        // The same ID for all queries, so that caches of HTTP can recognise them (RFC 8484, section 4.1).
        query.set_id(0);
        let OutgoingQuery { bytes, sent } = query;
        let head = self.endpoint.request(bytes.len());
        let Ok((response, mut body)) = requests.send_request(head, false) else {
            answer.deliver(Ok(Fate::Unsent));
            return None;
        };
        body.send_data(Bytes::from(bytes), true).ok()?;
        let (state, counters) = (Arc::clone(&self.state), Arc::clone(&self.counters));
        Some(exchange(response, sent, answer, state, counters))
    }

    /// Delivers the end of a request.
    fn deliver(&self, (answer, done): Done, course: &mut Course) {
        let delivered = match done {
            Ok(response) => {
                self.state.answered();
                course.is_answered = true;
                if std::mem::take(&mut course.is_faulty) {
                    self.failures.connected();
                }
                Ok(Fate::Answered(response))
            }
            Err(End::Fault(fault)) => {
                self.state.answered();
                (course.is_answered, course.is_faulty) = (true, true);
                self.report(&fault);
                Err(ExchangeError::Refused)
            }
            Err(End::Unasked) => {
                course.is_answered = true;
                self.state.useless(Failure::Unasked);
                Err(ExchangeError::Refused)
            }
            Err(End::Lost { is_over }) => {
                course.lost += 1;
                if is_over {
                    self.state.ended(course.lost_pipelined(0));
                }
                return;
            }
            Err(End::Unwanted) => return,
        };
        answer.deliver(delivered);
    }

    /// Reports the end of the connection, unless the server closed it as it may.
    fn broke(&self, error: &h2::Error) {
        let is_close =
            error.is_go_away() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR);
        if !error.is_io() && !is_close {
            self.report(&HttpFault::Protocol(error.to_string()));
        }
    }

    fn report(&self, fault: &HttpFault) {
        self.failures
            .not_connected(Some(fault.failure()), fault.to_string());
    }
}

/// The next query to send, as soon as the server takes one. `None` if it takes none any more, or if none will come.
fn next(
    requests: &mut SendRequest<Bytes>,
    queue: &mut mpsc::Receiver<Request>,
    context: &mut Context<'_>,
) -> Poll<Option<Request>> {
    loop {
        if ready!(requests.poll_ready(context)).is_err() {
            return Poll::Ready(None);
        }
        match ready!(queue.poll_recv(context)) {
            // It has waited for so long that it gave up.
            Some(request) if request.answer.is_closed() => {}
            request => return Poll::Ready(request),
        }
    }
}

/// Waits for the response to a query. If the query gives up, the request is cancelled.
async fn exchange(
    response: ResponseFuture,
    sent: SentQuery,
    mut answer: Waiter,
    state: Arc<ConnectionState>,
    counters: Arc<Counters>,
) -> Done {
    let message = tokio::select! {
        biased;
        message = read(response, &state) => message,
        () = answer.closed() => Err(End::Unwanted),
    };
    let response = message.and_then(|message| {
        let fit = sent.fit(&message, &counters).ok_or(End::Unasked)?;
        Ok((message, fit))
    });
    (answer, response)
}

/// Reads the DNS message of a response.
async fn read(response: ResponseFuture, state: &ConnectionState) -> Result<Vec<u8>, End> {
    let (head, mut stream) = response.await.map_err(end_of)?.into_parts();
    state.received();
    let mut body = Body::of(&head).map_err(End::Fault)?;
    while let Some(bytes) = stream.data().await {
        let bytes = bytes.map_err(end_of)?;
        state.received();
        body.add(&bytes).map_err(End::Fault)?;
        let read = stream.flow_control().release_capacity(bytes.len());
        read.map_err(end_of)?;
    }
    Ok(body.into_message())
}

/// The end of a request by an error.
fn end_of(error: h2::Error) -> End {
    match error.reason() {
        Some(Reason::REFUSED_STREAM) if error.is_reset() => End::Lost { is_over: false },
        _ if error.is_reset() => End::Fault(HttpFault::Protocol(error.to_string())),
        _ => End::Lost { is_over: true },
    }
}
