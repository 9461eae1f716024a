//! Messages of a primary, written record by record.

use crate::wire::name::Name;
use crate::wire::rtype;

pub(super) const ZONE: &str = "feed.test";

pub(in super::super) fn zone() -> Name {
    Name::from_text(ZONE).expect("a name")
}

/// A record.
#[derive(Clone, Debug)]
pub(super) struct Rr {
    pub(super) owner: String,
    pub(super) rtype: u16,
    pub(super) class: u16,
    pub(super) data: Vec<u8>,
}

/// A record below the zone, or at its apex without a name. CNAME records have the target `.`.
pub(super) fn rr(name: &str, rtype: u16) -> Rr {
    let owner = match name {
        "" => ZONE.to_owned(),
        name => format!("{name}.{ZONE}"),
    };
    Rr {
        owner,
        rtype,
        class: 1,
        data: vec![0],
    }
}

/// The zone's SOA record.
pub(super) fn soa(serial: u32) -> Rr {
    let mut data = b"\x01m\0\x01r\0".to_vec();
    data.extend_from_slice(&serial.to_be_bytes());
    for time in [900_u32, 60, 86_400, 60] {
        data.extend_from_slice(&time.to_be_bytes());
    }
    Rr {
        data,
        ..rr("", rtype::SOA)
    }
}

/// A response to a query for the zone.
pub(super) fn message(id: u16, qtype: u16, records: &[Rr]) -> Vec<u8> {
    let mut question = zone().wire().to_vec();
    question.extend_from_slice(&qtype.to_be_bytes());
    question.extend_from_slice(&[0, 1]);
    write(id, &question, records)
}

/// A response without a question.
pub(super) fn without_question(id: u16, records: &[Rr]) -> Vec<u8> {
    write(id, &[], records)
}

fn write(id: u16, question: &[u8], records: &[Rr]) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    out.extend_from_slice(&[0x84, 0, 0, u8::from(!question.is_empty())]);
    out.extend_from_slice(&(records.len() as u16).to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(question);
    for record in records {
        let below = record.owner.strip_suffix(ZONE);
        match below.filter(|_| !question.is_empty()) {
            Some(below) => {
                let name = Name::from_text(below.trim_end_matches('.')).unwrap_or_default();
                out.extend_from_slice(&name.wire()[..name.wire().len() - 1]);
                out.extend_from_slice(&[0xC0, 12]);
            }
            None => {
                let name = Name::from_text(&record.owner).expect("a name");
                out.extend_from_slice(name.wire());
            }
        }
        out.extend_from_slice(&record.rtype.to_be_bytes());
        out.extend_from_slice(&record.class.to_be_bytes());
        out.extend_from_slice(&[0, 0, 0, 60]);
        out.extend_from_slice(&(record.data.len() as u16).to_be_bytes());
        out.extend_from_slice(&record.data);
    }
    out
}
