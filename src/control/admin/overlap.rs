//! Compares the lists in force for a client of the control socket, as long as it waits.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::policy::current::Reader;
use crate::policy::overlap::overlaps;

/// Compares the lists in force. One comparison runs at a time, on a separate thread, so that neither the control loop nor
/// queries wait for it.
pub(super) struct Overlaps {
    reader: Reader,
    /// Held while a comparison runs.
    turn: Mutex<()>,
    stop: CancellationToken,
}

impl Overlaps {
    pub(super) fn new(reader: Reader, stop: CancellationToken) -> Self {
        let turn = Mutex::default();
        Self { reader, turn, stop }
    }

    /// Answers a request. If the client leaves, this future is dropped, which ends the comparison.
    pub(super) async fn answer(&self) -> Response {
        let _turn = self.turn.lock().await;
        let ended = self.stop.child_token();
        let _ends = ended.clone().drop_guard();
        let snapshot = std::sync::Arc::clone(&self.reader.load());
        let compare = move || overlaps(&snapshot, || !ended.is_cancelled());
        match tokio::task::spawn_blocking(compare).await {
            Ok(Ok(Some(lists))) => Json(lists).into_response(),
            Ok(Ok(None)) => {
                let why = "the server is shutting down";
                (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
            }
            Ok(Err(damage)) => {
                let why = format!(
                    "the policy in force can't be read: {damage}; restart the server to compile it again"
                );
                (StatusCode::INTERNAL_SERVER_ERROR, why).into_response()
            }
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    }
}
