//! TSIG (RFC 8945): signs the queries of a secondary, and checks what its primary sends.
//!
//! The codes and the sequence of messages are those of the crate `domain`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use domain::base::iana::TsigRcode;
use domain::base::message_builder::AdditionalBuilder;
use domain::base::{Message, MessageBuilder, ToName, UnknownRecordData};
use domain::rdata::Tsig;
use domain::rdata::tsig::Time48;
use domain::tsig::{self, ClientSequence, KeyName, ServerTransaction, ValidationError};

use crate::wire::name::Name;
use crate::wire::read_u16;

/// The time of signatures in seconds since 1970, by the clock of this system.
pub type Seconds = u64;

/// The response code NOTAUTH, and the error BADTIME in a TSIG record (RFC 8945, section 3).
const NOTAUTH: u16 = 9;
const BADTIME: u16 = 18;
/// The position of ARCOUNT in a message.
const ADDITIONAL_COUNT: usize = 10;

/// A TSIG algorithm (RFC 8945, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `hmac-sha1`, for primaries that have nothing better.
    Sha1,
    /// `hmac-sha256`.
    Sha256,
    /// `hmac-sha384`.
    Sha384,
    /// `hmac-sha512`.
    Sha512,
}

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The name as in the configurations of other servers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "hmac-sha1",
            Self::Sha256 => "hmac-sha256",
            Self::Sha384 => "hmac-sha384",
            Self::Sha512 => "hmac-sha512",
        }
    }

    fn code(self) -> tsig::Algorithm {
        match self {
            Self::Sha1 => tsig::Algorithm::Sha1,
            Self::Sha256 => tsig::Algorithm::Sha256,
            Self::Sha384 => tsig::Algorithm::Sha384,
            Self::Sha512 => tsig::Algorithm::Sha512,
        }
    }
}

/// The text is not the name of an algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an algorithm: use hmac-sha256, hmac-sha384, hmac-sha512 or hmac-sha1")]
pub struct UnknownAlgorithm;

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        let is_it = |known: &Self| known.name().eq_ignore_ascii_case(text);
        Self::ALL.into_iter().find(is_it).ok_or(UnknownAlgorithm)
    }
}

/// A key that a primary and its secondary share.
#[derive(Clone)]
pub struct Key(Arc<tsig::Key>);

impl Key {
    /// A key with the name by which the primary knows it. `None` if the name is too long for a key's name.
    pub fn new(name: &Name, algorithm: Algorithm, secret: &[u8]) -> Option<Self> {
        let octets = name.wire();
        let name = domain::base::Name::from_octets(octets).ok()?;
        let name: KeyName = name.try_to_name().ok()?;
        let key = tsig::Key::new(algorithm.code(), secret, name, None, None);
        Some(Self(Arc::new(key.ok()?)))
    }
}

/// Without the secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithm = self.0.algorithm();
        write!(f, "Key({} {algorithm})", self.0.name())
    }
}

/// Why a message is not authentic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TsigError {
    /// The signature is wrong, or its key or algorithm is not ours.
    #[error("a message is signed with another key, another algorithm or a wrong signature")]
    Wrong,
    /// The first message or the last one is not signed, or too many between them are not.
    #[error("a message is not signed where a signature is required")]
    Unsigned,
    /// The primary does not accept our key or our signature.
    #[error("the primary does not accept the key")]
    Rejected,
    /// The signature is too old or too new: the clocks of primary and secondary differ too much.
    #[error("the time of a signature differs too much from the clock of this system")]
    Late,
    /// The records of the message can't be read.
    #[error("a signed message is malformed")]
    Malformed,
}

/// One signed query, and the messages that answer it.
#[derive(Debug)]
pub struct Session(ClientSequence<Arc<tsig::Key>>);

