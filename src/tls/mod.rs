//! TLS to other servers: the authorities that verify them, and the reasons why a connection fails.

pub mod certificate;
pub mod client;
pub mod fault;
mod sessions;

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
    let certificates = match authorities {
        Some(path) => of_file(path)?,
        None => of_system(),
    };
    store(authorities, certificates)
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

/// The certificates of a file in PEM form.
fn of_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = regular::read(path, FILE_MAX).map_err(|error| bad(path, error.to_string()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    certificates.map_err(|error| bad(path, error.to_string()))
}

fn of_system() -> Vec<CertificateDer<'static>> {
    rustls_native_certs::load_native_certs().certs
}

/// The certificates that can be read. Each of a file must be one; one of the system that is broken does not matter.
fn store(
    file: Option<&Path>,
    certificates: Vec<CertificateDer<'static>>,
) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = file else {
        roots.add_parsable_certificates(certificates);
        return match roots.is_empty() {
            true => Err(TlsError::NoRoots),
            false => Ok(roots),
        };
    };
    for certificate in certificates {
        let added = roots.add(certificate);
        added.map_err(|error| bad(path, error.to_string()))?;
    }
    match roots.is_empty() {
        true => Err(bad(path, "it has no certificate".to_owned())),
        false => Ok(roots),
    }
}

fn bad(path: &Path, problem: String) -> TlsError {
    TlsError::File {
        path: path.to_owned(),
        problem,
    }
}
