//! Records that a rule answers with.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::wire::answer::{MAX_HOPS, is_well_formed};
use crate::wire::name::{MAX_NAME, Name};
use crate::wire::presentation::{Rdata, TypeText};
use crate::wire::rtype;

/// The bytes that all records of a type may have in a message: 65,535 bytes without the header, the longest question, the
/// longest CNAME chain that leads to their owner, and an OPT record with the longest Extended DNS Error and another one
/// without text.
pub const MAX_RECORD_BYTES: usize = 65_535
    - 12
    - (MAX_NAME + 4)
    - MAX_HOPS * (RECORD_OVERHEAD + MAX_NAME)
    - (11 + 6 + MAX_EXTRA_TEXT + 6);
/// The longest EXTRA-TEXT in bytes.
pub const MAX_EXTRA_TEXT: usize = 1_000;
/// The largest TTL in seconds (RFC 2181, section 8).
pub const MAX_TTL_SECS: u32 = i32::MAX as u32;
/// The bytes of a record in an answer, without its data: a pointer to the owner, and the fixed fields.
pub const RECORD_OVERHEAD: usize = 12;

/// A record that is owned by the queried name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalRecord {
    /// TYPE.
    pub rtype: u16,
    /// TTL in seconds; that of the effect or its source if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_secs: Option<u32>,
    /// RDATA without compressed names. It is stored in hexadecimal.
    #[serde(with = "hexadecimal")]
    pub data: Box<[u8]>,
}

/// A reason why records can't be an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The records of one type are too many for one message.
    #[error(
        "its records of one type need {bytes} bytes, and an answer has room for {MAX_RECORD_BYTES}: remove some"
    )]
    TooMany {
        /// Their bytes in an answer.
        bytes: usize,
    },
    /// The type is not one of ordinary records.
    #[error("it has a record of type {rtype}, which no rule can answer with: remove the record")]
    Type {
        /// The type.
        rtype: u16,
    },
    /// The data is not well-formed.
    #[error(
        "it has a record of type {rtype} with data that is not valid for this type: correct the data; names in it must \
         not be compressed"
    )]
    Data {
        /// The type.
        rtype: u16,
    },
    /// The TTL is too large.
    #[error("it has a record with a TTL of {secs} s; write at most {MAX_TTL_SECS}")]
    Ttl {
        /// The TTL in seconds.
        secs: u32,
    },
    /// A CNAME record is not the only one (RFC 2181, section 10.1).
    #[error(
        "it has a CNAME record and other records, but a name with a CNAME has no other data: remove the CNAME or the others"
    )]
    CnameWithOthers,
}

impl LocalRecord {
    /// A record of an address, with the TTL of the effect.
    pub fn address(address: IpAddr) -> Self {
        let (rtype, data): (_, Box<[u8]>) = match address {
            IpAddr::V4(address) => (rtype::A, address.octets().into()),
            IpAddr::V6(address) => (rtype::AAAA, address.octets().into()),
        };
        Self {
            rtype,
            ttl_secs: None,
            data,
        }
    }

    /// The target, if it is a CNAME record.
    pub fn cname_target(&self) -> Option<Name> {
        let target = (self.rtype == rtype::CNAME).then(|| Name::parse(&self.data, 0).ok());
        target.flatten().map(|(target, _)| target)
    }

    /// Its data, to be displayed.
    pub fn rdata(&self) -> Rdata<'_> {
        Rdata::new(self.rtype, &self.data)
    }

    /// Its bytes in an answer.
    pub fn answer_bytes(&self) -> usize {
        RECORD_OVERHEAD + self.data.len()
    }

    pub(super) fn check(&self) -> Result<(), RecordError> {
        let rtype = self.rtype;
        match rtype {
            // An SOA would make the name the apex of a zone. The signatures and denials of existence of a zone say
            // nothing about the records of a rule. The other types are reserved, or are meta-types.
            0
            | rtype::SOA
            | rtype::OPT
            | rtype::RRSIG
            | rtype::NSEC
            | rtype::NSEC3
            | rtype::FIRST_META..=rtype::ANY => return Err(RecordError::Type { rtype }),
            _ => {}
        }
        if let Some(secs) = self.ttl_secs
            && secs > MAX_TTL_SECS
        {
            return Err(RecordError::Ttl { secs });
        }
        match is_well_formed(rtype, &self.data) {
            true => Ok(()),
            false => Err(RecordError::Data { rtype }),
        }
    }
}

