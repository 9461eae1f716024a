//! Counts the queries to one upstream server, and its response times.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::stats::LATENCY_BOUNDS;

/// The buckets of the response times: one for each of [`LATENCY_BOUNDS`], and one for longer times.
const BUCKETS: usize = LATENCY_BOUNDS.len() + 1;

/// The counts of one server, since it was configured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TrafficCounts {
    /// Queries sent by UDP, and over connections.
    pub sent: [u64; 2],
    /// Queries that it did not answer in time, or could not be sent to it.
    pub timeouts: u64,
    /// The number of UDP responses by the time that they took. Not cumulative.
    pub latency: [u64; BUCKETS],
    /// The sum of these times.
    pub latency_sum: Duration,
}

/// Counters of one server. All workers write them, so they share no cache line with what workers read for each query.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Traffic {
    sent: [AtomicU64; 2],
    timeouts: AtomicU64,
    latency: [AtomicU64; BUCKETS],
    latency_micros: AtomicU64,
}

impl Traffic {
    /// Counts queries sent by UDP, or else over a connection.
    pub(super) fn sent(&self, is_udp: bool, queries: u64) {
        self.sent[usize::from(!is_udp)].fetch_add(queries, Ordering::Relaxed);
    }

    /// Counts a query without an answer in time.
    pub(super) fn timed_out(&self) {
        self.timeouts.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a response by the time that it took.
    pub(super) fn took(&self, took: Duration) {
        let milliseconds = took.as_secs_f64() * 1e3;
        let bucket = LATENCY_BOUNDS.partition_point(|bound| *bound < milliseconds);
        self.latency[bucket].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.latency_micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> TrafficCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TrafficCounts {
            sent: self.sent.each_ref().map(read),
            timeouts: read(&self.timeouts),
            latency: self.latency.each_ref().map(read),
            latency_sum: Duration::from_micros(read(&self.latency_micros)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_and_response_times_are_counted() {
        let traffic = Traffic::default();
        traffic.sent(true, 3);
        traffic.sent(false, 1);
        traffic.timed_out();
        traffic.took(Duration::from_micros(250));
        traffic.took(Duration::from_secs(9));
        let counts = traffic.counts();
        assert_eq!((counts.sent, counts.timeouts), ([3, 1], 1));
        assert_eq!((counts.latency[1], counts.latency[BUCKETS - 1]), (1, 1));
        assert_eq!(counts.latency.iter().sum::<u64>(), 2);
        assert_eq!(counts.latency_sum, Duration::from_micros(9_000_250));
    }
}
