//! A record of a transfer. Nothing of it is copied until it is asked for.

use super::soa::Soa;
use crate::wire::answer::RdataLayout;
use crate::wire::name::{MAX_JUMPS, MAX_NAME, Name, NameError};
use crate::wire::rtype;

/// A record of a message, whose owner is in the zone and whose class is IN.
#[derive(Clone, Copy, Debug)]
pub struct Record<'m> {
    pub(super) message: &'m [u8],
    pub(super) owner: usize,
    /// The length of the owner in wire form, uncompressed.
    pub(super) owner_len: usize,
    /// TYPE.
    pub rtype: u16,
    /// TTL, in seconds, as sent.
    pub ttl: u32,
    pub(super) data: usize,
    pub(super) end: usize,
}

impl<'m> Record<'m> {
    /// Overwrites `name` with the owner in lower case.
    ///
    /// # Errors
    /// Never for a record of a [`Transfer`](super::Transfer), which has checked the owner.
    pub fn read_owner(&self, name: &mut Name) -> Result<(), NameError> {
        name.parse_compressed_wire(self.message, self.owner)?;
        Ok(())
    }

    /// The length of the owner in wire form, uncompressed. Equal to the zone's for records at the apex.
    pub fn owner_len(&self) -> usize {
        self.owner_len
    }

    /// The RDATA as sent: names in it may be compressed.
    pub fn raw_data(&self) -> &'m [u8] {
        self.message.get(self.data..self.end).unwrap_or_default()
    }

    /// Appends the RDATA with all names uncompressed, in the letter case that was sent. `None` if a name is malformed,
    /// or the data does not have the length that its type requires; `out` may then have parts of it.
    pub fn copy_data(&self, out: &mut Vec<u8>) -> Option<()> {
        let raw = self.raw_data();
        let Some(layout) = RdataLayout::of(self.rtype) else {
            let fits = match self.rtype {
                rtype::A => raw.len() == 4,
                rtype::AAAA => raw.len() == 16,
                _ => true,
            };
            out.extend_from_slice(raw);
            return fits.then_some(());
        };
        // Names are read from the data alone and from what precedes it, so that none goes on after the end of the data.
        let message = self.message.get(..self.end)?;
        let mut at = layout.names_at(message, self.data)?;
        out.extend_from_slice(message.get(self.data..at)?);
        for _ in 0..layout.names {
            at = copy_name(message, at, out)?;
        }
        let rest = message.get(at..)?;
        out.extend_from_slice(rest);
        let fits = layout
            .trailing
            .is_none_or(|trailing| rest.len() == trailing);
        fits.then_some(())
    }

    /// The data of a SOA record. `None` if it is malformed or has another type.
    pub fn soa(&self) -> Option<Soa> {
        let is_soa = self.rtype == rtype::SOA;
        is_soa.then(|| Soa::parse(self.message, self.data, self.end))?
    }
}

/// Appends the name at an offset without compression. Returns the offset after it. `None` if it is malformed.
fn copy_name(message: &[u8], mut at: usize, out: &mut Vec<u8>) -> Option<usize> {
    let (mut end, mut jumps, start) = (None, 0, out.len());
    loop {
        let byte = *message.get(at)?;
        match byte {
            0 => {
                out.push(0);
                return Some(end.unwrap_or(at + 1));
            }
            1..=63 => {
                let label = message.get(at..=at + usize::from(byte))?;
                if out.len() - start + label.len() >= MAX_NAME {
                    return None;
                }
                out.extend_from_slice(label);
                at += label.len();
            }
            0xC0.. => {
                let target = usize::from(byte & 0x3F) << 8 | usize::from(*message.get(at + 1)?);
                jumps += 1;
                if target >= at || jumps > MAX_JUMPS {
                    return None;
                }
                end.get_or_insert(at + 2);
                at = target;
            }
            _ => return None,
        }
    }
}