/// TTL, type and data in presentation form (RFC 1035, section 5.1). Data of an unknown form is written as in RFC 3597.
impl fmt::Display for LocalRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ttl_secs, rtype) = (self.ttl_secs.unwrap_or(0), TypeText(self.rtype));
        write!(f, "{ttl_secs} {rtype} {}", self.rdata())
    }
}

/// Checks that the records of one name can be answers.
///
/// # Errors
/// [`RecordError`].
pub fn check(records: &[LocalRecord]) -> Result<(), RecordError> {
    records.iter().try_for_each(LocalRecord::check)?;
    let is_cname = |record: &LocalRecord| record.rtype == rtype::CNAME;
    if records.len() > 1 && records.iter().any(is_cname) {
        return Err(RecordError::CnameWithOthers);
    }
    let mut sizes: Vec<_> = records
        .iter()
        .map(|record| (record.rtype, record.answer_bytes()))
        .collect();
    sizes.sort_unstable();
    for rrset in sizes.chunk_by(|one, other| one.0 == other.0) {
        let bytes = rrset.iter().map(|(_, bytes)| bytes).sum();
        if bytes > MAX_RECORD_BYTES {
            return Err(RecordError::TooMany { bytes });
        }
    }
    Ok(())
}

/// Divides sorted records among as few answers as can carry them: the first one has as many of each type as possible.
pub(super) fn answers(records: &[&LocalRecord]) -> Vec<Vec<LocalRecord>> {
    let mut answers: Vec<Vec<LocalRecord>> = Vec::new();
    for rrset in records.chunk_by(|one, other| one.rtype == other.rtype) {
        let (mut answer, mut bytes) = (0, 0);
        for &record in rrset {
            bytes += record.answer_bytes();
            if bytes > MAX_RECORD_BYTES {
                (answer, bytes) = (answer + 1, record.answer_bytes());
            }
            if answer == answers.len() {
                answers.push(Vec::new());
            }
            answers[answer].push(record.clone());
        }
    }
    answers
}

/// The RRsets of some records, in the order of their types. Equal records are merged (RFC 2181, section 5), and all
/// records of an RRset get its lowest TTL (section 5.2). Records without a TTL get `ttl_secs`.
pub(super) fn rrsets(records: &[LocalRecord], ttl_secs: u32) -> Box<[LocalRecord]> {
    let mut records = records.to_vec();
    for record in &mut records {
        record.ttl_secs.get_or_insert(ttl_secs);
    }
    let key = |record: &LocalRecord| (record.rtype, record.data.clone());
    records.sort_by_cached_key(key);
    for rrset in records.chunk_by_mut(|one, other| one.rtype == other.rtype) {
        let lowest = rrset.iter().filter_map(|record| record.ttl_secs).min();
        rrset.iter_mut().for_each(|record| record.ttl_secs = lowest);
    }
    records.dedup();
    records.into()
}

