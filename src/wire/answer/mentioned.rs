//! The names whose addresses belong in the additional section.

use std::collections::HashSet;

use super::chain::Chain;
use super::records::{ParsedResponse, Record};
use super::shape::RdataLayout;
use crate::wire::name::Name;
use crate::wire::rtype;

/// The name that the chain ends at, and those in the data of the records that answer. Addresses of any
/// other name have nothing to do with the query. `None` if the data is malformed.
pub(super) fn mentioned(
    parsed: &ParsedResponse<'_>,
    chain: &Chain,
    asked: &Name,
) -> Option<HashSet<Name>> {
    let mut names = HashSet::from([chain.last(asked).clone()]);
    for record in &chain.final_records {
        read(parsed.message, record, &mut names)?;
    }
    Some(names)
}

/// Reads the names in a record's data.
fn read(message: &[u8], record: &Record, names: &mut HashSet<Name>) -> Option<()> {
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
