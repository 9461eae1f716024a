//! Handles the signals that stop or reload the server.

use futures_util::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};

use super::error::DaemonError;
use super::essential::Essential;

/// The signals that the server handles.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// Ignored: their default action would end the process.
    user: [Signal; 2],
}

impl Signals {
    pub(super) fn listen() -> Result<Self, DaemonError> {
        let listen = |kind| {
            signal(kind).map_err(|source| DaemonError::System {
                what: "signals",
                source,
            })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
            user: [
                listen(SignalKind::user_defined1())?,
                listen(SignalKind::user_defined2())?,
            ],
        })
    }

    /// The result of a step of the start; `None` if a signal stops the server before.
    pub(super) async fn wait_for<T>(
        &mut self,
        step: JoinHandle<T>,
    ) -> Option<Result<T, JoinError>> {
        tokio::select! {
            _ = self.terminate.recv() => None,
            _ = self.interrupt.recv() => None,
            end = step => Some(end),
        }
    }

    /// Handles signals until one stops the server.
    pub(super) async fn wait_for_the_end(
        &mut self,
        essential: &Essential,
        hangup: mpsc::Sender<()>,
    ) -> Result<(), DaemonError> {
        let [user_1, user_2] = &mut self.user;
        let (mut logged_1, mut logged_2) = (false, false);
        loop {
            tokio::select! {
                _ = self.terminate.recv() => {
                    tracing::info!(signal = "SIGTERM", "stopping");
                    return Ok(());
                }
                _ = self.interrupt.recv() => {
                    tracing::info!(signal = "SIGINT", "stopping");
                    return Ok(());
                }
                // If the queue is full, a queued reload will see the same changes.
                _ = self.hang_up.recv() => drop(hangup.try_send(())),
                _ = user_1.recv() => ignore("SIGUSR1", &mut logged_1),
                _ = user_2.recv() => ignore("SIGUSR2", &mut logged_2),
                () = essential.stop().cancelled() => {
                    return Err(DaemonError::Ended(essential.ended()));
                }
            }
        }
    }

    /// Whether SIGHUP has arrived since the last reload that was asked for by it.
    pub(super) fn is_hung_up(&mut self) -> bool {
        self.hang_up.recv().now_or_never().is_some()
    }

    /// Completes with `stopping`, or when another signal asks the server to end at once.
    pub(super) async fn hurry(&mut self, stopping: impl Future<Output = ()>) {
        let signal = tokio::select! {
            () = stopping => return,
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        tracing::warn!(
            signal,
            "another signal: the server ends at once, and queries in progress get no answer"
        );
    }
}

/// Logs that a signal is ignored, the first time.
fn ignore(signal: &str, logged: &mut bool) {
    if !std::mem::replace(logged, true) {
        tracing::info!(signal, "ignored: it has no meaning here; SIGHUP reloads");
    }
}
