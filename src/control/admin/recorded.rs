//! The requests about finished queries: top lists, and a stream of queries as they come.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::Extension;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;

use super::received::Received;
use crate::control::recording::{RecordedQueries, TailParts, TailRequest};

/// The most entries of a top list that are sent.
const TOP_ENTRIES: usize = 100;

/// The routes of these requests.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(
    queries: &Arc<dyn RecordedQueries>,
) -> Router<S> {
    let [listed, followed] = [(); 2].map(|()| Arc::clone(queries));
    let top = move || std::future::ready(top(&*listed));
    let tail = move |Extension(received): Extension<Received>, Json(request): Json<TailRequest>| async move {
        tail(&*followed, request, &received).await
    };
    Router::new()
        .route("/top", get(top))
        .route("/tail", post(tail))
}

fn top(queries: &dyn RecordedQueries) -> Response {
    match queries.top(TOP_ENTRIES) {
        Some(report) => Json(report).into_response(),
        None => {
            let why = "top lists are off: set `enabled = true` in [top], and reload";
            (StatusCode::CONFLICT, why).into_response()
        }
    }
}

async fn tail(
    queries: &dyn RecordedQueries,
    request: TailRequest,
    received: &Received,
) -> Response {
    match queries.tail(request).await {
        Ok(Ok(parts)) => {
            received.lasts();
            let next = |mut parts: TailParts| async move {
                let part = parts.recv().await?;
                Some((Ok::<_, Infallible>(Bytes::from(part)), parts))
            };
            Body::from_stream(stream::unfold(parts, next)).into_response()
        }
        Ok(Err(why)) => (StatusCode::BAD_REQUEST, why).into_response(),
        Err(_) => {
            let why = "the server is shutting down, or its recorder has ended: see the alarms of `tapis status`";
            (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
        }
    }
}
