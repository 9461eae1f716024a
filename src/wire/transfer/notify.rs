//! NOTIFY: a primary reports that a zone has changed (RFC 1996).

use super::serial::Serial;
use super::soa::Soa;
use crate::wire::edns;
use crate::wire::name::Name;
use crate::wire::{HEADER, Rcode, UDP_PAYLOAD, class, flag, read_u16, rtype, skip_name};

/// The bits of the header's flags for the opcode, and the opcode NOTIFY in them (RFC 1996, section 3.3).
const OPCODE: u16 = 0x7800;
const NOTIFY: u16 = 4 << 11;

/// The type of a TSIG record (RFC 8945, section 4.1).
const TSIG: u16 = 250;

/// Whether a packet is a request with the opcode NOTIFY. Only the header is read.
pub fn is_notify(packet: &[u8]) -> bool {
    read_u16(packet, 2).is_some_and(|flags| flags & (flag::QR | OPCODE) == NOTIFY)
}

/// A NOTIFY request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notify<'p> {
    header: &'p [u8],
    /// The question section as sent.
    question: &'p [u8],
    /// The serial in the answer section, which is a hint: it may be forged, and need not be there (RFC 1996, section
    /// 3.7).
    pub serial: Option<Serial>,
    /// Whether the last record is TSIG.
    pub is_signed: bool,
    /// Whether there is an OPT record.
    has_edns: bool,
}

impl<'p> Notify<'p> {
    /// Parses a packet for which [`is_notify`] holds. The zone's name is written to `zone`.
    ///
    /// # Errors
    /// The response code to answer with: FORMERR, or NOTIMP for another type than SOA or another class than IN.
    pub fn parse(packet: &'p [u8], zone: &mut Name) -> Result<Self, Rcode> {
        Self::read(packet, zone).ok_or(Rcode::FormErr)?
    }

    fn read(packet: &'p [u8], zone: &mut Name) -> Option<Result<Self, Rcode>> {
        let count = |at| read_u16(packet, at);
        if count(4)? != 1 {
            return None;
        }
        let end = zone.parse_wire(packet, HEADER).ok()? + 4;
        let question = packet.get(HEADER..end)?;
        if count(end - 4)? != rtype::SOA || count(end - 2)? != class::IN {
            return Some(Err(Rcode::NotImp));
        }
        let answers = u32::from(count(6)?);
        let all = answers + u32::from(count(8)?) + u32::from(count(10)?);
        let (mut at, mut serial) = (end, None);
        let (mut is_signed, mut has_edns) = (false, false);
        for index in 0..all {
            // A TSIG record must be the last one (RFC 8945, section 5.1).
            if is_signed {
                return None;
            }
            let fields = edns::fields(packet, skip_name(packet, at)?)?;
            match fields.rtype {
                rtype::SOA if index < answers => {
                    serial = Some(Soa::parse(packet, fields.data, fields.end)?.serial);
                }
                rtype::OPT => has_edns = true,
                TSIG => is_signed = true,
                _ => {}
            }
            at = fields.end;
        }
        (at == packet.len()).then_some(Ok(Self {
            header: packet.get(..HEADER)?,
            question,
            serial,
            is_signed,
            has_edns,
        }))
    }

