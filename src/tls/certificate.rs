//! The time at which the certificate of a server ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use tokio_rustls::rustls::pki_types::CertificateDer;

/// The value of [`CertificateEnd`] while no end is known.
const UNKNOWN: i64 = i64::MIN;

/// Tags of DER: the version of a certificate (RFC 5280, section 4.1), and the two forms of a time (section 4.1.2.5).
const VERSION: u8 = 0xA0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// When the certificate ends that a server has presented last, of those that were accepted. All connections with the same
/// settings share it.
#[derive(Clone, Debug)]
pub struct CertificateEnd(Arc<AtomicI64>);

impl Default for CertificateEnd {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(UNKNOWN)))
    }
}

impl CertificateEnd {
    /// Records the end of a certificate that was accepted.
    pub(crate) fn accepted(&self, certificate: &CertificateDer<'_>) {
        let end = not_after(certificate).map_or(UNKNOWN, Timestamp::as_second);
        self.0.store(end, Ordering::Relaxed);
    }

    /// The end; `None` before the first certificate, and if the last one has no end that can be read.
    pub(crate) fn get(&self) -> Option<Timestamp> {
        match self.0.load(Ordering::Relaxed) {
            UNKNOWN => None,
            end => Timestamp::from_second(end).ok(),
        }
    }
}

/// The field `notAfter` of a certificate in DER; `None` if it can't be read. The year 9999, which stands for a certificate
/// without an end, has none.
fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut fields, _) = element(certificate)?;
    // Certificates of the first version do not have this field.
    if let (VERSION, _, rest) = element(fields)? {
        fields = rest;
    }
    // The serial number, the algorithm of the signature, the issuer.
    for _ in 0..3 {
        (_, _, fields) = element(fields)?;
    }
    let (_, validity, _) = element(fields)?;
    let (_, _, rest) = element(validity)?;
    let (tag, text, _) = element(rest)?;
    time(tag, std::str::from_utf8(text).ok()?.strip_suffix('Z')?)
}

/// A time without its last letter, `YYMMDDHHMMSS` or `YYYYMMDDHHMMSS`.
fn time(tag: u8, text: &str) -> Option<Timestamp> {
    let mut rest = text;
    let mut number = |digits: usize| {
        let (number, after) = rest.split_at_checked(digits)?;
        rest = after;
        let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
        number.parse::<i16>().ok().filter(|_| is_number)
    };
    let year = match tag {
        UTC_TIME => match number(2)? {
            year @ ..50 => 2000 + year,
            year => 1900 + year,
        },
        GENERALIZED_TIME => number(4)?,
        _ => return None,
    };
    let mut part = || i8::try_from(number(2)?).ok();
    let [month, day, hour, minute, second] = [part()?, part()?, part()?, part()?, part()?];
    let is_complete = rest.is_empty();
    let at = DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
    let at = TimeZone::UTC.to_timestamp(at).ok()?;
    (is_complete && year < 9999).then_some(at)
}

/// The first element of DER (X.690): its tag, its content, and the bytes behind it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7F => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
            let length = length.iter();
            let length = length.fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
            (usize::try_from(length).ok()?, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use tokio_rustls::rustls::pki_types::pem::PemObject;

    use super::*;

    fn certificate(name: &str) -> CertificateDer<'static> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/tls/");
        CertificateDer::from_pem_file(format!("{folder}{name}.pem")).expect("a certificate")
    }

    #[test]
    fn the_end_of_a_certificate_is_read_from_both_forms_of_time() {
        for (name, end) in [
            ("primary", "2126-11-03T23:44:44Z"),
            ("web-expired", "2020-02-01T00:00:00Z"),
        ] {
            let end: Timestamp = end.parse().expect("a time");
            assert_eq!(not_after(&certificate(name)), Some(end), "{name}");
        }
        let known = CertificateEnd::default();
        assert_eq!(known.get(), None);
        known.clone().accepted(&certificate("primary"));
        assert!(known.get().is_some(), "clones share it");
    }

    #[test]
    fn times_that_are_none_are_not_read() {
        let at = |tag, text| time(tag, text).map(|at| at.to_string());
        assert_eq!(
            at(UTC_TIME, "491231235959").as_deref(),
            Some("2049-12-31T23:59:59Z")
        );
        assert_eq!(
            at(UTC_TIME, "500101000000").as_deref(),
            Some("1950-01-01T00:00:00Z")
        );
        for text in [
            "",
            "4912312359",
            "49123123595",
            "4912312359590",
            "+91231235959",
            "491331235959",
        ] {
            assert_eq!(at(UTC_TIME, text), None, "{text}");
        }
        assert_eq!(at(GENERALIZED_TIME, "99991231235959"), None, "no end");
        assert_eq!(at(4, "20491231235959"), None);
    }

    #[test]
    fn a_certificate_that_is_cut_has_no_end_or_the_same() {
        let bytes = certificate("primary");
        let end = not_after(&bytes);
        for length in 0..bytes.len() {
            assert!(not_after(&bytes[..length]).is_none_or(|cut| Some(cut) == end));
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 0xFF;
            // Any result will do: it must not panic.
            let _ = not_after(&changed);
        }
    }
}
