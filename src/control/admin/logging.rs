//! The requests about the level of the log, which are answered without the control loop.

use std::sync::Arc;

use axum::extract::Extension;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::caller::Caller;
use super::passing::{Passing, ending};
use crate::control::gauges::LogReport;

/// A request to change the level.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogRequest {
    /// The level or filter; `None` ends what an earlier request has set.
    pub level: Option<String>,
    /// For how long, in seconds; `None` means until the server restarts.
    #[serde(default)]
    pub secs: Option<u64>,
}

/// The log of the running server.
pub trait LogControl: Send + Sync {
    /// Its level.
    fn report(&self) -> LogReport;

    /// Changes its level for a user. Must be called within the tokio runtime.
    ///
    /// # Errors
    /// Why the request is not valid.
    fn change(&self, request: &LogRequest, user: u32) -> Result<LogReport, String>;
}

/// The routes of these requests.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(
    log: Arc<dyn LogControl>,
    passing: Passing,
) -> Router<S> {
    let shown = Arc::clone(&log);
    let show = move || std::future::ready(Json(shown.report()));
    let change = move |Extension(Caller(user)), Json(request): Json<LogRequest>| {
        let changed = passing.unless_passing(|| log.change(&request, user));
        std::future::ready(changed.map_or_else(ending, answer))
    };
    Router::new().route("/log", get(show).post(change))
}

fn answer(result: Result<LogReport, String>) -> Response {
    match result {
        Ok(report) => Json(report).into_response(),
        Err(why) => (StatusCode::BAD_REQUEST, why).into_response(),
    }
}
