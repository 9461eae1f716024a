//! The `[upstream]` section: which servers true answers come from, and how they are asked.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::findings::{Findings, quote};
use super::hint::{DNS_PORT, Use, hint, split_port};
use super::reader::{At, Reader};
use super::values::{file, number, unmapped};

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Ports below need a privilege.
const FIRST_PORT: u16 = 1024;
/// Fewer ports are too easy to guess (RFC 5452, section 9.2).
const FEWEST_PORTS: usize = 1024;
/// Longest name of an interface (IFNAMSIZ).
const ZONE_MAX: usize = 15;

/// Where true answers come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The servers: at least one, none twice; `None` means those of `resolv_conf`.
    pub servers: Option<Vec<UpstreamServer>>,
    /// The file that names the servers where `servers` does not; it is watched.
    pub resolv_conf: PathBuf,
    /// Local ports that queries leave from, at least 1024.
    pub ports: RangeInclusive<u16>,
    /// How long the servers may take together, 100 ms to 30 s.
    pub timeout: Duration,
    /// Most clients' queries that wait for the servers at one time: 16 to 65,535.
    pub waiting: usize,
    /// Of them, most queries of one client: at least one, at most `waiting`.
    pub waiting_per_client: usize,
}

/// A server and how it may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamServer {
    /// Where it is.
    pub address: ServerAddress,
    /// Whether queries have random letter case.
    pub random_case: bool,
    /// Whether queries use EDNS.
    pub edns: bool,
}

impl From<ServerAddress> for UpstreamServer {
    fn from(address: ServerAddress) -> Self {
        Self {
            address,
            random_case: true,
            edns: true,
        }
    }
}

/// The address of a server. That of a link-local one has the interface that leads to it, whose index is
/// looked up each time that a socket is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    /// The IP address and port.
    pub socket: SocketAddr,
    /// The name or index of the interface; always there for link-local addresses, and only there.
    pub zone: Option<String>,
}

