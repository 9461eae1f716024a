//! How many packets the kernel dropped in the last minutes, so that one look shows whether it still drops some.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::stats::{Count, Counters};

/// How often the counter is read.
const PERIOD: Duration = Duration::from_secs(10);
/// The number of values that are kept: those of five minutes, and of the moment before them.
const KEPT: usize = 31;

/// The values of the counter at the last readings, the oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct RecentDrops(Arc<Mutex<VecDeque<u64>>>);

impl RecentDrops {
    /// The drops within the last five minutes, or since the start if it was later.
    pub(super) fn count(&self, counters: &[Arc<Counters>]) -> u64 {
        let before = self.lock().front().copied().unwrap_or(0);
        total(counters).saturating_sub(before)
    }

    /// Reads the counters periodically until the service stops.
    pub(super) async fn follow(self, counters: Vec<Arc<Counters>>, stop: CancellationToken) {
        let follow = async {
            loop {
                self.note(total(&counters));
                tokio::time::sleep(PERIOD).await;
            }
        };
        stop.run_until_cancelled(follow).await;
    }

    fn note(&self, total: u64) {
        let mut values = self.lock();
        if values.len() == KEPT {
            values.pop_front();
        }
        values.push_back(total);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn total(counters: &[Arc<Counters>]) -> u64 {
    let each = counters.iter().map(|of| of.read(Count::KernelDrops));
    each.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn drops_count_for_five_minutes() {
        let counters = vec![Arc::new(Counters::default()), Arc::default()];
        let (drops, stop) = (RecentDrops::default(), CancellationToken::new());
        let follow = drops.clone().follow(counters.clone(), stop.clone());
        let follow = tokio::spawn(follow);
        tokio::time::sleep(Duration::from_secs(15)).await;
        counters[0].add(Count::KernelDrops, 5);
        counters[1].add(Count::KernelDrops, 2);
        assert_eq!(drops.count(&counters), 7);
        tokio::time::sleep(Duration::from_secs(290)).await;
        assert_eq!(drops.count(&counters), 7);
        tokio::time::sleep(Duration::from_secs(30)).await;
        counters[0].add(Count::KernelDrops, 1);
        assert_eq!(drops.count(&counters), 1, "the others are older");
        stop.cancel();
        follow.await.expect("no panic");
    }
}
