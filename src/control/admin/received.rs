//! The state of a connection to the control socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::client::LONG_PATIENCE;

/// How long a connection may last: longer than any client waits.
const CONNECTION_TIME: Duration = LONG_PATIENCE.saturating_add(Duration::from_secs(30));

/// The state of a connection's request.
#[derive(Clone, Debug, Default)]
pub(super) struct Received(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_whole: AtomicBool,
    is_lasting: AtomicBool,
}

impl Received {
    /// The request was received completely.
    pub(super) fn completes(&self) {
        self.0.is_whole.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_whole(&self) -> bool {
        self.0.is_whole.load(Ordering::Relaxed)
    }

    /// The answer is a stream without an end.
    pub(super) fn lasts(&self) {
        self.0.is_lasting.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_lasting(&self) -> bool {
        self.0.is_lasting.load(Ordering::Relaxed)
    }

    /// Returns when a connection has lasted too long; never if its answer is a stream without an end.
    pub(super) async fn too_long(&self) {
        tokio::time::sleep(CONNECTION_TIME).await;
        if self.is_lasting() {
            std::future::pending::<()>().await;
        }
    }
}
