//! Owns what is spoken over the control socket: HTTP with JSON, for the owner alone.
//! Refuses to act itself: it asks the one who owns the policy.

use std::io;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::socket;
use super::status::{OrdersRequest, ReloadReport, ReloadRequest, RollbackRequest, Status};
use super::wishes::Request;

/// Pause after the system would not give a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves the control socket until `stop`.
///
/// # Errors
/// When the socket can't be served any more.
pub async fn serve(
    listener: UnixListener,
    user: u32,
    requests: mpsc::Sender<Request>,
    stop: CancellationToken,
) -> io::Result<()> {
    let routes = Router::new()
        .route("/status", get(status))
        .route("/reload", post(reload))
        .route("/orders", post(orders))
        .route("/rollback", post(rollback))
        .with_state(requests)
        .into_make_service_with_connect_info::<Caller>();
    axum::serve(Owned { listener, user }, routes)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

async fn status(State(requests): State<mpsc::Sender<Request>>) -> Response {
    let (reply, answer) = oneshot::channel::<Status>();
    deliver(&requests, Request::Status(reply), answer).await
}

async fn reload(
    State(requests): State<mpsc::Sender<Request>>,
    ConnectInfo(Caller(user)): ConnectInfo<Caller>,
    Json(wish): Json<ReloadRequest>,
) -> Response {
    let (reply, answer) = oneshot::channel::<ReloadReport>();
    deliver(&requests, Request::Reload(wish, user, reply), answer).await
}

async fn orders(
    State(requests): State<mpsc::Sender<Request>>,
    ConnectInfo(Caller(user)): ConnectInfo<Caller>,
    Json(wish): Json<OrdersRequest>,
) -> Response {
    let (reply, answer) = oneshot::channel::<ReloadReport>();
    deliver(&requests, Request::Orders(wish, user, reply), answer).await
}

async fn rollback(
    State(requests): State<mpsc::Sender<Request>>,
    ConnectInfo(Caller(user)): ConnectInfo<Caller>,
    Json(wish): Json<RollbackRequest>,
) -> Response {
    let (reply, answer) = oneshot::channel::<ReloadReport>();
    deliver(&requests, Request::Rollback(wish, user, reply), answer).await
}

async fn deliver<T: serde::Serialize>(
    requests: &mpsc::Sender<Request>,
    request: Request,
    answer: oneshot::Receiver<T>,
) -> Response {
    let ending = (
        StatusCode::SERVICE_UNAVAILABLE,
        "the server is shutting down",
    );
    if requests.send(request).await.is_err() {
        return ending.into_response();
    }
    match answer.await {
        Ok(answer) => Json(answer).into_response(),
        Err(_) => ending.into_response(),
    }
}

/// The user at the other end of a connection.
#[derive(Clone, Copy, Debug)]
struct Caller(u32);

impl Connected<axum::serve::IncomingStream<'_, Owned>> for Caller {
    fn connect_info(stream: axum::serve::IncomingStream<'_, Owned>) -> Self {
        *stream.remote_addr()
    }
}

/// Lets the owner in and turns all others away.
struct Owned {
    listener: UnixListener,
    user: u32,
}

impl axum::serve::Listener for Owned {
    type Io = UnixStream;
    type Addr = Caller;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match socket::accept(&self.listener, self.user).await {
                Ok((stream, user)) => return (stream, Caller(user)),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(Caller(self.user))
    }
}
