//! Watches the essential tasks and threads, and stops the server if one of them ends.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// The essential tasks and threads. If one panics or returns while the server runs, the stop token is cancelled
/// and the process ends with exit code 1, so that the service manager restarts it. Without its control loop, for
/// example, the server would use the same policy for ever.
#[derive(Clone, Debug, Default)]
pub(super) struct Essential {
    stop: CancellationToken,
    ended: Arc<OnceLock<&'static str>>,
}

impl Essential {
    /// Cancelled when the server must stop.
    pub(super) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Runs a task; `name` is for messages.
    pub(super) fn watch<F: Future + Send>(
        &self,
        name: &'static str,
        task: F,
    ) -> impl Future<Output = F::Output> + Send + use<F> {
        self.watch_until(&self.stop, name, task)
    }

    /// Runs a task that may end once `lifetime` is cancelled.
    pub(super) fn watch_until<F: Future + Send>(
        &self,
        lifetime: &CancellationToken,
        name: &'static str,
        task: F,
    ) -> impl Future<Output = F::Output> + Send + use<F> {
        let guard = self.guard(lifetime, name);
        async move {
            let _guard = guard;
            task.await
        }
    }

    /// Returns a guard that a thread keeps while it runs. If the guard is dropped before `lifetime` is cancelled, the
    /// server stops. `lifetime` is the stop token or one of its children.
    pub(super) fn guard(&self, lifetime: &CancellationToken, name: &'static str) -> Guard {
        Guard {
            name,
            lifetime: lifetime.clone(),
            essential: self.clone(),
        }
    }

    /// The name of the task or thread that ended first.
    pub(super) fn ended(&self) -> &'static str {
        self.ended.get().copied().unwrap_or("a part of the server")
    }
}

/// See [`Essential::guard`].
#[derive(Debug)]
pub(super) struct Guard {
    name: &'static str,
    lifetime: CancellationToken,
    essential: Essential,
}

impl Guard {
    /// Drops the guard of a thread that has ended as planned.
    pub(super) fn release(mut self) {
        self.lifetime = CancellationToken::new();
        self.lifetime.cancel();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Essential { stop, ended } = &self.essential;
        if self.lifetime.is_cancelled() {
            return;
        }
        let (part, panicked) = (self.name, std::thread::panicking());
        tracing::error!(
            part,
            panicked,
            "ended while the server is running, so the server ends, too"
        );
        // Another part may have ended at the same moment; one name is enough.
        let _ = ended.set(self.name);
        stop.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_ends_the_server_and_is_named() {
        let essential = Essential::default();
        let watched = essential.watch("the control loop", async { panic!("a bug") });
        let task = tokio::spawn(async { watched.await as () });
        essential.stop().cancelled().await;
        assert_eq!(essential.ended(), "the control loop");
        assert!(task.await.is_err_and(|error| error.is_panic()));
    }

    #[tokio::test]
    async fn a_task_that_returns_early_ends_the_server() {
        let essential = Essential::default();
        tokio::spawn(essential.watch("the job taker", async {}));
        essential.stop().cancelled().await;
        assert_eq!(essential.ended(), "the job taker");
    }

    #[test]
    fn a_thread_that_panics_ends_the_server() {
        let essential = Essential::default();
        let guard = essential.guard(essential.stop(), "a UDP worker");
        let thread = std::thread::spawn(move || {
            let _guard = guard;
            panic!("a bug");
        });
        thread.join().expect_err("it panicked");
        assert!(essential.stop().is_cancelled());
        assert_eq!(essential.ended(), "a UDP worker");
    }

    #[tokio::test]
    async fn a_part_that_is_replaced_may_end() {
        let essential = Essential::default();
        let lifetime = essential.stop().child_token();
        let ended = lifetime.clone();
        let watched =
            essential.watch_until(
                &lifetime,
                "a listener",
                async move { ended.cancelled().await },
            );
        let task = tokio::spawn(watched);
        lifetime.cancel();
        task.await.expect("it returned");
        assert!(!essential.stop().is_cancelled());
    }

    #[tokio::test]
    async fn a_task_that_ends_after_the_stop_is_no_error() {
        let essential = Essential::default();
        let stop = essential.stop().clone();
        let watched = essential.watch("the control loop", async move { stop.cancelled().await });
        let task = tokio::spawn(watched);
        essential.stop().cancel();
        task.await.expect("it returned");
        assert_eq!(essential.ended(), "a part of the server");
    }
}
