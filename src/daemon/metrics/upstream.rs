//! Metrics of the upstream servers.

use std::fmt;

use prometheus_client::registry::Unit;

use super::families::Writer;
use super::plane::{PlaneState, ServerFigures};
use crate::serve::upstream::exchange::Transport;
use crate::serve::upstream::state::ServerState;
use crate::serve::upstream::traffic::TrafficCounts;
use crate::stats::{Count, LATENCY_BOUNDS};

/// The server, and the forwarded zone that it is asked for.
fn labels(of: &ServerFigures) -> [(&'static str, String); 2] {
    [
        ("server", of.state.address.to_string()),
        ("zone", of.zone.clone()),
    ]
}

pub(super) fn write(plane: &PlaneState, writer: &mut Writer<'_>) -> fmt::Result {
    let servers = || plane.servers.iter();
    let each =
        |value: fn(&ServerState) -> f64| servers().map(move |of| (labels(of), value(&of.state)));
    writer.gauges(
        "upstream_down",
        "Whether a server is not asked for a while because it does not answer.",
        None,
        each(|state| f64::from(u8::from(state.down))),
    )?;
    writer.gauges(
        "upstream_unanswered",
        "The number of the last queries in a row that a server did not answer.",
        None,
        each(|state| state.unanswered.into()),
    )?;
    let latency = servers().filter_map(|of| {
        let latency = of.state.latency?;
        Some((labels(of), latency.as_secs_f64()))
    });
    writer.gauges(
        "upstream_smoothed_latency",
        "The smoothed response time of a server, without those of queries repeated by TCP.",
        Some(Unit::Seconds),
        latency,
    )?;
    let ends = servers().filter_map(|of| {
        let end = of.state.certificate_end?;
        Some((labels(of), end.as_second() as f64))
    });
    writer.gauges(
        "upstream_certificate_not_after_timestamp",
        "When the certificate of a server ends, as of the last TLS handshake, since the epoch.",
        Some(Unit::Seconds),
        ends,
    )?;
    let failures = servers().flat_map(|of| {
        let [server, zone] = labels(of);
        let referrals = ("referral", of.state.referrals);
        let failures = of.state.failures.total.iter().copied();
        let failures = failures.chain([referrals]).filter(|(_, count)| *count > 0);
        failures.map(move |(kind, count)| {
            (
                [server.clone(), zone.clone(), ("kind", kind.to_owned())],
                count,
            )
        })
    });
    writer.counters(
        "upstream_unusable_answers",
        "Unusable answers of a server and failures of its connections, by kind.",
        None,
        failures,
    )?;
    let latency = servers().map(|of| {
        let TrafficCounts {
            latency,
            latency_sum,
            ..
        } = of.state.traffic;
        (labels(of), latency, latency_sum.as_secs_f64())
    });
    writer.histograms(
        (
            "upstream_latency",
            "Response times of a server, without those of queries repeated by TCP.",
            Unit::Seconds,
        ),
        &LATENCY_BOUNDS.map(|milliseconds| milliseconds / 1e3),
        latency,
    )?;
    let sent = servers().flat_map(|of| {
        let over = match of.state.transport {
            Transport::Udp => Transport::Tcp,
            encrypted => encrypted,
        };
        let sent = ["udp", over.name()].into_iter().zip(of.state.traffic.sent);
        sent.map(|(transport, sent)| {
            let [server, zone] = labels(of);
            ([server, zone, ("transport", transport.to_owned())], sent)
        })
    });
    writer.counters(
        "upstream_queries",
        "Queries sent to a server by UDP and over connections (tcp, tls, https, quic, h3), retries included.",
        None,
        sent,
    )?;
    let timeouts = servers().map(|of| (labels(of), of.state.traffic.timeouts));
    writer.counters(
        "upstream_timeouts",
        "Queries that a server did not answer in time, or that could not be sent to it.",
        None,
        timeouts,
    )?;
    let blocks = servers().map(|of| (labels(of), of.state.blocks.total));
    writer.counters(
        "upstream_blocks",
        "Answers by which a server blocked a name.",
        None,
        blocks,
    )?;
    writer.counter(
        "upstream_failures",
        "Queries in flight that ended without a usable answer of any server; several clients may share one.",
        plane.count(Count::UpstreamFailures),
    )?;
    let handshakes = [
        ("success", Count::UpstreamHandshakes),
        ("failure", Count::UpstreamHandshakesFailed),
    ];
    writer.counters(
        "upstream_tls_handshakes",
        "TLS handshakes with servers, by the result.",
        None,
        plane.by("result", &handshakes),
    )?;
    writer.counter(
        "upstream_queries_resent",
        "Queries that were sent again because their connection was cut.",
        plane.count(Count::UpstreamResent),
    )?;
    let unexpected = [
        ("stray", Count::UpstreamStray),
        ("other_question", Count::UpstreamForeign),
        ("letter_case", Count::UpstreamCase),
        ("bare_error", Count::UpstreamBare),
        ("late", Count::UpstreamSlow),
    ];
    writer.counters(
        "upstream_unexpected",
        "Messages of upstream that did not answer their query as they should, and first attempts without an answer in time.",
        None,
        plane.by("kind", &unexpected),
    )
}
