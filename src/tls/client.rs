//! How connections to an upstream server are encrypted, and how that server proves who it is.
//!
//! A server is verified by its name or address in a certificate that a known authority has issued, or by its key
//! (RFC 7858, section 4.2), or by both. TLS sessions are resumed for a day, as long as the settings stay the same.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use data_encoding::BASE64;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::{self, WebPkiSupportedAlgorithms};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    version,
};

use super::fault::OtherKey;
use super::sessions::{Proof, Sessions};
use super::{TlsError, of_file, of_system, store};
use crate::config::encryption::{Encryption, Pin, Protocol};

/// The protocol's name in the handshake (RFC 7301).
fn alpn(protocol: &Protocol) -> &'static [u8] {
    match protocol {
        Protocol::Tls => b"dot",
        Protocol::Https { .. } => b"h2",
        Protocol::Quic => b"doq",
        Protocol::H3 { .. } => b"h3",
    }
}

/// The encryption of connections to one server. Two are equal if their settings and the certificates of the authorities
/// are.
#[derive(Clone, Debug)]
pub struct TlsClient {
    settings: Encryption,
    /// A digest of the certificates of the authorities: a file may change while its path stays.
    authorities: [u8; 32],
    name: ServerName<'static>,
    /// The name or address that the certificate must have.
    subject: ServerName<'static>,
    config: Arc<ClientConfig>,
    verifier: Arc<Verifier>,
}

impl PartialEq for TlsClient {
    fn eq(&self, other: &Self) -> bool {
        (&self.settings, self.authorities, &self.name)
            == (&other.settings, other.authorities, &other.name)
    }
}

impl Eq for TlsClient {}

impl Hash for TlsClient {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.settings, self.authorities).hash(state);
    }
}

/// Reads the certificates of authorities, each file once.
#[derive(Debug, Default)]
pub struct Authorities {
    known: Vec<(Option<PathBuf>, Arc<RootCertStore>, [u8; 32])>,
}

impl Authorities {
    fn of(&mut self, file: Option<&Path>) -> Result<(Arc<RootCertStore>, [u8; 32]), TlsError> {
        let known = self.known.iter().find(|(of, ..)| of.as_deref() == file);
        if let Some((_, roots, digest)) = known {
            return Ok((Arc::clone(roots), *digest));
        }
        let certificates = match file {
            Some(path) => of_file(path)?,
            None => of_system(),
        };
        let mut digest = Sha256::new();
        for certificate in &certificates {
            digest.update(certificate);
        }
        let digest = digest.finalize().into();
        let roots = Arc::new(store(file, certificates)?);
        self.known
            .push((file.map(Path::to_owned), Arc::clone(&roots), digest));
        Ok((roots, digest))
    }
}

