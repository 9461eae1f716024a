//! Answers HTTP requests: `/metrics`, `/healthz` and `/readyz`.

use std::convert::Infallible;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::connections::End;
use super::page::{Format, page};
use super::places::{Place, Places};
use super::source::Source;
use crate::config::metrics::Metrics;

/// How long the head of a request may take.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// How long a connection may last, so that clients that read nothing don't occupy all connections.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The largest head of a request, in bytes.
const HEAD_MAX: usize = 16 << 10;
/// How much of a page the kernel may hold for a client, in bytes. Linux would hold up to 4 MiB for each that does not read,
/// and regards such a page as sent.
const SEND_BUFFER: usize = 128 << 10;

/// Serves one address.
pub(super) struct Server {
    pub(super) source: Arc<Source>,
    pub(super) settings: Arc<ArcSwap<Metrics>>,
    pub(super) places: Arc<Places>,
    pub(super) end: CancellationToken,
}

impl Server {
    /// Serves until the end. Connections that are open then are closed.
    pub(super) async fn run(self, listener: TcpListener) {
        let end = self.end.clone();
        end.run_until_cancelled(self.serve(listener)).await;
    }

    async fn serve(self, listener: TcpListener) {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "metrics can't be served"),
        };
        let mut open = JoinSet::new();
        loop {
            // In this order, an address that nobody scrapes needs no place.
            let (stream, client) = self.accept(&listener).await;
            let place = self.places.take(client).await;
            let source = Arc::clone(&self.source);
            open.spawn(async move {
                let end = tokio::select! {
                    biased;
                    end = serve_connection(stream, &source, &place) => end,
                    // A connection that takes longer is closed.
                    () = sleep(CONNECTION_TIME) => End::Cut,
                    () = place.lost() => match place.is_asked() {
                        true => End::Cut,
                        false => End::Failed,
                    },
                };
                source.connections.ended(end, client);
            });
            while open.try_join_next().is_some() {}
        }
    }

    /// Accepts the next connection of a permitted client.
    async fn accept(&self, listener: &tokio::net::TcpListener) -> (TcpStream, IpAddr) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) if self.settings.load().permits(peer.ip()) => {
                    return (stream, peer.ip());
                }
                Ok((_, peer)) => self.source.connections.ended(End::NotPermitted, peer.ip()),
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}

/// Answers the only request of a connection: one that stays open would keep others from being served.
async fn serve_connection(stream: TcpStream, source: &Arc<Source>, place: &Place) -> End {
    if let Err(error) = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER) {
        tracing::debug!(%error, "the size of a send buffer can't be set");
    }
    let service = service_fn(|request| {
        place.set_asked();
        let answer = answer(&request, source);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME)
        .max_buf_size(HEAD_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // Errors of the connection are caused by the client.
    match connection.await {
        Ok(()) if place.is_asked() => End::Served,
        Ok(()) | Err(_) => End::Failed,
    }
}

fn answer(request: &Request<Incoming>, source: &Arc<Source>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".to_owned());
    }
    match request.uri().path() {
        "/metrics" => {
            let accept = request.headers().get(header::ACCEPT);
            let format = Format::accepted(accept.and_then(|accept| accept.to_str().ok()));
            match page(source, format) {
                Ok(page) => respond(StatusCode::OK, format.content_type(), page),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            }
        }
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => match source.unready() {
            None => text(StatusCode::OK, "ready\n".to_owned()),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "there are /metrics, /healthz and /readyz\n".to_owned(),
        ),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body)
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}
