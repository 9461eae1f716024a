//! Transfers over TLS (RFC 9103).

use std::path::Path;
use std::time::Duration;

use tapis::control::sources::feeds::fault::Fault;
use tapis::control::sources::feeds::fetch::Fetched;
use tapis::control::sources::feeds::tls::Tls;
use tapis::tls::TlsError;

use super::harness::{Collected, Wanted, fetch};
use super::zone;
use crate::support::primary::{Primary, send};
use crate::support::tls::{Security, authority};

fn encrypted(primary: &Primary, name: &str, sink: &mut Collected) -> Result<Fetched, Fault> {
    let tls = Tls::new(name, Some(&authority())).expect("set up");
    let wanted = Wanted {
        tls: Some(&tls),
        ..Wanted::default()
    };
    let result = fetch(primary.address, wanted, sink);
    result.map_err(|fault| fault.expect("of the primary"))
}

fn primary(alpn: &[u8]) -> Primary {
    Primary::secured(Security::tls(alpn), |asked| send(zone(7).answer(asked)))
}

#[test]
fn a_zone_arrives_over_tls() {
    let mut sink = Collected::default();
    let fetched = encrypted(&primary(b"dot"), "primary.test", &mut sink).expect("transferred");
    assert_eq!((fetched.records, sink.names().len()), (7, 5));
}

#[test]
fn a_primary_with_another_name_protocol_or_no_tls_is_refused() {
    let mut sink = Collected::default();
    let other_name = encrypted(&primary(b"dot"), "other.test", &mut sink);
    assert_eq!(other_name.expect_err("a fault"), Fault::TlsFailed);
    let other_protocol = encrypted(&primary(b"h2"), "primary.test", &mut sink);
    assert_eq!(other_protocol.expect_err("a fault"), Fault::TlsFailed);
    // It takes the start of the handshake for the length of a query, and waits for the rest.
    let plain = Primary::serving(zone(7));
    let tls = Tls::new("primary.test", Some(&authority())).expect("set up");
    let mut wanted = Wanted {
        tls: Some(&tls),
        ..Wanted::default()
    };
    wanted.limits.idle = Duration::from_millis(300);
    let plain = fetch(plain.address, wanted, &mut sink);
    assert_eq!(plain.expect_err("a fault"), Some(Fault::TlsFailed));
    assert!(sink.begun.is_empty());
}

#[test]
fn certificates_of_unknown_authorities_are_refused() {
    // The authorities of this system have not issued it; if there are none, TLS can't be set up at all.
    let Ok(tls) = Tls::new("primary.test", None) else {
        return;
    };
    let wanted = Wanted {
        tls: Some(&tls),
        ..Wanted::default()
    };
    let result = fetch(primary(b"dot").address, wanted, &mut Collected::default());
    assert_eq!(result.expect_err("a fault"), Some(Fault::TlsFailed));
}

#[test]
fn names_and_files_that_can_not_be_used_are_reported() {
    let error = |name: &str, file: &Path| Tls::new(name, Some(file)).expect_err("an error");
    assert!(matches!(error("a b", &authority()), TlsError::Name(_)));
    let missing = error("primary.test", Path::new("/nonexistent")).to_string();
    assert!(
        missing.starts_with("/nonexistent: the certificates can't be read"),
        "{missing}"
    );
    let key = authority().with_file_name("primary.key");
    let none = error("primary.test", &key).to_string();
    assert!(none.contains("it has no certificate"), "{none}");
}
