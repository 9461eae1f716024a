//! One open connection to an upstream server, and the task that sends and receives on it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::bytes::Bytes;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::https;
use super::peer::Peer;
use super::placed::PlacedQuery;
use super::quic;
use super::state::{ConnectionState, PIPELINE, Request};
use super::waiter::{AttemptHandle, Fate, Outcome, Waiter};
use crate::serve::upstream::exchange::ExchangeError;
use crate::serve::upstream::query::OutgoingQuery;
use crate::tls::client::TlsClient;
use crate::wire::MAX_MESSAGE;

/// How long a connection stays open while no query waits on it (RFC 7766, section 6.2.3).
const IDLE: Duration = Duration::from_secs(10);
/// The same for an encrypted connection, which costs a handshake. Most servers close it earlier.
const TLS_IDLE: Duration = Duration::from_secs(120);

type Frames<S> = Framed<S, LengthDelimitedCodec>;

/// An open connection. A task sends and receives; it ends when the server closes the connection, when the connection is
/// idle for too long, or when all clones of this handle are dropped and no query waits.
#[derive(Clone)]
pub(super) struct Connection {
    requests: mpsc::Sender<Request>,
    pub(super) state: Arc<ConnectionState>,
}

impl Connection {
    /// Opens a connection.
    pub(super) async fn open(peer: &Peer, deadline: Instant) -> Result<Self, ExchangeError> {
        let (requests, queue) = mpsc::channel(PIPELINE);
        let state = Arc::new(ConnectionState::new(peer));
        let quic = |tls: &&TlsClient| tls.protocol().is_over_quic();
        if let Some(tls) = peer.tls.as_ref().filter(quic) {
            quic::start(peer, tls, Arc::clone(&state), queue, TLS_IDLE, deadline).await?;
            return Ok(Self { requests, state });
        }
        let stream = peer.open(deadline).await?;
        match peer.endpoint()? {
            Some(endpoint) => {
                let connection = https::Connection {
                    endpoint,
                    state: Arc::clone(&state),
                    failures: Arc::clone(&peer.failures),
                    counters: Arc::clone(&peer.counters),
                };
                tokio::spawn(connection.drive(stream, queue, TLS_IDLE));
            }
            None => {
                let codec = LengthDelimitedCodec::builder()
                    .length_field_type::<u16>()
                    .max_frame_length(MAX_MESSAGE)
                    .new_codec();
                let idle = match peer.tls {
                    Some(_) => TLS_IDLE,
                    None => IDLE,
                };
                let frames = Framed::new(stream, codec);
                tokio::spawn(drive(frames, queue, Arc::clone(&state), idle));
            }
        }
        Ok(Self { requests, state })
    }

    /// Sends a query and waits for the response, without a timeout.
    pub(super) fn ask(&self, query: OutgoingQuery) -> impl Future<Output = Outcome> + use<> {
        let (requests, state) = (self.requests.clone(), Arc::clone(&self.state));
        async move {
            let Ok(_place) = state.places.acquire().await else {
                return Ok(Fate::Unsent);
            };
            let (answer, response) = oneshot::channel();
            let answer = Waiter::Task(answer);
            let request = Request { query, answer };
            if requests.send(request).await.is_err() {
                return Ok(Fate::Unsent);
            }
            drop(requests);
            response.await.unwrap_or(Ok(Fate::Lost))
        }
    }

    /// Room for one query, if there is any without waiting.
    pub(super) fn room(self) -> Option<Room> {
        let place = Arc::clone(&self.state.places).try_acquire_owned().ok()?;
        Some(Room {
            connection: self,
            place,
        })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.requests.is_closed() || self.state.is_over.load(Ordering::Relaxed)
    }

    pub(super) fn is_of(&self, state: &Arc<ConnectionState>) -> bool {
        Arc::ptr_eq(&self.state, state)
    }
}

/// Room for one query on a connection.
pub(in crate::serve) struct Room {
    connection: Connection,
    place: OwnedSemaphorePermit,
}

impl Room {
    /// Sends a query whose end is reported by `attempt`. `None` if the connection has just ended.
    pub(in crate::serve) fn send(
        self,
        query: OutgoingQuery,
        attempt: AttemptHandle,
    ) -> Option<PlacedQuery> {
        let answer = Waiter::Attempt(attempt);
        let request = Request { query, answer };
        let Self { connection, place } = self;
        connection.requests.try_send(request).ok()?;
        Some(PlacedQuery {
            connection: connection.state,
            _place: place,
        })
    }
}

/// Runs a connection to its end.
async fn drive<S>(
    frames: Frames<S>,
    mut queue: mpsc::Receiver<Request>,
    state: Arc<ConnectionState>,
    idle: Duration,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sink, stream) = frames.split();
    // In parallel: a server that waits for us to read its answers does not read our queries.
    tokio::select! {
        () = send(sink, &mut queue, &state) => {}
        () = receive(stream, &state, idle) => {}
    }
    state.end();
    // After the end is recorded, so that they are sent on another connection.
    queue.close();
    while let Ok(Request { answer, .. }) = queue.try_recv() {
        answer.deliver(Ok(Fate::Unsent));
    }
}

/// Sends queries until sending fails, or until the last handle of the connection is dropped. If queries still wait for
/// their responses when the last handle is dropped, this function does not return; [`receive`] ends the connection.
async fn send<S>(
    mut sink: SplitSink<Frames<S>, Bytes>,
    queue: &mut mpsc::Receiver<Request>,
    state: &ConnectionState,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(request) = queue.recv().await {
        if sink.feed(state.enter(request)).await.is_err() {
            return;
        }
        // All queued queries are written before the flush, so that they share TCP segments.
        if queue.is_empty() && sink.flush().await.is_err() {
            return;
        }
    }
    state.is_over.store(true, Ordering::Relaxed);
    if state.is_waited_for() {
        std::future::pending::<()>().await;
    }
}

/// Ends when the server closes the connection or floods it, when the connection is idle, or when no further query will be
/// sent and none waits.
async fn receive<S>(mut stream: SplitStream<Frames<S>>, state: &ConnectionState, idle: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match timeout(idle, stream.next()).await {
            Ok(Some(Ok(response))) => {
                state.take(&response);
                if state.is_flooded() {
                    return;
                }
            }
            Ok(Some(Err(_)) | None) => return,
            Err(_) if state.is_waited_for() => {}
            Err(_) => return,
        }
        if state.is_over.load(Ordering::Relaxed) && !state.is_waited_for() {
            return;
        }
    }
}
