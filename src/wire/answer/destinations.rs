//! The names and addresses that an answer leads to, beside its CNAME chain: where they are in its message.

use smallvec::SmallVec;

use crate::wire::name::Name;
use crate::wire::read_u16;

/// The maximum number of SVCB and HTTPS records of an answer. More do not fit into a datagram, and would keep
/// the server busy.
const MAX_SERVICES: u16 = 64;
/// The maximum number of address hints of an answer, each of which is compared with the policy's networks.
const MAX_HINTS: usize = 512;
/// The parameters with address hints (RFC 9460, section 14.3.2).
const IPV4HINT: u16 = 4;
const IPV6HINT: u16 = 6;

/// The destinations of an answer that is being written.
#[derive(Default)]
pub(super) struct Destinations {
    services: u16,
    targets: SmallVec<[u16; 4]>,
    /// For each address hint, the offset of the data of its SVCB or HTTPS record and the offset of the hint. IPv4 hints
    /// are first, IPv6 hints second.
    hints: [Vec<[u16; 2]>; 2],
    pub(super) addresses: AddressRecords,
}

/// The A or AAAA records that answer the question.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AddressRecords {
    /// The index of the first record's TTL field in the answer's list of TTL fields.
    pub(super) first: u16,
    pub(super) count: u16,
}

/// The numbers of the destinations of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct DestinationCounts {
    /// SVCB and HTTPS records in the answer section.
    pub(super) services: u16,
    /// Targets of these records.
    pub(super) targets: u16,
    /// IPv4 hints, which precede the IPv6 hints.
    pub(super) hints_v4: u16,
    pub(super) addresses: AddressRecords,
}

impl Destinations {
    /// Adds the target and the address hints of an SVCB or HTTPS record, whose data starts at `data_at` and ends with
    /// the message. A target that is the owner is left out (RFC 9460, section 2.5). `None` if the data is malformed, or
    /// there are too many such records or hints.
    pub(super) fn note_service(&mut self, message: &[u8], data_at: usize) -> Option<()> {
        let (target, params) = Name::parse(message, data_at + 2).ok()?;
        self.services += 1;
        if self.services > MAX_SERVICES {
            return None;
        }
        if target.label_count() > 0 {
            self.targets.push((data_at + 2) as u16);
        }
        self.note_hints(message, data_at, params);
        let hints: usize = self.hints.iter().map(Vec::len).sum();
        (hints <= MAX_HINTS).then_some(())
    }

    /// Adds the address hints in the parameters of a record (RFC 9460, section 7.3), which start at `at`. Ends at a
    /// malformed parameter: clients ignore records with one (section 2.2).
    fn note_hints(&mut self, message: &[u8], data_at: usize, mut at: usize) {
        while let Some((key, len)) = read_u16(message, at).zip(read_u16(message, at + 2)) {
            let (start, end) = (at + 4, at + 4 + usize::from(len));
            if end > message.len() {
                return;
            }
            at = end;
            let (hints, size) = match key {
                IPV4HINT => (&mut self.hints[0], 4),
                IPV6HINT => (&mut self.hints[1], 16),
                _ => continue,
            };
            let addresses = (start..end).step_by(size).filter(|hint| hint + size <= end);
            hints.extend(addresses.map(|hint| [data_at as u16, hint as u16]));
        }
    }

    /// The offsets of targets and hints, in the order in which an answer stores them.
    pub(super) fn offsets(&self) -> impl Iterator<Item = &u16> {
        let hints = self.hints.iter().flatten().flatten();
        self.targets.iter().chain(hints)
    }

    pub(super) fn counts(&self) -> DestinationCounts {
        DestinationCounts {
            services: self.services,
            targets: self.targets.len() as u16,
            hints_v4: self.hints[0].len() as u16,
            addresses: self.addresses,
        }
    }
}
