//! Metrics of the upstream servers.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;

use prometheus_client::registry::Unit;

use super::families::Writer;
use super::plane::PlaneState;
use crate::serve::upstream::state::ServerState;
use crate::serve::upstream::traffic::TrafficCounts;
use crate::stats::LATENCY_BOUNDS;

/// The server, and the forwarded zone that it is asked for.
type Labels = [(&'static str, String); 2];

/// The labels of each server, of which its zone and address are given. Two servers of a zone have the same address if they are
/// given by different names: the label of each further one ends with its number, as each sample needs other labels.
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
        let samples = servers().filter_map(move |(labels, state)| Some((labels, value(state)?)));
        samples.collect::<Vec<_>>()
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
        "Unusable answers of a server: response codes, referrals, and answers that can't be read.",
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
        let sent = ["udp", "stream"].into_iter().zip(state.traffic.sent);
        sent.map(move |(transport, sent)| {
            let transport = ("transport", transport.to_owned());
            ([server.clone(), zone.clone(), transport], sent)
        })
    });
    writer.counters(
        "upstream_queries",
        "Queries sent to a server by UDP and over connections, retries included.",
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
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_a_zone_with_the_same_address_have_different_labels() {
        let address: SocketAddr = "192.0.2.1:853".parse().expect("an address");
        let other: SocketAddr = "192.0.2.2:853".parse().expect("an address");
        let servers = [
            ("", address),
            ("", address),
            ("a", address),
            ("", other),
            ("", address),
        ];
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
