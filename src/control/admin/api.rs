//! The HTTP API of the control socket, with JSON. It passes requests on to the control loop.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{self, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::caching::{self, CacheControl};
use super::caller::Caller;
use super::export::export;
use super::logging::{self, LogControl};
use super::overlap::Overlaps;
use super::passing::ending;
use super::pausing::{PauseReport, PauseRequest, ResumeRequest};
use super::querying::{self, QueryControl};
use super::received::Received;
use super::recorded;
use super::requests::Request;
use super::successor::{self, Successors};
use crate::control::admin::socket;
use crate::control::admin::socket::Access;
use crate::control::admin::status::{
    DownloadRequest, ExportRequest, FeedRequest, KnownOrders, OrdersRequest, ReloadReport,
    ReloadRequest, RollbackRequest, Status,
};
use crate::control::admin::verdict::{Explain, ExplainRequest};
use crate::control::recording::RecordedQueries;
use crate::control::rollback::stored::stored_lists;
use crate::policy::current::Reader;

/// Pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections at a time; others wait until one ends. Each is an open file.
const CONNECTIONS: usize = 64;
/// How long the head of a request may take, and then its body, so that slow clients don't occupy all connections.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// How long a stream without an end may take to end when the server stops.
const STREAM_END: Duration = Duration::from_secs(3);
/// The largest body of a request, in bytes.
const BODY_MAX: usize = 1 << 20;

/// The parts of the server that answer requests without the control loop.
pub struct Backends {
    /// Explains decisions.
    pub explain: Explain,
    /// The policy in force.
    pub policy: Reader,
    /// The cache.
    pub cache: Arc<dyn CacheControl>,
    /// Queries that were recorded.
    pub recorded: Arc<dyn RecordedQueries>,
    /// Answers operators' queries.
    pub queries: Arc<dyn QueryControl>,
    /// The server's log, if its level can be changed.
    pub log: Option<Arc<dyn LogControl>>,
}

/// Serves the control socket until `stop`. Requests that were received completely by then are answered.
pub async fn serve(
    listener: UnixListener,
    access: Access,
    requests: mpsc::Sender<Request>,
    backends: Backends,
    successors: Successors,
    state_dir: Option<PathBuf>,
    stop: CancellationToken,
) {
    let Backends {
        explain,
        policy: reader,
        cache,
        recorded,
        queries,
        log,
    } = backends;
    let generations = move || stored_generations(state_dir.clone());
    let why =
        move |Json(request): Json<ExplainRequest>| std::future::ready(why(&explain, &request));
    let overlaps = Arc::new(Overlaps::new(reader.clone(), stop.clone()));
    let overlaps = move || {
        let overlaps = Arc::clone(&overlaps);
        async move { overlaps.answer().await }
    };
    let export =
        move |Json(request): Json<ExportRequest>| std::future::ready(export(&reader, &request));
    let passing = successors.passing.clone();
    let log_passing = passing.clone();
    let log = log.map_or_else(Router::new, |log| logging::routes(log, log_passing));
    let upgrading = successors.clone();
    let upgrade = move |Extension(Caller(caller))| {
        let successors = upgrading.clone();
        async move { successors.upgrade(caller, access.user).await }
    };
    let take_over = move |Extension(Caller(caller)), request: extract::Request| {
        std::future::ready(successors.answer(request, caller, access.user))
    };
    let routes = Router::new()
        .route("/status", get(status))
        .route("/why", post(why))
        .route("/reload", post(reload))
        .route("/orders", get(known_orders).post(orders))
        .route("/rollback", post(rollback))
        .route("/feed", post(feed))
        .route("/download", post(download))
        .route("/pause", post(pause))
        .route("/resume", post(resume))
        .route("/export", post(export))
        .route("/overlap", post(overlaps))
        .route("/generations", get(generations))
        .merge(caching::routes(&cache, passing))
        .route(successor::PATH, post(take_over))
        .route(successor::UPGRADE_PATH, post(upgrade))
        .merge(recorded::routes(&recorded))
        .merge(querying::routes(queries))
        .merge(log)
        .layer(from_fn(read_whole))
        .with_state(requests);
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut open = JoinSet::new();
    let next = async || {
        let permit = Arc::clone(&permits).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        (permit, accept(&listener, access).await)
    };
    loop {
        let (permit, (stream, caller)) = tokio::select! {
            // A connection that arrives after the stop is the next process's.
            biased;
            () = stop.cancelled() => break,
            next = next() => next,
        };
        let (routes, stop) = (routes.clone(), stop.clone());
        open.spawn(async move {
            serve_connection(stream, caller, routes, stop).await;
            drop(permit);
        });
        while open.try_join_next().is_some() {}
    }
    while open.join_next().await.is_some() {}
}

