//! The authorities that servers are verified with over TLS, and the reasons why a connection fails.

use std::io;
use std::path::{Path, PathBuf};

use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{self, CertificateError, RootCertStore};

use crate::config::regular;
use crate::config::shown::Show;

/// Bytes that are read of a file of certificates.
const FILE_MAX: u64 = 4 << 20;

/// Why TLS can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The name is neither a host name nor an address.
    #[error(
        "{0:?} is not the name of a TLS server: use a host name, as it is in the certificate of the server"
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
    /// There is no certificate to compare the server's with.
    #[error(
        "this system has no certificates of authorities: install them (ca-certificates), or name a file of them"
    )]
    NoRoots,
    /// The TLS library refuses the settings.
    #[error("TLS can't be set up: {0}")]
    Library(String),
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
pub(crate) fn explain(error: &io::Error) -> String {
    let inner = error.get_ref();
    let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        // `rustls` has no variant for this error of `webpki`.
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(other)))
            if other.to_string() == "CaUsedAsEndEntity" =>
        {
            "the server's certificate is that of an authority, such as a self-signed one: the server needs a separate \
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
