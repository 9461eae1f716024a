//! How the connections to an upstream server are encrypted: `tls://ADDRESS#NAME`, `https://ADDRESS/PATH#NAME`,
//! `quic://ADDRESS#NAME`, `h3://ADDRESS/PATH#NAME`, `ca-file` and `pin`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use data_encoding::BASE64;

use super::address::{DNS_PORT, Form, ServerAddress, split, url};
use super::findings::{Findings, quote};
use super::reader::At;
use crate::names::typed;

/// The port of DNS over TLS (RFC 7858), and of DNS over QUIC (RFC 9250).
const TLS_PORT: u16 = 853;
/// The port of DNS over HTTPS (RFC 8484).
const HTTPS_PORT: u16 = 443;
/// The path of DNS over HTTPS if the URL has none. It is the one that most servers have.
const HTTPS_PATH: &str = "/dns-query";
/// The maximum number of keys of one server.
const PINS_MAX: usize = 16;

/// The protocol by which an encrypted server is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// DNS over TLS (RFC 7858).
    Tls,
    /// DNS over HTTPS (RFC 8484) by HTTP/2.
    Https {
        /// The path of the URL, with its query if it has one.
        path: String,
    },
    /// DNS over QUIC (RFC 9250).
    Quic,
    /// DNS over HTTPS (RFC 8484) by HTTP/3.
    H3 {
        /// The path of the URL, with its query if it has one.
        path: String,
    },
}

impl Protocol {
    /// The scheme of the server's URL.
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Https { .. } => "https",
            Self::Quic => "quic",
            Self::H3 { .. } => "h3",
        }
    }

    /// The path of the server's URL; empty if the protocol has none.
    pub fn path(&self) -> &str {
        match self {
            Self::Tls | Self::Quic => "",
            Self::Https { path } | Self::H3 { path } => path,
        }
    }

    /// Whether the connections use QUIC, and so UDP.
    pub fn is_over_quic(&self) -> bool {
        matches!(self, Self::Quic | Self::H3 { .. })
    }
}

/// How connections to a server are encrypted, and how it proves who it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Encryption {
    /// The protocol.
    pub protocol: Protocol,
    /// The host name that the certificate must have, in lower case, without a final dot; `None` means the address.
    pub name: Option<String>,
    /// A file of certificates (PEM) of authorities that may issue the certificate; `None` means those that the system
    /// trusts.
    pub authorities: Option<PathBuf>,
    /// The server's key must be one of these, unless this is empty.
    pub pins: Vec<Pin>,
    /// The server in clear that designated this one (RFC 9462): the certificate must have its address, and need not have
    /// `name`. `None` if the server is configured.
    pub designated_by: Option<IpAddr>,
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

