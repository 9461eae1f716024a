//! The records of a response, and the contents of its OPT record.

use smallvec::SmallVec;

use crate::wire::edns::{self, Edns, OPTION_EDE, RecordFields};
use crate::wire::name::{MAX_JUMPS, MAX_NAME, Name};
use crate::wire::text::is_format;
use crate::wire::{class, read_u16, rtype, skip_name};

/// The maximum number of records in an answer: ten times what other servers accept in one RRset. There are zones
/// with thousands of records at one name, whose purpose is to keep resolvers busy (CVE-2024-1737).
const MAX_RECORDS: u32 = 1024;
/// The maximum length of the text that is kept of an Extended DNS Error.
const MAX_TEXT: usize = 200;

/// The maximum number of Extended DNS Errors that are kept of an answer.
const MAX_ERRORS: usize = 4;

/// Why a message is not an answer to the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Not a response, or malformed.
    #[error("the answer is malformed")]
    Malformed,
    /// The question section differs from the question that was sent.
    #[error("the answer is to another question")]
    OtherQuestion,
    /// The CNAME chain is circular, has more than sixteen hops, or two CNAMEs at one name (RFC 2181, section
    /// 10.1).
    #[error("the CNAME chain is circular, too long or ambiguous")]
    Chain,
    /// A referral without a chain: the server does not recurse (RFC 2308, section 2.2).
    #[error("the server refers to others instead of answering")]
    Referral,
    /// The answer section has records, but neither one that answers the question nor a CNAME or DNAME that applies to
    /// the queried name.
    #[error("the answer section has no record that answers the question")]
    Unrelated,
}

/// An Extended DNS Error from an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamEde {
    /// INFO-CODE.
    pub code: u16,
    /// EXTRA-TEXT for the client: `upstream`, followed by `: ` and the upstream's text. At most 200 bytes of that
    /// text are kept, without control characters.
    pub text: Box<str>,
}

/// A record of a message, given by offsets.
#[derive(Clone, Copy, Debug)]
pub(in crate::wire) struct Record {
    /// 0 answer, 1 authority, 2 additional.
    pub(in crate::wire) section: usize,
    pub(in crate::wire) owner: usize,
    pub(in crate::wire) fields: RecordFields,
}

impl Record {
    fn is_signature(&self) -> bool {
        self.fields.rtype == rtype::RRSIG
    }

    /// Whether it is a signature or a denial of existence.
    pub(in crate::wire) fn is_dnssec(&self) -> bool {
        self.is_signature() || matches!(self.fields.rtype, rtype::NSEC | rtype::NSEC3)
    }

    /// Whether it is the signature of records of this type (RFC 4034, section 3.1.1).
    pub(in crate::wire) fn signs(&self, message: &[u8], covered: u16) -> bool {
        self.is_signature()
            && self.fields.data + 2 <= self.fields.end
            && read_u16(message, self.fields.data) == Some(covered)
    }

    /// Whether it is the signature of records that follow from a wildcard (RFC 4034, section 3.1.3).
    pub(super) fn signs_wildcard(&self, message: &[u8]) -> bool {
        let labels = message.get(self.fields.data + 3).copied().map(usize::from);
        let owner = self.owner(message).map_or(0, |owner| owner.label_count());
        self.is_signature() && self.fields.data + 4 <= self.fields.end && labels < Some(owner)
    }

    /// Whether `name` is the owner. `None` if the owner is malformed.
    pub(super) fn is_owned_by(&self, message: &[u8], name: &Name) -> Option<bool> {
        is_name(message, self.owner, name)
    }

    pub(super) fn owner(&self, message: &[u8]) -> Option<Name> {
        let (owner, _) = Name::parse_compressed(message, self.owner).ok()?;
        Some(owner)
    }
}

/// The parts of a response.
pub(super) struct ParsedResponse<'m> {
    pub(super) message: &'m [u8],
    /// The records of class IN, without OPT.
    pub(super) records: SmallVec<[Record; 8]>,
    pub(super) edns: Option<Edns>,
    pub(super) errors: Vec<UpstreamEde>,
    /// Whether the answer section has any record.
    pub(super) has_answers: bool,
}

