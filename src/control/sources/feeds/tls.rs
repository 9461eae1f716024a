//! Zone transfer over TLS (RFC 9103): the primary proves its name with a certificate.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, RootCertStore, crypto, version};

use crate::config::regular;
use crate::config::shown::Show;

/// The port of zone transfers over TLS (RFC 9103, section 7.2).
pub const PORT: u16 = 853;

/// The protocol's name in the handshake (RFC 9103, section 7.1).
const ALPN: &[u8] = b"dot";
/// Bytes that are read of a file of certificates.
const FILE_MAX: u64 = 4 << 20;

/// How connections to a primary are encrypted, and by which name it is known.
#[derive(Clone)]
pub struct Tls {
    pub(super) name: ServerName<'static>,
    pub(super) connector: TlsConnector,
}

/// Why TLS can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The name is neither a host name nor an address.
    #[error(
        "{0:?} is not the name of a TLS server: use a host name, as it is in the certificate of the primary"
    )]
    Name(String),
    /// The file of certificates can't be read.
    #[error("{path}: the certificates can't be read: {problem}; the file has certificates in PEM form", path = .path.shown())]
    File {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// There is no certificate to compare the primary's with.
    #[error(
        "this system has no certificates of authorities: install them (ca-certificates), or name a file of them"
    )]
    NoRoots,
    /// The TLS library refuses the settings.
    #[error("TLS can't be set up: {0}")]
    Library(String),
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
        })
    }
}

/// The authorities whose certificates are in this file, or those that the system trusts; at least one.
///
/// # Errors
/// [`TlsError`].
pub(crate) fn roots(authorities: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let roots = match authorities {
        Some(path) => of_file(path)?,
        None => of_system(),
    };
    match roots.is_empty() {
        true => Err(TlsError::NoRoots),
        false => Ok(roots),
    }
}

/// Why a connection over TLS was not established.
pub(super) fn explain(error: &io::Error) -> String {
    let inner = error.get_ref();
    let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        // `rustls` has no variant for this error of `webpki`.
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(other)))
            if other.to_string() == "CaUsedAsEndEntity" =>
        {
            "the primary's certificate is that of an authority, such as a self-signed one: the primary needs a separate \
             certificate, which this authority may issue"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

fn of_file(path: &Path) -> Result<RootCertStore, TlsError> {
    let bad = |problem: String| TlsError::File {
        path: path.to_owned(),
        problem,
    };
    let bytes = regular::read(path, FILE_MAX).map_err(|error| bad(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        let added = roots.add(certificate);
        added.map_err(|error| bad(error.to_string()))?;
    }
    match roots.is_empty() {
        true => Err(bad("it has no certificate".to_owned())),
        false => Ok(roots),
    }
}

/// Those that can be read: one that is broken does not matter.
fn of_system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Without the certificates.
impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tls({})", self.name.to_str())
    }
}
