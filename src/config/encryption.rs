//! How the connections to an upstream server are encrypted: `tls://ADDRESS#NAME`, `ca-file` and `pin`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use data_encoding::BASE64;

use super::address::{ServerAddress, split, url};
use super::findings::{Findings, quote};
use super::reader::At;
use crate::names::typed;

/// The port of DNS over TLS (RFC 7858).
const TLS_PORT: u16 = 853;
/// The maximum number of keys of one server.
const PINS_MAX: usize = 16;

/// How connections to a server are encrypted, and how it proves who it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Encryption {
    /// The host name that the certificate must have, in lower case, without a final dot; `None` means the address.
    pub name: Option<String>,
    /// A file of certificates (PEM) of authorities that may issue the certificate; `None` means those that the system
    /// trusts.
    pub authorities: Option<PathBuf>,
    /// The server's key must be one of these, unless this is empty.
    pub pins: Vec<Pin>,
}

impl Encryption {
    /// Whether the server's key alone proves who it is: neither a name nor authorities are configured.
    pub fn is_by_key_alone(&self) -> bool {
        !self.pins.is_empty() && self.name.is_none() && self.authorities.is_none()
    }
}

/// The SHA-256 of a public key, in the form of a certificate's SubjectPublicKeyInfo (RFC 7858, section 4.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin(pub [u8; 32]);

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({})", BASE64.encode(&self.0))
    }
}

/// Reads `tls://ADDRESS[:PORT][#NAME]`; `None` if the text does not name an encrypted server.
///
/// # Errors
/// The mistake and its correction, as those of [`ServerAddress`].
pub(super) fn parse(text: &str) -> Option<Result<(ServerAddress, Encryption), String>> {
    let Some((scheme, rest)) = url(text) else {
        return of_unbound(text).map(Err);
    };
    match scheme.to_ascii_lowercase().as_str() {
        "tls" => Some(of_tls(rest)),
        "dot" => Some(Err(format!(
            "which is DNS over TLS by another scheme: write \"tls://{rest}\""
        ))),
        _ => None,
    }
}

/// The correction for the notation of Unbound: `ADDRESS[@PORT]#NAME`.
fn of_unbound(text: &str) -> Option<String> {
    let (place, name) = text.split_once('#')?;
    let (host, port) = match place.split_once('@') {
        Some((host, port)) => (host, port.parse::<u16>().ok()?),
        None => (place, TLS_PORT),
    };
    let ip: IpAddr = host.parse().ok()?;
    if name.parse::<u16>().is_ok() || host_name(name).is_err() {
        return None;
    }
    let place = match port {
        TLS_PORT if ip.is_ipv4() => ip.to_string(),
        TLS_PORT => format!("[{ip}]"),
        port => SocketAddr::new(ip, port).to_string(),
    };
    Some(format!(
        "which has a name for DNS over TLS behind its address: write \"tls://{place}#{name}\", or \"{ip}\" for plain DNS"
    ))
}

fn of_tls(rest: &str) -> Result<(ServerAddress, Encryption), String> {
    let (place, name) = match rest.split_once('#') {
        Some((place, name)) => (place, Some(name)),
        None => (rest, None),
    };
    let place = place.strip_suffix('/').unwrap_or(place);
    let name = name.map(host_name).transpose()?;
    let host = split(place).map_or(place, |(host, _)| host);
    let is_address = host
        .split('%')
        .next()
        .is_some_and(|ip| ip.parse::<IpAddr>().is_ok());
    if !is_address && host_name(host).is_ok() {
        return Err(format!(
            "which has a name in place of its address: write the address, and the name behind it, as in \
             \"tls://192.0.2.55#{host}\""
        ));
    }
    Ok((
        ServerAddress::parse(place, TLS_PORT)?,
        Encryption {
            name,
            authorities: None,
            pins: Vec::new(),
        },
    ))
}

/// The host name in a certificate.
fn host_name(text: &str) -> Result<String, String> {
    match typed::one(text) {
        Ok((name, None)) if name.label_count() > 0 && name.is_plain() => Ok(name.to_string()),
        _ => Err(
            "which has no host name behind the #: write the name in the server's certificate, as in \
             \"tls://192.0.2.55#dns.example\""
                .to_owned(),
        ),
    }
}

/// The keys of a server.
pub(super) fn pins(given: At<Vec<At<String>>>, findings: &mut Findings) -> Vec<Pin> {
    let At { key, line, value } = given;
    if value.is_empty() || value.len() > PINS_MAX {
        let message = format!(
            "{key} holds {} keys, must be 1 to {PINS_MAX}: change it or leave it out",
            value.len()
        );
        findings.report(line, message);
    }
    let pin = |given: At<String>| {
        let bytes = BASE64.decode(given.value.as_bytes()).ok();
        let pin = bytes.and_then(|bytes| bytes.try_into().ok()).map(Pin);
        if pin.is_none() {
            let message = format!(
                "{key} holds {}, which is not a SHA-256 in Base64: write the digest of the server's public key, as \
                 `openssl x509 -in FILE -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 \
                 -binary | base64` prints it",
                quote(&given.value)
            );
            findings.report(given.line, message);
        }
        pin
    };
    value.into_iter().filter_map(pin).collect()
}
