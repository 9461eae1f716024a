//! Addresses of servers in the notations of other programs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};

use super::draft::{Draft, SourceLine};
use super::encrypted::{NAMED, encrypted, named_server};
use super::tree::Node;

/// Prefixes of servers that are asked in plain DNS.
const PLAIN: &[&str] = &["udp://", "tcp://", "tcp+udp:", "udp:", "tcp:"];
/// Why a link-local address without its interface does not carry over.
const WITHOUT_LINK: &str = "a link-local address is another server on each link: put it into [upstream] servers with its \
                            interface, as in \"fe80::1%eth0\"";

/// The length in bits of the prefix of IPv4 addresses in IPv6 form.
const MAPPED: u8 = 96;

/// A server with an address, as this server's configuration writes it.
///
/// # Errors
/// Why the server does not carry over.
pub(super) fn server(text: &str) -> Result<String, String> {
    let text = text.trim();
    if let Some(encrypted) = encrypted(text) {
        return encrypted;
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
    match address {
        IpAddr::V4(address) if port == 53 => Ok(address.to_string()),
        IpAddr::V4(address) => Ok(format!("{address}:{port}")),
        IpAddr::V6(address) if !address.is_unicast_link_local() => {
            Ok(format!("[{address}]:{port}"))
        }
        IpAddr::V6(_) if zone.is_empty() => Err(WITHOUT_LINK.to_owned()),
        IpAddr::V6(address) => Ok(format!("[{address}{zone}]:{port}")),
    }
}

/// A server of `[upstream]`. One that is given by name carries over if servers are given that find its address: those that
/// are asked in clear carry over as `bootstrap`.
///
/// # Errors
/// Why it does not carry over.
pub(super) fn upstream(
    text: &str,
    bootstrap: &[&Node],
    line: &SourceLine,
    draft: &mut Draft,
) -> Result<(), String> {
    let found = match server(text) {
        Ok(server) => server,
        Err(why) => {
            let finders = bootstrap.iter().filter_map(|node| {
                let text = node.text()?;
                let plain = server(text).ok().filter(|server| !server.contains("://"));
                Some((plain?, &node.line))
            });
            let finders: Vec<_> = finders.collect();
            let named = named_server(text.trim());
            let Some(named) = named.filter(|_| !finders.is_empty()) else {
                return Err(why);
            };
            for (finder, line) in finders {
                draft.push("upstream", "bootstrap", finder, line);
            }
            named
        }
    };
    draft.push("upstream", "servers", found, line);
    Ok(())
}

/// Splits host and port, which may be joined by `#`, `@` or `:`. The text behind another `#` or `@` (a TLS name, an
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

/// The addresses to listen on of `IP` or `localhost`, with a port behind `@`, `#` or `:`. Without a host, as in `:53`, they
/// are all. Empty if the text has another form.
pub(super) fn listening(text: &str, default_port: u16) -> Vec<SocketAddr> {
    let (host, port) = split(text.trim());
    let port = port.map_or(Some(default_port), |port| port.parse().ok());
    let addresses: Vec<IpAddr> = match host {
        "" if text.trim().starts_with(':') => {
            vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
        }
        "localhost" => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        _ => host.parse().into_iter().collect(),
    };
    let addresses = addresses.into_iter().map(|address| address.to_canonical());
    let sockets = port.map(|port| {
        addresses
            .map(|address| SocketAddr::new(address, port))
            .collect()
    });
    sockets.unwrap_or_default()
}

/// A network, or the one of a single address. That of IPv4 addresses in IPv6 form is the IPv4 network.
pub(super) fn network(text: &str) -> Option<IpNet> {
    let network = any_network(text.trim())?;
    let IpNet::V6(v6) = network else {
        return Some(network);
    };
    let len = v6.prefix_len().checked_sub(MAPPED);
    let v4 = v6.addr().to_ipv4_mapped().zip(len);
    let v4 = v4.and_then(|(address, len)| Ipv4Net::new(address, len).ok());
    Some(v4.map_or(network, |v4| v4.trunc().into()))
}

fn any_network(text: &str) -> Option<IpNet> {
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
            ("2620:fe::fe%eth0", "[2620:fe::fe]:53"),
            ("::ffff:9.9.9.9", "9.9.9.9"),
        ] {
            assert_eq!(server(text).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(server("tls://1.1.1.1").as_deref(), Ok("tls://1.1.1.1"));
        assert!(server("dns.example").is_err());
        assert!(server("0.0.0.0").is_err());
        assert_eq!(server("fe80::1"), Err(WITHOUT_LINK.to_owned()));
    }

    #[test]
    fn an_ipv4_network_in_ipv6_form_is_the_ipv4_network() {
        for (text, expected) in [
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("192.168/16", "192.168.0.0/16"),
        ] {
            let network = network(text).map(|network| network.to_string());
            assert_eq!(network.as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn addresses_to_listen_on_are_read_in_the_notations_of_all_programs() {
        for (text, expected) in [
            ("127.0.0.1", &["127.0.0.1:53"][..]),
            ("::1@5353", &["[::1]:5353"]),
            ("::ffff:127.0.0.1", &["127.0.0.1:53"]),
            (":5353", &["0.0.0.0:5353", "[::]:5353"]),
            ("localhost:5353", &["127.0.0.1:5353", "[::1]:5353"]),
            ("", &[]),
            ("eth0", &[]),
            ("127.0.0.1:x", &[]),
        ] {
            let found = listening(text, 53);
            let found: Vec<_> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{text}");
        }
    }
}
