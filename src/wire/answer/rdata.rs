//! Where in a record's data there are names, by the record's type.

use std::collections::HashSet;

use super::chain::Chain;
use super::records::{ParsedResponse, Record};
use crate::wire::name::Name;
use crate::wire::rtype;

/// Where the names in a type's data are.
pub(super) struct RdataLayout {
    /// Bytes before the first name, or before the strings.
    pub(super) prefix: usize,
    /// Character strings before the first name.
    pub(super) strings: usize,
    pub(super) names: usize,
    /// How many bytes follow the names; `None` for any number.
    pub(super) trailing: Option<usize>,
    /// Whether they may be written compressed: in types of RFC 1035 only (RFC 3597, section 4).
    pub(super) compressed: bool,
}

impl RdataLayout {
    /// Where the first name is, in data that starts at that offset.
    pub(super) fn names_at(&self, message: &[u8], start: usize) -> Option<usize> {
        let mut at = start + self.prefix;
        for _ in 0..self.strings {
            at += 1 + usize::from(*message.get(at)?);
        }
        Some(at)
    }

    /// The shape of types in whose data names may be compressed, or are by mistake. `None` for all
    /// others: their data is copied as it is.
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
            // RP, AFSDB, RT, PX, SRV, KX, DNAME
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

/// The name that the chain ends at, and those in the data of the records that answer. Addresses of any
/// other name have nothing to do with the query. `None` if the data is malformed.
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

/// Reads the names in a record's data.
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
        let (name, behind) = Name::read_compressed(message, at).ok()?;
        names.insert(name);
        at = behind;
    }
    Some(())
}
