//! Zone transfer over TLS (RFC 9103): the primary proves its name with a certificate.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, crypto, version};

use crate::tls::certificate::CertificateEnd;
use crate::tls::{TlsError, roots};

/// The port of zone transfers over TLS (RFC 9103, section 7.2).
pub const PORT: u16 = 853;

/// The protocol's name in the handshake (RFC 9103, section 7.1).
const ALPN: &[u8] = b"dot";

/// How connections to a primary are encrypted, and by which name it is known.
#[derive(Clone)]
pub struct Tls {
    pub(super) name: ServerName<'static>,
    pub(super) connector: TlsConnector,
    /// Of the primary's certificate.
    pub(super) end: CertificateEnd,
}

impl Tls {
    /// Sets up TLS 1.3. A primary's certificate must be valid for `name`, and be issued by an authority in the file
    /// `authorities`, or by one that this system trusts.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(name: &str, authorities: Option<&Path>) -> Result<Self, TlsError> {
        let server = ServerName::try_from(name.trim_end_matches('.').to_owned());
        let server = server.map_err(|_| TlsError::Name(name.to_owned()))?;
        let roots = roots(authorities)?;
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        // Older versions are not permitted (RFC 9103, section 7.1).
        let builder = builder.with_protocol_versions(&[&version::TLS13]);
        let builder = builder.map_err(|error| TlsError::Library(error.to_string()))?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self {
            name: server,
            connector: Arc::new(config).into(),
            end: CertificateEnd::default(),
        })
    }
}

/// Without the certificates.
impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tls({})", self.name.to_str())
    }
}
