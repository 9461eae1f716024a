//! Metrics of queries, connections, published zones and the cache.

use std::fmt;

use prometheus_client::registry::Unit;

use super::families::{NONE, Writer};
use super::plane::PlaneState;
use crate::stats::Count;

/// Counters without labels: the name, the help, the event.
type Single = (&'static str, &'static str, Count);

/// Counters with one label: the name, the help, the label, its values with their events.
type ByLabel = (
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, Count)],
);

const SINGLE: &[Single] = &[
    (
        "udp_kernel_drops",
        "UDP packets that the kernel dropped because the buffer of a socket was full.",
        Count::KernelDrops,
    ),
    (
        "queries_coalesced",
        "Queries that joined an equal one in flight.",
        Count::Coalesced,
    ),
    (
        "answers_discarded",
        "UDP answers that were not sent because their query was too old.",
        Count::Discarded,
    ),
    (
        "answers_paced",
        "Answers that were held back because their client received too many at once.",
        Count::Paced,
    ),
    (
        "send_errors",
        "Answers that could not be sent.",
        Count::SendErrors,
    ),
    (
        "tcp_connections_accepted",
        "TCP connections accepted.",
        Count::TcpConnections,
    ),
    (
        "zone_transfers_cut",
        "Transfers of published zones that were not completed.",
        Count::TransfersCut,
    ),
    (
        "cache_hits",
        "Queries that were answered from the cache within the TTL.",
        Count::CacheHits,
    ),
    (
        "cache_stale_answers",
        "Queries that were answered from the cache after the TTL.",
        Count::Stale,
    ),
    (
        "cache_misses",
        "Queries for which upstream was to be asked, because the cache had no answer within its TTL.",
        Count::CacheMisses,
    ),
    (
        "cache_prefetches",
        "Popular answers that were refreshed before they expired.",
        Count::Prefetched,
    ),
    (
        "cache_not_kept",
        "Answers that were sent, but not cached because another thread used the cache.",
        Count::Unkept,
    ),
    (
        "upstream_failures",
        "Queries in flight that ended without a usable answer of any server; several clients may share one.",
        Count::UpstreamFailures,
    ),
    (
        "upstream_queries_resent",
        "Queries that were sent again because their connection was cut.",
        Count::UpstreamResent,
    ),
];

const BY_LABEL: &[ByLabel] = &[
    (
        "messages_received",
        "Messages received.",
        "transport",
        &[("udp", Count::UdpQueries), ("tcp", Count::TcpQueries)],
    ),
    (
        "queries_not_forwarded",
        "Queries that were not forwarded because too many waited for upstream: of all clients, or of the same client.",
        "limit",
        &[("all", Count::QueueFull), ("client", Count::ClientFull)],
    ),
    (
        "tcp_connections_closed",
        "TCP connections that the server closed, by the reason.",
        "reason",
        &[
            ("limit", Count::TcpRefused),
            ("client_limit", Count::TcpClientRefused),
            ("not_permitted", Count::TcpDenied),
            ("idle", Count::TcpIdle),
            ("unread", Count::TcpUnread),
        ],
    ),
    (
        "notify_messages",
        "NOTIFY messages for feeds, by the result of their check.",
        "result",
        &[
            ("accepted", Count::NotifyAccepted),
            ("refused", Count::NotifyRefused),
            ("not_authentic", Count::NotifyNotAuthentic),
            ("limited", Count::NotifyLimited),
            ("malformed", Count::NotifyMalformed),
        ],
    ),
    (
        "zone_transfers",
        "Transfers of published zones that were begun.",
        "kind",
        &[
            ("whole", Count::TransfersWhole),
            ("incremental", Count::TransfersIncremental),
        ],
    ),
    (
        "zone_queries_refused",
        "Queries of secondaries for published zones that were refused, by the reason.",
        "reason",
        &[
            ("not_permitted", Count::ZoneRefused),
            ("not_authentic", Count::ZoneNotAuthentic),
            ("limited", Count::ZoneLimited),
            ("not_loaded", Count::ZoneNotLoaded),
        ],
    ),
    (
        "upstream_tls_handshakes",
        "TLS handshakes with servers, by the result.",
        "result",
        &[
            ("success", Count::UpstreamHandshakes),
            ("failure", Count::UpstreamHandshakesFailed),
        ],
    ),
    (
        "upstream_unexpected",
        "Messages of upstream that did not answer their query as they should, and first attempts without an answer in time.",
        "kind",
        &[
            ("stray", Count::UpstreamStray),
            ("other_question", Count::UpstreamForeign),
            ("letter_case", Count::UpstreamCase),
            ("bare_error", Count::UpstreamBare),
            ("late", Count::UpstreamSlow),
        ],
    ),
];

/// Writes the families that are made of the counters of the data plane, and gauges of queries, connections and the cache.
pub(super) fn write(plane: &PlaneState, writer: &mut Writer<'_>) -> fmt::Result {
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
    for &(name, help, count) in SINGLE {
        writer.counter(name, help, plane.count(count))?;
    }
    for &(name, help, label, events) in BY_LABEL {
        let samples = events.iter();
        let samples = samples.map(|(value, count)| ([(label, *value)], plane.count(*count)));
        writer.counters(name, help, None, samples)?;
    }
    writer.gauge(
        "queries_waiting",
        "Queries that wait for upstream now.",
        plane.waiting as f64,
    )?;
    writer.gauge(
        "tcp_connections",
        "TCP connections of permitted clients that are open now.",
        plane.tcp_connections as f64,
    )?;
    write_cache(plane, writer)
}

fn write_cache(plane: &PlaneState, writer: &mut Writer<'_>) -> fmt::Result {
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
        "cache_evictions",
        "Answers that were evicted to make room.",
        plane.cache.evictions,
    )
}