/// Bytes as a string of hexadecimal digits, for `serde(with)`.
pub(crate) mod hexadecimal {
    use std::fmt::Write;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(data: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(2 * data.len());
        for byte in data {
            write!(text, "{byte:02x}").expect("writing to a string does not fail");
        }
        serializer.serialize_str(&text)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Box<[u8]>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
        let digits = digits.filter(|digits| digits.len().is_multiple_of(2));
        let digits = digits.ok_or_else(|| de::Error::custom("not pairs of hexadecimal digits"))?;
        let bytes = digits
            .chunks_exact(2)
            .map(|pair| (pair[0] << 4 | pair[1]) as u8);
        Ok(bytes.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(rtype: u16, data: &[u8]) -> LocalRecord {
        LocalRecord {
            rtype,
            ttl_secs: None,
            data: data.into(),
        }
    }

    const NAME: &[u8] = b"\x01x\x04test\x00";

    #[test]
    fn data_has_the_form_that_its_type_requires() {
        let with_name = |before: &[u8], after: &[u8]| [before, NAME, after].concat();
        let rtype_and_data: [(u16, Vec<u8>); 10] = [
            (1, vec![192, 0, 2, 1]),
            (28, vec![0; 16]),
            (16, b"\x01a".to_vec()),
            (2, NAME.to_vec()),
            (5, NAME.to_vec()),
            (12, NAME.to_vec()),
            (15, with_name(&[0, 10], &[])),
            (33, with_name(&[0; 6], &[])),
            (35, with_name(b"\x00\x01\x00\x01\x01u\x00\x00", &[])),
            (65, with_name(&[0, 1], b"\x00\x01\x00\x03\x02h2")),
        ];
        for (rtype, data) in rtype_and_data {
            assert_eq!(check(&[record(rtype, &data)]), Ok(()), "{rtype}");
            let wrong = Err(RecordError::Data { rtype });
            let cut = &data[..data.len() - 1];
            // Without its last parameter byte, an HTTPS record still has its target.
            if rtype != 65 {
                assert_eq!(check(&[record(rtype, cut)]), wrong, "{rtype}, cut");
                let longer = [&data, &[7_u8][..]].concat();
                assert_eq!(check(&[record(rtype, &longer)]), wrong, "{rtype}, longer");
            }
        }
        let compressed = record(5, b"\x01x\xC0\x0C");
        assert_eq!(check(&[compressed]), Err(RecordError::Data { rtype: 5 }));
        let unknown = record(1234, b"any");
        assert_eq!(check(&[unknown]), Ok(()), "any data of other types");
    }

    #[test]
    fn types_that_are_not_those_of_ordinary_records_are_refused() {
        for rtype in [0, 6, 41, 46, 47, 50, 128, 251, 252, 255] {
            let error = check(&[record(rtype, b"")]);
            assert_eq!(error, Err(RecordError::Type { rtype }));
        }
        assert_eq!(check(&[record(256, b"")]), Ok(()));
    }

    #[test]
    fn a_record_is_shown_in_presentation_form() {
        let shown = |rtype, data: &[u8]| record(rtype, data).to_string();
        assert_eq!(shown(1, &[192, 0, 2, 1]), "0 A 192.0.2.1");
        assert_eq!(shown(15, &[&[0, 10], NAME].concat()), "0 MX 10 x.test.");
        assert_eq!(shown(1234, &[1, 0xAB]), r"0 TYPE1234 \# 2 01 ab");
        assert_eq!(shown(16, b"\x03a\nb"), r#"0 TXT "a\010b""#);
    }

    #[test]
    fn a_cname_is_alone() {
        let (cname, text) = (record(5, NAME), record(16, b"\x00"));
        assert_eq!(check(std::slice::from_ref(&cname)), Ok(()));
        for other in [text, record(5, b"\x01y\x00")] {
            let error = check(&[other, cname.clone()]);
            assert_eq!(error, Err(RecordError::CnameWithOthers));
        }
    }

    #[test]
    fn the_records_of_a_type_fit_into_one_message() {
        let long = vec![0; MAX_RECORD_BYTES - 2 * RECORD_OVERHEAD];
        let records = |data: &[u8]| [record(1234, data), record(1234, b""), record(16, b"\x00")];
        assert_eq!(check(&records(&long)), Ok(()));
        let longer = [&long[..], &[0]].concat();
        let bytes = MAX_RECORD_BYTES + 1;
        assert_eq!(
            check(&records(&longer)),
            Err(RecordError::TooMany { bytes })
        );
        let ttl = LocalRecord {
            ttl_secs: Some(MAX_TTL_SECS + 1),
            ..record(16, b"\x00")
        };
        let secs = MAX_TTL_SECS + 1;
        assert_eq!(check(&[ttl]), Err(RecordError::Ttl { secs }));
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let written = LocalRecord {
            ttl_secs: Some(3),
            ..record(16, b"\x01\xAB")
        };
        let text = serde_json::to_string(&written).expect("written");
        assert_eq!(text, r#"{"rtype":16,"ttl_secs":3,"data":"01ab"}"#);
        let read: LocalRecord = serde_json::from_str(&text).expect("read");
        assert_eq!(read, written);
        for wrong in ["1", "0x", "+1", "\u{e9}"] {
            let text = format!(r#"{{"rtype":16,"data":"{wrong}"}}"#);
            assert!(
                serde_json::from_str::<LocalRecord>(&text).is_err(),
                "{wrong}"
            );
        }
    }
}
