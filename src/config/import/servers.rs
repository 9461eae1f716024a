//! Addresses of servers in the notations of other programs.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::draft::Draft;
use super::tree::Node;

/// Why encrypted servers do not carry over.
pub(super) const ENCRYPTED: &str = "encrypted upstreams are not available yet: put the plain address of a server, or of a \
                                    local proxy such as dnscrypt-proxy, into [upstream] servers";
/// Why servers that are named do not carry over.
const NAMED: &str =
    "upstream servers are addresses: put the address of this name into [upstream] servers";

/// Prefixes of servers that are asked in plain DNS.
const PLAIN: &[&str] = &["udp://", "tcp://", "tcp+udp:", "udp:", "tcp:"];
/// Prefixes of servers that are asked over an encrypted transport.
const SECURE: &[&str] = &[
    "tls://", "https://", "h3://", "quic://", "sdns://", "tcp-tls:", "https:", "h3:",
];

/// A server in plain DNS, as this server's configuration writes it.
///
/// # Errors
/// Why the server does not carry over.
pub(super) fn server(text: &str) -> Result<String, String> {
    let text = text.trim();
    if SECURE.iter().any(|prefix| text.starts_with(prefix)) {
        return Err(ENCRYPTED.to_owned());
    }
    let plain = PLAIN
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
        .unwrap_or(text);
    let plain = plain.trim_start_matches("//").trim_end_matches('/');
    let (host, port) = split(plain);
    let (bare, zone) = match host.split_once('%') {
        Some((bare, zone)) => (bare, format!("%{zone}")),
        None => (host, String::new()),
    };
    let address: IpAddr = bare.parse().map_err(|_| NAMED.to_owned())?;
    let address = address.to_canonical();
    let port: u16 = port.map_or(Ok(53), |port| {
        port.parse().map_err(|_| "has an invalid port".to_owned())
    })?;
    if address.is_unspecified() || address.is_multicast() || port == 0 {
        return Err("not the address of a server".to_owned());
    }
    Ok(match address {
        IpAddr::V4(address) if port == 53 => address.to_string(),
        IpAddr::V4(address) => format!("{address}:{port}"),
        IpAddr::V6(address) => format!("[{address}{zone}]:{port}"),
    })
}

/// Splits host and port, which may be joined by `#`, `@` or `:`. What follows behind another `#` or `@` (a TLS name, an
/// interface) is dropped.
fn split(text: &str) -> (&str, Option<&str>) {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, behind) = rest.split_once(']').unwrap_or((rest, ""));
        let port = behind.trim_start_matches([':', '#', '@']);
        return (host, Some(port).filter(|port| !port.is_empty()));
    }
    if let Some(at) = text.find(['#', '@']) {
        let rest = &text[at + 1..];
        let port = rest.split(['#', '@']).next().unwrap_or(rest);
        let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        return (&text[..at], is_port.then_some(port));
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        _ => (text, None),
    }
}

/// The port of a setting, 53 if there is none. One that is not valid is reported.
pub(super) fn port(setting: Option<&Node>, shown: &str, draft: &mut Draft) -> u16 {
    let Some(node) = setting else {
        return 53;
    };
    let port = node.text().and_then(|text| text.parse().ok());
    port.unwrap_or_else(|| {
        draft.leave(&node.line, shown, "not a port: the default port 53 is used");
        53
    })
}

/// An address to listen on: `IP`, with a port behind `@`, `#` or `:`.
pub(super) fn listening(text: &str, default_port: u16) -> Option<SocketAddr> {
    let (host, port) = split(text.trim());
    let port = port.map_or(Some(default_port), |port| port.parse().ok())?;
    let address: IpAddr = host.parse().ok()?;
    Some(SocketAddr::new(address, port))
}

