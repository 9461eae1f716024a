//! Counts the answers by which an upstream server blocks names.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// After this time without such an answer, the recent count starts again.
const QUIET: Duration = Duration::from_secs(3600);

/// The answers of one server that blocked names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockCounts {
    /// Since the server was configured.
    pub total: u64,
    /// `None` if there was no such answer for an hour.
    pub recent: Option<RecentBlocks>,
}

/// Such answers without a pause of an hour between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentBlocks {
    /// Their number.
    pub count: u64,
    /// How long ago the first one came.
    pub began: Duration,
}

/// Counters of one server. Times are in milliseconds since an origin that the server chooses. Threads that count at the
/// same time may start the recent count twice, and lose a few of its answers.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    total: AtomicU64,
    recent: AtomicU64,
    since: AtomicU64,
    last: AtomicU64,
}

impl Blocks {
    /// Counts one answer.
    pub(super) fn count(&self, now: u64) {
        let last = self.last.swap(now, Ordering::Relaxed);
        if self.total.fetch_add(1, Ordering::Relaxed) == 0 || is_over(last, now) {
            self.since.store(now, Ordering::Relaxed);
            self.recent.store(0, Ordering::Relaxed);
        }
        self.recent.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counts(&self, now: u64) -> BlockCounts {
        let total = self.total.load(Ordering::Relaxed);
        let is_recent = total > 0 && !is_over(self.last.load(Ordering::Relaxed), now);
        let recent = is_recent.then(|| RecentBlocks {
            count: self.recent.load(Ordering::Relaxed),
            began: Duration::from_millis(now.saturating_sub(self.since.load(Ordering::Relaxed))),
        });
        BlockCounts { total, recent }
    }
}

fn is_over(last: u64, now: u64) -> bool {
    u128::from(now.saturating_sub(last)) >= QUIET.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recent_count_starts_again_after_an_hour_without_a_block() {
        const HOUR: u64 = 3_600_000;
        let recent = |count, began| {
            let began = Duration::from_millis(began);
            Some(RecentBlocks { count, began })
        };
        let blocks = Blocks::default();
        assert_eq!(blocks.counts(5), BlockCounts::default());
        blocks.count(0);
        blocks.count(HOUR - 1);
        let counts = |now| {
            let BlockCounts { total, recent } = blocks.counts(now);
            (total, recent)
        };
        assert_eq!(counts(HOUR), (2, recent(2, HOUR)));
        assert_eq!(counts(2 * HOUR - 1), (2, None));
        blocks.count(3 * HOUR);
        assert_eq!(counts(3 * HOUR + 7), (3, recent(1, 7)));
    }
}
