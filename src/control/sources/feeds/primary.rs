//! The state of one primary: how fast it answers, its last fault, and when it is asked again.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::fault::Fault;

/// The pause after the first failure in a row. It doubles with each further one, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

/// One primary of a feed.
///
/// ```text
///             succeeded                        failed
///   +----------------------- Ready <-+  +--------------+
///   |                        ^   |   |  v              |
///   +------------------------+   +-> Paused -----------+
///                    failed            |  the pause is over, or it succeeded
///                                      +------> Ready
/// ```
///
/// A primary that is paused is not asked. Its pause ends early if the operator wants a fetch, or if it sends NOTIFY.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Primary {
    /// Smoothed time to an answer, in seconds; 0 if it has never answered.
    latency: f64,
    /// Failures in a row.
    failures: u32,
    fault: Option<Fault>,
    paused_until: Option<Instant>,
    certificate_end: Option<Timestamp>,
}

impl Primary {
    /// Records that the primary had the newest version, or that a transfer from it succeeded. `latency` is the time to
    /// its first answer.
    pub fn succeeded(&mut self, latency: Duration) {
        let latency = latency.as_secs_f64().max(1e-6);
        self.latency = match self.latency {
            0.0 => latency,
            known => known * 0.75 + latency * 0.25,
        };
        self.failures = 0;
        self.fault = None;
        self.paused_until = None;
    }

    /// Records when the certificate ends that it presented, if it did. The end of the previous one is kept otherwise.
    pub fn presented(&mut self, certificate_end: Option<Timestamp>) {
        self.certificate_end = certificate_end.or(self.certificate_end);
    }

    /// When its certificate ends; `None` if it did not present one.
    pub fn certificate_end(&self) -> Option<Timestamp> {
        self.certificate_end
    }

    /// Records a failure. `random` shortens the pause by up to a quarter, so that many secondaries do not ask at the
    /// same time.
    pub fn failed(&mut self, fault: Fault, random: u16, now: Instant) {
        let doubled = FIRST_PAUSE * 2_u32.saturating_pow(self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.fault = Some(fault);
        self.paused_until = Some(now + shorten(doubled.min(LONGEST_PAUSE), random));
    }

    /// Ends its pause. If it fails again, the next pause is longer nevertheless.
    pub fn resume(&mut self) {
        self.paused_until = None;
    }

    /// The last failure, if no success followed.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// The number of failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Smoothed time to the first answer; `None` if it never answered.
    pub fn latency(&self) -> Option<Duration> {
        (self.latency > 0.0).then(|| Duration::from_secs_f64(self.latency))
    }

    /// The end of its pause; `None` if it is not paused.
    pub fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.paused_until.filter(|&until| now < until)
    }
}

/// The indices of the primaries that are not paused, in the order to ask them: first those that have not failed, and of these
/// the fastest.
pub fn order(primaries: &[Primary], now: Instant) -> Vec<usize> {
    let all = 0..primaries.len();
    let mut order: Vec<usize> = all
        .filter(|&index| primaries[index].paused_until(now).is_none())
        .collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (&primaries[a], &primaries[b]);
        let failures = a.failures.cmp(&b.failures);
        failures.then(a.latency.total_cmp(&b.latency))
    });
    order
}

/// When the first pause ends, if all primaries are paused.
pub fn first_resumed(primaries: &[Primary], now: Instant) -> Option<Instant> {
    let pauses = primaries.iter().map(|primary| primary.paused_until(now));
    let pauses: Option<Vec<_>> = pauses.collect();
    pauses?.into_iter().min()
}

/// Shortens a time by up to a quarter.
pub(super) fn shorten(time: Duration, random: u16) -> Duration {
    let part = u32::from(random) + 1;
    time - time.mul_f64(0.25 * f64::from(part) / 65_536.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_primary_without_a_failure_is_asked_first() {
        let now = Instant::now();
        let mut primaries = [Primary::default(); 3];
        primaries[0].succeeded(Duration::from_millis(90));
        primaries[1].succeeded(Duration::from_millis(10));
        primaries[2].succeeded(Duration::from_millis(1));
        assert_eq!(order(&primaries, now), [2, 1, 0]);
        primaries[2].failed(Fault::Cut, 0, now);
        assert_eq!(order(&primaries, now), [1, 0], "the other one is paused");
        assert_eq!(first_resumed(&primaries, now), None);
        let later = now + FIRST_PAUSE;
        assert_eq!(order(&primaries, later), [1, 0, 2], "it failed last");
        primaries[1].failed(Fault::Refused, 0, later);
        assert_eq!(order(&primaries, later), [0, 2]);
        primaries[0].failed(Fault::Refused, 0, later);
        primaries[2].failed(Fault::Refused, 0, later);
        assert!(order(&primaries, later).is_empty());
        let first = first_resumed(&primaries, later).expect("all are paused");
        assert_eq!((first - later).as_secs_f64().round() as u64, 5);
        primaries[2].resume();
        assert_eq!(order(&primaries, later), [2]);
    }

    #[test]
    fn a_pause_doubles_with_each_failure_and_ends_with_a_success() {
        let now = Instant::now();
        let mut primary = Primary::default();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            primary.failed(Fault::Unreachable, 0, now);
            let until = primary.paused_until(now).expect("paused");
            pauses.push((until - now).as_secs_f64().round() as u64);
        }
        assert_eq!(pauses[..4], [5, 10, 20, 40]);
        assert_eq!(pauses[11], LONGEST_PAUSE.as_secs());
        assert_eq!(primary.fault(), Some(Fault::Unreachable));
        primary.succeeded(Duration::from_millis(3));
        assert_eq!(primary.paused_until(now), None);
        assert_eq!((primary.fault(), primary.failures()), (None, 0));
    }

    #[test]
    fn jitter_shortens_a_time_by_at_most_a_quarter() {
        let time = Duration::from_secs(100);
        let times = [0, 1 << 15, u16::MAX].map(|random| shorten(time, random).as_millis());
        assert_eq!(times, [99_999, 87_499, 75_000]);
    }
}
