//! Decides whether the process still does its work, for the watchdog of the service manager.

use std::time::{Duration, Instant};

/// How long the control loop may take no turn. Its turns are short, and large lists are compiled by another process; but a
/// restart costs answers, while a slow control loop only delays changes. So it gets as long as the longest request of a
/// client.
const CONTROL_PATIENCE: Duration = Duration::from_secs(300);

/// One UDP worker at the moment of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WorkerState {
    /// The number of packets that it has received so far.
    pub(super) received: u64,
    /// Whether packets wait at one of its sockets.
    pub(super) has_unread: bool,
}

/// The state at the last check.
#[derive(Debug)]
pub(super) struct Watchdog {
    workers: Vec<WorkerState>,
    turns: u64,
    /// When the number of turns was seen to change.
    turned: Instant,
}

impl Watchdog {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            workers: Vec::new(),
            turns: 0,
            turned: now,
        }
    }

    /// Compares the state with that of the last check. A worker is hung if packets waited at both checks and it received
    /// none in between; so an idle worker is not, and nobody has to send it a probe.
    ///
    /// # Errors
    /// The part that is hung, in words.
    pub(super) fn check(
        &mut self,
        workers: Vec<WorkerState>,
        turns: u64,
        now: Instant,
    ) -> Result<(), String> {
        if turns != self.turns {
            (self.turns, self.turned) = (turns, now);
        }
        let before = std::mem::replace(&mut self.workers, workers);
        let mut pairs = before.iter().zip(&self.workers);
        let hung = pairs.position(|(before, worker)| before.has_unread && before == worker);
        if let Some(index) = hung {
            return Err(format!("UDP worker {index} does not read its packets"));
        }
        let still = now.saturating_duration_since(self.turned);
        if still >= CONTROL_PATIENCE {
            let seconds = still.as_secs();
            return Err(format!(
                "the control loop has handled nothing for {seconds} s"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(received: u64, has_unread: bool) -> Vec<WorkerState> {
        let idle = WorkerState {
            received: 9,
            has_unread: false,
        };
        let other = WorkerState {
            received,
            has_unread,
        };
        vec![idle, other]
    }

    #[test]
    fn a_worker_that_leaves_packets_unread_is_hung_and_an_idle_or_a_busy_one_is_not() {
        let now = Instant::now();
        let mut watchdog = Watchdog::new(now);
        let steps = [
            (5, false, true),
            (5, false, true),
            (5, true, true),
            (6, true, true),
            (6, true, false),
            (6, true, false),
            (7, true, true),
            (7, false, true),
        ];
        for (step, (received, has_unread, is_well)) in steps.into_iter().enumerate() {
            let checked = watchdog.check(worker(received, has_unread), 1, now);
            assert_eq!(checked.is_ok(), is_well, "step {step}: {checked:?}");
            if let Err(why) = checked {
                assert!(why.contains("worker 1"), "{why}");
            }
        }
    }

    #[test]
    fn a_control_loop_is_hung_only_after_its_patience() {
        let start = Instant::now();
        let mut watchdog = Watchdog::new(start);
        let mut at = |seconds, turns| {
            let now = start + Duration::from_secs(seconds);
            watchdog.check(Vec::new(), turns, now)
        };
        assert_eq!(at(10, 1), Ok(()));
        assert_eq!(at(309, 1), Ok(()), "busy for less than five minutes");
        at(310, 1).expect_err("hung");
        assert_eq!(at(320, 2), Ok(()), "it was only slow");
        assert_eq!(at(330, 2), Ok(()));
    }
}
