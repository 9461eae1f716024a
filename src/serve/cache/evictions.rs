//! Counts the answers that the cache evicts, and drops them outside of its locks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::Lifecycle;

use super::entry::{Entry, Key};

/// The number of evictions. An eviction happens while a lock is held, so that the counter costs little beside it.
#[derive(Clone, Debug, Default)]
pub(super) struct Evictions(Arc<AtomicU64>);

impl Evictions {
    pub(super) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Lifecycle<Key, Arc<Entry>> for Evictions {
    /// An insertion evicts one or two answers, as most are of similar size.
    type RequestState = [Option<(Key, Arc<Entry>)>; 2];

    #[inline]
    fn on_evict(&self, state: &mut Self::RequestState, key: Key, entry: Arc<Entry>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        if let Some(free) = state.iter_mut().find(|place| place.is_none()) {
            *free = Some((key, entry));
        }
    }
}