/// A network, or the one of a single address.
pub(super) fn network(text: &str) -> Option<IpNet> {
    let text = text.trim();
    if let Ok(network) = text.parse::<IpNet>() {
        return Some(network.trunc());
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.into());
    }
    // BIND permits `10/8` and `192.168/16`.
    let (address, len) = text.split_once('/')?;
    let missing = 3_usize.checked_sub(address.matches('.').count())?;
    let full = format!(
        "{}{}/{len}",
        address.trim_end_matches('.'),
        ".0".repeat(missing)
    );
    full.parse::<IpNet>().ok().map(|network| network.trunc())
}

/// The name of the reverse zone of a network, if its length is that of a zone; else those of the networks that it
/// consists of, at most 256.
pub(super) fn reverse_zones(network: IpNet) -> Vec<String> {
    let (bits, bytes): (u8, Vec<u8>) = match network.trunc().network() {
        IpAddr::V4(address) => (8, address.octets().to_vec()),
        IpAddr::V6(address) => {
            let nibbles = address
                .octets()
                .into_iter()
                .flat_map(|byte| [byte >> 4, byte & 0xf]);
            (4, nibbles.collect())
        }
    };
    let suffix = if bits == 8 {
        "in-addr.arpa"
    } else {
        "ip6.arpa"
    };
    let len = network.prefix_len();
    let labels = usize::from(len.div_ceil(bits));
    let free = labels as u32 * u32::from(bits) - u32::from(len);
    let mut zones = Vec::new();
    for offset in 0..1_u16 << free {
        let mut parts = bytes[..labels].to_vec();
        if let Some(last) = parts.last_mut() {
            *last = last.wrapping_add(offset as u8);
        }
        let text = parts.iter().rev().map(|part| match bits {
            8 => format!("{part}."),
            _ => format!("{part:x}."),
        });
        zones.push(text.collect::<String>() + suffix);
    }
    zones
}

/// The name of the PTR record of an address.
pub(super) fn reverse_name(address: IpAddr) -> String {
    reverse_zones(address.into()).swap_remove(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_in_the_notations_of_all_programs() {
        for (text, expected) in [
            ("9.9.9.9", "9.9.9.9"),
            ("9.9.9.9#53", "9.9.9.9"),
            ("9.9.9.9#5353@eth0", "9.9.9.9:5353"),
            ("9.9.9.9@5353", "9.9.9.9:5353"),
            ("9.9.9.9:53", "9.9.9.9"),
            ("udp://9.9.9.9:5353", "9.9.9.9:5353"),
            ("tcp+udp:9.9.9.9", "9.9.9.9"),
            ("2620:fe::fe", "[2620:fe::fe]:53"),
            ("[2620:fe::fe]:5353", "[2620:fe::fe]:5353"),
            ("2620:fe::fe#5353", "[2620:fe::fe]:5353"),
            ("fe80::1%eth0", "[fe80::1%eth0]:53"),
        ] {
            assert_eq!(server(text).as_deref(), Ok(expected), "{text}");
        }
        for text in [
            "tls://1.1.1.1",
            "https://dns.example/q",
            "tcp-tls:1.1.1.1:853",
            "sdns://AQ",
        ] {
            assert_eq!(server(text), Err(ENCRYPTED.to_owned()), "{text}");
        }
        assert!(server("dns.example").is_err());
        assert!(server("0.0.0.0").is_err());
    }

    #[test]
    fn a_network_has_the_reverse_zones_that_cover_it() {
        let zones = |text: &str| reverse_zones(text.parse().expect("a network"));
        assert_eq!(zones("192.168.1.0/24"), ["1.168.192.in-addr.arpa"]);
        assert_eq!(zones("10.0.0.0/8"), ["10.in-addr.arpa"]);
        assert_eq!(
            zones("192.168.2.0/23"),
            ["2.168.192.in-addr.arpa", "3.168.192.in-addr.arpa"]
        );
        assert_eq!(zones("fd00::/8"), ["d.f.ip6.arpa"]);
        assert_eq!(
            reverse_name("192.0.2.5".parse().expect("an address")),
            "5.2.0.192.in-addr.arpa"
        );
    }
}
