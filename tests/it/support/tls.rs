//! TLS for a test's primary. Its certificate is valid for `primary.test`, and was issued by the authority in
//! `tls/authority.pem`; both were made with openssl, and end in 2126.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned, crypto, version};

fn file(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    folder.join("tests/it/support/tls").join(name)
}

/// The file of the authority's certificate.
pub(crate) fn authority() -> PathBuf {
    file("authority.pem")
}

/// The file of the certificate of `primary.test`.
pub(crate) fn primary() -> PathBuf {
    file("primary.pem")
}

/// The file of its key.
pub(crate) fn key_of_primary() -> PathBuf {
    file("primary.key")
}

/// The file of the certificate of the authority for web servers.
pub(crate) fn web_authority() -> PathBuf {
    file("web-authority.pem")
}

/// What the primary speaks on its TCP port.
#[derive(Clone, Debug)]
pub(crate) enum Security {
    Plain,
    Tls(Arc<ServerConfig>),
}

impl Security {
    /// TLS 1.3 with this protocol's name.
    pub(crate) fn tls(alpn: &[u8]) -> Self {
        Self::tls_by("primary", alpn)
    }

    /// TLS 1.3 that agrees to no protocol.
    pub(crate) fn without_protocol() -> Self {
        let Self::Tls(config) = Self::tls(b"") else {
            panic!("encrypted");
        };
        let mut config = Arc::unwrap_or_clone(config);
        config.alpn_protocols.clear();
        Self::Tls(Arc::new(config))
    }

    /// The same with a certificate that may issue others, as openssl makes one by default.
    pub(crate) fn self_signed() -> Self {
        Self::tls_by("self-signed", b"dot")
    }

    /// A server for `lists.example` whose certificate has expired.
    pub(crate) fn expired(alpn: &[u8]) -> Self {
        Self::tls_with("web-expired", "web", alpn)
    }

    /// A web server for `lists.example`.
    pub(crate) fn web() -> Self {
        Self::tls_with("web", "web", b"http/1.1")
    }

    /// A server with the certificate of a web server, which is also valid for 127.0.0.1, and this protocol's name.
    pub(crate) fn web_with(alpn: &[u8]) -> Self {
        Self::tls_with("web", "web", alpn)
    }

    /// A web server whose certificate has expired.
    pub(crate) fn expired_web() -> Self {
        Self::tls_with("web-expired", "web", b"http/1.1")
    }

    fn tls_by(name: &str, alpn: &[u8]) -> Self {
        Self::tls_with(name, name, alpn)
    }

    fn tls_with(certificate: &str, key: &str, alpn: &[u8]) -> Self {
        let certificate = CertificateDer::from_pem_file(file(&format!("{certificate}.pem")));
        let certificate = certificate.expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(file(&format!("{key}.key"))).expect("a key");
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .expect("TLS 1.3");
        let config = builder
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key);
        let mut config = config.expect("they belong together");
        config.alpn_protocols = vec![alpn.to_vec()];
        Self::Tls(Arc::new(config))
    }

    /// A connection that a client has opened.
    pub(crate) fn accept(&self, stream: TcpStream) -> Box<dyn Stream> {
        match self {
            Self::Plain => Box::new(stream),
            Self::Tls(config) => {
                let connection = ServerConnection::new(Arc::clone(config)).expect("a connection");
                Box::new(Encrypted(StreamOwned::new(connection, stream)))
            }
        }
    }
}

pub(crate) trait Stream: Read + Write {}
impl Stream for TcpStream {}

/// Tells the client that the connection ends, as a server does.
struct Encrypted(StreamOwned<ServerConnection, TcpStream>);

impl Stream for Encrypted {}

impl Read for Encrypted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Encrypted {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Drop for Encrypted {
    fn drop(&mut self) {
        self.0.conn.send_close_notify();
        let _ = self.0.flush();
    }
}
