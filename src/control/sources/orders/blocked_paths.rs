//! Records the paths that threads wait for, so that a file system that does not answer holds one thread
//! for each path and not one more for each look at it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The paths that threads wait for. All clones are one record.
#[derive(Clone, Debug, Default)]
pub(super) struct PendingReads(Arc<Mutex<HashMap<PathBuf, Threads>>>);

/// The threads that wait for a path.
#[derive(Debug, Default)]
struct Threads {
    count: usize,
    /// One of them was left behind by a deadline.
    is_late: bool,
}

/// Counts as a thread that waits for a path until it is dropped.
pub(super) struct Waiting {
    asked: PendingReads,
    path: PathBuf,
}

impl PendingReads {
    pub(super) fn wait(&self, path: &Path) -> Waiting {
        self.lock().entry(path.to_owned()).or_default().count += 1;
        Waiting {
            asked: self.clone(),
            path: path.to_owned(),
        }
    }

    /// Whether a thread that was left behind may still wait for the path. Others that read it at the
    /// same time don't count: they have a deadline.
    pub(super) fn hangs(&self, path: &Path) -> bool {
        self.lock().get(path).is_some_and(|threads| threads.is_late)
    }

    /// A deadline passed for the path: from now on it hangs, until all its threads have ended.
    pub(super) fn leave_behind(&self, path: &Path) {
        if let Some(threads) = self.lock().get_mut(path) {
            threads.is_late = true;
        }
    }

    /// How many paths are waited for.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Threads>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut all = self.asked.lock();
        if let Some(threads) = all.get_mut(&self.path) {
            threads.count -= 1;
            if threads.count == 0 {
                all.remove(&self.path);
            }
        }
    }
}
