//! The section `[upstream]`: the servers that queries are forwarded to, and the limits of queries to them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::encryption::{self, Encryption};
use super::findings::{Findings, quote};
use super::named;
use super::reader::{At, Reader, Strings};
use super::selection::{self, Selection};
use super::values::{each, file, non_empty_array, number};

use crate::wire::name::Name;

pub use super::address::ServerAddress;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const TIMEOUT: Duration = Duration::from_secs(2);
/// The first port that needs no privilege.
const FIRST_PORT: u16 = 1024;
/// The smallest number of ports. With fewer, a port is too easy to guess (RFC 5452, section 9.2).
const FEWEST_PORTS: usize = 1024;

/// The servers that queries are forwarded to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The servers at fixed addresses, no duplicates; `None` means those of `resolv_conf`. Together with `named` there is at
    /// least one.
    pub servers: Option<Vec<UpstreamServer>>,
    /// The servers that are given by name.
    pub named: Vec<NamedServer>,
    /// The servers that find the addresses of `named`: at least one if there are such servers.
    pub bootstrap: Vec<ServerAddress>,
    /// Whether servers in clear are asked for encrypted ones that replace them (RFC 9462).
    pub discover: bool,
    /// The file that names the servers if `servers` does not; it is watched.
    pub resolv_conf: PathBuf,
    /// Local ports for queries, at least 1024.
    pub ports: RangeInclusive<u16>,
    /// How long all attempts for a query may take, 100 ms to 30 s.
    pub timeout: Duration,
    /// The maximum number of client queries that wait for the servers at a time, 16 to 65,535.
    pub waiting: usize,
    /// The maximum number of waiting queries of one client: at least one, at most `waiting`.
    pub waiting_per_client: usize,
    /// Which server's answer is used.
    pub selection: Selection,
}

/// A server, and the form of queries to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamServer {
    /// Its address.
    pub address: ServerAddress,
    /// How connections to it are encrypted; `None` means that it is asked in clear.
    pub encryption: Option<Encryption>,
    /// Whether queries have random letter case. Those of encrypted connections never have.
    pub random_case: bool,
    /// Whether queries use EDNS.
    pub edns: bool,
}

/// A server that is given by name in place of an address. The servers of `bootstrap` find its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedServer {
    /// Its place among all servers, counted from 0.
    pub place: usize,
    /// The name.
    pub host: Name,
    /// The server with an address that is to be replaced.
    server: UpstreamServer,
    text: String,
}

impl NamedServer {
    /// Reads the text of a server with a name in place of its address; `None` if it is something else.
    fn parse(text: &str) -> Option<Self> {
        let (host, server) = named::parse(text)?;
        Some(Self {
            place: 0,
            host,
            server: server.parse().ok()?,
            text: text.to_owned(),
        })
    }

    /// The server at one of its addresses.
    pub fn at(&self, ip: IpAddr) -> UpstreamServer {
        let port = self.server.address.socket.port();
        UpstreamServer {
            address: ServerAddress::from(SocketAddr::new(ip, port)),
            ..self.server.clone()
        }
    }

    /// The server, with an address of documentation in place of its own.
    pub fn server(&self) -> &UpstreamServer {
        &self.server
    }

    /// The same server at another place, and asked as `server` is.
    fn with(self, place: usize, server: UpstreamServer) -> Self {
        Self {
            place,
            server,
            ..self
        }
    }

    /// Whether both are the same server.
    fn is_like(&self, other: &Self) -> bool {
        self.host == other.host && self.server.address == other.server.address
    }
}

impl fmt::Display for NamedServer {
    /// As it is written in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for UpstreamServer {
    type Err = String;

