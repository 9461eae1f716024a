//! The reasons why a server did not prove who it is, by kind.

use std::io;
use std::sync::Arc;

use tokio_rustls::rustls::{self, CertificateError, OtherError};

use super::explain;

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

/// The kind of an error, and what it means for a server that should be called `name`.
pub(crate) fn describe(error: &io::Error, name: &str) -> (TlsFault, String) {
    let inner = error.get_ref();
    let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(certificate)) = tls else {
        return (TlsFault::Handshake, explain(error));
    };
    match certificate {
        CertificateError::NotValidForName => (
            TlsFault::Name,
            format!("its certificate is not for {name}"),
        ),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let presented = presented.join(", ");
            let but = match presented.is_empty() {
                true => String::new(),
                false => format!(", but for {presented}"),
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
