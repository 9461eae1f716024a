//! Converts counters and the states of upstream servers to the form that `status` uses.

use std::collections::BTreeMap;

use crate::control::gauges::{Gauges, Histogram, UpstreamStatus};
use crate::serve::upstream::pools::Forwarding;
use crate::serve::upstream::state::ServerState;
use crate::stats::{LATENCY_BOUNDS, Sums};

/// The counters in the form that `status` uses. All other gauges have default values.
pub(super) fn from_sums(sums: Sums) -> Gauges {
    let mut total = 0;
    let cumulated = |in_bucket: &u64| {
        total += in_bucket;
        total
    };
    let buckets = LATENCY_BOUNDS
        .into_iter()
        .zip(sums.latency.iter().map(cumulated))
        .collect();
    let counter = |(name, sum): (&str, u64)| (name.to_owned(), sum.into());
    let counts = sums.counts.iter().map(|(count, sum)| (count.name(), *sum));
    Gauges {
        counters: counts.map(counter).collect(),
        query_types: sums.types.iter().copied().map(counter).collect(),
        upstream_latency: Histogram {
            buckets,
            count: sums.latency.iter().sum(),
            sum_ms: sums.latency_sum_ms,
        },
        ..Gauges::default()
    }
}

/// An upstream server in the form that `status` uses.
pub(super) fn upstream_status(server: ServerState) -> UpstreamStatus {
    UpstreamStatus {
        address: server.address,
        zones: Vec::new(),
        down: server.down,
        unanswered: server.unanswered,
        latency_ms: server.latency.map(|latency| latency.as_secs_f64() * 1e3),
        edns: server.dialect.edns,
        random_case: server.dialect.random_case,
        referrals: server.referrals,
        encrypted: server.encrypted,
        certificate_end: server.certificate_end,
        problem: server.problem,
        failures: by_name(server.failures.recent),
        failures_total: by_name(server.failures.total),
        blocks: server.blocks.total,
    }
}

/// The default servers and those of forwarded zones, in the form that `status` uses.
pub(super) fn upstream_states(
    default: Vec<ServerState>,
    forwarding: &Forwarding,
) -> Vec<UpstreamStatus> {
    let default = default.into_iter().map(upstream_status);
    let forwarded = forwarding.pools().iter().flat_map(|forward| {
        let zones: Vec<_> = forward.zones.iter().map(ToString::to_string).collect();
        let servers = forward.pool.state().into_iter();
        servers.map(move |server| UpstreamStatus {
            zones: zones.clone(),
            ..upstream_status(server)
        })
    });
    default.chain(forwarded).collect()
}

fn by_name(counts: Vec<(&'static str, u64)>) -> BTreeMap<String, u64> {
    let counts = counts.into_iter();
    counts
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}