/// Reads `tls://ADDRESS[:PORT][#NAME]`, `https://ADDRESS[:PORT][/PATH][#NAME]`, or the same with `quic` or `h3`; `None` if
/// the text does not name an encrypted server.
///
/// # Errors
/// The mistake and its correction, as those of [`ServerAddress`].
pub(super) fn parse(text: &str) -> Option<Result<(ServerAddress, Encryption), String>> {
    let Some((scheme, rest)) = url(text) else {
        return of_unbound(text).map(Err);
    };
    match scheme.to_ascii_lowercase().as_str() {
        "tls" => Some(of_tls(rest, Protocol::Tls)),
        "https" => Some(of_https(rest, |path| Protocol::Https { path })),
        "quic" => Some(of_tls(rest, Protocol::Quic)),
        "h3" => Some(of_https(rest, |path| Protocol::H3 { path })),
        "doq" => Some(Err(format!(
            "which is DNS over QUIC by another scheme: write \"quic://{rest}\""
        ))),
        "dot" => Some(Err(format!(
            "which is DNS over TLS by another scheme: write \"tls://{rest}\""
        ))),
        "http" | "h2" => Some(Err(format!(
            "which is DNS over HTTPS by another scheme: write \"https://{rest}\""
        ))),
        "sdns" => Some(Err(
            "which is a DNS stamp, which is not supported: write the server's protocol and address, as in \
             \"https://192.0.2.55/dns-query#dns.example\" or \"tls://192.0.2.55#dns.example\""
                .to_owned(),
        )),
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

fn of_tls(rest: &str, protocol: Protocol) -> Result<(ServerAddress, Encryption), String> {
    let (place, name) = split_name(rest);
    let scheme = protocol.scheme();
    let (place, path) = place.split_once('/').unwrap_or((place, ""));
    if !path.is_empty() {
        let name = name.map_or_else(String::new, |name| format!("#{name}"));
        return Err(format!(
            "which has a path, and {scheme}:// has none: write \"{scheme}://{place}{name}\""
        ));
    }
    let (address, encryption) = server(place, name, protocol, TLS_PORT)?;
    if address.socket.port() == DNS_PORT {
        // RFC 7858, section 3.1, and RFC 9250, section 4.1.1.
        return Err(format!(
            "which has port {DNS_PORT}, where only plain DNS is permitted: write the port of {scheme}://, which is \
             {TLS_PORT} on most servers"
        ));
    }
    Ok((address, encryption))
}

fn of_https(
    rest: &str,
    protocol: impl FnOnce(String) -> Protocol,
) -> Result<(ServerAddress, Encryption), String> {
    let (url, name) = split_name(rest);
    let (place, path) = match url.find('/') {
        Some(at) => url.split_at(at),
        None => (url, HTTPS_PATH),
    };
    let protocol = protocol(path.to_owned());
    if let Some(bare) = path.strip_suffix("{?dns}") {
        let name = name.map_or_else(String::new, |name| format!("#{name}"));
        let scheme = protocol.scheme();
        return Err(format!(
            "which has the variable {{?dns}}, which queries by POST do not need: write \"{scheme}://{place}{bare}{name}\""
        ));
    }
    if !path.bytes().all(is_of_path) {
        return Err(
            "which has a path with characters that a URL can't have: write them as % and two hexadecimal digits"
                .to_owned(),
        );
    }
    server(place, name, protocol, HTTPS_PORT)
}

/// Splits off the name behind the `#`.
fn split_name(text: &str) -> (&str, Option<&str>) {
    match text.split_once('#') {
        Some((rest, name)) => (rest, Some(name)),
        None => (text, None),
    }
}

/// Whether a path with a query may have this byte (RFC 3986, sections 3.3 and 3.4).
fn is_of_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/?".contains(&byte)
}

fn server(
    place: &str,
    name: Option<&str>,
    protocol: Protocol,
    port: u16,
) -> Result<(ServerAddress, Encryption), String> {
    let (scheme, path) = (protocol.scheme(), protocol.path());
    let in_certificate = name.map(host_name).transpose().map_err(|()| {
        format!(
            "which has no host name behind the #: write the name in the server's certificate, as in \
             \"{scheme}://192.0.2.55{path}#dns.example\""
        )
    })?;
    let host = split(place).map_or(place, |(host, _)| host);
    let is_address = host
        .split('%')
        .next()
        .is_some_and(|ip| ip.parse::<IpAddr>().is_ok());
    if !is_address && host_name(host).is_ok() {
        return Err(format!(
            "which has a name in place of its address: write the address, and the name behind it, as in \
             \"{scheme}://192.0.2.55{path}#{host}\""
        ));
    }
    let form = Form {
        before: format!("{scheme}://"),
        behind: format!(
            "{path}{}",
            name.map_or_else(String::new, |name| format!("#{name}"))
        ),
    };
    Ok((
        ServerAddress::parse(place, port, &form)?,
        Encryption {
            protocol,
            name: in_certificate,
            authorities: None,
            pins: Vec::new(),
            designated_by: None,
        },
    ))
}

/// The host name in a certificate.
fn host_name(text: &str) -> Result<String, ()> {
    match typed::one(text) {
        Ok((name, None)) if name.label_count() > 0 && name.is_plain() => Ok(name.to_string()),
        _ => Err(()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_dns_over_https_has_address_port_path_and_name() {
        let read = |text: &str| {
            let (address, encryption) = parse(text).expect("encrypted").expect("valid");
            let path = encryption.protocol.path().to_owned();
            (address.to_string(), path, encryption.name)
        };
        let name = Some("dns.example".to_owned());
        for (text, address, path, name) in [
            (
                "https://192.0.2.1#dns.example",
                "192.0.2.1:443",
                "/dns-query",
                name.clone(),
            ),
            (
                "HTTPS://192.0.2.1:8443/a/b?c=d#DNS.example.",
                "192.0.2.1:8443",
                "/a/b?c=d",
                name.clone(),
            ),
            ("https://[2001:db8::1]/", "[2001:db8::1]:443", "/", None),
            (
                "https://[2001:db8::1]:444/q#dns.example",
                "[2001:db8::1]:444",
                "/q",
                name,
            ),
        ] {
            assert_eq!(
                read(text),
                (address.to_owned(), path.to_owned(), name),
                "{text}"
            );
        }
        for (text, said) in [
            (
                "https://dns.example/q",
                "\"https://192.0.2.55/q#dns.example\"",
            ),
            ("https://192.0.2.1/q{?dns}", "write \"https://192.0.2.1/q\""),
            (
                "https://192.0.2.1/\u{e4}",
                "characters that a URL can't have",
            ),
            (
                "https://192.0.2.1/q#",
                "\"https://192.0.2.55/q#dns.example\"",
            ),
            ("https://192.0.2.1:0/q", "port 0"),
            ("https://2001:db8::1:853/q", "which may end in a port"),
        ] {
            let error = parse(text).expect("encrypted").expect_err("a mistake");
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn servers_of_quic_and_http3_have_the_ports_of_their_protocols() {
        for (text, scheme, address, path) in [
            ("quic://192.0.2.1#dns.example", "quic", "192.0.2.1:853", ""),
            (
                "quic://[2001:db8::1]:8853/",
                "quic",
                "[2001:db8::1]:8853",
                "",
            ),
            (
                "h3://192.0.2.1#dns.example",
                "h3",
                "192.0.2.1:443",
                "/dns-query",
            ),
            ("h3://192.0.2.1:8443/q", "h3", "192.0.2.1:8443", "/q"),
        ] {
            let (found, encryption) = parse(text).expect("encrypted").expect("valid");
            assert_eq!(found.to_string(), address, "{text}");
            assert_eq!(encryption.protocol.scheme(), scheme);
            assert_eq!(encryption.protocol.path(), path);
            assert!(encryption.protocol.is_over_quic());
        }
        for (text, said) in [
            ("doq://192.0.2.1", "write \"quic://192.0.2.1\""),
            ("quic://dns.example", "\"quic://192.0.2.55#dns.example\""),
            ("h3://192.0.2.1/q{?dns}", "write \"h3://192.0.2.1/q\""),
            (
                "quic://192.0.2.1/dns-query#dns.example",
                "which has a path, and quic:// has none: write \"quic://192.0.2.1#dns.example\"",
            ),
            (
                "tls://127.0.0.9:70000",
                "which has no address, or no valid port: write it as in \"tls://192.0.2.55\" or",
            ),
            ("tls://[::1#x", "write it as in \"tls://192.0.2.55#x\" or"),
            (
                "tls://192.0.2.1:0#x",
                "write \"tls://192.0.2.1#x\" for port 853",
            ),
            (
                "https://[fe80::1]/q#x",
                "as in \"https://fe80::1%eth0/q#x\"",
            ),
            (
                "h3://::ffff:192.0.2.1#x",
                "write \"h3://192.0.2.1:443/dns-query#x\"",
            ),
            ("http://127.0.0.1/", "write \"https://127.0.0.1/\""),
            ("sdns://AQcAAAAA", "\"tls://192.0.2.55#dns.example\""),
            ("quic://192.0.2.1:53", "which has port 53"),
            ("tls://[2001:db8::1]:53#dns.example", "which has port 53"),
        ] {
            let error = parse(text).expect("encrypted").expect_err("a mistake");
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
