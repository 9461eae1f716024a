//! Parses a client's query without allocating. Only the name is copied, because it is changed to lower case.

use super::edns::{self, Edns};
use super::name::Name;
use super::{HEADER, MAX_MESSAGE, PLAIN_UDP, Rcode, UDP_PAYLOAD, flag, read_u16, rtype, skip_name};

/// Why a packet is rejected. Each fault has a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Fewer bytes than a header has.
    Short,
    /// QR=1: a response. Answering it could make two servers send packets to each other for ever.
    Response,
    /// An opcode other than QUERY.
    Opcode,
    /// Not exactly one question.
    QuestionCount,
    /// The question is truncated, or its name is compressed, too long or otherwise malformed.
    Question,
    /// Records that overrun the packet, bytes after the last record, or an answer section.
    Records,
    /// More than one OPT record, an OPT record in the authority section or with an owner other than the root, or
    /// options that overrun it.
    Edns,
}

/// How a rejected packet is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// Not at all: no answer is due, or it would serve an attacker.
    Drop(Fault),
    /// With a header that has this response code, and nothing else.
    Header(Rcode, Fault),
}

impl Reject {
    /// Why the packet is rejected.
    pub fn fault(self) -> Fault {
        match self {
            Self::Drop(fault) | Self::Header(_, fault) => fault,
        }
    }
}

/// A query with exactly one question.
#[derive(Clone, Copy, Debug)]
pub struct Query<'p> {
    packet: &'p [u8],
    flags: u16,
    /// The queried name in lower case; [`question`](Self::question) has the letter case that was sent.
    pub name: &'p Name,
    /// QTYPE.
    pub rtype: u16,
    /// QCLASS.
    pub class: u16,
    question_end: usize,
    /// The OPT record, if there is one.
    pub edns: Option<Edns>,
}

impl<'p> Query<'p> {
    /// Parses a packet (RFC 1035, section 4; RFC 6891, section 6). The queried name is written to `name`. A
    /// [`Name`] is too large to be returned: moving it from function to function took longer than the parsing itself.
    ///
    /// # Errors
    /// [`Reject`] with the answer to send. An unknown EDNS version is not an error here: see
    /// [`unknown_version`](Self::unknown_version).
    #[inline(always)]
    pub fn parse(packet: &'p [u8], name: &'p mut Name) -> Result<Self, Reject> {
        let header: &[u8; HEADER] = packet.first_chunk().ok_or(Reject::Drop(Fault::Short))?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let flags = word(2);
        if flags & flag::QR != 0 {
            return Err(Reject::Drop(Fault::Response));
        }
        if flags & 0x7800 != 0 {
            return Err(Reject::Header(Rcode::NotImp, Fault::Opcode));
        }
        if word(4) != 1 {
            return Err(formerr(Fault::QuestionCount));
        }
        // A query has no answer section, but an IXFR query has an authority section (RFC 1995).
        if word(6) != 0 {
            return Err(formerr(Fault::Records));
        }
        let at = name.parse_wire(packet, HEADER);
        let at = at.map_err(|_| formerr(Fault::Question))?;
        let (Some(rtype), Some(class)) = (read_u16(packet, at), read_u16(packet, at + 2)) else {
            return Err(formerr(Fault::Question));
        };
        let question_end = at + 4;
        let edns = find_opt(packet, question_end, word(8), word(10)).map_err(formerr)?;
        Ok(Self {
            packet,
            flags,
            name,
            rtype,
            class,
            question_end,
            edns,
        })
    }

    /// The message ID in wire order.
    pub fn id(&self) -> [u8; 2] {
        [self.packet[0], self.packet[1]]
    }

    /// The flags of the header, as sent.
    pub fn flags(&self) -> u16 {
        self.flags
    }

    /// The question section as sent: name with its letter case, type, class.
    pub fn question(&self) -> &'p [u8] {
        &self.packet[HEADER..self.question_end]
    }

    /// Whether recursion is desired.
    pub fn recursion_desired(&self) -> bool {
        self.flags & flag::RD != 0
    }

    /// Whether the client validates DNSSEC itself (RFC 6840, section 5.9).
    pub fn checking_disabled(&self) -> bool {
        self.flags & flag::CD != 0
    }

    /// Whether DNSSEC records are wanted (RFC 3225).
    pub fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|e| e.dnssec_ok)
    }

    /// Whether the client understands AD in the answer (RFC 6840, section 5.7).
    pub fn wants_ad(&self) -> bool {
        self.flags & flag::AD != 0 || self.dnssec_ok()
    }

    /// Whether the EDNS version is not 0, which is answered with BADVERS (RFC 6891, section 6.1.3).
    pub fn unknown_version(&self) -> bool {
        self.edns.is_some_and(|e| e.version != 0)
    }

    /// The maximum size of an answer over UDP: the client's payload size, at most [`UDP_PAYLOAD`]; 512
    /// without EDNS.
    pub fn udp_limit(&self) -> usize {
        let size = self.edns.map_or(PLAIN_UDP, |e| e.udp_size);
        usize::from(size.clamp(PLAIN_UDP, UDP_PAYLOAD))
    }

    /// The maximum size of an answer over a stream.
    pub fn stream_limit(&self) -> usize {
        MAX_MESSAGE
    }
}

