//! Attempts of the tasks of a zone: how they run, and when a failed one is made again.

use std::time::Duration;

use tokio::sync::watch;
use tokio::sync::watch::error::RecvError;
use tokio::time::timeout;

/// How long after a failure an attempt is made again.
pub(super) const RETRY: Duration = Duration::from_secs(10);

/// An attempt has panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it failed inside tapis, which is a bug; please report it")]
pub(super) struct Panicked;

/// Runs an attempt on a thread that may block.
///
/// # Errors
/// [`Panicked`].
pub(super) async fn run<T: Send + 'static>(
    attempt: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    // It is not cancelled before this task is.
    let attempt = tokio::task::spawn_blocking(attempt);
    attempt.await.map_err(|_| Panicked)
}

/// The text of a problem that the next attempt may solve.
pub(super) fn problem(error: impl std::fmt::Display) -> String {
    format!("{error} (tried again every {} s)", RETRY.as_secs())
}

/// Waits until the next attempt is due: when there is a new value, or soon if the last attempt failed. Returns whether there is
/// a new value.
///
/// # Errors
/// If there are no more values.
pub(super) async fn next<T>(
    values: &mut watch::Receiver<T>,
    has_failed: bool,
) -> Result<bool, RecvError> {
    let changed = values.changed();
    let changed = match has_failed {
        false => Ok(changed.await),
        true => timeout(RETRY, changed).await,
    };
    match changed {
        Ok(changed) => changed.map(|()| true),
        Err(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_attempt_is_made_again_after_a_failure_and_otherwise_for_a_new_value() {
        let (sender, mut values) = watch::channel(1);
        assert!(matches!(next(&mut values, true).await, Ok(false)));
        let never = timeout(RETRY * 100, next(&mut values, false)).await;
        assert!(never.is_err());
        sender.send_replace(2);
        assert!(matches!(next(&mut values, false).await, Ok(true)));
        drop(sender);
        next(&mut values, true).await.expect_err("no more values");
    }

    #[tokio::test]
    async fn an_attempt_that_panics_is_an_error() {
        assert_eq!(run(|| 5).await, Ok(5));
        let panicked = run(|| -> u8 { panic!("for this test") }).await;
        let text = panicked.expect_err("it panics").to_string();
        assert!(text.contains("a bug"), "{text}");
    }
}