    /// Reads an address, or the URL of an encrypted server, such as `tls://ADDRESS#NAME`.
    ///
    /// # Errors
    /// Those of [`ServerAddress`].
    fn from_str(text: &str) -> Result<Self, String> {
        match encryption::parse(text).transpose()? {
            None => text.parse::<ServerAddress>().map(Self::from),
            Some((address, encryption)) => Ok(Self {
                encryption: Some(encryption),
                ..Self::from(address)
            }),
        }
    }
}

impl fmt::Display for UpstreamServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(encryption) = &self.encryption else {
            return self.address.fmt(f);
        };
        let (scheme, path) = (encryption.protocol.scheme(), encryption.protocol.path());
        write!(f, "{scheme}://{}{path}", self.address)?;
        match &encryption.name {
            Some(name) => write!(f, "#{name}"),
            None => Ok(()),
        }
    }
}

impl From<ServerAddress> for UpstreamServer {
    fn from(address: ServerAddress) -> Self {
        Self {
            address,
            encryption: None,
            random_case: true,
            edns: true,
        }
    }
}

#[derive(Default)]
pub(super) struct Raw {
    servers: Option<RawServers>,
    bootstrap: Option<Strings>,
    discover: Option<At<bool>>,
    resolv_conf: Option<At<String>>,
    ports: Option<At<String>>,
    timeout_ms: Option<At<i64>>,
    waiting: Option<At<i64>>,
    waiting_per_client: Option<At<i64>>,
    selection: selection::Raw,
}

/// The value of `servers`, before validation.
pub(super) type RawServers = At<Vec<At<RawServer>>>;

pub(super) struct RawServer {
    address: Option<At<String>>,
    random_case: Option<At<bool>>,
    edns: Option<At<bool>>,
    ca_file: Option<At<String>>,
    pin: Option<Strings>,
}

/// How to write `servers`.
const SERVERS: &str = "write it as [\"ADDRESS\"] or [{ address = \"ADDRESS\" }]";

impl RawServer {
    fn plain(address: At<String>) -> Self {
        Self {
            address: Some(address),
            random_case: None,
            edns: None,
            ca_file: None,
            pin: None,
        }
    }

    fn read(table: &mut Reader<'_, '_>) -> Self {
        Self {
            address: table.required_string("address"),
            random_case: table.boolean("random-case"),
            edns: table.boolean("edns"),
            ca_file: table.string("ca-file"),
            pin: table.strings("pin"),
        }
    }
}

/// Reads `servers`, which is reported if it is missing.
pub(super) fn required_servers(table: &mut Reader<'_, '_>) -> Option<RawServers> {
    table.required_strings_or_tables("servers", SERVERS, RawServer::plain, RawServer::read)
}

impl Raw {
    pub(super) fn read(table: &mut Reader<'_, '_>) -> Self {
        Self {
            servers: table.strings_or_tables("servers", SERVERS, RawServer::plain, RawServer::read),
            bootstrap: table.strings("bootstrap"),
            discover: table.boolean("discover"),
            resolv_conf: table.string("resolv-conf"),
            ports: table.string("ports"),
            timeout_ms: table.integer("timeout-ms"),
            waiting: table.integer("waiting"),
            waiting_per_client: table.integer("waiting-per-client"),
            selection: selection::Raw::read(table),
        }
    }
}

pub(super) fn validate(raw: Raw, findings: &mut Findings) -> Upstream {
    let bootstrap = non_empty_array(raw.bootstrap, findings);
    let bootstrap = each(bootstrap, findings, str::parse::<ServerAddress>);
    let bootstrap = bootstrap.unwrap_or_default();
    let mut named = Vec::new();
    let servers = raw.servers.and_then(|given| {
        let names = Names {
            found: &mut named,
            has_bootstrap: !bootstrap.is_empty(),
        };
        servers(given, Some(names), findings)
    });
    let timeout = timeout(raw.timeout_ms, findings);
    let waiting: usize = number(raw.waiting, 16..=65_535, findings).unwrap_or(8192);
    let per_client = number(raw.waiting_per_client, 1..=waiting, findings);
    let ports = raw.ports.and_then(|given| ports(given, findings));
    let resolv_conf = file(raw.resolv_conf, findings);
    Upstream {
        servers,
        named,
        bootstrap,
        discover: raw.discover.is_some_and(|at| at.value),
        resolv_conf: resolv_conf.unwrap_or_else(|| PathBuf::from(RESOLV_CONF)),
        ports: ports.unwrap_or(FIRST_PORT..=u16::MAX),
        timeout: timeout.unwrap_or(TIMEOUT),
        waiting,
        waiting_per_client: per_client.unwrap_or(waiting / 4),
        selection: selection::validate(raw.selection, findings),
    }
}

