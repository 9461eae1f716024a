//! The health of upstream servers: how fast each answers, and whether it does; and the order to ask them in.

use std::cmp::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::selection::Strategy;

/// Failures in a row after which a server counts as down.
const DOWN_AFTER: u32 = 3;
/// How long a server that is down is not asked; doubled with each further failure, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long to wait for a server while its latency is not known, and the bounds of this time once the latency is known.
const FIRST_PATIENCE: Duration = Duration::from_millis(400);
const LEAST_PATIENCE: Duration = Duration::from_millis(150);
const MOST_PATIENCE: Duration = Duration::from_millis(1000);
/// The factor by which a server's known latency shrinks each time another one is asked, so that a server that was slow
/// once is tried again.
const FADING: f64 = 0.98;

/// The health of one server.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Health {
    /// Smoothed round-trip time in seconds; 0 if none is known.
    latency: f64,
    failures: u32,
    paused_until: Option<Instant>,
}

impl Health {
    /// Records a response that took `took`.
    pub(super) fn answered(&mut self, took: Duration) {
        let took = took.as_secs_f64().max(1e-6);
        self.latency = match self.latency {
            0.0 => took,
            known => known * 0.75 + took * 0.25,
        };
        self.failures = 0;
        self.paused_until = None;
    }

    /// Records that no response came, or not soon enough.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if let Some(over) = self.failures.checked_sub(DOWN_AFTER) {
            let pause = FIRST_PAUSE * 2_u32.saturating_pow(over.min(8));
            self.paused_until = Some(now + pause.min(LONGEST_PAUSE));
        }
    }

    /// Records that it is tested, so that it is not asked again before the result is known, at `until`.
    pub(super) fn tested(&mut self, until: Instant) {
        self.paused_until = Some(until);
    }

    /// Whether it is silent, and its pause is over.
    pub(super) fn needs_test(&self, now: Instant) -> bool {
        self.is_silent() && !self.is_down(now)
    }

    /// Records that another server was asked instead.
    pub(super) fn passed_over(&mut self) {
        self.latency *= FADING;
    }

    /// How long to wait for this server before another one is asked, too. With [`Strategy::Strict`] a server that answers
    /// fast gets more time, so that others are not asked because of a single slow answer.
    pub(super) fn patience(&self, strategy: Strategy) -> Duration {
        let patience = self.usual_patience();
        match strategy {
            Strategy::Strict => patience.max(FIRST_PATIENCE),
            Strategy::Fastest | Strategy::Parallel => patience,
        }
    }

    fn usual_patience(&self) -> Duration {
        if self.latency == 0.0 {
            return FIRST_PATIENCE;
        }
        Duration::from_secs_f64(self.latency * 3.0).clamp(LEAST_PATIENCE, MOST_PATIENCE)
    }

    /// Whether it failed so often that it is not asked for a while.
    pub(super) fn is_down(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    /// Whether it has failed often enough since its last response to be down, even if its pause is over.
    pub(super) fn is_silent(&self) -> bool {
        self.failures >= DOWN_AFTER
    }

    /// How many queries in a row it has left unanswered up to now.
    pub(super) fn unanswered(&self) -> u32 {
        self.failures
    }

    /// Whether its answers arrive too late: queries wait only for `timeout`.
    pub(super) fn is_late(&self, timeout: Duration) -> bool {
        self.latency().is_some_and(|latency| latency >= timeout)
    }

    /// Smoothed round-trip time; `None` before the first answer.
    pub(super) fn latency(&self) -> Option<Duration> {
        (self.latency > 0.0).then(|| Duration::from_secs_f64(self.latency))
    }
}

/// The servers' indices in the order to ask them: those that answer, the fastest first, or in their own order with
/// [`Strategy::Strict`]; then those that are down, because asking one of them is better than asking none.
pub(super) fn order(servers: &[Health], strategy: Strategy, now: Instant) -> Vec<usize> {
    let mut order: Vec<usize> = (0..servers.len()).collect();
    order.sort_by(|&a, &b| {
        let pause = |i: usize| servers[i].paused_until.filter(|&until| now < until);
        let latency = |i: usize| servers[i].latency;
        pause(a).cmp(&pause(b)).then_with(|| match strategy {
            Strategy::Strict => Ordering::Equal,
            Strategy::Fastest | Strategy::Parallel => latency(a).total_cmp(&latency(b)),
        })
    });
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const FASTEST: Strategy = Strategy::Fastest;

    #[test]
    fn the_fastest_server_that_answers_is_asked_first() {
        let now = Instant::now();
        let mut servers = [Health::default(); 3];
        servers[0].answered(Duration::from_millis(30));
        servers[1].answered(Duration::from_millis(10));
        servers[2].answered(Duration::from_millis(1));
        for _ in 0..DOWN_AFTER {
            servers[2].failed(now);
        }
        assert_eq!(order(&servers, FASTEST, now), [1, 0, 2]);
        let later = now + FIRST_PAUSE;
        assert_eq!(
            order(&servers, FASTEST, later),
            [2, 1, 0],
            "its pause is over"
        );
    }

    #[test]
    fn in_strict_order_a_later_server_is_first_only_while_the_earlier_ones_are_down() {
        let now = Instant::now();
        let mut servers = [Health::default(); 3];
        servers[0].answered(Duration::from_millis(50));
        servers[2].answered(Duration::from_millis(1));
        assert_eq!(order(&servers, Strategy::Strict, now), [0, 1, 2]);
        for _ in 0..DOWN_AFTER {
            servers[0].failed(now);
        }
        assert_eq!(order(&servers, Strategy::Strict, now), [1, 2, 0]);
        let later = now + FIRST_PAUSE;
        assert_eq!(order(&servers, Strategy::Strict, later), [0, 1, 2]);
        assert_eq!(servers[2].patience(Strategy::Strict), FIRST_PATIENCE);
    }

    #[test]
    fn a_server_that_was_slow_once_is_tried_again() {
        let now = Instant::now();
        let mut servers = [Health::default(); 2];
        servers[0].answered(Duration::from_millis(20));
        servers[1].answered(Duration::from_millis(100));
        for _ in 0..100 {
            servers[1].passed_over();
        }
        assert_eq!(order(&servers, FASTEST, now), [1, 0]);
    }

    #[test]
    fn one_failure_is_no_outage_and_one_answer_ends_it() {
        let now = Instant::now();
        let mut server = Health::default();
        server.failed(now);
        server.failed(now);
        assert!(!server.is_down(now));
        for _ in 0..40 {
            server.failed(now);
        }
        assert!(server.is_down(now) && !server.is_down(now + LONGEST_PAUSE));
        server.answered(Duration::from_millis(5));
        assert!(!server.is_down(now));
    }

    #[test]
    fn patience_follows_latency_within_bounds() {
        let mut server = Health::default();
        assert_eq!(server.patience(FASTEST), FIRST_PATIENCE);
        server.answered(Duration::from_micros(100));
        assert_eq!(server.patience(FASTEST), LEAST_PATIENCE);
        server.answered(Duration::from_secs(60));
        assert_eq!(server.patience(FASTEST), MOST_PATIENCE);
    }
}
