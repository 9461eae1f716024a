//! Limits the rate of answers to UDP queries that waited for upstream, and drops those that are too old.
//!
//! An attacker can send queries with a forged source for names whose servers answer slowly, let thousands of answers
//! accumulate, and have them all sent to the forged address at once (DNSBomb, IEEE S&P 2024). Answers that waited long
//! are therefore spread over time for each client, and those that waited longer than a client waits are dropped.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::quality::RandomState;
use tokio::time::Instant;

use super::admission::network;
use super::shared::Setting;

/// A limit for answers that waited for at least `least`, but not long enough for a preceding entry of [`BURSTS`].
struct Burst {
    least: Duration,
    /// How many of these answers one client gets in each [`WINDOW`].
    most: u64,
    /// The lowest of the sixteen bits that count them. Each burst is counted separately: otherwise a client with many
    /// faster answers would never get its slowest answers.
    count_at: u32,
}

/// The limits, the one for the longest wait first. An interval of 10 ms may contain the end of one window and the start
/// of the next. Within such an interval a client gets at most twice `most` answers. Most answers wait for less than
/// 20 ms and are not limited. A client that is itself a resolver with many users gets up to 25,600 answers per second
/// that waited for 20 to 200 ms.
const BURSTS: [Burst; 2] = [
    Burst {
        least: Duration::from_millis(200),
        most: 64,
        count_at: 16,
    },
    Burst {
        least: Duration::from_millis(20),
        most: 256,
        count_at: 0,
    },
];
/// The time during which answers count as one burst.
const WINDOW: Duration = Duration::from_millis(10);
/// The number of client counters. Clients that share a counter share its limits.
const CLIENTS: usize = 1 << 12;

/// The decision about an answer that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Send it.
    Now,
    /// Try again at this time, the start of the next window. [`Pace`] gives answers that were held back no precedence:
    /// in each window, the first answers that are tried are sent.
    Later(Instant),
    /// Drop it: the client has given up.
    Never,
}

/// Decides when deferred answers are sent. All threads share one.
#[derive(Debug)]
pub struct Pace {
    discard: Setting,
    start: Instant,
    /// One counter for each client. The high half is the number of a window. The low half counts the answers that the
    /// client got in that window, separately for each of [`BURSTS`].
    counts: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl Pace {
    /// Drops answers to queries that are older than `discard`.
    pub fn new(discard: Duration) -> Self {
        Self {
            discard: Setting::new(discard),
            start: Instant::now(),
            counts: (0..CLIENTS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::default(),
        }
    }

    /// Changes the age from which answers are dropped.
    pub fn set_discard(&self, discard: Duration) {
        self.discard.set(discard);
    }

    /// Decides at `now` on the answer to a query that was received at `since`. A `failure` is sent regardless of the
    /// query's age, so that the client learns of it.
    pub fn release(&self, client: IpAddr, since: Instant, failure: bool, now: Instant) -> Release {
        let waited = now.saturating_duration_since(since);
        if waited >= self.discard.get() && !failure {
            return Release::Never;
        }
        let Some(burst) = BURSTS.iter().find(|burst| waited >= burst.least) else {
            return Release::Now;
        };
        let elapsed = now.saturating_duration_since(self.start);
        let window = (elapsed.as_nanos() / WINDOW.as_nanos()) as u32;
        if self.admits(client, burst, window) {
            return Release::Now;
        }
        let since_its_start = (elapsed.as_nanos() % WINDOW.as_nanos()) as u64;
        Release::Later(now + WINDOW - Duration::from_nanos(since_its_start))
    }

    fn admits(&self, client: IpAddr, burst: &Burst, window: u32) -> bool {
        let place = self.hasher.hash_one(network(client)) as usize % CLIENTS;
        let next = |count: u64| {
            let before = match count >> 32 == u64::from(window) {
                true => count,
                false => u64::from(window) << 32,
            };
            let is_full = (before >> burst.count_at & 0xFFFF) >= burst.most;
            (!is_full).then_some(before + (1 << burst.count_at))
        };
        let count = &self.counts[place];
        count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VICTIM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn count(pace: &Pace, client: IpAddr, since: Instant, now: Instant) -> usize {
        let all = (0..1000).map(|_| pace.release(client, since, false, now));
        all.filter(|release| *release == Release::Now).count()
    }

    #[test]
    fn accumulated_answers_are_sent_in_bounded_bursts() {
        let pace = Pace::new(Duration::from_millis(1900));
        let since = Instant::now();
        let ready = since + Duration::from_secs(1);
        for window in 0..5 {
            let now = ready + WINDOW * window;
            assert_eq!(count(&pace, VICTIM, since, now), 64);
            let other = [192, 0, 2, 2].into();
            assert_eq!(pace.release(other, since, false, now), Release::Now);
        }
    }

    #[test]
    fn two_windows_that_meet_release_twice_the_burst_and_no_more() {
        let pace = Pace::new(Duration::from_millis(1900));
        let since = Instant::now();
        let at = |millis| pace.start + Duration::from_millis(millis);
        let released: usize = (1009..1019)
            .map(|millis| count(&pace, VICTIM, since, at(millis)))
            .sum();
        assert_eq!(released, 2 * 64);
        assert_eq!(count(&pace, VICTIM, since, at(1020)), 64);
    }

    #[test]
    fn faster_answers_do_not_use_up_the_limit_of_the_slowest() {
        let pace = Pace::new(Duration::from_millis(1900));
        let after = |millis| pace.start + Duration::from_millis(millis);
        for window in 0..3 {
            let now = after(500 + 10 * window);
            let [slow, fast] = [300, 100].map(|ago| now - Duration::from_millis(ago));
            assert_eq!(count(&pace, VICTIM, fast, now), 256);
            assert_eq!(count(&pace, VICTIM, slow, now), 64);
            assert_eq!(count(&pace, VICTIM, slow, now), 0);
            assert_eq!(count(&pace, VICTIM, fast, now), 0);
        }
    }

    #[test]
    fn fast_answers_are_never_held_back() {
        let pace = Pace::new(Duration::from_millis(1900));
        let since = Instant::now();
        let after = |millis| since + Duration::from_millis(millis);
        assert_eq!(count(&pace, VICTIM, since, after(19)), 1000);
        assert_eq!(count(&pace, VICTIM, since, after(199)), 256);
        let [one, other] = ["2001:db8:1:ff00::1", "2001:db8:1:ff42::7"];
        let of = |text: &str| text.parse().expect("an address");
        assert_eq!(count(&pace, of(one), since, after(300)), 64);
        assert_eq!(count(&pace, of(other), since, after(300)), 0, "one network");
    }

    #[test]
    fn the_age_at_which_queries_are_dropped_can_change() {
        let pace = Pace::new(Duration::from_millis(500));
        let since = Instant::now();
        let release = || pace.release(VICTIM, since, false, since + Duration::from_millis(600));
        assert_eq!(release(), Release::Never);
        pace.set_discard(Duration::from_millis(700));
        assert_eq!(release(), Release::Now);
    }

    #[test]
    fn answers_that_are_too_old_are_dropped_unless_they_are_failures() {
        let pace = Pace::new(Duration::from_millis(500));
        let since = Instant::now();
        let release = |millis, failure| {
            let now = since + Duration::from_millis(millis);
            pace.release(VICTIM, since, failure, now)
        };
        assert_eq!(release(499, false), Release::Now);
        assert_eq!(release(500, false), Release::Never);
        assert_eq!(release(30_000, true), Release::Now);
    }
}