impl TlsClient {
    /// Sets up TLS to a server at `address`. Reads the certificates of the authorities, so it may block.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(
        settings: &Encryption,
        address: IpAddr,
        authorities: &mut Authorities,
    ) -> Result<Self, TlsError> {
        let name = match &settings.name {
            Some(name) => {
                ServerName::try_from(name.clone()).map_err(|_| TlsError::Name(name.clone()))?
            }
            None => ServerName::from(address),
        };
        let subject = match settings.designated_by {
            Some(address) => ServerName::from(address),
            None => name.clone(),
        };
        let library = |error: &dyn std::fmt::Display| TlsError::Library(error.to_string());
        let provider = Arc::new(crypto::ring::default_provider());
        let mut digest = [0; 32];
        // A key alone identifies the server, whoever issued its certificate.
        let by_authority = match settings.is_by_key_alone() {
            true => None,
            false => {
                let (roots, of_roots) = authorities.of(settings.authorities.as_deref())?;
                digest = of_roots;
                let verifier =
                    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
                Some(verifier.build().map_err(|error| library(&error))?)
            }
        };
        let proof = Arc::<Proof>::default();
        let verifier = Arc::new(Verifier {
            by_authority,
            subject: subject.clone(),
            proof: Arc::clone(&proof),
            pins: settings.pins.clone(),
            algorithms: provider.signature_verification_algorithms,
            refusal: Mutex::default(),
        });
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = match settings.protocol.is_over_quic() {
            // RFC 9001, section 4.2.
            true => builder.with_protocol_versions(&[&version::TLS13]),
            // TLS 1.2 and 1.3 (RFC 8310, section 9).
            false => builder.with_safe_default_protocol_versions(),
        };
        let builder = builder.map_err(|error| library(&error))?.dangerous();
        let builder = builder.with_custom_certificate_verifier(Arc::clone(&verifier) as _);
        let mut config = builder.with_no_client_auth();
        config.resumption = Resumption::store(Arc::new(Sessions::new(proof)));
        config.alpn_protocols = vec![alpn(&settings.protocol).to_vec()];
        Ok(Self {
            settings: settings.clone(),
            authorities: digest,
            name,
            subject,
            config: Arc::new(config),
            verifier,
        })
    }

    /// The settings that it was made of.
    pub fn settings(&self) -> &Encryption {
        &self.settings
    }

    /// The protocol over the connections.
    pub fn protocol(&self) -> &Protocol {
        &self.settings.protocol
    }

    /// The name or address that the connection is opened to.
    pub(crate) fn name(&self) -> &ServerName<'static> {
        &self.name
    }

    /// The name or address that the certificate must have. It differs from the name if another server designated this one.
    pub(crate) fn subject(&self) -> &ServerName<'static> {
        &self.subject
    }

    /// Whether a server has agreed to the protocol. Servers of DNS over TLS need not do so, but those of HTTP/2 must.
    pub(crate) fn is_spoken_by(&self, connection: &ClientConnection) -> bool {
        match self.protocol() {
            Protocol::Tls => true,
            other => connection.alpn_protocol() == Some(alpn(other)),
        }
    }

    /// For QUIC, which does the handshake itself.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// Why the server's certificate was refused last, since this was called the last time.
    pub(crate) fn last_refusal(&self) -> Option<Error> {
        self.verifier.refusal().take()
    }

    /// When the server's certificate ends. `None` before the first handshake, and if the server is known by its key alone:
    /// then the end does not count.
    pub(crate) fn certificate_end(&self) -> Option<Timestamp> {
        self.proof().end.get()
    }

    /// How its certificate was verified last.
    pub(super) fn proof(&self) -> &Proof {
        &self.verifier.proof
    }

    pub(crate) fn connector(&self) -> TlsConnector {
        Arc::clone(&self.config).into()
    }
}

/// Verifies a server's certificate by authorities, by the server's own key, or by both.
#[derive(Debug)]
struct Verifier {
    by_authority: Option<Arc<WebPkiServerVerifier>>,
    /// The name or address that the certificate must have, which may differ from the name that the server is asked for.
    subject: ServerName<'static>,
    /// Of the certificate that was accepted last.
    proof: Arc<Proof>,
    pins: Vec<Pin>,
    algorithms: WebPkiSupportedAlgorithms,
    /// Why the last certificate was refused.
    refusal: Mutex<Option<Error>>,
}

impl Verifier {
    fn refusal(&self) -> MutexGuard<'_, Option<Error>> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(verifier) = &self.by_authority {
            let (issuers, name) = (intermediates, &self.subject);
            verifier.verify_server_cert(end_entity, issuers, name, ocsp_response, now)?;
        }
        // Only the server's own key counts: a key of an authority among the certificates that it sends proves nothing.
        let key = ParsedCertificate::try_from(end_entity)?.subject_public_key_info();
        let digest: [u8; 32] = Sha256::digest(&key).into();
        if !self.pins.is_empty() && !self.pins.contains(&Pin(digest)) {
            return Err(OtherKey(BASE64.encode(&digest)).into());
        }
        if self.by_authority.is_some() {
            self.proof.end.accepted(end_entity);
        }
        self.proof.renew(Timestamp::now());
        Ok(ServerCertVerified::assertion())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.verify(end_entity, intermediates, ocsp_response, now);
        *self.refusal() = verified.as_ref().err().cloned();
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
