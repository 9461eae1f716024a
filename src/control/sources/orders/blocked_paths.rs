//! Records the paths that threads wait for. So a file system that does not answer blocks one thread for each path,
//! instead of a further one at each look.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The paths that threads wait for. Clones share one record.
#[derive(Clone, Debug, Default)]
pub(super) struct BlockedPaths(Arc<Mutex<HashMap<PathBuf, Threads>>>);

/// The threads that wait for a path.
#[derive(Debug, Default)]
struct Threads {
    count: usize,
    /// A deadline has passed for one of them.
    is_late: bool,
}

/// Until this is dropped, it counts as a thread that waits for a path.
pub(super) struct Waiting {
    record: BlockedPaths,
    path: PathBuf,
}

impl BlockedPaths {
    /// A thread is about to wait for the path.
    pub(super) fn wait(&self, path: &Path) -> Waiting {
        self.lock().entry(path.to_owned()).or_default().count += 1;
        Waiting {
            record: self.clone(),
            path: path.to_owned(),
        }
    }

    /// Whether a deadline has passed for the path, and threads still wait for it. A path whose threads are all within
    /// their deadline is not blocked.
    pub(super) fn is_blocked(&self, path: &Path) -> bool {
        self.lock().get(path).is_some_and(|threads| threads.is_late)
    }

    /// A deadline has passed for the path: it is blocked until all its threads have ended.
    pub(super) fn mark_blocked(&self, path: &Path) {
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
        let mut all = self.record.lock();
        if let Some(threads) = all.get_mut(&self.path) {
            threads.count -= 1;
            if threads.count == 0 {
                all.remove(&self.path);
            }
        }
    }
}
