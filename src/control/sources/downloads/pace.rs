//! The limits of a download in time: how long it may take, and how slowly a server may send.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::fault::{DownloadFault, Failure};
use crate::config::download::DownloadLimits;

/// The least that a server must send, in bytes per second.
const LEAST: u64 = 1024;

/// Measures a download.
pub(super) struct Pace {
    deadline: Instant,
    time: Duration,
    stall: Duration,
    /// The end of the period that is measured, and the bytes in it so far.
    until: Instant,
    received: u64,
}

impl Pace {
    pub(super) fn new(limits: DownloadLimits, now: Instant) -> Self {
        Self {
            deadline: now + limits.time,
            time: limits.time,
            stall: limits.stall,
            until: now + limits.stall,
            received: 0,
        }
    }

    /// Waits for something other than a part of the file: a connection, or the head of a response.
    pub(super) async fn wait<T>(
        &self,
        what: &str,
        it: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let until = self.deadline.min(Instant::now() + self.stall);
        match timeout_at(until, it).await {
            Ok(result) => result,
            Err(_) if until == self.deadline => Err(self.too_late()),
            Err(_) => {
                let detail = format!("{what} took more than {} s", self.stall.as_secs());
                Err(Failure::new(DownloadFault::Stalled, detail))
            }
        }
    }

    /// Starts to measure the parts of a file.
    pub(super) fn begin(&mut self, now: Instant) {
        (self.until, self.received) = (now + self.stall, 0);
    }

    /// Waits for the next part of a file, whose size `bytes` tells.
    pub(super) async fn next<T>(
        &mut self,
        it: impl Future<Output = T>,
        bytes: impl Fn(&T) -> usize,
    ) -> Result<T, Failure> {
        let mut it = std::pin::pin!(it);
        loop {
            let until = self.deadline.min(self.until);
            let next = timeout_at(until, it.as_mut()).await;
            let now = Instant::now();
            if let Ok(next) = &next {
                self.received += bytes(next) as u64;
            }
            if now >= self.deadline {
                return Err(self.too_late());
            }
            if now >= self.until {
                if self.received < LEAST * self.stall.as_secs() {
                    let (received, secs) = (self.received, self.stall.as_secs());
                    let detail = format!("{received} bytes arrived in {secs} s");
                    return Err(Failure::new(DownloadFault::Stalled, detail));
                }
                self.begin(now);
            }
            if let Ok(next) = next {
                return Ok(next);
            }
        }
    }

    fn too_late(&self) -> Failure {
        let detail = format!("it was not complete after {} s", self.time.as_secs());
        Failure::new(DownloadFault::Timeout, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn receive(size: usize, parts: usize) -> Option<DownloadFault> {
        let limits = DownloadLimits {
            time: 100 * SECOND,
            stall: 10 * SECOND,
            ..DownloadLimits::default()
        };
        let mut pace = Pace::new(limits, Instant::now());
        for _ in 0..parts {
            let next = pace.next(
                async {
                    tokio::time::sleep(SECOND).await;
                    size
                },
                |size| *size,
            );
            if let Err(failure) = next.await {
                return Some(failure.fault);
            }
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_sends_too_little_is_given_up_and_so_is_one_that_never_ends() {
        assert_eq!(receive(1024, 90).await, None);
        assert_eq!(receive(1000, 90).await, Some(DownloadFault::Stalled));
        assert_eq!(receive(1024, 200).await, Some(DownloadFault::Timeout));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_after_one_period() {
        let mut pace = Pace::new(DownloadLimits::default(), Instant::now());
        let start = Instant::now();
        let next = pace.next(std::future::pending::<usize>(), |size| *size);
        let failure = next.await.expect_err("nothing arrives");
        assert_eq!(failure.fault, DownloadFault::Stalled);
        assert_eq!(start.elapsed(), DownloadLimits::default().stall);
    }
}
