//! Writes the queries of a secondary: SOA, AXFR (RFC 5936, section 2.1) and IXFR (RFC 1995, section 3).

use super::serial::Serial;
use crate::wire::name::Name;
use crate::wire::{class, rtype};

/// A query of a secondary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// The SOA record, for its serial.
    Soa,
    /// The whole zone.
    Axfr,
    /// The changes since this serial.
    Ixfr(Serial),
}

impl Query {
    /// QTYPE.
    pub fn rtype(self) -> u16 {
        match self {
            Self::Soa => rtype::SOA,
            Self::Axfr => rtype::AXFR,
            Self::Ixfr(_) => rtype::IXFR,
        }
    }

    /// Writes the query without EDNS, which has no use in a transfer over TCP. No flag is set.
    pub fn write(self, id: u16, zone: &Name) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(&id.to_be_bytes());
        let has_authority = u8::from(matches!(self, Self::Ixfr(_)));
        out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, has_authority, 0, 0]);
        out.extend_from_slice(zone.wire());
        out.extend_from_slice(&self.rtype().to_be_bytes());
        out.extend_from_slice(&class::IN.to_be_bytes());
        if let Self::Ixfr(serial) = self {
            out.extend_from_slice(zone.wire());
            out.extend_from_slice(&rtype::SOA.to_be_bytes());
            out.extend_from_slice(&class::IN.to_be_bytes());
            // TTL 0. Primaries read nothing but the serial: the names are the root, and the times 0.
            out.extend_from_slice(&[0, 0, 0, 0, 0, 22, 0, 0]);
            out.extend_from_slice(&serial.0.to_be_bytes());
            out.extend_from_slice(&[0; 16]);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Message;
    use hickory_proto::rr::{RData, RecordType};

    use super::*;

    #[test]
    fn another_implementation_reads_the_queries() {
        let zone = Name::from_text("feed.test").expect("a name");
        for (query, rtype) in [
            (Query::Soa, RecordType::SOA),
            (Query::Axfr, RecordType::AXFR),
            (Query::Ixfr(Serial(7)), RecordType::IXFR),
        ] {
            let message = Message::from_vec(&query.write(9, &zone)).expect("read");
            assert_eq!(message.metadata.id, 9);
            assert!(!message.metadata.recursion_desired);
            let [asked] = &message.queries[..] else {
                panic!("one question");
            };
            assert_eq!(asked.query_type(), rtype);
            assert_eq!(asked.name().to_string(), "feed.test.");
            let serials = message.authorities.iter().map(|record| match &record.data {
                RData::SOA(soa) => soa.serial,
                other => panic!("{other:?}"),
            });
            let expected = matches!(query, Query::Ixfr(_)).then_some(7);
            assert_eq!(serials.collect::<Vec<_>>(), Vec::from_iter(expected));
        }
    }
}
