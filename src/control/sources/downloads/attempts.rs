//! Which attempt to download a list may change its copy. One that was aborted may still be at work on another thread.

use std::sync::{Arc, Mutex, PoisonError};

/// The attempts to download a list. Only the newest one may change the copy.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempts(Arc<Mutex<u64>>);

/// An attempt.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    all: Attempts,
    number: u64,
}

impl Attempts {
    /// Begins an attempt, which ends the one before. Blocks while that one changes the copy.
    pub(super) fn begin(&self) -> Attempt {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *newest += 1;
        Attempt {
            all: self.clone(),
            number: *newest,
        }
    }
}

impl Attempt {
    /// Changes the copy; `None` if the attempt has ended.
    pub(super) fn change<T>(&self, change: impl FnOnce() -> T) -> Option<T> {
        let newest = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        (*newest == self.number).then(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_that_has_ended_changes_nothing() {
        let attempts = Attempts::default();
        let first = attempts.begin();
        assert_eq!(first.change(|| 1), Some(1));
        let second = attempts.begin();
        assert_eq!((first.change(|| 2), second.change(|| 3)), (None, Some(3)));
    }
}
