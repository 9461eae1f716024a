//! Signs of life of the control loop, for the service manager.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// The signs of life of a control loop.
#[derive(Debug, Default)]
pub struct Vitals {
    turns: AtomicU64,
    reloads: watch::Sender<Reloads>,
}

/// The reloads of the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reloads {
    /// How many have begun. A reload that begins before another one ends is not counted separately.
    pub begun: u64,
    /// Whether one is under way.
    pub under_way: bool,
}

impl Vitals {
    /// The number of turns so far. A healthy loop takes one every few seconds, even if nothing happens.
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// The reloads, with all later changes.
    pub fn reloads(&self) -> watch::Receiver<Reloads> {
        self.reloads.subscribe()
    }

    /// Counts a turn, after which a reload is under way or not.
    pub(crate) fn turn(&self, is_reloading: bool) {
        self.turns.fetch_add(1, Ordering::Relaxed);
        self.reloads.send_if_modified(|reloads| {
            let changes = reloads.under_way != is_reloading;
            reloads.under_way = is_reloading;
            reloads.begun += u64::from(changes && is_reloading);
            changes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_that_ends_before_anyone_looks_is_counted_nevertheless() {
        let vitals = Vitals::default();
        let mut reloads = vitals.reloads();
        for is_reloading in [false, true, true, false] {
            vitals.turn(is_reloading);
        }
        assert_eq!(vitals.turns(), 4);
        let expected = Reloads {
            begun: 1,
            under_way: false,
        };
        assert_eq!(*reloads.borrow_and_update(), expected);
        vitals.turn(false);
        assert!(!reloads.has_changed().expect("open"), "nothing happened");
    }
}