fn formerr(fault: Fault) -> Reject {
    Reject::Header(Rcode::FormErr, fault)
}

/// Finds the OPT record in the additional section; an OPT record in the authority section is a fault. The last record
/// must end where the packet ends.
fn find_opt(packet: &[u8], at: usize, ns: u16, ar: u16) -> Result<Option<Edns>, Fault> {
    let mut at = at;
    let mut found = None;
    for index in 0..u32::from(ns) + u32::from(ar) {
        let owner = at;
        let after = skip_name(packet, at).ok_or(Fault::Records)?;
        let record = edns::fields(packet, after).ok_or(Fault::Records)?;
        at = record.end;
        if record.rtype != rtype::OPT {
            continue;
        }
        let additional = index >= u32::from(ns);
        if !additional || packet[owner] != 0 || found.is_some() {
            return Err(Fault::Edns);
        }
        if !edns::options(&packet[record.data..record.end], |_, _| ()) {
            return Err(Fault::Edns);
        }
        found = Some(Edns::from_fields(record.class, record.ttl));
    }
    if at == packet.len() {
        Ok(found)
    } else {
        Err(Fault::Records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A query with RD for `www.Example` A and the given OPT records.
    fn packet(opts: &[&[u8]]) -> Vec<u8> {
        let mut packet = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00".to_vec();
        packet.push(opts.len() as u8);
        packet.extend_from_slice(b"\x03www\x07Example\x00\x00\x01\x00\x01");
        for opt in opts {
            packet.extend_from_slice(opt);
        }
        packet
    }

    const OPT: &[u8] = b"\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x00";

    fn fault(packet: &[u8]) -> Reject {
        Query::parse(packet, &mut Name::default()).expect_err("must be refused")
    }

    #[test]
    fn a_query_is_lower_cased_and_keeps_its_question_as_sent() {
        let packet = packet(&[OPT]);
        let mut name = Name::default();
        let query = Query::parse(&packet, &mut name).expect("well formed");
        assert_eq!(query.name.to_string(), "www.example");
        assert_eq!(query.question(), b"\x03www\x07Example\x00\x00\x01\x00\x01");
        assert_eq!((query.rtype, query.class), (1, 1));
        assert!(query.recursion_desired() && query.dnssec_ok() && query.wants_ad());
        assert_eq!(query.udp_limit(), 1232, "4096 offered, 1232 used");
    }

    #[test]
    fn without_edns_the_limit_is_512_and_a_smaller_offer_counts_as_512() {
        let plain = packet(&[]);
        let mut name = Name::default();
        let query = Query::parse(&plain, &mut name).expect("read");
        assert_eq!(query.udp_limit(), 512);
        let tiny = packet(&[b"\x00\x00\x29\x00\x10\x00\x00\x00\x00\x00\x00"]);
        let query = Query::parse(&tiny, &mut name).expect("read");
        assert_eq!(query.udp_limit(), 512);
    }

    #[test]
    fn responses_are_dropped_and_malformed_queries_get_a_header() {
        assert_eq!(fault(&[0; 11]), Reject::Drop(Fault::Short));
        let edit = |at: usize, value: u8| {
            let mut packet = packet(&[OPT]);
            packet[at] = value;
            packet
        };
        assert_eq!(fault(&edit(2, 0x81)), Reject::Drop(Fault::Response));
        assert_eq!(
            fault(&edit(2, 0x21)),
            Reject::Header(Rcode::NotImp, Fault::Opcode)
        );
        assert_eq!(fault(&edit(5, 0)), formerr(Fault::QuestionCount));
        assert_eq!(fault(&edit(5, 2)), formerr(Fault::QuestionCount));
        assert_eq!(fault(&edit(7, 1)), formerr(Fault::Records));
        assert_eq!(fault(&edit(12, 0xC0)), formerr(Fault::Question));
        assert_eq!(fault(&edit(12, 0x43)), formerr(Fault::Question));
        assert_eq!(fault(&edit(11, 2)), formerr(Fault::Records));
        assert_eq!(fault(&edit(11, 0)), formerr(Fault::Records));
    }

    #[test]
    fn every_truncated_packet_is_rejected() {
        let (whole, mut name) = (packet(&[OPT]), Name::default());
        for len in 0..whole.len() {
            let cut = Query::parse(&whole[..len], &mut name);
            assert!(cut.is_err(), "cut at {len}");
        }
    }

    #[test]
    fn two_opts_an_opt_with_an_owner_and_overrunning_options_are_rejected() {
        assert_eq!(fault(&packet(&[OPT, OPT])), formerr(Fault::Edns));
        let owned = b"\x01x\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00";
        assert_eq!(fault(&packet(&[owned])), formerr(Fault::Edns));
        let overrun = b"\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x05\x00\x0A\x00\x02\x01";
        assert_eq!(fault(&packet(&[overrun])), formerr(Fault::Edns));
    }

    #[test]
    fn an_unknown_edns_version_is_reported() {
        let packet = packet(&[b"\x00\x00\x29\x10\x00\x00\x01\x00\x00\x00\x00"]);
        let mut name = Name::default();
        let query = Query::parse(&packet, &mut name).expect("read");
        assert!(query.unknown_version());
    }
}
