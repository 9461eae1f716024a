//! TLS sessions with an upstream server, which are resumed only while its certificate counts as verified.
//!
//! A handshake that resumes a session verifies no certificate, and brings the tickets for the next one. Without a limit, a
//! server could be used long after its certificate has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use tokio_rustls::rustls::NamedGroup;
use tokio_rustls::rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use tokio_rustls::rustls::pki_types::ServerName;

use super::certificate::CertificateEnd;

/// Seconds for which a verification counts.
const VERIFIED_FOR: i64 = 24 * 60 * 60;
/// Sessions that are kept: those of one server.
const SESSIONS: usize = 8;

/// When a certificate was verified last, and until when it is valid.
#[derive(Debug)]
pub(super) struct Proof {
    /// In seconds since 1970.
    verified: AtomicI64,
    /// The end of that certificate, if an authority verifies it.
    pub(super) end: CertificateEnd,
}

impl Default for Proof {
    fn default() -> Self {
        Self {
            verified: AtomicI64::new(i64::MIN),
            end: CertificateEnd::default(),
        }
    }
}

impl Proof {
    /// Records that a certificate was verified.
    pub(super) fn renew(&self, now: Timestamp) {
        self.verified.store(now.as_second(), Ordering::Relaxed);
    }

    /// Whether a session may be resumed without another verification. A clock that was set back does not prolong that.
    fn counts(&self, now: Timestamp) -> bool {
        let since = now
            .as_second()
            .saturating_sub(self.verified.load(Ordering::Relaxed));
        (0..VERIFIED_FOR).contains(&since) && self.end.get().is_none_or(|end| now <= end)
    }
}

/// The sessions with one server.
#[derive(Debug)]
pub(super) struct Sessions {
    kept: ClientSessionMemoryCache,
    proof: Arc<Proof>,
}

impl Sessions {
    pub(super) fn new(proof: Arc<Proof>) -> Self {
        Self {
            kept: ClientSessionMemoryCache::new(SESSIONS),
            proof,
        }
    }

    /// Forgets all sessions with a server if its certificate must be verified.
    fn expire(&self, server: &ServerName<'static>) {
        if !self.proof.counts(Timestamp::now()) {
            self.kept.remove_tls12_session(server);
            while self.kept.take_tls13_ticket(server).is_some() {}
        }
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.kept.set_kx_hint(server, group);
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept.kx_hint(server)
    }

    fn set_tls12_session(&self, server: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.kept.set_tls12_session(server, session);
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.expire(&server.to_owned());
        self.kept.tls12_session(server)
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        self.kept.remove_tls12_session(server);
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.kept.insert_tls13_ticket(server, ticket);
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.expire(server);
        self.kept.take_tls13_ticket(server)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::path::Path;

    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio_rustls::rustls::{
        ClientConnection, HandshakeKind, ServerConfig, ServerConnection, SupportedProtocolVersion,
        crypto, version,
    };

    use super::*;
    use crate::config::encryption::{Encryption, Protocol};
    use crate::tls::client::{Authorities, TlsClient};

    fn file(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/it/support/tls")
            .join(name)
    }

    fn server(version: &'static SupportedProtocolVersion) -> Arc<ServerConfig> {
        let chain = CertificateDer::pem_file_iter(file("primary.pem")).expect("read");
        let chain = chain.map(|certificate| certificate.expect("a certificate"));
        let key = PrivateKeyDer::from_pem_file(file("primary.key")).expect("a key");
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(&[version]).expect("known");
        let config = builder
            .with_no_client_auth()
            .with_single_cert(chain.collect(), key);
        Arc::new(config.expect("a server"))
    }

    fn client() -> TlsClient {
        let settings = Encryption {
            protocol: Protocol::Tls,
            name: Some("primary.test".to_owned()),
            authorities: Some(file("authority.pem")),
            pins: Vec::new(),
            designated_by: None,
        };
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        TlsClient::new(&settings, address, &mut Authorities::default()).expect("TLS")
    }

    /// A handshake in memory, and the tickets after it.
    fn handshake(client: &TlsClient, server: &Arc<ServerConfig>) -> Option<HandshakeKind> {
        let mut client =
            ClientConnection::new(client.config(), client.name().clone()).expect("a client");
        let mut server = ServerConnection::new(Arc::clone(server)).expect("a server");
        while client.wants_write() || server.wants_write() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).expect("written");
            }
            server.read_tls(&mut bytes.as_slice()).expect("read");
            server.process_new_packets().expect("understood");
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).expect("written");
            }
            client.read_tls(&mut bytes.as_slice()).expect("read");
            client.process_new_packets().expect("understood");
        }
        client.handshake_kind()
    }

    #[test]
    fn a_session_is_resumed_only_for_a_day_after_the_certificate_was_verified() {
        for version in [&version::TLS13, &version::TLS12] {
            let (client, server) = (client(), server(version));
            let kinds = [0; 3].map(|_| handshake(&client, &server));
            let [full, resumed] = [HandshakeKind::Full, HandshakeKind::Resumed].map(Some);
            assert_eq!(kinds, [full, resumed, resumed]);
            let now = Timestamp::now().as_second();
            let proof = client.proof();
            proof
                .verified
                .store(now - VERIFIED_FOR - 1, Ordering::Relaxed);
            let kinds = [0; 2].map(|_| handshake(&client, &server));
            assert_eq!(kinds, [full, resumed], "after a day");
            proof.verified.store(now + 1000, Ordering::Relaxed);
            assert_eq!(handshake(&client, &server), full, "the clock was set back");
        }
    }

    #[test]
    fn a_verification_counts_until_the_certificate_ends() {
        let client = client();
        let proof = client.proof();
        let now = Timestamp::now();
        assert!(!proof.counts(now), "before the first one");
        assert!(handshake(&client, &server(&version::TLS13)).is_some());
        let end = client.certificate_end().expect("an end");
        for (at, expected) in [(-1, true), (0, true), (1, false)] {
            let at = Timestamp::from_second(end.as_second() + at).expect("a time");
            proof.renew(at);
            assert_eq!(proof.counts(at), expected, "{at}");
        }
    }
}