impl ServerAddress {
    /// The address with the index that its interface has now, or had last if it is gone. Indices are
    /// not kept when an interface is made again.
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
    /// What is wrong and how to write it, in words that follow `"TEXT", `.
    fn from_str(text: &str) -> Result<Self, String> {
        let malformed = || {
            hint(text, Use::Ask).unwrap_or_else(|| {
                "which is no address: write it as in \"192.0.2.53\", \"192.0.2.53:5300\", \
                 \"[2001:db8::53]:5300\" or \"fe80::53%eth0\""
                    .to_owned()
            })
        };
        if let Some(meant) = split_port(text) {
            return Err(format!(
                "which may end in a port: write \"{meant}\", or \"[{text}]\" for the address"
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
            None => DNS_PORT,
        };
        unmapped(ip, |v4| SocketAddr::new(v4, port))?;
        let is_link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        match zone {
            _ if port == 0 => Err(format!(
                "which has port 0: write \"{host}\" for port {DNS_PORT}"
            )),
            _ if ip.is_unspecified() || ip.is_multicast() => {
                Err("which is no single server's address: name the server's own".to_owned())
            }
            None if is_link_local => Err(format!(
                "which is a different server on each link: add the interface, as in \"{ip}%eth0\""
            )),
            Some(_) if !is_link_local => Err(format!(
                "which is no link-local address, and only those have an interface: write \"{ip}\""
            )),
            Some(zone) if zone.contains(':') => Err(malformed()),
            Some(zone) if !is_interface(zone) => Err(format!(
                "which has no interface's name or index behind the %: write it as in \"{ip}%eth0\""
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

/// Whether a text can be the name of an interface, or its index.
fn is_interface(zone: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'%');
    (1..=ZONE_MAX).contains(&zone.len()) && zone.bytes().all(fits)
}

#[derive(Default)]
pub(super) struct Raw {
    servers: Option<At<Vec<At<RawServer>>>>,
    resolv_conf: Option<At<String>>,
    ports: Option<At<String>>,
    timeout_ms: Option<At<i64>>,
    waiting: Option<At<i64>>,
    waiting_per_client: Option<At<i64>>,
}

struct RawServer {
    address: Option<At<String>>,
    random_case: Option<At<bool>>,
    edns: Option<At<bool>>,
}

impl Raw {
    pub(super) fn read(table: &mut Reader<'_, '_>) -> Self {
        let plain = |address| RawServer {
            address: Some(address),
            random_case: None,
            edns: None,
        };
        let remedy = "write it as [\"ADDRESS\"] or [{ address = \"ADDRESS\" }]";
        Self {
            servers: table.strings_or_tables("servers", remedy, plain, |table| RawServer {
                address: table.required_string("address"),
                random_case: table.boolean("random-case"),
                edns: table.boolean("edns"),
            }),
            resolv_conf: table.string("resolv-conf"),
            ports: table.string("ports"),
            timeout_ms: table.integer("timeout-ms"),
            waiting: table.integer("waiting"),
            waiting_per_client: table.integer("waiting-per-client"),
        }
    }
}

pub(super) fn validate(raw: Raw, findings: &mut Findings) -> Upstream {
    let servers = raw.servers.and_then(|given| servers(given, findings));
    let timeout_ms = number(raw.timeout_ms, 100..=30_000, findings).unwrap_or(2000);
    let waiting: usize = number(raw.waiting, 16..=65_535, findings).unwrap_or(8192);
    let per_client = number(raw.waiting_per_client, 1..=waiting, findings);
    let ports = raw.ports.and_then(|given| ports(given, findings));
    let resolv_conf = file(raw.resolv_conf, findings);
    Upstream {
        servers,
        resolv_conf: resolv_conf.unwrap_or_else(|| PathBuf::from(RESOLV_CONF)),
        ports: ports.unwrap_or(FIRST_PORT..=u16::MAX),
        timeout: Duration::from_millis(timeout_ms),
        waiting,
        waiting_per_client: per_client.unwrap_or(waiting / 4),
    }
}

fn servers(given: At<Vec<At<RawServer>>>, findings: &mut Findings) -> Option<Vec<UpstreamServer>> {
    if given.value.is_empty() {
        let key = given.key;
        let message = format!("{key} is empty, must name at least one: add one or leave {key} out");
        findings.report(given.line, message);
        return None;
    }
    let mut servers: Vec<UpstreamServer> = Vec::new();
    for At { key, line, value } in given.value {
        let Some(text) = value.address else {
            continue;
        };
        let refusal = match text.value.parse::<ServerAddress>() {
            Ok(address) if servers.iter().any(|known| known.address == address) => {
                "which is there already: remove it".to_owned()
            }
            Ok(address) => {
                servers.push(UpstreamServer {
                    address,
                    random_case: value.random_case.is_none_or(|at| at.value),
                    edns: value.edns.is_none_or(|at| at.value),
                });
                continue;
            }
            Err(refusal) => refusal,
        };
        let shown = quote(&text.value);
        findings.report(line, format!("{key} holds {shown}, {refusal}"));
    }
    Some(servers)
}

fn ports(given: At<String>, findings: &mut Findings) -> Option<RangeInclusive<u16>> {
    let At { key, line, value } = given;
    let range = || {
        let (low, high) = value.split_once('-')?;
        let (low, high): (u16, u16) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
        let is_enough = (usize::from(low) + FEWEST_PORTS) <= usize::from(high) + 1;
        (low >= FIRST_PORT && is_enough).then_some(low..=high)
    };
    let range = range();
    if range.is_none() {
        let shown = quote(&value);
        let message = format!(
            "{key} is {shown}, must be a range of at least {FEWEST_PORTS} ports from {FIRST_PORT} \
             to 65535: write it as in \"{FIRST_PORT}-65535\""
        );
        findings.report(line, message);
    }
    range
}
