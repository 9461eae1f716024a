//! Limits how often something happens, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The mean time between two events, and the number of events that may come at once.
const PERIOD: Duration = Duration::from_millis(100);
const BURST: u64 = 10;

/// Permits ten events at once, and one more each 100 ms.
#[derive(Debug, Default)]
pub(super) struct Limit {
    /// When all [`BURST`] events are permitted again, in nanoseconds.
    full: AtomicU64,
}

impl Limit {
    /// Whether an event may happen at `now`, which is a time since any start that is the same for all calls. If so, it
    /// is counted.
    pub(super) fn take(&self, now: Duration) -> bool {
        let period = PERIOD.as_nanos() as u64;
        let now = now.as_nanos() as u64;
        let next =
            |full: u64| Some(full.max(now) + period).filter(|next| *next <= now + BURST * period);
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
    fn ten_events_are_permitted_at_once_and_then_one_each_100_ms() {
        let limit = Limit::default();
        let count = |now| (0..1000).filter(|_| limit.take(now)).count();
        let start = Duration::from_secs(5);
        assert_eq!(count(start), 10);
        assert_eq!(count(start + PERIOD / 2), 0);
        assert_eq!(count(start + PERIOD), 1);
        assert_eq!(count(start + 4 * PERIOD), 3);
        assert_eq!(count(start + 100 * PERIOD), 10);
    }
}
