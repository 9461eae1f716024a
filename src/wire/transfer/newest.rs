//! Reads the answer to a query for a zone's SOA record.

use super::error::TransferError;
use super::response::Response;
use super::soa::Soa;
use crate::wire::name::Name;
use crate::wire::{Rcode, class, rtype, skip_name};

/// The SOA record of the newest version that a primary has, by its answer to a query for it.
///
/// # Errors
/// [`TransferError`] if the message is not an answer to that query, or has no such record.
pub fn newest(message: &[u8], id: u16, zone: &Name) -> Result<Soa, TransferError> {
    let response = Response::parse(message)?;
    if response.id != id {
        return Err(TransferError::Foreign("it has another ID"));
    }
    if response.rcode() != Rcode::NoError as u16 {
        return Err(TransferError::Rcode(response.rcode()));
    }
    if !response.asks(zone.wire(), rtype::SOA) {
        return Err(TransferError::Foreign("it has another question"));
    }
    let mut records = response.records();
    let mut found = None;
    while records.left > 0 {
        let after = skip_name(message, records.at);
        let after = after.ok_or(TransferError::Malformed("its counts exceed its records"))?;
        let fields = records.fields(after)?;
        if fields.rtype == rtype::SOA && fields.class == class::IN {
            let owner = Name::parse_compressed(message, records.at);
            let soa = Soa::parse(message, fields.data, fields.end);
            let soa = soa.ok_or(TransferError::Malformed("a SOA record is malformed"))?;
            if owner.is_ok_and(|(owner, _)| owner == *zone) {
                found = Some(soa);
            }
        }
        records.advance(fields.end);
    }
    records.check_end()?;
    found.ok_or(TransferError::NoSoa)
}