impl<'m> ParsedResponse<'m> {
    /// Parses the records after the question section. `None` if they are malformed.
    pub(super) fn parse(message: &'m [u8], question_end: usize) -> Option<Self> {
        let count = |at| read_u16(message, at);
        let counts = [count(6)?, count(8)?, count(10)?];
        let all: u32 = counts.into_iter().map(u32::from).sum();
        if all > MAX_RECORDS {
            return None;
        }
        let mut parsed = Self {
            message,
            records: SmallVec::new(),
            edns: None,
            errors: Vec::new(),
            has_answers: counts[0] > 0,
        };
        let mut found = 0_u32;
        for record in records(message, question_end, counts) {
            found += 1;
            if record.fields.rtype == rtype::OPT {
                parsed.take_opt(&record)?;
            } else if record.fields.class == class::IN {
                parsed.records.push(record);
            }
        }
        (found == all).then_some(parsed)
    }

    fn take_opt(&mut self, record: &Record) -> Option<()> {
        let RecordFields {
            class,
            ttl,
            data,
            end,
            ..
        } = record.fields;
        if record.section != 2 || self.edns.is_some() {
            return None;
        }
        self.edns = Some(Edns::from_fields(class, ttl));
        let errors = &mut self.errors;
        let read = edns::options(&self.message[data..end], |code, data| {
            if code == OPTION_EDE
                && errors.len() < MAX_ERRORS
                && let Some(code) = read_u16(data, 0)
            {
                let text = &data[2..data.len().min(2 + MAX_TEXT)];
                let text = labelled_text(text);
                errors.push(UpstreamEde { code, text });
            }
        });
        read.then_some(())
    }

    /// The records of a section with this type.
    pub(super) fn of(&self, section: usize, rtype: u16) -> impl Iterator<Item = &Record> {
        let is_it =
            move |record: &&Record| record.section == section && record.fields.rtype == rtype;
        self.records.iter().filter(is_it)
    }

    /// Whether the authority section has NS records but no SOA.
    pub(super) fn is_referral(&self) -> bool {
        self.of(1, rtype::SOA).next().is_none() && self.of(1, rtype::NS).next().is_some()
    }
}

/// Iterates over the records of a message; ends early at a malformed one.
pub(in crate::wire) fn records(
    message: &[u8],
    start: usize,
    counts: [u16; 3],
) -> impl Iterator<Item = Record> {
    let sections = counts.into_iter().enumerate();
    let sections = sections.flat_map(|(section, count)| (0..count).map(move |_| section));
    let mut at = start;
    sections.map_while(move |section| {
        let owner = at;
        let fields = edns::fields(message, skip_name(message, owner)?)?;
        at = fields.end;
        Some(Record {
            section,
            owner,
            fields,
        })
    })
}

/// Whether the name at an offset equals `name`, ignoring letter case. `None` if it is malformed.
fn is_name(message: &[u8], mut at: usize, name: &Name) -> Option<bool> {
    let mut rest = Some(name.wire());
    let mut len = 0;
    let mut jumps = 0;
    loop {
        match *message.get(at)? {
            0 => return Some(rest == Some(&[0])),
            size @ 1..=63 => {
                let label = message.get(at..=at + usize::from(size))?;
                at += label.len();
                // Ends cycles of pointers.
                len += label.len();
                if len >= MAX_NAME {
                    return None;
                }
                // Length bytes are at most 63, which is less than any letter, so they are compared exactly.
                rest = rest
                    .and_then(|rest| rest.split_at_checked(label.len()))
                    .filter(|(other, _)| other.eq_ignore_ascii_case(label))
                    .map(|(_, rest)| rest);
            }
            high @ 0xC0.. => {
                let target = usize::from(high & 0x3F) << 8 | usize::from(*message.get(at + 1)?);
                jumps += 1;
                if target >= at || jumps > MAX_JUMPS {
                    return None;
                }
                at = target;
            }
            _ => return None,
        }
    }
}

/// EXTRA-TEXT marked as the upstream's. The EXTRA-TEXT of a blocked answer starts with the name of an order or a list
/// of this server. A text from upstream must not look like such a name, nor control a terminal or a log that shows it.
fn labelled_text(text: &[u8]) -> Box<str> {
    let text = String::from_utf8_lossy(text);
    let is_shown = |c: &char| !c.is_control() && !is_format(*c);
    let shown: String = text.chars().filter(is_shown).collect();
    match shown.trim() {
        "" => "upstream".into(),
        shown => format!("upstream: {shown}").into(),
    }
}
