//! Writes NOTIFY requests of a primary, and reads the responses (RFC 1996).

use crate::wire::name::Name;
use crate::wire::{HEADER, class, flag, read_u16, rtype};

/// The opcode NOTIFY in the flags of a header.
const NOTIFY: u16 = 4 << 11;
/// The bits for the opcode.
const OPCODE: u16 = 0x7800;

/// Writes a request for a zone. It has no SOA record, which would only be a hint.
pub fn write(id: u16, zone: &Name) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&(NOTIFY | flag::AA).to_be_bytes());
    out.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(zone.wire());
    out.extend_from_slice(&rtype::SOA.to_be_bytes());
    out.extend_from_slice(&class::IN.to_be_bytes());
    out
}

/// The response code of the response to a request with this ID; `None` if the message is anything else.
pub fn response(message: &[u8], id: u16, zone: &Name) -> Option<u16> {
    let flags = read_u16(message, 2)?;
    let is_response = flags & (flag::QR | OPCODE) == flag::QR | NOTIFY;
    if !is_response || read_u16(message, 0)? != id {
        return None;
    }
    // Some servers leave out the question of an error.
    if read_u16(message, 4)? > 0 {
        let mut name = Name::default();
        name.parse_wire(message, HEADER).ok()?;
        if name != *zone {
            return None;
        }
    }
    Some(flags & 0x000F)
}

/// The name of a response code, as in the logs of other servers.
pub fn rcode_name(code: u16) -> String {
    super::error::rcode_name(code)
}

#[cfg(test)]
mod tests {
    use super::super::notify::{Notify, is_notify};
    use super::*;
    use crate::wire::Rcode;

    #[test]
    fn a_secondary_reads_the_request_and_its_response_is_recognized() {
        let zone = Name::from_text("feed.test").expect("a name");
        let packet = write(9, &zone);
        assert!(is_notify(&packet));
        let mut name = Name::default();
        let notify = Notify::parse(&packet, &mut name).expect("a request");
        assert_eq!(name, zone);
        let mut answer = Vec::new();
        notify.respond(Rcode::Refused, &mut answer);
        assert_eq!(response(&answer, 9, &zone), Some(5));
        assert_eq!(response(&answer, 8, &zone), None, "another ID");
        let other = Name::from_text("other.test").expect("a name");
        assert_eq!(response(&answer, 9, &other), None);
        assert_eq!(response(&packet, 9, &zone), None, "no response");
        for end in 0..HEADER {
            assert_eq!(response(&answer[..end], 9, &zone), None);
        }
    }
}
