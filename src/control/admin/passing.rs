//! Requests that this server leaves to the process that takes over from it.

use std::sync::{Arc, PoisonError, RwLock};

use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};

/// Whether changes of what no control loop guards are carried out here: of the cache and of the level of the log. From the
/// moment at which the cache is copied for another process, they would be lost.
#[derive(Clone, Debug, Default)]
pub struct Passing(Arc<RwLock<bool>>);

impl Passing {
    /// Changes are left to another process from here on. Waits for those that are under way.
    pub(crate) fn begin(&self) {
        self.set(true);
    }

    /// There is no other process any more.
    pub(crate) fn end(&self) {
        self.set(false);
    }

    fn set(&self, is_passing: bool) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = is_passing;
    }

    /// Carries out a change here; `None` if it is left to another process. Does not wait.
    pub(super) fn unless_passing<T>(&self, change: impl FnOnce() -> T) -> Option<T> {
        // A lock that can't be had means that this is just beginning or ending.
        let is_passing = self.0.try_read().ok()?;
        (!*is_passing).then(change)
    }
}

/// The answer to a request that was not carried out. If another process has taken over, it answers the same request.
pub(super) fn ending() -> Response {
    let retry = [(RETRY_AFTER, "0")];
    let text = "the server is shutting down, or another process takes over from it";
    (StatusCode::SERVICE_UNAVAILABLE, retry, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_carried_out_here_unless_another_process_takes_over() {
        let passing = Passing::default();
        assert_eq!(passing.unless_passing(|| 1), Some(1));
        passing.begin();
        assert_eq!(passing.unless_passing(|| 1), None);
        passing.end();
        assert_eq!(passing.unless_passing(|| 1), Some(1));
    }
}
