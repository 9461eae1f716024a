//! TCP to one upstream server: connections that are shared, kept and replaced (RFC 7766).
//!
//! A response is matched to its query by ID and question section. Its records are not read here, so a malformed
//! record does not affect other queries on the connection. The code is generic over the stream, which may be TCP or a
//! layer over it.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Mutex as Gate, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::bytes::Bytes;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::exchange::{ExchangeError, error_of};
use super::query::{OutgoingQuery, SentQuery};
use super::turns::Turns;
use crate::stats::{Count, Counters};
use crate::wire::ask::Fit;
use crate::wire::{HEADER, MAX_MESSAGE, read_u16};

use Ending::{Closed, Failed};

/// The maximum number of queries that wait on one connection at a time.
const PIPELINE: usize = 1024;
/// How long a connection stays open while no query waits on it (RFC 7766, section 6.2.3).
const IDLE: Duration = Duration::from_secs(10);
/// If a server closes a connection while pipelined queries are unanswered, each connection to it carries only one query
/// for this time (RFC 7766, section 6.2.4).
const WITHOUT_PIPELINING: Duration = Duration::from_secs(5 * 60);
/// The maximum number of simultaneous connections to one server that serve a single query each.
const SINGLES: usize = 16;
/// The maximum number of times that [`Connections::exchange`] tries a query, each time on another connection.
const MOST_TRIES: usize = 3;

type Frames<S> = Framed<S, LengthDelimitedCodec>;

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

/// A response, and how it fits its query.
pub(super) type Response = (Vec<u8>, Fit);

/// How a query ended without a response on one connection.
enum Ending {
    /// The connection ended before the response came. `is_pipelined`: the query had been pipelined with others.
    Closed { is_pipelined: bool },
    /// The server can't be asked, or the time is over.
    Failed(ExchangeError),
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

/// A query to be sent, and where its response goes.
struct Request {
    query: OutgoingQuery,
    answer: oneshot::Sender<Response>,
}

/// An open connection. A task sends and receives; it ends when the server closes the connection, when the connection is
/// idle for [`IDLE`], or when all clones of this handle are dropped and no query waits.
#[derive(Clone)]
struct Connection {
    requests: mpsc::Sender<Request>,
    state: Arc<ConnectionState>,
}

impl Connection {
    async fn open(
        server: SocketAddr,
        deadline: Instant,
        counters: &Arc<Counters>,
    ) -> Result<Self, Ending> {
        let stream = match timeout_at(deadline, TcpStream::connect(server)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(Failed(error_of(&error))),
            Err(_) => return Err(Failed(ExchangeError::Timeout)),
        };
        // An error is ignored, because the option is not essential: without it the system may delay a query, to merge
        // it with the next one.
        let _ = stream.set_nodelay(true);
        Ok(Self::over(stream, counters))
    }

    /// A connection over `stream`, which is a TCP stream or a layer over it, such as TLS.
    fn over<S>(stream: S, counters: &Arc<Counters>) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let codec = LengthDelimitedCodec::builder()
            .length_field_type::<u16>()
            .max_frame_length(MAX_MESSAGE)
            .new_codec();
        let (requests, queue) = mpsc::channel(PIPELINE);
        let state = Arc::new(ConnectionState::new(counters));
        let frames = Framed::new(stream, codec);
        tokio::spawn(drive(frames, queue, Arc::clone(&state)));
        Self { requests, state }
    }

    /// Sends a query and waits for the response, without a timeout.
    fn ask(&self, query: OutgoingQuery) -> impl Future<Output = Result<Response, Ending>> + use<> {
        let (requests, state) = (self.requests.clone(), Arc::clone(&self.state));
        async move {
            let start = Instant::now();
            let asked = async {
                let _place = state.places.acquire().await.ok()?;
                let (answer, response) = oneshot::channel();
                let request = Request { query, answer };
                requests.send(request).await.ok()?;
                drop(requests);
                response.await.ok()
            };
            asked.await.ok_or_else(|| Closed {
                is_pipelined: state.lost_others(start),
            })
        }
    }

    fn is_closed(&self) -> bool {
        self.requests.is_closed() || self.state.is_over.load(Ordering::Relaxed)
    }

    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }
}

/// A query that was sent.
struct Open {
    sent: SentQuery,
    answer: oneshot::Sender<Response>,
}

/// The state that the sending and the receiving half of a connection share.
struct ConnectionState {
    open: Mutex<HashMap<u16, Open>>,
    places: Semaphore,
    /// How many queries were open when the connection ended.
    lost: AtomicUsize,
    last_received: Mutex<Instant>,
    /// Set when no further query will be sent.
    is_over: AtomicBool,
    counters: Arc<Counters>,
}

