//! TSIG (RFC 8945): signs the queries of a secondary, and checks what its primary sends.
//!
//! The codes and the sequence of messages are those of the crate `domain`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use domain::base::{Message, MessageBuilder, ToName, UnknownRecordData};
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

impl SignedRequest {
    /// Checks the signature of a request.
    ///
    /// # Errors
    /// [`TsigError`]; the request is to be ignored.
    pub fn check(key: &Key, request: &[u8], now: Seconds) -> Result<Self, TsigError> {
        let parsed = Message::from_octets(request.to_vec());
        let mut parsed = parsed.map_err(|_| TsigError::Malformed)?;
        match ServerTransaction::request(&Arc::clone(&key.0), &mut parsed, time(now)) {
            Ok(Some(transaction)) => Ok(Self(transaction)),
            Ok(None) => Err(TsigError::Unsigned),
            Err(error) => Err(match error.error().to_int() {
                BADTIME => TsigError::Late,
                _ => TsigError::Wrong,
            }),
        }
    }

    /// Signs the response, which consists of a header and a question. `None` if it can't be read.
    pub fn sign(self, response: &[u8], now: Seconds) -> Option<Vec<u8>> {
        let response = Message::from_octets(response).ok()?;
        let mut builder = MessageBuilder::from_target(Vec::with_capacity(512)).ok()?;
        *builder.header_mut() = response.header();
        let mut builder = builder.question();
        for question in response.question() {
            builder.push(question.ok()?).ok()?;
        }
        let mut builder = builder.additional();
        self.0.answer(&mut builder, time(now)).ok()?;
        Some(builder.finish())
    }
}

fn time(now: Seconds) -> Time48 {
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
            let request = SignedRequest::check(&key, &signed, NOW).expect("authentic");
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
        let check = |key, request: &[u8], now| SignedRequest::check(key, request, now).err();
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
