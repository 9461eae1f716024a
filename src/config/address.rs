//! Parses addresses of servers, with hints for the notations of other programs.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// The default port of DNS.
pub(super) const DNS_PORT: u16 = 53;
/// The maximum length of the name of an interface (IFNAMSIZ).
const ZONE_MAX: usize = 15;

/// The address of a server. A link-local address has an interface, whose index is looked up each time that a
/// socket is opened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerAddress {
    /// The IP address and port.
    pub socket: SocketAddr,
    /// The name or index of the interface; `Some` exactly for link-local addresses.
    pub zone: Option<String>,
}

impl ServerAddress {
    /// The address with the current index of its interface, or the last known index if the interface is gone. An
    /// interface that is created again gets another index.
    pub fn current(&self, index_of: impl FnOnce(&str) -> Option<u32>) -> SocketAddr {
        let mut socket = self.socket;
        if let (SocketAddr::V6(v6), Some(zone)) = (&mut socket, &self.zone)
            && let Some(index) = index_of(zone)
        {
            v6.set_scope_id(index);
        }
        socket
    }
}

impl From<SocketAddr> for ServerAddress {
    fn from(socket: SocketAddr) -> Self {
        Self { socket, zone: None }
    }
}

impl FromStr for ServerAddress {
    type Err = String;

    /// Reads `IP`, `IP:PORT`, `[IP]`, or `[IP]:PORT`; each IP may be followed by `%ZONE`.
    ///
    /// # Errors
    /// The mistake and its correction: a clause such as `which has no port: write "..."`, for a message that begins
    /// with the quoted text. All functions of this file that report a mistake return such a clause.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text, DNS_PORT, &Form::default())
    }
}

/// The text around an address, such as `tls://` and `#dns.example`. A correction has it as well.
#[derive(Default)]
pub(super) struct Form {
    pub(super) before: String,
    pub(super) behind: String,
}

impl Form {
    fn around(&self, address: impl fmt::Display) -> String {
        format!("{}{address}{}", self.before, self.behind)
    }

    fn of(&self, address: impl fmt::Display) -> String {
        format!("\"{}\"", self.around(address))
    }

    fn is_bare(&self) -> bool {
        self.before.is_empty() && self.behind.is_empty()
    }
}

impl ServerAddress {
    /// Like [`from_str`](Self::from_str), with another default port and text around the address.
    pub(super) fn parse(text: &str, default_port: u16, form: &Form) -> Result<Self, String> {
        let malformed = || {
            if !form.is_bare() {
                let (v4, v6) = (form.of("192.0.2.55"), form.of("[2001:db8::55]:8853"));
                return format!(
                    "which has no address, or no valid port: write it as in {v4} or {v6}"
                );
            }
            hint(text, Purpose::Ask).unwrap_or_else(|| {
                "which is not an address: write it as in \"192.0.2.53\", \"192.0.2.53:5300\", \
                 \"[2001:db8::53]:5300\" or \"fe80::53%eth0\""
                    .to_owned()
            })
        };
        if let Some(meant) = split_port(text) {
            return Err(format!(
                "which may end in a port: write {}, or {} for the address",
                form.of(meant),
                form.of(format_args!("[{text}]"))
            ));
        }
        let (host, port) = split(text).ok_or_else(malformed)?;
        let (ip, zone) = match host.split_once('%') {
            Some((ip, zone)) => (ip, Some(zone)),
            None => (host, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| malformed())?;
        let port: u16 = match port {
            Some(port) => port.parse().map_err(|_| malformed())?,
            None => default_port,
        };
        reject_mapped(ip, |v4| form.around(SocketAddr::new(v4, port)))?;
        let is_link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        match zone {
            _ if port == 0 => Err(format!(
                "which has port 0: write {} for port {default_port}",
                form.of(host)
            )),
            _ if ip.is_unspecified() || ip.is_multicast() => {
                Err("which is not the address of a single server: write one".to_owned())
            }
            None if is_link_local => Err(format!(
                "which is a different server on each link: add the interface, as in {}",
                form.of(format_args!("{ip}%eth0"))
            )),
            Some(_) if !is_link_local => Err(format!(
                "which is not a link-local address, and only those have an interface: write {}",
                form.of(ip)
            )),
            Some(zone) if zone.contains(':') => Err(malformed()),
            Some(zone) if !is_interface(zone) => Err(format!(
                "which has no interface's name or index behind the %: write it as in {}",
                form.of(format_args!("{ip}%eth0"))
            )),
            zone => Ok(Self {
                socket: SocketAddr::new(ip, port),
                zone: zone.map(str::to_owned),
            }),
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.zone {
            Some(zone) => write!(f, "[{}%{zone}]:{}", self.socket.ip(), self.socket.port()),
            None => self.socket.fmt(f),
        }
    }
}

/// Splits a text into host and port.
pub(super) fn split(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, behind) = rest.split_once(']')?;
        if !host.contains(':') {
            return None;
        }
        return match behind {
            "" => Some((host, None)),
            _ => Some((host, Some(behind.strip_prefix(':')?))),
        };
    }
    match text.split_once(':') {
        // More than one colon: IPv6 without a port.
        Some((_, port)) if port.contains(':') => Some((text, None)),
        Some((host, port)) => Some((host, Some(port))),
        None => Some((text, None)),
    }
}

