//! The names inside the data of records.

use std::collections::HashSet;
use std::ops::Range;

use super::chain::Chain;
use super::compress::Compressor;
use super::records::{ParsedResponse, Record};
use crate::wire::name::Name;
use crate::wire::rtype;

/// Whether data has the form that its type requires. Checks A, AAAA, TXT, SVCB, HTTPS, and the types of `RdataLayout`;
/// names in the data must not be compressed. For any other type, all data of up to 65,535 bytes is accepted.
pub fn is_well_formed(rtype: u16, data: &[u8]) -> bool {
    if data.len() > usize::from(u16::MAX) {
        return false;
    }
    match rtype {
        rtype::A => data.len() == 4,
        rtype::AAAA => data.len() == 16,
        rtype::TXT => !data.is_empty() && has_strings(data),
        rtype::SVCB | rtype::HTTPS => Name::parse(data, 2).is_ok(),
        _ => RdataLayout::of(rtype).is_none_or(|layout| layout.fits(data)),
    }
}

/// Whether two records of a type have the same data. The letter case of names in it does not matter for the types of
/// RFC 4034, section 6.2; data of all other types is compared byte by byte (RFC 3597, section 6).
pub fn is_same_data(rtype: u16, one: &[u8], other: &[u8]) -> bool {
    if one == other {
        return true;
    }
    let names_in = |data| RdataLayout::of(rtype)?.names_in(data);
    let (Some(names), Some(others)) = (names_in(one), names_in(other)) else {
        return false;
    };
    names == others
        && one[names.clone()].eq_ignore_ascii_case(&other[names.clone()])
        && one[..names.start] == other[..names.start]
        && one[names.end..] == other[names.end..]
}

/// Whether data consists of character strings.
fn has_strings(mut data: &[u8]) -> bool {
    while let Some((len, rest)) = data.split_first() {
        match rest.get(usize::from(*len)..) {
            Some(rest) => data = rest,
            None => return false,
        }
    }
    true
}

/// Appends the data of a record of another message. Compresses its names where that is allowed. `None` if it is malformed.
pub(in crate::wire) fn copy(
    message: &[u8],
    record: &Record,
    compressor: &mut Compressor,
    out: &mut Vec<u8>,
) -> Option<()> {
    let (data, end) = (record.fields.data, record.fields.end);
    let Some(layout) = RdataLayout::of(record.fields.rtype) else {
        out.extend_from_slice(message.get(data..end)?);
        return Some(());
    };
    let mut at = layout.names_at(message, data)?;
    out.extend_from_slice(message.get(data..at)?);
    for _ in 0..layout.names {
        at = compressor.copy(message, at, layout.compressed, out)?;
    }
    out.extend_from_slice(message.get(at..end)?);
    Some(())
}

/// The positions of the names in the data of a type.
pub(in crate::wire) struct RdataLayout {
    /// The number of bytes before the first name or string.
    pub(in crate::wire) prefix: usize,
    /// The number of character strings before the first name.
    pub(in crate::wire) strings: usize,
    pub(in crate::wire) names: usize,
    /// The number of bytes after the names; `None` if it varies.
    pub(in crate::wire) trailing: Option<usize>,
    /// Whether compression is allowed: in the types of RFC 1035 only (RFC 3597, section 4).
    pub(in crate::wire) compressed: bool,
}

impl RdataLayout {
    /// The offset of the first name, in data that starts at `start`.
    pub(in crate::wire) fn names_at(&self, message: &[u8], start: usize) -> Option<usize> {
        let mut at = start + self.prefix;
        for _ in 0..self.strings {
            at += 1 + usize::from(*message.get(at)?);
        }
        Some(at)
    }

    /// Whether data without compressed names has this layout.
    fn fits(&self, data: &[u8]) -> bool {
        self.names_in(data).is_some_and(|names| {
            self.trailing
                .is_none_or(|trailing| data.len() == names.end + trailing)
        })
    }

    /// The range of the names in data without compressed ones. `None` if they are malformed.
    fn names_in(&self, data: &[u8]) -> Option<Range<usize>> {
        let start = self.names_at(data, 0)?;
        let mut at = start;
        for _ in 0..self.names {
            (_, at) = Name::parse(data, at).ok()?;
        }
        Some(start..at)
    }

    /// The layout of types whose names may be compressed, or are compressed by some servers although they must not be.
    /// `None` for all other types, whose data is copied verbatim.
    pub(in crate::wire) fn of(rtype: u16) -> Option<Self> {
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