    /// Overwrites `out` with the response (RFC 1996, section 4.7), without a TSIG record. It is not longer than the
    /// request.
    pub fn respond(&self, rcode: Rcode, out: &mut Vec<u8>) {
        let flags = flag::QR | flag::AA | NOTIFY | rcode as u16 & 0x000F;
        out.clear();
        out.extend_from_slice(&self.header[..2]);
        out.extend_from_slice(&flags.to_be_bytes());
        out.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, self.has_edns.into()]);
        out.extend_from_slice(self.question);
        if self.has_edns {
            // A request with an OPT record gets one (RFC 6891, section 6.1.1): owner, type, payload size, the rest 0.
            out.extend_from_slice(&[0, 0, rtype::OPT as u8]);
            out.extend_from_slice(&UDP_PAYLOAD.to_be_bytes());
            out.extend_from_slice(&[0; 6]);
        }
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};

    use super::*;

    /// A NOTIFY for `Feed.test`, with a SOA record that has this serial.
    fn packet(serial: Option<u32>) -> Vec<u8> {
        let mut packet = b"\x12\x34\x24\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
        packet[7] = serial.is_some().into();
        packet.extend_from_slice(b"\x04Feed\x04test\0\x00\x06\x00\x01");
        if let Some(serial) = serial {
            packet.extend_from_slice(b"\xC0\x0C\x00\x06\x00\x01\0\0\0\0\x00\x18\xC0\x0C\xC0\x0C");
            packet.extend_from_slice(&serial.to_be_bytes());
            packet.extend_from_slice(&[0; 16]);
        }
        packet
    }

    #[test]
    fn a_notify_is_read_and_answered_with_its_question() {
        for serial in [None, Some(2_026_112_701)] {
            let packet = packet(serial);
            assert!(is_notify(&packet));
            let mut zone = Name::default();
            let notify = Notify::parse(&packet, &mut zone).expect("read");
            assert_eq!(zone.to_string(), "feed.test");
            assert_eq!(notify.serial, serial.map(Serial));
            assert!(!notify.is_signed);
            let mut out = vec![0; 3];
            notify.respond(Rcode::Refused, &mut out);
            let answer = Message::from_vec(&out).expect("read");
            assert_eq!(answer.metadata.id, 0x1234);
            assert_eq!(answer.metadata.op_code, OpCode::Notify);
            assert_eq!(answer.metadata.message_type, MessageType::Response);
            assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
            assert_eq!(answer.queries[0].name().to_string(), "Feed.test.");
        }
    }

    #[test]
    fn a_notify_with_edns_is_answered_with_edns() {
        let mut packet = packet(Some(1));
        packet[11] = 1;
        packet.extend_from_slice(b"\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00");
        let mut zone = Name::default();
        let notify = Notify::parse(&packet, &mut zone).expect("read");
        let mut out = Vec::new();
        notify.respond(Rcode::NoError, &mut out);
        let answer = Message::from_vec(&out).expect("read");
        let edns = answer.edns.expect("an OPT record");
        assert_eq!(edns.max_payload(), UDP_PAYLOAD);
        assert!(out.len() < packet.len());
    }

    #[test]
    fn a_tsig_record_before_another_record_is_malformed() {
        let tsig = b"\x00\x00\xFA\x00\xFF\x00\x00\x00\x00\x00\x00";
        let opt = b"\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00";
        let mut zone = Name::default();
        let mut packet = packet(None);
        packet[11] = 2;
        let good = [&packet[..], opt, tsig].concat();
        assert!(Notify::parse(&good, &mut zone).is_ok_and(|notify| notify.is_signed));
        let bad = [&packet[..], tsig, opt].concat();
        assert_eq!(Notify::parse(&bad, &mut zone), Err(Rcode::FormErr));
    }

    #[test]
    fn malformed_notifies_get_formerr_and_other_types_notimp() {
        let whole = packet(Some(1));
        for len in HEADER..whole.len() {
            let cut = Notify::parse(&whole[..len], &mut Name::default());
            assert_eq!(cut, Err(Rcode::FormErr), "cut at {len}");
        }
        let mut other = packet(None);
        let at = other.len() - 3;
        other[at] = 1;
        let other = Notify::parse(&other, &mut Name::default());
        assert_eq!(other, Err(Rcode::NotImp));
    }

    #[test]
    fn responses_and_queries_are_no_notify() {
        for flags in [0xA4, 0x00, 0x01, 0x28] {
            let mut packet = packet(None);
            packet[2] = flags;
            assert!(!is_notify(&packet), "{flags:x}");
        }
        assert!(!is_notify(&[0; 3]));
    }
}
