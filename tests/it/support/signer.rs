//! Signs the messages of a test's primary with TSIG (RFC 8945), independently of the server's code.

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tapis::wire::name::Name;

use super::primary::{Asked, name};

const ALGORITHM: &[u8] = b"\x0bhmac-sha256\0";
const FUDGE: u16 = 300;

/// The secret of a new signer in base64: 32 bytes of 7.
pub(crate) const SECRET: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
/// Another one, of 8.
pub(crate) const OTHER_SECRET: &str = "CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=";

/// A key, and how the primary uses it.
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    pub(crate) name: Name,
    pub(crate) secret: Vec<u8>,
    /// Only each message with a multiple of this number is signed, besides the first and the last one.
    pub(crate) every: usize,
    /// Whether the last message is signed in any case.
    pub(crate) signs_last: bool,
    /// The message with this number has a wrong signature.
    pub(crate) wrong_at: Option<usize>,
    /// The clock of the primary is ahead by these seconds.
    pub(crate) ahead: i64,
}

impl Signer {
    pub(crate) fn new(key: &str) -> Self {
        Self {
            name: name(key),
            secret: vec![7; 32],
            every: 1,
            signs_last: true,
            wrong_at: None,
            ahead: 0,
        }
    }

    fn mac(&self, parts: &[&[u8]]) -> Vec<u8> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("any length");
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().to_vec()
    }

    /// The variables that a first signature covers besides the message (RFC 8945, section 4.3.3).
    fn variables(&self, timers: &[u8], error: u16, other: &[u8]) -> Vec<u8> {
        let mut all = self.name.wire().to_vec();
        all.extend_from_slice(&[0, 255, 0, 0, 0, 0]);
        all.extend_from_slice(ALGORITHM);
        all.extend_from_slice(timers);
        all.extend_from_slice(&error.to_be_bytes());
        all.extend_from_slice(&(other.len() as u16).to_be_bytes());
        all.extend_from_slice(other);
        all
    }

    /// Time and fudge.
    fn timers(&self) -> Vec<u8> {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970");
        let now = since.as_secs().saturating_add_signed(self.ahead);
        [&now.to_be_bytes()[2..], &FUDGE.to_be_bytes()].concat()
    }

    /// The MAC of a query, which must be right; and the query without its TSIG record.
    pub(crate) fn verify(&self, asked: &Asked) -> Vec<u8> {
        let bytes = &asked.bytes;
        // Other length, error, original ID, MAC, its length, fudge and time, from the end.
        let mac_at = bytes.len() - 6 - 32;
        let mac = &bytes[mac_at..][..32];
        let timers = &bytes[mac_at - 10..mac_at - 2];
        let fields = self.name.wire().len() + 10 + ALGORITHM.len() + 10;
        let start = mac_at - fields;
        let mut plain = bytes[..start].to_vec();
        assert_eq!(
            bytes[start..]
                .strip_prefix(self.name.wire())
                .map(|rest| &rest[..2]),
            Some(&[0, 250][..])
        );
        plain[11] -= 1;
        let expected = self.mac(&[&plain, &self.variables(timers, 0, &[])]);
        assert_eq!(mac, expected, "the query is signed");
        mac.to_vec()
    }

    /// Signs a request.
    pub(crate) fn request(&self, mut message: Vec<u8>) -> Vec<u8> {
        let timers = self.timers();
        let mut mac = self.mac(&[&message, &self.variables(&timers, 0, &[])]);
        if self.wrong_at == Some(0) {
            mac[0] ^= 1;
        }
        self.append(&mut message, &timers, &mac, 0, &[]);
        message
    }

    /// Checks that an answer to a signed request is signed.
    pub(crate) fn check(&self, request: &[u8], answer: &[u8]) {
        let mac = |message: &[u8]| message[message.len() - 6 - 32..][..32].to_vec();
        let start = answer.len() - (self.name.wire().len() + 10 + ALGORITHM.len() + 10 + 32 + 6);
        let mut plain = answer[..start].to_vec();
        plain[11] -= 1;
        let timers = &answer[answer.len() - 6 - 32 - 10..][..8];
        let prior = with_len(&mac(request));
        let expected = self.mac(&[&prior, &plain, &self.variables(timers, 0, &[])]);
        assert_eq!(mac(answer), expected, "the answer is signed");
    }

    /// Signs the messages that answer a query.
    pub(crate) fn sign(&self, asked: &Asked, messages: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut prior = with_len(&self.verify(asked));
        let last = messages.len() - 1;
        let sign = |(at, mut message): (usize, Vec<u8>)| {
            let is_last = at == last && self.signs_last;
            if at > 0 && !is_last && at % self.every != 0 {
                prior.extend_from_slice(&message);
                return message;
            }
            let timers = self.timers();
            let covered = match at {
                0 => self.variables(&timers, 0, &[]),
                _ => timers.clone(),
            };
            let mut mac = self.mac(&[&prior, &message, &covered]);
            if self.wrong_at == Some(at) {
                mac[0] ^= 1;
            }
            prior = with_len(&mac);
            self.append(&mut message, &timers, &mac, 0, &[]);
            message
        };
        messages.into_iter().enumerate().map(sign).collect()
    }

    /// The signed error of a primary to which the client's clock is wrong (RFC 8945, section 5.2.3).
    pub(crate) fn bad_time(&self, asked: &Asked, mut message: Vec<u8>) -> Vec<u8> {
        let prior = with_len(&self.verify(asked));
        let timers = self.timers();
        let other = &timers[..6];
        let covered = self.variables(&timers, 18, other);
        let mac = self.mac(&[&prior, &message, &covered]);
        self.append(&mut message, &timers, &mac, 18, other);
        message
    }

    /// The unsigned error of a primary that does not know the key.
    pub(crate) fn bad_key(&self, mut message: Vec<u8>) -> Vec<u8> {
        self.append(&mut message, &self.timers(), &[], 17, &[]);
        message
    }

    fn append(&self, message: &mut Vec<u8>, timers: &[u8], mac: &[u8], error: u16, other: &[u8]) {
        let mut data = ALGORITHM.to_vec();
        data.extend_from_slice(timers);
        data.extend_from_slice(&with_len(mac));
        data.extend_from_slice(&message[..2]);
        data.extend_from_slice(&error.to_be_bytes());
        data.extend_from_slice(&with_len(other));
        message[11] += 1;
        message.extend_from_slice(self.name.wire());
        message.extend_from_slice(&[0, 250, 0, 255, 0, 0, 0, 0]);
        message.extend_from_slice(&with_len(&data));
    }
}

/// Bytes after their number.
fn with_len(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}
