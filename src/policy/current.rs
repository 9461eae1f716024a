//! The snapshot in force: the only policy that the control plane and the data plane share. Reading it never
//! blocks, and a reader never frees a replaced snapshot.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use super::snapshot::Snapshot;

/// Publishes snapshots. There is one publisher per server.
#[derive(Debug)]
pub struct Publisher {
    current: Arc<ArcSwap<Snapshot>>,
    retired: Vec<Arc<Snapshot>>,
}

/// Reads the snapshot in force. Each thread and each task has a reader.
#[derive(Clone, Debug)]
pub struct Reader(Arc<ArcSwap<Snapshot>>);

impl Publisher {
    /// A publisher whose first snapshot is in force.
    pub fn new(first: Snapshot) -> Self {
        Self {
            current: Arc::new(ArcSwap::from_pointee(first)),
            retired: Vec::new(),
        }
    }

    /// A reader of the snapshots that this publisher publishes.
    pub fn reader(&self) -> Reader {
        Reader(Arc::clone(&self.current))
    }

    /// The snapshot in force.
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Replaces the snapshot in force by `next`, atomically. The replaced one is kept until no reader uses
    /// it, so that no reader ever frees it: see [`reclaim`](Self::reclaim).
    pub fn publish(&mut self, next: Snapshot) {
        let old = self.current.swap(Arc::new(next));
        self.retired.push(old);
    }

    /// Returns the replaced snapshots that no reader uses any more, for the caller to drop, and the number of
    /// those that are still in use.
    pub fn reclaim(&mut self) -> (Vec<Arc<Snapshot>>, usize) {
        let unused = |snapshot: &mut Arc<Snapshot>| Arc::strong_count(snapshot) == 1;
        let free = self.retired.extract_if(.., unused).collect();
        (free, self.retired.len())
    }
}

impl Reader {
    /// The snapshot that is in force now. The guard keeps it in memory, even after it is replaced. Hold the guard for a
    /// batch of packets, but never while waiting for the next batch: a sleeping thread would keep an old generation in
    /// memory.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.0.load()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(generation: u64) -> Snapshot {
        Snapshot {
            generation,
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_reader_keeps_its_snapshot_until_its_next_load() {
        let mut publisher = Publisher::new(snapshot(1));
        let reader = publisher.reader();
        let before = reader.load();
        publisher.publish(snapshot(2));
        assert_eq!((before.generation, reader.load().generation), (1, 2));
    }

    #[test]
    fn a_replaced_snapshot_is_reclaimed_only_when_no_reader_uses_it() {
        let mut publisher = Publisher::new(snapshot(1));
        let reader = publisher.reader();
        let held = reader.load();
        publisher.publish(snapshot(2));
        publisher.publish(snapshot(3));
        let (free, used) = publisher.reclaim();
        assert_eq!((free.len(), used), (1, 1));
        assert_eq!(free[0].generation, 2);
        drop(held);
        let (free, used) = publisher.reclaim();
        assert_eq!((free[0].generation, used), (1, 0));
    }
}