/// Accepts the next connection of a user who has access.
async fn accept(listener: &UnixListener, access: Access) -> (UnixStream, Caller) {
    loop {
        match socket::accept(listener, access).await {
            Ok((stream, user)) => return (stream, Caller(user)),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Answers the only request of a connection. A connection that lasts too long is closed, unless its answer is a
/// stream without an end.
async fn serve_connection(
    stream: UnixStream,
    caller: Caller,
    routes: Router,
    stop: CancellationToken,
) {
    let received = Received::default();
    let routes = routes
        .layer(Extension(caller))
        .layer(Extension(received.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // Errors of the connection are caused by the client.
        _ = connection.as_mut() => return,
        () = received.too_long() => return,
        () = stop.cancelled() => {}
    }
    if received.is_lasting() {
        // Its end is sent when the last query is recorded. A client that does not read must not delay the end of the server.
        let _ = tokio::time::timeout(STREAM_END, connection).await;
    } else if received.is_whole() {
        tokio::select! {
            _ = connection => {}
            () = received.too_long() => {}
        }
    }
}

/// Reads a request's body within [`REQUEST_TIME`], before its handler runs.
async fn read_whole(
    Extension(received): Extension<Received>,
    request: extract::Request,
    next: Next,
) -> Response {
    let (head, body) = request.into_parts();
    match tokio::time::timeout(REQUEST_TIME, to_bytes(body, BODY_MAX)).await {
        Ok(Ok(body)) => {
            received.completes();
            let request = extract::Request::from_parts(head, body.into());
            next.run(request).await
        }
        Ok(Err(error)) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "the request took too long").into_response(),
    }
}

async fn status(State(requests): State<mpsc::Sender<Request>>) -> Response {
    let (reply, answer) = oneshot::channel::<Status>();
    deliver(&requests, Request::Status(reply), answer).await
}

async fn known_orders(State(requests): State<mpsc::Sender<Request>>) -> Response {
    let (reply, answer) = oneshot::channel::<KnownOrders>();
    deliver(&requests, Request::KnownOrders(reply), answer).await
}

/// Uses only the policy in force, not the control loop.
fn why(explain: &Explain, request: &ExplainRequest) -> Response {
    match explain(request) {
        Ok(verdict) => Json(verdict).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, error).into_response(),
    }
}

async fn reload(
    State(requests): State<mpsc::Sender<Request>>,
    Extension(Caller(user)): Extension<Caller>,
    Json(request): Json<ReloadRequest>,
) -> Response {
    let (reply, answer) = oneshot::channel::<ReloadReport>();
    deliver(&requests, Request::Reload(request, user, reply), answer).await
}

async fn orders(
    State(requests): State<mpsc::Sender<Request>>,
    Extension(Caller(user)): Extension<Caller>,
    Json(request): Json<OrdersRequest>,
) -> Response {
    let (reply, answer) = oneshot::channel::<ReloadReport>();
    deliver(&requests, Request::Orders(request, user, reply), answer).await
}

async fn download(
    State(requests): State<mpsc::Sender<Request>>,
    Json(request): Json<DownloadRequest>,
) -> Response {
    let (reply, answer) = oneshot::channel::<Vec<(String, u64)>>();
    deliver(&requests, Request::Download(request, reply), answer).await
}

async fn feed(
    State(requests): State<mpsc::Sender<Request>>,
    Json(request): Json<FeedRequest>,
) -> Response {
    let (reply, answer) = oneshot::channel::<Option<u64>>();
    deliver(&requests, Request::Feed(request, reply), answer).await
}

async fn rollback(
    State(requests): State<mpsc::Sender<Request>>,
    Extension(Caller(user)): Extension<Caller>,
    Json(request): Json<RollbackRequest>,
) -> Response {
    let (reply, answer) = oneshot::channel::<ReloadReport>();
    deliver(&requests, Request::Rollback(request, user, reply), answer).await
}

async fn pause(
    State(requests): State<mpsc::Sender<Request>>,
    Extension(Caller(user)): Extension<Caller>,
    Json(request): Json<PauseRequest>,
) -> Response {
    let (reply, answer) = oneshot::channel::<PauseReport>();
    deliver(&requests, Request::Pause(request, user, reply), answer).await
}

async fn resume(
    State(requests): State<mpsc::Sender<Request>>,
    Extension(Caller(user)): Extension<Caller>,
    Json(request): Json<ResumeRequest>,
) -> Response {
    let (reply, answer) = oneshot::channel::<PauseReport>();
    deliver(&requests, Request::Resume(request, user, reply), answer).await
}

async fn deliver<T: serde::Serialize>(
    requests: &mpsc::Sender<Request>,
    request: Request,
    answer: oneshot::Receiver<T>,
) -> Response {
    if requests.send(request).await.is_err() {
        return ending();
    }
    match answer.await {
        Ok(answer) => Json(answer).into_response(),
        Err(_) => ending(),
    }
}

/// The generations to which a rollback is possible.
async fn stored_generations(dir: Option<PathBuf>) -> Response {
    let read = |dir: &Path| stored_lists(dir).map_err(|error| error.to_string());
    let stored = match dir {
        Some(dir) => tokio::task::spawn_blocking(move || read(&dir))
            .await
            .unwrap_or_else(|error| Err(error.to_string())),
        None => Err("no generation is kept without a `dir` in [state]".to_owned()),
    };
    match stored {
        Ok(stored) => Json(stored).into_response(),
        Err(error) => (StatusCode::CONFLICT, error).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;
    use crate::control::admin::caching::{
        CacheShown, CacheStats, FlushReport, FlushRequest, ShowRequest,
    };
    use crate::control::admin::querying::{QueryReport, QueryRequest};
    use crate::control::recording::{TailParts, TailRequest, TopReport};
    use crate::policy::current::Publisher;
    use crate::policy::snapshot::Snapshot;
    use crate::sys::process::user_id;

    const STATUS: &[u8] = b"GET /status HTTP/1.1\r\nhost: tapis\r\n\r\n";
    const SHORT: Duration = Duration::from_millis(100);

    struct NoPlane;

    impl QueryControl for NoPlane {
        fn query(&self, _: QueryRequest) -> BoxFuture<'static, Result<QueryReport, String>> {
            Box::pin(std::future::pending())
        }
    }

    impl CacheControl for NoPlane {
        fn stats(&self) -> CacheStats {
            unreachable!("no test asks for it")
        }

        fn show(&self, _: &ShowRequest) -> Result<CacheShown, String> {
            Err("there is no cache".to_owned())
        }

        fn flush(&self, _: &FlushRequest) -> Result<FlushReport, String> {
            Err("there is no cache".to_owned())
        }
    }

    impl RecordedQueries for NoPlane {
        fn top(&self, _: usize) -> Option<TopReport> {
            None
        }

        fn tail(&self, _: TailRequest) -> oneshot::Receiver<Result<TailParts, String>> {
            oneshot::channel().1
        }
    }

    struct Api {
        dir: tempfile::TempDir,
        requests: mpsc::Receiver<Request>,
        stop: CancellationToken,
        served: JoinHandle<()>,
    }

    fn start() -> Api {
        let dir = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(dir.path().join("s")).expect("bound");
        let (send, requests) = mpsc::channel(200);
        let stop = CancellationToken::new();
        let explain: Explain = Arc::new(|_| Err("nothing is in force".to_owned()));
        let served = tokio::spawn(serve(
            listener,
            Access::of(user_id()),
            send,
            Backends {
                explain,
                policy: Publisher::new(Snapshot::default()).reader(),
                cache: Arc::new(NoPlane),
                recorded: Arc::new(NoPlane),
                queries: Arc::new(NoPlane),
                log: None,
            },
            successor::successors(Arc::default()).0,
            None,
            stop.clone(),
        ));
        Api {
            dir,
            requests,
            stop,
            served,
        }
    }

    impl Api {
        async fn say(&self, bytes: &[u8]) -> UnixStream {
            let stream = UnixStream::connect(self.dir.path().join("s")).await;
            let mut stream = stream.expect("connected");
            stream.write_all(bytes).await.expect("said");
            stream
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_with_incomplete_requests_are_closed_for_others() {
        let mut api = start();
        let mut idle = Vec::new();
        for number in 0..3 * CONNECTIONS {
            let said = match number % 3 {
                0 => &b""[..],
                1 => b"GET /sta",
                _ => b"POST /reload HTTP/1.1\r\nhost: tapis\r\ncontent-length: 9\r\n\r\n{",
            };
            idle.push(api.say(said).await);
        }
        let asked = api.say(STATUS).await;
        assert!(matches!(
            api.requests.recv().await,
            Some(Request::Status(_))
        ));
        let mut rest = Vec::new();
        for mut stream in idle {
            // It is closed, with an answer or without.
            let _ = stream.read_to_end(&mut rest).await;
        }
        drop(asked);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_64_are_served_at_a_time_and_the_next_follows() {
        let mut api = start();
        let mut streams = Vec::new();
        for _ in 0..=CONNECTIONS {
            streams.push(api.say(STATUS).await);
        }
        let mut asked = Vec::new();
        for _ in 0..CONNECTIONS {
            asked.push(api.requests.recv().await.expect("a request"));
        }
        assert!(timeout(SHORT, api.requests.recv()).await.is_err());
        asked.pop();
        assert!(api.requests.recv().await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn queries_that_wait_for_upstream_leave_connections_to_other_requests() {
        let mut api = start();
        let body = br#"{"name":"a.example","rtype":1}"#;
        let head = format!(
            "POST /query HTTP/1.1\r\nhost: tapis\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let query = [head.as_bytes(), body].concat();
        let mut waiting = Vec::new();
        for _ in 0..16 {
            waiting.push(api.say(&query).await);
        }
        let mut refused = String::new();
        let mut stream = api.say(&query).await;
        stream.read_to_string(&mut refused).await.expect("answered");
        assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
        assert!(refused.contains("16 queries"), "{refused}");
        let _status = api.say(STATUS).await;
        assert!(api.requests.recv().await.is_some());
        // One whose client leaves makes room for the next.
        drop(waiting.pop());
        let mut stream = api.say(&query).await;
        let answer = timeout(SHORT, stream.read_to_string(&mut refused)).await;
        assert!(answer.is_err(), "it waits, too");
    }

    #[tokio::test(start_paused = true)]
    async fn the_shutdown_waits_for_complete_requests_and_not_for_incomplete_ones() {
        let mut api = start();
        let _half = api.say(b"GET /sta").await;
        let _silent = api.say(b"").await;
        let body = b"POST /reload HTTP/1.1\r\nhost: tapis\r\ncontent-length: 9\r\n\r\n{";
        let _body = api.say(body).await;
        let mut received = api.say(STATUS).await;
        let request = api.requests.recv().await;
        api.stop.cancel();
        assert!(timeout(SHORT, &mut api.served).await.is_err());
        drop(request);
        let mut answer = String::new();
        let read = received.read_to_string(&mut answer).await;
        read.expect("answered");
        assert!(answer.contains("the server is shutting down"), "{answer}");
        timeout(SHORT, api.served)
            .await
            .expect("in time")
            .expect("no panic");
    }
}
