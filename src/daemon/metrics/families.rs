//! Writes families of metrics, and those of queries, connections and the cache.

use std::borrow::Borrow;
use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeLabelSet, EncodeMetric,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::plane::PlaneState;
use crate::stats::Count;

/// Writes families. The unit, and `total` for a counter, become the end of a family's name.
pub(super) struct Writer<'e>(pub(super) DescriptorEncoder<'e>);

impl Writer<'_> {
    /// Writes counters with their labels.
    pub(super) fn counters<S: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        samples: impl IntoIterator<Item = (S, V)>,
    ) -> fmt::Result {
        let kind = MetricType::Counter;
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (labels, value) in samples {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// Writes a counter without labels.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counters(name, help, None, [(NONE, value)])
    }

    /// Writes gauges with their labels.
    pub(super) fn gauges<S: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        samples: impl IntoIterator<Item = (S, f64)>,
    ) -> fmt::Result {
        let kind = MetricType::Gauge;
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (labels, value) in samples {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// Writes a gauge without unit and labels.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.gauges(name, help, None, [(NONE, value)])
    }

    /// Writes a fact as labels.
    pub(super) fn info(
        &mut self,
        name: &str,
        help: &str,
        labels: impl EncodeLabelSet,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Info)?;
        family.encode_info(&labels)
    }

    /// Writes histograms: their labels, the numbers in the buckets below `bounds` and above the last one, and their sum.
    pub(super) fn histograms<S: EncodeLabelSet, B: Borrow<[u64]>>(
        &mut self,
        (name, help, unit): (&str, &str, Unit),
        bounds: &[f64],
        samples: impl IntoIterator<Item = (S, B, f64)>,
    ) -> fmt::Result {
        let kind = MetricType::Histogram;
        let mut family = self.0.encode_descriptor(name, help, Some(&unit), kind)?;
        for (labels, numbers, sum) in samples {
            let numbers = numbers.borrow();
            let bounds = bounds.iter().copied().chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(numbers.iter().copied()).collect();
            let count = numbers.iter().sum();
            let mut family = family.encode_family(&labels)?;
            family.encode_histogram::<[(&str, &str); 0]>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

/// No labels.
pub(super) const NONE: [(&str, &str); 0] = [];

/// Writes the families of queries and connections.
pub(super) fn write_queries(plane: &PlaneState, writer: &mut Writer<'_>) -> fmt::Result {
    let finished = plane.sums.queries.iter().map(|finished| {
        let outcome = finished.outcome.map_or("abandoned", Count::name);
        let labels = [
            ("transport", finished.transport),
            ("type", finished.rtype),
            ("outcome", outcome),
        ];
        (labels, finished.queries)
    });
    writer.counters(
        "queries",
        "Finished queries by transport, type and outcome.",
        None,
        finished,
    )?;
    let received = [("udp", Count::UdpQueries), ("tcp", Count::TcpQueries)];
    let received = plane.by("transport", &received);
    writer.counters("messages_received", "Messages received.", None, received)?;
    writer.counter(
        "udp_kernel_drops",
        "UDP packets that the kernel dropped because the buffer of a socket was full.",
        plane.count(Count::KernelDrops),
    )?;
    writer.gauge(
        "queries_waiting",
        "Queries that wait for upstream now.",
        plane.waiting as f64,
    )?;
    writer.gauge(
        "udp_workers_unread",
        "Workers at whose UDP sockets packets wait.",
        plane.workers_unread as f64,
    )?;
    write_limits(plane, writer)?;
    write_connections(plane, writer)?;
    write_zones(plane, writer)
}

fn write_limits(plane: &PlaneState, writer: &mut Writer<'_>) -> fmt::Result {
    let rejected = [("all", Count::QueueFull), ("client", Count::ClientFull)];
    writer.counters(
        "queries_not_forwarded",
        "Queries that were not forwarded because too many waited for upstream: of all clients, or of the same client.",
        None,
        plane.by("limit", &rejected),
    )?;
    writer.counter(
        "queries_coalesced",
        "Queries that joined an equal one in flight.",
        plane.count(Count::Coalesced),
    )?;
    writer.counter(
        "answers_discarded",
        "UDP answers that were not sent because their query was too old.",
        plane.count(Count::Discarded),
    )?;
    writer.counter(
        "answers_paced",
        "Answers that were held back because their client received too many at once.",
        plane.count(Count::Paced),
    )?;
    writer.counter(
        "send_errors",
        "Answers that could not be sent.",
        plane.count(Count::SendErrors),
    )
}

fn write_connections(plane: &PlaneState, writer: &mut Writer<'_>) -> fmt::Result {
    writer.counter(
        "tcp_connections_accepted",
        "TCP connections accepted.",
        plane.count(Count::TcpConnections),
    )?;
    writer.gauge(
        "tcp_connections",
        "TCP connections of permitted clients that are open now.",
        plane.tcp_connections as f64,
    )?;
    let closed = [
        ("limit", Count::TcpRefused),
        ("client_limit", Count::TcpClientRefused),
        ("not_permitted", Count::TcpDenied),
        ("idle", Count::TcpIdle),
        ("unread", Count::TcpUnread),
    ];
    writer.counters(
        "tcp_connections_closed",
        "TCP connections that the server closed, by the reason.",
        None,
        plane.by("reason", &closed),
    )
}

fn write_zones(plane: &PlaneState, writer: &mut Writer<'_>) -> fmt::Result {
    let notify = [
        ("accepted", Count::NotifyAccepted),
        ("refused", Count::NotifyRefused),
        ("not_authentic", Count::NotifyNotAuthentic),
        ("limited", Count::NotifyLimited),
        ("malformed", Count::NotifyMalformed),
    ];
    writer.counters(
        "notify_messages",
        "NOTIFY messages for feeds, by the result of their check.",
        None,
        plane.by("result", &notify),
    )?;
    let transfers = [
        ("whole", Count::TransfersWhole),
        ("incremental", Count::TransfersIncremental),
    ];
    writer.counters(
        "zone_transfers",
        "Transfers of published zones that were begun.",
        None,
        plane.by("kind", &transfers),
    )?;
    writer.counter(
        "zone_transfers_cut",
        "Transfers of published zones that were not completed.",
        plane.count(Count::TransfersCut),
    )?;
    let refused = [
        ("not_permitted", Count::ZoneRefused),
        ("not_authentic", Count::ZoneNotAuthentic),
        ("limited", Count::ZoneLimited),
        ("not_loaded", Count::ZoneNotLoaded),
    ];
    writer.counters(
        "zone_queries_refused",
        "Queries of secondaries for published zones that were refused, by the reason.",
        None,
        plane.by("reason", &refused),
    )
}

/// Writes the families of the cache.
pub(super) fn write_cache(plane: &PlaneState, writer: &mut Writer<'_>) -> fmt::Result {
    writer.gauge(
        "cache_entries",
        "Answers in the cache.",
        plane.cache.entries as f64,
    )?;
    writer.gauges(
        "cache_size",
        "Memory that the answers in the cache take.",
        Some(Unit::Bytes),
        [(NONE, plane.cache.bytes as f64)],
    )?;
    writer.gauges(
        "cache_capacity",
        "Memory that the answers in the cache may take.",
        Some(Unit::Bytes),
        [(NONE, plane.cache.capacity as f64)],
    )?;
    writer.counter(
        "cache_hits",
        "Queries that were answered from the cache within the TTL.",
        plane.count(Count::CacheHits),
    )?;
    writer.counter(
        "cache_stale_answers",
        "Queries that were answered from the cache after the TTL.",
        plane.count(Count::Stale),
    )?;
    writer.counter(
        "cache_misses",
        "Queries for which upstream was to be asked, because the cache had no answer within its TTL.",
        plane.count(Count::CacheMisses),
    )?;
    writer.counter(
        "cache_evictions",
        "Answers that were evicted to make room.",
        plane.cache.evictions,
    )?;
    writer.counter(
        "cache_prefetches",
        "Popular answers that were refreshed before they expired.",
        plane.count(Count::Prefetched),
    )?;
    writer.counter(
        "cache_not_kept",
        "Answers that were sent, but not cached because another thread used the cache.",
        plane.count(Count::Unkept),
    )
}