impl Session {
    /// Signs a query of [`Query`](super::query::Query). `None` if it can't be read.
    pub fn sign(key: &Key, query: &[u8], now: Seconds) -> Option<(Self, Vec<u8>)> {
        let query = Message::from_octets(query).ok()?;
        let mut builder = MessageBuilder::from_target(Vec::with_capacity(512)).ok()?;
        *builder.header_mut() = query.header();
        let mut builder = builder.question();
        for question in query.question() {
            builder.push(question.ok()?).ok()?;
        }
        let mut builder = builder.authority();
        for record in query.authority().ok()? {
            let record = record.ok()?.into_record::<UnknownRecordData<_>>().ok()?;
            builder.push(record?).ok()?;
        }
        let mut builder = builder.additional();
        let key = Arc::clone(&key.0);
        let session = ClientSequence::request(key, &mut builder, time(now)).ok()?;
        Some((Self(session), builder.finish()))
    }

    /// Checks the next message, which is not changed, except that its ID is that of the signature. The TSIG record
    /// stays.
    ///
    /// Up to 99 messages in a row may be unsigned (RFC 8945, section 5.3.1): they are authentic once the next signed
    /// message is.
    ///
    /// # Errors
    /// [`TsigError`].
    pub fn check(&mut self, message: &mut Vec<u8>, now: Seconds) -> Result<(), TsigError> {
        let count = message.get(ADDITIONAL_COUNT..ADDITIONAL_COUNT + 2);
        let count = count.map(<[u8]>::to_vec).ok_or(TsigError::Malformed)?;
        let says_late = says_late(message);
        let octets = std::mem::take(message);
        let mut parsed = Message::from_octets(octets).map_err(|_| TsigError::Malformed)?;
        let checked = self.0.answer(&mut parsed, time(now));
        *message = parsed.into_octets();
        message[ADDITIONAL_COUNT..ADDITIONAL_COUNT + 2].copy_from_slice(&count);
        checked.map_err(|error| match error {
            // `domain` computes the signature of this error over eight bytes of time in place of six.
            ValidationError::BadSig if says_late => TsigError::Late,
            error => reason(error),
        })
    }

    /// Checks that the last message was signed.
    ///
    /// # Errors
    /// [`TsigError::Unsigned`].
    pub fn finish(self) -> Result<(), TsigError> {
        self.0.done().map_err(|_| TsigError::Unsigned)
    }
}

/// A request that a primary has signed, such as NOTIFY.
#[derive(Debug)]
pub struct SignedRequest(ServerTransaction<Arc<tsig::Key>>);

/// Why a signed request is not authentic, to be reported to its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The reason.
    pub reason: TsigError,
    /// The error of the TSIG record in the response.
    code: TsigRcode,
}

impl SignedRequest {
    /// Checks the signature of a request. Without a key, no signature is accepted.
    ///
    /// # Errors
    /// [`Rejected`]; the request is to be ignored.
    pub fn check(key: Option<&Key>, request: &[u8], now: Seconds) -> Result<Self, Rejected> {
        let rejected = |reason, code| Rejected { reason, code };
        let unknown = rejected(TsigError::Wrong, TsigRcode::BADKEY);
        let Key(key) = key.ok_or(unknown)?;
        let malformed = rejected(TsigError::Malformed, TsigRcode::BADSIG);
        let parsed = Message::from_octets(request.to_vec());
        let mut parsed = parsed.map_err(|_| malformed)?;
        match ServerTransaction::request(&Arc::clone(key), &mut parsed, time(now)) {
            Ok(Some(transaction)) => Ok(Self(transaction)),
            Ok(None) => Err(rejected(TsigError::Unsigned, TsigRcode::BADSIG)),
            Err(error) => Err(match error.error() {
                TsigRcode::BADTIME => rejected(TsigError::Late, TsigRcode::BADTIME),
                // `domain` returns FORMERR both for a wrong signature and for a record that can't be read.
                TsigRcode::FORMERR => rejected(TsigError::Wrong, TsigRcode::BADSIG),
                code => rejected(TsigError::Wrong, code),
            }),
        }
    }

    /// What signs several responses.
    pub(super) fn into_transaction(self) -> ServerTransaction<Arc<tsig::Key>> {
        self.0
    }

    /// Signs the response, which has a header, a question, and perhaps an OPT record. `None` if it can't be read.
    pub fn sign(self, response: &[u8], now: Seconds) -> Option<Vec<u8>> {
        let mut builder = copy(response)?;
        self.0.answer(&mut builder, time(now)).ok()?;
        Some(builder.finish())
    }
}

