//! State shared by the data-plane threads, and their TTL clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::cache::Cache;
use super::notify::Notifications;
use super::zones::SignatureLimits;
use crate::policy::current::Reader;
use crate::policy::served_zones::ServedZones;

/// State that all threads of the data plane share.
#[derive(Clone)]
pub struct Shared {
    /// The policy in force.
    pub policy: Reader,
    /// Upstream's answers.
    pub cache: Arc<Cache>,
    /// The clock of all TTLs.
    pub clock: Clock,
    /// The zones whose primaries may send NOTIFY.
    pub notifications: Arc<Notifications>,
    /// The zones that the policy is published as.
    pub zones: ServedZones,
    /// Limits of the signatures of secondaries.
    pub signatures: Arc<SignatureLimits>,
}

/// A duration of the configuration in whole milliseconds. Its value may change while threads use it.
#[derive(Debug)]
pub struct Setting(AtomicU64);

impl Setting {
    /// With an initial value.
    pub fn new(value: Duration) -> Self {
        Self(AtomicU64::new(value.as_millis() as u64))
    }

    /// The current value.
    pub fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    /// Changes the value.
    pub fn set(&self, value: Duration) {
        self.0.store(value.as_millis() as u64, Ordering::Relaxed);
    }
}

/// Seconds since the server started, by which TTLs are counted. The clock includes the time for which the system was
/// suspended, so a suspension does not make an answer stay valid longer.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    /// Seconds for which the system was suspended since the start, which [`Instant`] does not count.
    suspended: Arc<AtomicU32>,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
            suspended: Arc::default(),
        }
    }

    /// Whole seconds since the start.
    pub fn now(&self) -> u32 {
        self.at(Instant::now())
    }

    /// Whole seconds from the start to `instant`.
    pub fn at(&self, instant: Instant) -> u32 {
        let seconds = instant.saturating_duration_since(self.start).as_secs();
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        seconds.saturating_add(self.suspended.load(Ordering::Relaxed))
    }

    /// Records how long the system was suspended in total since the start. Never sets the clock back.
    pub fn note_suspension(&self, total: Duration) {
        let seconds = u32::try_from(total.as_secs()).unwrap_or(u32::MAX);
        self.suspended.fetch_max(seconds, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ttls_elapse_while_the_system_is_suspended() {
        let clock = Clock::start();
        let other = clock.clone();
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(clock.now(), 10);
        clock.note_suspension(Duration::from_secs(3600));
        assert_eq!((clock.now(), other.now()), (3610, 3610));
        clock.note_suspension(Duration::from_secs(3599));
        assert_eq!(clock.now(), 3610, "it never goes back");
        clock.note_suspension(Duration::MAX);
        assert_eq!(clock.now(), u32::MAX);
    }
}
