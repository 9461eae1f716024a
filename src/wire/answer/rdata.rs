//! The names inside the data of records.

use std::collections::HashSet;

use super::chain::Chain;
use super::records::{ParsedResponse, Record};
use crate::wire::name::Name;
use crate::wire::rtype;

/// The positions of the names in the data of a type.
pub(super) struct RdataLayout {
    /// The number of bytes before the first name or string.
    pub(super) prefix: usize,
    /// The number of character strings before the first name.
    pub(super) strings: usize,
    pub(super) names: usize,
    /// The number of bytes after the names; `None` if it varies.
    pub(super) trailing: Option<usize>,
    /// Whether compression is allowed: in the types of RFC 1035 only (RFC 3597, section 4).
    pub(super) compressed: bool,
}

impl RdataLayout {
    /// The offset of the first name, in data that starts at `start`.
    pub(super) fn names_at(&self, message: &[u8], start: usize) -> Option<usize> {
        let mut at = start + self.prefix;
        for _ in 0..self.strings {
            at += 1 + usize::from(*message.get(at)?);
        }
        Some(at)
    }

    /// The layout of types whose names may be compressed, or are compressed by some servers although they must not be.
    /// `None` for all other types, whose data is copied verbatim.
    pub(super) fn of(rtype: u16) -> Option<Self> {
        let one = |prefix, compressed| Self {
            prefix,
            strings: 0,
            names: 1,
            trailing: Some(0),
            compressed,
        };
        let two = |prefix, compressed| Self {
            names: 2,
            ..one(prefix, compressed)
        };
        Some(match rtype {
            // NS, MD, MF, CNAME, MB, MG, MR, PTR
            2..=5 | 7..=9 | 12 => one(0, true),
            rtype::SOA => Self {
                trailing: Some(20),
                ..two(0, true)
            },
            // MINFO, MX
            14 => two(0, true),
            15 => one(2, true),
            // RP; AFSDB, RT, KX; PX; SRV; DNAME
            17 => two(0, false),
            18 | 21 | 36 => one(2, false),
            26 => two(2, false),
            33 => one(6, false),
            rtype::DNAME => one(0, false),
            // SIG, RRSIG; NXT
            24 | rtype::RRSIG => Self {
                trailing: None,
                ..one(18, false)
            },
            30 => Self {
                trailing: None,
                ..one(0, false)
            },
            // NAPTR
            35 => Self {
                strings: 3,
                ..one(4, false)
            },
            _ => return None,
        })
    }
}

/// The names for which the additional section may have addresses: the last name of the chain, and the names
/// in the data of the answering records. `None` if that data is malformed.
pub(super) fn additional_names(
    parsed: &ParsedResponse<'_>,
    chain: &Chain,
    asked: &Name,
) -> Option<HashSet<Name>> {
    let mut names = HashSet::from([chain.last(asked).clone()]);
    for record in &chain.final_records {
        read_names(parsed.message, record, &mut names)?;
    }
    Some(names)
}

/// Adds the names in a record's data.
fn read_names(message: &[u8], record: &Record, names: &mut HashSet<Name>) -> Option<()> {
    let data = record.fields.data;
    let (mut at, count) = match record.fields.rtype {
        rtype::SVCB | rtype::HTTPS => (data + 2, 1),
        rtype => match RdataLayout::of(rtype) {
            Some(shape) => (shape.names_at(message, data)?, shape.names),
            None => return Some(()),
        },
    };
    for _ in 0..count {
        let (name, after) = Name::parse_compressed(message, at).ok()?;
        names.insert(name);
        at = after;
    }
    Some(())
}