/// Whether a text can be the name or index of an interface.
fn is_interface(zone: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'%');
    (1..=ZONE_MAX).contains(&zone.len()) && zone.bytes().all(fits)
}

/// Rejects IPv4-mapped IPv6 addresses, which the server's IPv6 sockets can't use. `meant` turns the IPv4 address into
/// the correction.
pub(super) fn reject_mapped<T: fmt::Display>(
    ip: IpAddr,
    meant: impl FnOnce(IpAddr) -> T,
) -> Result<(), String> {
    match ip.to_canonical() {
        v4 if v4 != ip => Err(format!(
            "which is an IPv4 address in IPv6 form: write \"{}\"",
            meant(v4)
        )),
        _ => Ok(()),
    }
}

/// The scheme of a URL, and the rest after `://`.
pub(super) fn url(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let is_scheme =
        scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(fits);
    is_scheme.then_some((scheme, rest))
}

/// The purpose of an address.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    /// An address to listen on.
    Listen,
    /// The address of a server to query.
    Ask,
}

impl Purpose {
    /// The remedy for an address of encrypted DNS, and for an unusable URL.
    fn plain_dns(self) -> &'static str {
        match self {
            Self::Listen => "write the address for plain DNS, as in \"127.0.0.1:53\"",
            Self::Ask => "write the address of a server for plain DNS, as in \"192.0.2.53\"",
        }
    }

    /// The mistake and its correction for a host name.
    fn address_of_name(self) -> &'static str {
        match self {
            Self::Listen => {
                "which is a name, and only addresses can be listened on: write an address of this machine, as in \
                 \"127.0.0.1:53\""
            }
            Self::Ask => "which is a name, and only addresses can be used: write its address",
        }
    }

    /// The mistake and its correction for `localhost`.
    fn localhost(self) -> &'static str {
        match self {
            Self::Listen => "which is a name: write \"127.0.0.1:53\"",
            Self::Ask => "which is a name: write \"127.0.0.1\"",
        }
    }
}

/// The mistake in a text that is not an address, and its correction; `None` if the text resembles no known notation.
pub(super) fn hint(text: &str, purpose: Purpose) -> Option<String> {
    if let Some((scheme, rest)) = url(text) {
        return Some(url_hint(scheme, rest, purpose));
    }
    // Unbound writes `192.0.2.1@53`, dnsmasq `192.0.2.1#53`. Unbound may append another # and a name for TLS.
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
        ("localhost", None) => Some(purpose.localhost().to_owned()),
        (host, _) if is_name(host) => Some(purpose.address_of_name().to_owned()),
        _ => None,
    }
}

/// Splits an IPv6 address whose last group is probably meant as a port: `2001:db8::1:53`.
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

/// The mistake and its correction for a URL.
fn url_hint(scheme: &str, rest: &str, purpose: Purpose) -> String {
    let encrypted = |protocol: &str| {
        format!(
            "which is {protocol}, which is not supported: {}",
            purpose.plain_dns()
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
                Err(_) => format!("which is a URL: {}", purpose.plain_dns()),
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
