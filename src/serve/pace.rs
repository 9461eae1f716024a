//! When UDP queries that waited for upstream are answered: in bounded bursts, and not when too old.
//!
//! An attacker who sends queries with a forged source for names that it answers slowly can let
//! thousands of answers accumulate, and release them all at once at the forged address (DNSBomb, IEEE
//! S&P 2024). Answers that waited long are therefore spread over time for each client, and those that
//! waited longer than clients do are dropped.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::quality::RandomState;
use tokio::time::Instant;

use super::seats::network;

/// How many answers one client gets in each [`WINDOW`], of those that waited for at least so long: twice as
/// many at most in any 10 ms, which may be the end of one window and the start of the next. Most answers come
/// sooner. A resolver that asks on behalf of many gets 25,600 of the faster ones a second.
const BURSTS: [(Duration, u64); 2] = [
    (Duration::from_millis(200), 64),
    (Duration::from_millis(20), 256),
];
/// For so long bursts are counted, and what is over waits.
pub const WINDOW: Duration = Duration::from_millis(10);
/// Counters of clients. Clients may share one, and then its bursts.
const CLIENTS: usize = 1 << 12;

/// What to do with an answer that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Send it.
    Now,
    /// Ask again after [`WINDOW`].
    Later,
    /// Drop it: the client has given up.
    Never,
}

/// Decides when waiting queries are answered. All threads share one.
#[derive(Debug)]
pub struct Pace {
    discard: Duration,
    start: Instant,
    /// For each client the number of a window, and in the low half how many answers it got in that.
    counts: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl Pace {
    /// Drops answers to queries that are older than `discard`.
    pub fn new(discard: Duration) -> Self {
        Self {
            discard,
            start: Instant::now(),
            counts: (0..CLIENTS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::default(),
        }
    }

    /// What to do at `now` with the answer to a query that came at `since`. A `failure` is sent however
    /// old the query is: its client should know.
    pub fn release(&self, client: IpAddr, since: Instant, failure: bool, now: Instant) -> Release {
        let waited = now.saturating_duration_since(since);
        if waited >= self.discard && !failure {
            return Release::Never;
        }
        let burst = BURSTS.iter().find(|(least, _)| waited >= *least);
        match burst {
            Some((_, burst)) if !self.admits(client, *burst, now) => Release::Later,
            _ => Release::Now,
        }
    }

    fn admits(&self, client: IpAddr, burst: u64, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.start);
        let window = (elapsed.as_millis() / WINDOW.as_millis()) as u64 & u64::from(u32::MAX);
        let place = self.hasher.hash_one(network(client)) as usize % CLIENTS;
        let next = |count: u64| match count >> 32 == window {
            true if count & u64::from(u32::MAX) >= burst => None,
            true => Some(count + 1),
            false => Some(window << 32 | 1),
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
    fn what_accumulated_leaves_in_bounded_bursts() {
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
    fn what_is_answered_soon_is_never_held_back() {
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
    fn what_is_too_old_is_dropped_unless_it_is_a_failure() {
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
