//! Limits how often something happens, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Permits some events at once, and then one more each period.
#[derive(Debug)]
pub(super) struct Limit {
    /// The number of events that may come at once.
    burst: u64,
    /// The mean time between two events, in nanoseconds.
    period: u64,
    /// When all events of a burst are permitted again, in nanoseconds.
    full: AtomicU64,
}

impl Limit {
    /// Permits `burst` events at once, and one more each `period`.
    pub(super) fn new(burst: u64, period: Duration) -> Self {
        Self {
            burst,
            period: period.as_nanos() as u64,
            full: AtomicU64::new(0),
        }
    }

    /// Whether an event may happen at `now`, which is a time since any start that is the same for all calls. If so, it
    /// is counted.
    pub(super) fn take(&self, now: Duration) -> bool {
        let now = now.as_nanos() as u64;
        let most = now + self.burst * self.period;
        let next = |full: u64| Some(full.max(now) + self.period).filter(|next| *next <= most);
        let taken = self
            .full
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_events_is_permitted_at_once_and_then_one_each_period() {
        const PERIOD: Duration = Duration::from_millis(100);
        let limit = Limit::new(10, PERIOD);
        let count = |now| (0..1000).filter(|_| limit.take(now)).count();
        let start = Duration::from_secs(5);
        assert_eq!(count(start), 10);
        assert_eq!(count(start + PERIOD / 2), 0);
        assert_eq!(count(start + PERIOD), 1);
        assert_eq!(count(start + 4 * PERIOD), 3);
        assert_eq!(count(start + 100 * PERIOD), 10);
    }
}
