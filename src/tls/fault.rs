//! The reasons why a server did not prove who it is, by kind.

use std::io;
use std::sync::Arc;

use tokio_rustls::rustls::{self, AlertDescription, CertificateError, OtherError};

use super::explain;
use crate::config::encryption::Protocol;
use crate::config::shown::Shown;

/// The most names of a certificate that are shown.
const MOST_NAMES: usize = 3;
/// The longest name of DNS as text, without escapes.
const NAME_CHARS: usize = 253;

/// A kind of failure to establish a connection over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsFault {
    /// The certificate is not for the server's name or address.
    Name,
    /// No known authority has issued the certificate.
    Authority,
    /// The certificate's dates exclude the present.
    Dates,
    /// The certificate's key is none of the configured ones.
    Pin,
    /// It does not speak the protocol that is asked for.
    Protocol,
    /// The certificate can't be used for another reason.
    Certificate,
    /// The handshake failed.
    Handshake,
}

/// The key in the server's certificate is none of the configured ones.
#[derive(Debug, thiserror::Error)]
#[error("the SHA-256 of its key is {0}")]
pub(super) struct OtherKey(pub(super) String);

impl From<OtherKey> for rustls::Error {
    fn from(key: OtherKey) -> Self {
        let other = CertificateError::Other(OtherError(Arc::new(key)));
        Self::InvalidCertificate(other)
    }
}

/// What is wrong with a server that does not speak the protocol.
pub(crate) fn other_protocol(protocol: &Protocol) -> &'static str {
    match protocol {
        Protocol::Tls => "it does not offer DNS over TLS at this port",
        Protocol::Https { .. } => {
            "it does not offer HTTP/2 at this port, and DNS over HTTPS is asked by HTTP/2 only"
        }
        Protocol::Quic => "it does not offer DNS over QUIC at this port",
        Protocol::H3 { .. } => "it does not offer HTTP/3 at this port",
    }
}

/// The kind of an error, and what it means for a server that should be called `name` and speak `protocol`.
pub(crate) fn describe(error: &io::Error, name: &str, protocol: &Protocol) -> (TlsFault, String) {
    let inner = error.get_ref();
    let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) = tls {
        return (TlsFault::Protocol, other_protocol(protocol).to_owned());
    }
    let Some(rustls::Error::InvalidCertificate(certificate)) = tls else {
        return (TlsFault::Handshake, explain(error));
    };
    match certificate {
        CertificateError::NotValidForName => (
            TlsFault::Name,
            format!("its certificate is not for {name}"),
        ),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let but = match names_of(presented) {
                None => String::new(),
                Some(names) => format!(", but for {names}"),
            };
            (
                TlsFault::Name,
                format!("its certificate is not for {name}{but}"),
            )
        }
        CertificateError::UnknownIssuer => (
            TlsFault::Authority,
            "its certificate was issued by an unknown authority: name that authority's certificate by `ca-file`".to_owned(),
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
            TlsFault::Dates,
            "its certificate has expired".to_owned(),
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
            TlsFault::Dates,
            "its certificate is not valid yet: is this machine's clock right?".to_owned(),
        ),
        CertificateError::Other(OtherError(other)) if other.is::<OtherKey>() => (
            TlsFault::Pin,
            format!("its key is none of `pin`: {other}"),
        ),
        _ => (TlsFault::Certificate, explain(error)),
    }
}

/// The first host names and addresses of a certificate, which the library gives as `DnsName("a.example")` and
/// `IpAddress(192.0.2.1)`; `None` if it has none.
fn names_of(presented: &[String]) -> Option<String> {
    let mut names = presented.iter().filter_map(|name| {
        let host = name
            .strip_prefix("DnsName(\"")
            .and_then(|name| name.strip_suffix("\")"));
        let address = || {
            name.strip_prefix("IpAddress(")
                .and_then(|name| name.strip_suffix(')'))
        };
        let name: String = host.or_else(address)?.chars().take(NAME_CHARS).collect();
        Some(Shown::new(name).to_string())
    });
    let shown: Vec<_> = names.by_ref().take(MOST_NAMES).collect();
    let more = match names.count() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    (!shown.is_empty()).then(|| shown.join(", ") + &more)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(presented: &[&str]) -> String {
        let certificate = CertificateError::NotValidForNameContext {
            expected: "dns.example".try_into().expect("a name"),
            presented: presented.iter().map(ToString::to_string).collect(),
        };
        let error = io::Error::other(rustls::Error::InvalidCertificate(certificate));
        describe(&error, "dns.example", &Protocol::Tls).1
    }

    #[test]
    fn the_first_names_of_another_certificate_are_shown_plainly() {
        let dns = |name: &str| format!("DnsName(\"{name}\")");
        let (first, forged) = (dns("a.example"), dns("b\n\u{1b}[2J"));
        let presented = [&*first, "IpAddress(192.0.2.1)", "DirectoryName", &*forged];
        assert_eq!(
            described(&presented),
            "its certificate is not for dns.example, but for a.example, 192.0.2.1, b\\n\\u001b[2J"
        );
        let many: Vec<_> = (0..100).map(|n| dns(&format!("{n}.example"))).collect();
        let many: Vec<_> = many.iter().map(|name| &**name).collect();
        let text = described(&many);
        assert!(
            text.ends_with("0.example, 1.example, 2.example and 97 more"),
            "{text}"
        );
        assert!(described(&[&*dns(&"x".repeat(9_000))]).len() < 350);
        assert_eq!(
            described(&["DirectoryName"]),
            "its certificate is not for dns.example"
        );
    }
}