impl Rejected {
    /// Adds the error to the response (RFC 8945, section 5.2), in the same form as [`SignedRequest::sign`] takes it.
    /// `None` if the response or the TSIG record of the request can't be read.
    ///
    /// BADTIME has the time of this system, but no signature either: `domain` computes that of this error over eight
    /// bytes of time in place of six, so that no primary would accept it.
    pub fn report(self, request: &[u8], response: &[u8], now: Seconds) -> Option<Vec<u8>> {
        let request = Message::from_octets(request).ok()?;
        let record = request.additional().ok()?.last()?.ok()?;
        let record = record.into_record::<Tsig<_, _>>().ok()??;
        let sent = record.data();
        let clock = time(now).into_octets();
        let other = match self.code {
            TsigRcode::BADTIME => &clock[..],
            _ => &[],
        };
        let data = Tsig::new(
            sent.algorithm(),
            sent.time_signed(),
            sent.fudge(),
            &[][..],
            sent.original_id(),
            self.code,
            other,
        );
        let mut builder = copy(response)?;
        let owner = record.owner();
        builder
            .push((owner, record.class(), record.ttl(), data.ok()?))
            .ok()?;
        Some(builder.finish())
    }
}

/// Copies a message without records, besides those of the additional section, so that another one can be added.
fn copy(message: &[u8]) -> Option<AdditionalBuilder<Vec<u8>>> {
    let message = Message::from_octets(message).ok()?;
    let mut builder = MessageBuilder::from_target(Vec::with_capacity(512)).ok()?;
    *builder.header_mut() = message.header();
    let mut builder = builder.question();
    for question in message.question() {
        builder.push(question.ok()?).ok()?;
    }
    let mut builder = builder.additional();
    for record in message.additional().ok()? {
        let record = record.ok()?.into_record::<UnknownRecordData<_>>().ok()?;
        builder.push(record?).ok()?;
    }
    Some(builder)
}

pub(super) fn time(now: Seconds) -> Time48 {
    Time48::from_u64(now & 0xFFFF_FFFF_FFFF)
}

/// Whether a message is the error of a primary to which our clock is wrong. Its last record is TSIG, whose error code
/// precedes the length of the primary's time and that time.
fn says_late(message: &[u8]) -> bool {
    let is_refused = read_u16(message, 2).is_some_and(|flags| flags & 0x000F == NOTAUTH);
    let error = message.len().checked_sub(10);
    is_refused && error.and_then(|at| read_u16(message, at)) == Some(BADTIME)
}

