//! Metrics of the upstream servers.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;

use prometheus_client::registry::Unit;

use super::families::Writer;
use super::plane::PlaneState;
use crate::serve::upstream::exchange::Transport;
use crate::serve::upstream::state::ServerState;
use crate::serve::upstream::traffic::TrafficCounts;
use crate::stats::{Count, LATENCY_BOUNDS};

/// The server, and the forwarded zone that it is asked for.
type Labels = [(&'static str, String); 2];

/// The labels of servers, of which the zones and the addresses are given. Servers of a zone may have the same address if they
/// are given by different names. Each further one then has its number in the label: Prometheus rejects samples with equal labels.
fn labels<'s>(servers: impl Iterator<Item = (&'s str, SocketAddr)>) -> Vec<Labels> {
    let mut seen = HashMap::<_, u32>::new();
    let label = |(zone, address): (&'s str, SocketAddr)| {
        let number = seen.entry((zone, address)).or_default();
        *number += 1;
        let server = match number {
            1 => address.to_string(),
            number => format!("{address}#{number}"),
        };
        [("server", server), ("zone", zone.to_owned())]
    };
    servers.map(label).collect()
}

pub(super) fn write(plane: &PlaneState, writer: &mut Writer<'_>) -> fmt::Result {
    let all = plane.servers.iter();
    let labels = labels(all.map(|of| (&*of.zone, of.state.address)));
    let servers = || {
        let states = plane.servers.iter().map(|of| &of.state);
        labels.iter().cloned().zip(states)
    };
    let each = |value: fn(&ServerState) -> Option<f64>| {
        servers().filter_map(move |(labels, state)| Some((labels, value(state)?)))
    };
    writer.gauges(
        "upstream_down",
        "Whether a server is not asked for a while because it does not answer.",
        None,
        each(|state| Some(f64::from(u8::from(state.down)))),
    )?;
    writer.gauges(
        "upstream_unanswered",
        "The number of the last queries in a row that a server did not answer.",
        None,
        each(|state| Some(state.unanswered.into())),
    )?;
    writer.gauges(
        "upstream_smoothed_latency",
        "The smoothed response time of a server, without those of queries repeated by TCP.",
        Some(Unit::Seconds),
        each(|state| Some(state.latency?.as_secs_f64())),
    )?;
    writer.gauges(
        "upstream_certificate_not_after_timestamp",
        "When the certificate of a server ends, as of the last TLS handshake, since the epoch.",
        Some(Unit::Seconds),
        each(|state| Some(state.certificate_end?.as_second() as f64)),
    )?;
    let failures = servers().flat_map(|([server, zone], state)| {
        let referrals = ("referral", state.referrals);
        let failures = state.failures.total.iter().copied();
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
    let latency = servers().map(|(labels, state)| {
        let TrafficCounts {
            latency,
            latency_sum,
            ..
        } = state.traffic;
        (labels, latency, latency_sum.as_secs_f64())
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
    let sent = servers().flat_map(|([server, zone], state)| {
        let over = match state.transport {
            Transport::Udp => Transport::Tcp,
            encrypted => encrypted,
        };
        let sent = ["udp", over.name()].into_iter().zip(state.traffic.sent);
        sent.map(move |(transport, sent)| {
            let transport = ("transport", transport.to_owned());
            ([server.clone(), zone.clone(), transport], sent)
        })
    });
    writer.counters(
        "upstream_queries",
        "Queries sent to a server by UDP and over connections (tcp, tls, https, quic, h3), retries included.",
        None,
        sent,
    )?;
    let timeouts = servers().map(|(labels, state)| (labels, state.traffic.timeouts));
    writer.counters(
        "upstream_timeouts",
        "Queries that a server did not answer in time, or that could not be sent to it.",
        None,
        timeouts,
    )?;
    let blocks = servers().map(|(labels, state)| (labels, state.blocks.total));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_a_zone_with_the_same_address_have_different_labels() {
        let [address, other] = ["192.0.2.1:853", "192.0.2.2:853"];
        let servers = [
            ("", address),
            ("", address),
            ("a", address),
            ("", other),
            ("", address),
        ];
        let servers = servers.map(|(zone, address)| (zone, address.parse().expect("an address")));
        let labels = labels(servers.into_iter());
        let texts = labels
            .iter()
            .map(|[(_, server), (_, zone)]| format!("{server} {zone}"));
        let expected = [
            "192.0.2.1:853 ",
            "192.0.2.1:853#2 ",
            "192.0.2.1:853 a",
            "192.0.2.2:853 ",
            "192.0.2.1:853#3 ",
        ];
        assert_eq!(texts.collect::<Vec<_>>(), expected);
    }
}