impl ConnectionState {
    fn new(counters: &Arc<Counters>) -> Self {
        Self {
            open: Mutex::default(),
            places: Semaphore::new(PIPELINE),
            lost: AtomicUsize::new(0),
            last_received: Mutex::new(Instant::now()),
            is_over: AtomicBool::new(false),
            counters: Arc::clone(counters),
        }
    }

    fn received_since(&self, instant: Instant) -> bool {
        *lock(&self.last_received) > instant
    }

    /// Whether a query that was sent at `start`, and lost with the connection, had been pipelined with others. This is
    /// so if other queries were lost as well, or if a response arrived after `start`. Neither is the case if the server
    /// only closed an idle connection.
    fn lost_others(&self, start: Instant) -> bool {
        self.lost.load(Ordering::Relaxed) > 1 || self.received_since(start)
    }

    /// Gives a query a random ID that no other open query has (RFC 5452, section 9.2), records the query as open, and
    /// returns the bytes to send.
    fn enter(&self, request: Request) -> Bytes {
        let Request { mut query, answer } = request;
        let mut open = lock(&self.open);
        if open.len() >= PIPELINE {
            open.retain(|_, open| !open.answer.is_closed());
        }
        let id = loop {
            let id = rand::random();
            if !open.contains_key(&id) {
                break id;
            }
        };
        query.set_id(id);
        let OutgoingQuery { bytes, sent } = query;
        open.insert(id, Open { sent, answer });
        Bytes::from(bytes)
    }

    /// Delivers a response to the query that waits for it.
    fn take(&self, response: &[u8]) {
        *lock(&self.last_received) = Instant::now();
        let Some(id) = read_u16(response, 0).filter(|_| response.len() >= HEADER) else {
            return self.counters.bump(Count::UpstreamGarbage);
        };
        let mut all = lock(&self.open);
        let Some(open) = all.get(&id) else {
            return self.counters.bump(Count::UpstreamStray);
        };
        // The letter case of the qname need not match: responses are not forged within a connection.
        let Some(fit) = open.sent.fit(response, &self.counters) else {
            return;
        };
        if let Some(open) = all.remove(&id) {
            // The waiter may have given up.
            let _ = open.answer.send((response.to_vec(), fit));
        }
    }

    /// Whether any waiter is left.
    fn is_waited_for(&self) -> bool {
        lock(&self.open)
            .values()
            .any(|open| !open.answer.is_closed())
    }

    /// Reports the end of the connection to all waiters.
    fn end(&self) {
        let mut open = lock(&self.open);
        self.lost.store(open.len(), Ordering::Relaxed);
        self.is_over.store(true, Ordering::Relaxed);
        open.clear();
    }
}

/// Runs a connection to its end.
async fn drive<S>(frames: Frames<S>, queue: mpsc::Receiver<Request>, state: Arc<ConnectionState>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sink, stream) = frames.split();
    // In parallel: a server that waits for us to read its answers does not read our queries.
    tokio::select! {
        () = send(sink, queue, &state) => {}
        () = receive(stream, &state) => {}
    }
    state.end();
}

/// Sends queries until sending fails, or until the last handle of the connection is dropped. If queries still wait for
/// their responses when the last handle is dropped, this function does not return; [`receive`] ends the connection.
async fn send<S>(
    mut sink: SplitSink<Frames<S>, Bytes>,
    mut queue: mpsc::Receiver<Request>,
    state: &ConnectionState,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut requests = Vec::new();
    while queue.recv_many(&mut requests, PIPELINE).await > 0 {
        // All queued queries are written before the flush, so that they share TCP segments.
        for request in requests.drain(..) {
            if sink.feed(state.enter(request)).await.is_err() {
                return;
            }
        }
        if sink.flush().await.is_err() {
            return;
        }
    }
    state.is_over.store(true, Ordering::Relaxed);
    if state.is_waited_for() {
        std::future::pending::<()>().await;
    }
}

/// Ends when the server closes the connection, when the connection is idle, or when no further query will be sent and
/// none waits.
async fn receive<S>(mut stream: SplitStream<Frames<S>>, state: &ConnectionState)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match timeout(IDLE, stream.next()).await {
            Ok(Some(Ok(response))) => state.take(&response),
            Ok(Some(Err(_)) | None) => return,
            Err(_) if state.is_waited_for() => {}
            Err(_) => return,
        }
        if state.is_over.load(Ordering::Relaxed) && !state.is_waited_for() {
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
