//! Losses because a sink takes records too slowly. They are a problem until none was lost for a while.

use std::time::{Duration, Instant};

/// The time without losses after which the problem is over.
const CALM: Duration = Duration::from_secs(10);

/// The losses of a sink that is too slow.
#[derive(Default)]
pub(super) struct Overflow {
    /// The losses since the problem began.
    lost: u64,
    /// The losses when they were last seen to grow, and when that was.
    seen: Option<(u64, Instant)>,
}

/// A change that belongs into the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The first losses.
    Began,
    /// None was lost for a while; this many were before.
    Ended(u64),
}

impl Overflow {
    /// Adds losses.
    pub(super) fn add(&mut self, count: u64) {
        self.lost += count;
    }

    /// The losses since the problem began; `None` if there is no problem.
    pub(super) fn lost(&self) -> Option<u64> {
        Some(self.lost).filter(|lost| *lost > 0)
    }

    /// Notices that the problem began, or that it is over. To be called regularly.
    pub(super) fn look(&mut self, now: Instant) -> Option<Turn> {
        match self.seen {
            _ if self.lost == 0 => None,
            None => {
                self.seen = Some((self.lost, now));
                Some(Turn::Began)
            }
            Some((seen, _)) if seen < self.lost => {
                self.seen = Some((self.lost, now));
                None
            }
            Some((lost, since)) if now.saturating_duration_since(since) >= CALM => {
                *self = Self::default();
                Some(Turn::Ended(lost))
            }
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_a_problem_until_none_was_lost_for_a_while() {
        let mut overflow = Overflow::default();
        let start = Instant::now();
        assert_eq!(overflow.look(start), None);
        overflow.add(3);
        assert_eq!(overflow.lost(), Some(3), "also before it is noticed");
        assert_eq!(overflow.look(start), Some(Turn::Began));
        let late = start + CALM - Duration::from_millis(1);
        assert_eq!(overflow.look(late), None);
        overflow.add(2);
        assert_eq!(overflow.look(late), None);
        assert_eq!(overflow.look(start + CALM), None, "the last loss counts");
        assert_eq!(overflow.look(late + CALM), Some(Turn::Ended(5)));
        assert_eq!((overflow.lost(), overflow.look(late + CALM)), (None, None));
    }
}
