//! The servers that a feed is transferred from.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::names::typed;

use super::address::{DNS_PORT, Form, ServerAddress, split, url};
use super::findings::{Findings, quote};
use super::reader::{At, Reader};
use super::values::{file, number};

/// The default port of zone transfers over TLS (RFC 9103).
const TLS_PORT: u16 = 853;
/// The maximum number of primaries of a feed.
const PRIMARIES_MAX: usize = 16;

/// A server that has the zone of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Primary {
    /// Its address.
    pub address: ServerAddress,
    /// How its certificate is checked; `None` means transfers without TLS.
    pub tls: Option<PrimaryTls>,
}

impl Primary {
    /// Whether it has this address, as the sender of a message.
    pub fn has_address(&self, address: IpAddr) -> bool {
        let own = self.address.current(|_| None).ip();
        own.to_canonical() == address.to_canonical()
    }
}

/// How the certificate of a primary is checked (RFC 9103).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimaryTls {
    /// The host name that the certificate must have, in lower case, without a final dot.
    pub name: String,
    /// A file of certificates (PEM) that may sign it; `None` means those that the system trusts.
    pub ca: Option<PathBuf>,
}

/// The servers before validation: addresses, and tables with addresses.
pub(super) type Raw = At<Vec<At<RawPrimary>>>;

pub(super) struct RawPrimary {
    address: Option<At<String>>,
    port: Option<At<i64>>,
    tls: Option<At<String>>,
    tls_ca: Option<At<String>>,
}

/// Reads the key `primaries`, which has no default.
pub(super) fn read(table: &mut Reader<'_, '_>) -> Option<Raw> {
    let plain = |address| RawPrimary {
        address: Some(address),
        port: None,
        tls: None,
        tls_ca: None,
    };
    let remedy = "write it as [\"ADDRESS\"] or [{ address = \"ADDRESS\" }]";
    table.required_strings_or_tables("primaries", remedy, plain, |table| RawPrimary {
        address: table.required_string("address"),
        port: table.integer("port"),
        tls: table.string("tls"),
        tls_ca: table.string("tls-ca"),
    })
}

/// The addresses of the primaries, without duplicates.
pub(super) fn addresses(primaries: &[Primary]) -> Vec<IpNet> {
    let mut addresses: Vec<IpNet> = Vec::new();
    for primary in primaries {
        let address = primary.address.socket.ip().into();
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// Validates the servers. Invalid ones are left out, and reported.
pub(super) fn validate(given: Raw, findings: &mut Findings) -> Vec<Primary> {
    let At { key, line, value } = given;
    match value.len() {
        0 => findings.report(
            line,
            format!("{key} is empty, must name at least one: add one"),
        ),
        1..=PRIMARIES_MAX => {}
        count => findings.report(
            line,
            format!("{key} holds {count} servers, must be at most {PRIMARIES_MAX}: remove some"),
        ),
    }
    let mut primaries: Vec<Primary> = Vec::new();
    for At { key, line, value } in value {
        let shown = value.address.as_ref().map(|address| quote(&address.value));
        let Some(primary) = primary(value, (key, line), findings) else {
            continue;
        };
        if primaries
            .iter()
            .any(|known| known.address == primary.address)
        {
            let shown = shown.unwrap_or_default();
            let message = format!("{key} holds {shown}, which is a duplicate: remove it");
            findings.report(line, message);
            continue;
        }
        primaries.push(primary);
    }
    primaries
}

fn primary(raw: RawPrimary, (key, line): (&str, u32), findings: &mut Findings) -> Option<Primary> {
    let is_tls = raw.tls.is_some();
    if let Some(ca) = raw.tls_ca.as_ref().filter(|_| !is_tls) {
        let message = "tls-ca is set, but tls is not: add tls = \"SERVER.NAME\", or remove tls-ca";
        findings.report(ca.line, message.to_owned());
    }
    let name = raw.tls.and_then(|given| host_name(given, findings));
    let ca = file(raw.tls_ca, findings);
    let is_port_given = raw.port.is_some();
    let port = number(raw.port, 1..=u16::MAX, findings);
    let text = raw.address?.value;
    let default = if is_tls { TLS_PORT } else { DNS_PORT };
    let address = match with_tls(&text) {
        Some(refusal) => Err(refusal),
        None => ServerAddress::parse(&text, port.unwrap_or(default), &Form::default()),
    };
    let has_port = split(&text).is_some_and(|(_, port)| port.is_some());
    let refusal = match address {
        Ok(_) if has_port && is_port_given => {
            "which has a port, besides `port`: remove one of the two".to_owned()
        }
        Ok(address) => {
            // If the name is invalid, that is reported already.
            let tls = name.map(|name| PrimaryTls { name, ca });
            return Some(Primary { address, tls });
        }
        Err(refusal) => refusal,
    };
    findings.report(line, format!("{key} holds {}, {refusal}", quote(&text)));
    None
}

/// The correction for an address with a name for TLS in the notations of other programs: `tls://` and `@853#name`.
fn with_tls(text: &str) -> Option<String> {
    let table = |address: &str, name: &str| {
        format!("which is written for TLS: write {{ address = \"{address}\", tls = \"{name}\" }}")
    };
    if let Some(("tls" | "dot" | "xot", _)) = url(text) {
        return Some(table("ADDRESS", "SERVER.NAME"));
    }
    let (address, name) = text.split_once('#')?;
    let host = address.split_once('@').map_or(address, |(host, _)| host);
    let is_tls = host.parse::<IpAddr>().is_ok() && name.parse::<u16>().is_err();
    is_tls.then(|| table(host, name))
}

/// The host name in a certificate.
fn host_name(given: At<String>, findings: &mut Findings) -> Option<String> {
    let At { key, line, value } = given;
    let why = match typed::one(&value) {
        Ok((name, None)) if name.label_count() > 0 && name.is_plain() => {
            return Some(name.to_string());
        }
        Ok(_) => "not the name of a server".to_owned(),
        Err(why) => why.to_string(),
    };
    let shown = quote(&value);
    findings.report(
        line,
        format!("{key} is {shown}, {why}: write the name in the server's certificate, as in \"ns.example\""),
    );
    None
}
