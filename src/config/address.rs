//! Addresses in the notations of other programs, and how they are written here.

use std::net::{IpAddr, SocketAddr};

use super::upstream::{ServerAddress, split};
use super::values::url;

/// The default port of DNS.
pub(super) const DNS_PORT: u16 = 53;

/// What an address is for.
#[derive(Clone, Copy)]
pub(super) enum Use {
    /// It is listened on.
    Listen,
    /// Its server is asked.
    Ask,
}

impl Use {
    /// What to write in place of a URL.
    fn plain(self) -> &'static str {
        match self {
            Self::Listen => "write the address for plain DNS, as in \"127.0.0.1:53\"",
            Self::Ask => "write the address of a server for plain DNS, as in \"192.0.2.53\"",
        }
    }

    /// What to write in place of a name.
    fn no_name(self) -> &'static str {
        match self {
            Self::Listen => {
                "which is a name, and only addresses can be listened on: write an address of this machine, as in \
                 \"127.0.0.1:53\""
            }
            Self::Ask => "which is a name, and only addresses can be asked: write its address",
        }
    }

    /// The address of this machine.
    fn localhost(self) -> &'static str {
        match self {
            Self::Listen => "which is a name: write \"127.0.0.1:53\"",
            Self::Ask => "which is a name: write \"127.0.0.1\"",
        }
    }
}

/// What is wrong with a text that should be an address, and what to write, in words that follow `"TEXT", `; `None` if
/// it resembles no known notation.
pub(super) fn hint(text: &str, what: Use) -> Option<String> {
    if let Some((scheme, rest)) = url(text) {
        return Some(of_url(scheme, rest, what));
    }
    // `192.0.2.1@53` of Unbound, `192.0.2.1#53` of dnsmasq; what follows another # is a name for TLS.
    if let Some((host, rest)) = text.split_once(['@', '#']) {
        let (port, name) = rest.split_once('#').unwrap_or((rest, ""));
        if !host.parse::<IpAddr>().is_ok_and(|ip| !ip.is_unspecified()) {
            return None;
        }
        return Some(match port.parse::<u16>() {
            Ok(_) if !name.is_empty() => {
                let host = shown(host, DNS_PORT);
                format!(
                    "which has a name for DNS over TLS, which is not supported: write {host} for plain DNS"
                )
            }
            Ok(port) => format!(
                "which has its port behind another sign: write {}",
                shown(host, port)
            ),
            Err(_) => format!(
                "which has a name for DNS over TLS, which is not supported: write \"{host}\" for plain DNS"
            ),
        });
    }
    if let Some((ip, zone)) = text.split_once('%')
        && let Some((zone, port)) = zone.split_once(':')
        && port.parse::<u16>().is_ok()
    {
        return Some(format!(
            "which has a port behind its interface: write \"[{ip}%{zone}]:{port}\""
        ));
    }
    if let Some((ip, _)) = text.split_once('/')
        && ip.parse::<IpAddr>().is_ok()
    {
        return Some(format!(
            "which is a network: write the address alone, as in \"{ip}\""
        ));
    }
    let (host, port) = split(text)?;
    let port = port.unwrap_or_default();
    let number = match port {
        "domain" | "dns" => Some(DNS_PORT),
        port => port.parse().ok(),
    };
    match (host, number) {
        ("localhost", Some(port)) => Some(format!(
            "which is a name: write {}",
            shown("127.0.0.1", port)
        )),
        (host, Some(port)) if host.parse::<IpAddr>().is_ok() => Some(format!(
            "which has the port by name: write {}",
            shown(host, port)
        )),
        ("localhost", None) => Some(what.localhost().to_owned()),
        (host, _) if is_name(host) => Some(what.no_name().to_owned()),
        _ => None,
    }
}

/// An IPv6 address with a last group that may as well be meant as a port, split there: `2001:db8::1:53`.
pub(super) fn split_port(text: &str) -> Option<SocketAddr> {
    const PORTS: [u16; 6] = [53, 5300, 5335, 5353, 853, 443];
    let (ip, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    let IpAddr::V6(ip) = ip.parse().ok()? else {
        return None;
    };
    PORTS
        .contains(&port)
        .then(|| SocketAddr::new(ip.into(), port))
}

fn of_url(scheme: &str, rest: &str, what: Use) -> String {
    let encrypted = |protocol: &str| {
        format!(
            "which is {protocol}, which is not supported: {}",
            what.plain()
        )
    };
    match scheme.to_ascii_lowercase().as_str() {
        "https" | "http" | "h2" | "h3" => encrypted("DNS over HTTPS"),
        "tls" | "dot" => encrypted("DNS over TLS"),
        "quic" | "doq" => encrypted("DNS over QUIC"),
        "sdns" => encrypted("a DNS stamp"),
        _ => {
            let rest = rest.trim_end_matches('/');
            match rest.parse::<ServerAddress>() {
                Ok(_) => format!("which is a URL: write \"{rest}\""),
                Err(_) => format!("which is a URL: {}", what.plain()),
            }
        }
    }
}

/// An address with its port, quoted.
fn shown(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(ip) => format!("\"{}\"", SocketAddr::new(ip, port)),
        Err(_) => format!("\"{host}:{port}\""),
    }
}

fn is_name(host: &str) -> bool {
    host.contains(|c: char| c.is_ascii_alphabetic())
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}