/// Where servers that are given by name are added.
pub(super) struct Names<'n> {
    found: &'n mut Vec<NamedServer>,
    has_bootstrap: bool,
}

impl Names<'_> {
    /// Adds a server. False if it is a duplicate.
    fn add(&mut self, named: NamedServer) -> bool {
        let is_new = !self.found.iter().any(|known| known.is_like(&named));
        if is_new {
            self.found.push(named);
        }
        is_new
    }
}

/// The servers at fixed addresses, no duplicates. Servers that are given by name are added to `names`, or reported if that
/// is `None`. There must be at least one server.
pub(super) fn servers(
    given: RawServers,
    mut names: Option<Names<'_>>,
    findings: &mut Findings,
) -> Option<Vec<UpstreamServer>> {
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
        let named = names.as_ref().and_then(|_| NamedServer::parse(&text.value));
        let has_bootstrap = names.as_ref().is_some_and(|names| names.has_bootstrap);
        let parsed = match &named {
            Some(named) if has_bootstrap => Ok(named.server().clone()),
            Some(_) => text.value.parse::<UpstreamServer>().map_err(|refusal| {
                format!("{refusal}, or set `bootstrap` to the addresses of servers that find it")
            }),
            None => text.value.parse::<UpstreamServer>(),
        };
        let keys = [
            value.ca_file.as_ref().map(|at| (at.line, "ca-file")),
            value.pin.as_ref().map(|at| (at.line, "pin")),
        ];
        let authorities = file(value.ca_file, findings);
        let pins = value.pin.map(|pins| encryption::pins(pins, findings));
        let refusal = match parsed {
            Ok(server)
                if named.is_none()
                    && servers.iter().any(|known| known.address == server.address) =>
            {
                "which is a duplicate: remove it".to_owned()
            }
            Ok(mut server) => {
                server.random_case = value.random_case.is_none_or(|at| at.value);
                server.edns = value.edns.is_none_or(|at| at.value);
                match &mut server.encryption {
                    Some(encryption) => {
                        encryption.authorities = authorities;
                        encryption.pins = pins.unwrap_or_default();
                    }
                    None => {
                        for (line, key) in keys.into_iter().flatten() {
                            let message = format!(
                                "{key} is set, but {} is asked in clear: write \"tls://ADDRESS#NAME\" or \"https://ADDRESS/PATH#NAME\", or remove {key}",
                                quote(&text.value)
                            );
                            findings.report(line, message);
                        }
                    }
                }
                match (named, &mut names) {
                    (Some(named), Some(names)) => {
                        let place = servers.len() + names.found.len();
                        if names.add(named.with(place, server)) {
                            continue;
                        }
                        "which is a duplicate: remove it".to_owned()
                    }
                    _ => {
                        servers.push(server);
                        continue;
                    }
                }
            }
            Err(refusal) => refusal,
        };
        let shown = quote(&text.value);
        findings.report(line, format!("{key} holds {shown}, {refusal}"));
    }
    Some(servers)
}

/// How long all attempts for a query may take.
pub(super) fn timeout(given: Option<At<i64>>, findings: &mut Findings) -> Option<Duration> {
    number(given, 100..=30_000, findings).map(Duration::from_millis)
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
