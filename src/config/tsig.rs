//! Keys that authenticate zone transfers (RFC 8945).

use std::path::PathBuf;

use crate::wire::name::Name;

use super::findings::{Findings, quote};
use super::reader::{At, Reader};
use super::values::{choice, file};

const ALGORITHMS: &[(&str, TsigAlgorithm)] = &[
    ("hmac-sha256", TsigAlgorithm::HmacSha256),
    ("hmac-sha384", TsigAlgorithm::HmacSha384),
    ("hmac-sha512", TsigAlgorithm::HmacSha512),
    ("hmac-sha1", TsigAlgorithm::HmacSha1),
];

/// A key that authenticates transfers (RFC 8945).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tsig {
    /// The name of the key, which both sides must know it by.
    pub name: Name,
    /// Its algorithm.
    pub algorithm: TsigAlgorithm,
    /// The file of the secret. The configuration does not read it.
    pub secret_file: PathBuf,
}

/// An algorithm of TSIG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TsigAlgorithm {
    /// HMAC-SHA-1, which RFC 8945, section 6, does not recommend any more.
    HmacSha1,
    /// HMAC-SHA-256.
    HmacSha256,
    /// HMAC-SHA-384.
    HmacSha384,
    /// HMAC-SHA-512.
    HmacSha512,
}

impl TsigAlgorithm {
    /// Its name in the configuration and in TSIG records.
    pub fn word(self) -> &'static str {
        match self {
            Self::HmacSha1 => "hmac-sha1",
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha384 => "hmac-sha384",
            Self::HmacSha512 => "hmac-sha512",
        }
    }
}

impl Tsig {
    /// A sentence without its end if the algorithm is not recommended.
    pub(super) fn warning(&self) -> Option<&'static str> {
        (self.algorithm == TsigAlgorithm::HmacSha1).then_some(
            "its TSIG key is used with hmac-sha1, which is not recommended any more (RFC 8945, section 6); agree on \
             hmac-sha256",
        )
    }
}

/// A key before validation.
pub(super) type Raw = At<RawTsig>;

pub(super) struct RawTsig {
    name: Option<At<String>>,
    algorithm: Option<At<String>>,
    secret_file: Option<At<String>>,
}

/// Reads the key `tsig`.
pub(super) fn read(table: &mut Reader<'_, '_>) -> Option<Raw> {
    let remedy = "write it as { name = \"...\", secret-file = \"...\" }";
    table.table("tsig", remedy, |table| RawTsig {
        name: table.required_string("name"),
        algorithm: table.string("algorithm"),
        secret_file: table.required_string("secret-file"),
    })
}

/// Validates a key; `None` if a part of it is invalid.
pub(super) fn validate(given: Raw, findings: &mut Findings) -> Option<Tsig> {
    let raw = given.value;
    let name = raw.name.and_then(|given| key_name(given, findings));
    let is_given = raw.algorithm.is_some();
    let algorithm = choice(raw.algorithm, ALGORITHMS, findings);
    let algorithm = algorithm.or((!is_given).then_some(TsigAlgorithm::HmacSha256));
    let secret_file = file(raw.secret_file, findings);
    Some(Tsig {
        name: name?,
        algorithm: algorithm?,
        secret_file: secret_file?,
    })
}

/// The name of a key, which is a domain name without a meaning in the DNS.
fn key_name(given: At<String>, findings: &mut Findings) -> Option<Name> {
    let At { key, line, value } = given;
    let why = match Name::from_text(&value) {
        Ok(name) if name.label_count() > 0 => return Some(name),
        Ok(_) => "the root".to_owned(),
        Err(why) => format!("not a domain name: {why}"),
    };
    let shown = quote(&value);
    let message = format!(
        "{key} is {shown}, {why}: write the key's name as the other server has it, as in \"tapis-feed\""
    );
    findings.report(line, message);
    None
}
