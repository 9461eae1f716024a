//! Parses the queries of secondaries for a zone: SOA, AXFR and IXFR.

use super::serial::Serial;
use super::soa::Soa;
use crate::wire::name::Name;
use crate::wire::{HEADER, PLAIN_UDP, UDP_PAYLOAD, class, edns, flag, read_u16, rtype, skip_name};

/// The bits of the header's flags for the opcode.
const OPCODE: u16 = 0x7800;
/// The type of a TSIG record (RFC 8945, section 4.1).
const TSIG: u16 = 250;

/// A query about a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferQuery<'p> {
    /// The message ID in wire order.
    pub id: [u8; 2],
    /// The flags of the header.
    pub flags: u16,
    /// The question section as sent.
    pub question: &'p [u8],
    /// QTYPE.
    pub rtype: u16,
    /// The serial of the version that the secondary has, in a query for IXFR.
    pub ours: Option<Serial>,
    /// Whether there is an OPT record.
    pub has_edns: bool,
    /// The most bytes of an answer by UDP.
    pub udp_limit: usize,
    /// Whether the last record is TSIG.
    pub is_signed: bool,
}

impl<'p> TransferQuery<'p> {
    /// Parses a query of class IN with one question, whose name is written to `zone`. `None` if the packet is anything else,
    /// or malformed, or a query for IXFR without a serial.
    pub fn parse(packet: &'p [u8], zone: &mut Name) -> Option<Self> {
        let count = |at| read_u16(packet, at);
        let flags = count(2)?;
        if flags & (flag::QR | OPCODE) != 0 || count(4)? != 1 || count(6)? != 0 {
            return None;
        }
        let end = zone.parse_wire(packet, HEADER).ok()? + 4;
        let question = packet.get(HEADER..end)?;
        if count(end - 2)? != class::IN {
            return None;
        }
        let rtype = count(end - 4)?;
        let authority = u32::from(count(8)?);
        let all = authority + u32::from(count(10)?);
        let (mut at, mut ours, mut opt, mut last) = (end, None, None, 0);
        for index in 0..all {
            let fields = edns::fields(packet, skip_name(packet, at)?)?;
            if index < authority && fields.rtype == rtype::SOA {
                ours = Some(Soa::parse(packet, fields.data, fields.end)?.serial);
            }
            if fields.rtype == rtype::OPT {
                opt = Some(fields.class);
            }
            (at, last) = (fields.end, fields.rtype);
        }
        let is_complete = at == packet.len() && (rtype != rtype::IXFR || ours.is_some());
        let udp_limit = opt.map_or(PLAIN_UDP, |size| size.clamp(PLAIN_UDP, UDP_PAYLOAD));
        is_complete.then_some(Self {
            id: [packet[0], packet[1]],
            flags,
            question,
            rtype,
            ours,
            has_edns: opt.is_some(),
            udp_limit: usize::from(udp_limit),
            is_signed: last == TSIG,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::transfer::query::Query;
    use crate::wire::transfer::tsig::{Algorithm, Key, Session};

    #[test]
    fn the_queries_of_a_secondary_are_read() {
        let zone = Name::from_text("Feed.test").expect("a name");
        for (query, rtype, ours) in [
            (Query::Soa, rtype::SOA, None),
            (Query::Axfr, rtype::AXFR, None),
            (Query::Ixfr(Serial(7)), rtype::IXFR, Some(Serial(7))),
        ] {
            let packet = query.write(9, &zone);
            let mut name = Name::default();
            let read = TransferQuery::parse(&packet, &mut name).expect("a query");
            assert_eq!(
                (read.rtype, read.ours, read.is_signed),
                (rtype, ours, false)
            );
            assert_eq!(name, zone);
            let key = Key::new(&zone, Algorithm::Sha256, &[7; 32]).expect("a key");
            let (_, signed) = Session::sign(&key, &packet, 1_795_000_000).expect("signed");
            let read = TransferQuery::parse(&signed, &mut name).expect("a query");
            assert_eq!((read.rtype, read.ours, read.is_signed), (rtype, ours, true));
            for end in 0..packet.len() {
                assert_eq!(TransferQuery::parse(&packet[..end], &mut name), None);
            }
        }
    }

    #[test]
    fn an_ixfr_query_without_a_serial_is_malformed() {
        let zone = Name::from_text("feed.test").expect("a name");
        let mut packet = Query::Axfr.write(9, &zone);
        let at = packet.len() - 3;
        packet[at] = rtype::IXFR as u8;
        assert_eq!(TransferQuery::parse(&packet, &mut Name::default()), None);
    }
}