fn reason(error: ValidationError) -> TsigError {
    match error {
        ValidationError::BadAlg
        | ValidationError::BadOther
        | ValidationError::BadSig
        | ValidationError::BadTrunc
        | ValidationError::BadKey => TsigError::Wrong,
        ValidationError::BadTime | ValidationError::ServerBadTime { .. } => TsigError::Late,
        ValidationError::FormErr => TsigError::Malformed,
        ValidationError::ServerUnsigned | ValidationError::TooManyUnsigned => TsigError::Unsigned,
        ValidationError::ServerBadKey | ValidationError::ServerBadSig => TsigError::Rejected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::transfer::query::Query;
    use crate::wire::transfer::serial::Serial;

    const NOW: Seconds = 1_795_000_000;

    fn name() -> Name {
        Name::from_text("transfer.key").expect("a name")
    }

    /// The response to a query that has a header and a question: only the flag QR is added.
    fn response(query: &[u8]) -> Vec<u8> {
        let mut response = query.to_vec();
        response[2] |= 0x80;
        response
    }

    #[test]
    fn queries_and_responses_are_signed_with_each_algorithm() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.name().parse(), Ok(algorithm));
            let key = Key::new(&name(), algorithm, &[7; 32]).expect("a key");
            let query = Query::Soa.write(9, &name());
            let (mut session, signed) = Session::sign(&key, &query, NOW).expect("signed");
            assert_eq!(signed[12..query.len()], query[12..]);
            let request = SignedRequest::check(Some(&key), &signed, NOW).expect("authentic");
            let mut answer = request.sign(&response(&query), NOW).expect("signed");
            let sent = answer.clone();
            session.check(&mut answer, NOW).expect("authentic");
            assert_eq!(answer, sent, "the message is not changed");
            session.finish().expect("signed to its end");
        }
        assert!("hmac-md5".parse::<Algorithm>().is_err());
    }

    #[test]
    fn a_signed_ixfr_query_keeps_its_serial() {
        let key = Key::new(&name(), Algorithm::Sha256, &[7; 32]).expect("a key");
        let query = Query::Ixfr(Serial(5)).write(9, &name());
        let (_, signed) = Session::sign(&key, &query, NOW).expect("signed");
        assert_eq!(signed[12..query.len()], query[12..]);
        assert_eq!(signed[8..12], [0, 1, 0, 1]);
    }

    #[test]
    fn a_request_with_a_wrong_old_or_missing_signature_is_not_authentic() {
        let [key, other] =
            [7, 8].map(|byte| Key::new(&name(), Algorithm::Sha256, &[byte; 32]).expect("a key"));
        let query = Query::Soa.write(9, &name());
        let (_, signed) = Session::sign(&key, &query, NOW).expect("signed");
        let check = |key, request: &[u8], now| {
            let rejected = SignedRequest::check(Some(key), request, now).err();
            rejected.map(|rejected| rejected.reason)
        };
        assert_eq!(check(&key, &signed, NOW + 299), None);
        assert_eq!(check(&key, &signed, NOW + 301), Some(TsigError::Late));
        assert_eq!(check(&other, &signed, NOW), Some(TsigError::Wrong));
        assert_eq!(check(&key, &query, NOW), Some(TsigError::Unsigned));
        assert_eq!(check(&key, &signed[..30], NOW), Some(TsigError::Wrong));
        let mut changed = signed.clone();
        changed[14] ^= 0x20;
        assert_eq!(check(&key, &changed, NOW), Some(TsigError::Wrong));
        assert_eq!(check(&key, &[], NOW), Some(TsigError::Malformed));
    }

    #[test]
    fn the_sender_of_a_request_that_is_not_authentic_learns_why() {
        let key = |name, algorithm, byte| {
            let name = Name::from_text(name).expect("a name");
            Key::new(&name, algorithm, &[byte; 32]).expect("a key")
        };
        let right = key("transfer.key", Algorithm::Sha256, 7);
        for (key, now, code) in [
            (key("other.key", Algorithm::Sha256, 7), NOW, 17),
            (key("transfer.key", Algorithm::Sha512, 7), NOW, 17),
            (key("transfer.key", Algorithm::Sha256, 8), NOW, 16),
            (key("transfer.key", Algorithm::Sha256, 7), NOW - 301, 18),
        ] {
            let query = Query::Soa.write(9, &name());
            let (_, signed) = Session::sign(&key, &query, now).expect("signed");
            let rejected = SignedRequest::check(Some(&right), &signed, NOW).expect_err("wrong");
            let report = rejected.report(&signed, &response(&query), NOW);
            let report = report.expect("written");
            assert_eq!(report[2..12], [0x80, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
            let other = if code == 18 { 6 } else { 0 };
            let error = read_u16(&report, report.len() - other - 4);
            assert_eq!(error, Some(code));
            assert!(report.len() < signed.len(), "it does not amplify");
        }
    }

    #[test]
    fn no_signature_is_accepted_without_a_key() {
        let key = Key::new(&name(), Algorithm::Sha256, &[7; 32]).expect("a key");
        let query = Query::Soa.write(9, &name());
        let (_, signed) = Session::sign(&key, &query, NOW).expect("signed");
        let rejected = SignedRequest::check(None, &signed, NOW).expect_err("no key");
        assert_eq!(rejected.reason, TsigError::Wrong);
        assert!(rejected.report(&query, &response(&query), NOW).is_none());
    }

    #[test]
    fn a_message_that_is_too_short_is_malformed_and_kept() {
        let key = Key::new(&name(), Algorithm::Sha256, &[7; 32]).expect("a key");
        let query = Query::Soa.write(9, &name());
        let (mut session, _) = Session::sign(&key, &query, NOW).expect("signed");
        for len in 0..12 {
            let mut message = vec![0; len];
            assert_eq!(session.check(&mut message, NOW), Err(TsigError::Malformed));
        }
    }
}
