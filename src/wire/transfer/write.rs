//! Writes the messages of a transfer from a primary's side (RFC 5936, section 2.2; RFC 1995, section 4).

use super::request::TransferQuery;
use crate::wire::name::Name;
use crate::wire::{HEADER, MAX_MESSAGE, Rcode, UDP_PAYLOAD, class, flag, rtype};

/// A message with this many bytes gets no further record. Compression pointers reach no further.
const FULL: usize = 1 << 14;
/// Room for a TSIG record: two names, a hash, and fixed fields (RFC 8945, section 4.2).
const SIGNATURE: usize = 640;
/// The first two bits of a compression pointer.
const POINTER: u16 = 0xC000;

/// A record that is larger than a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record does not fit into a message")]
pub struct RecordTooLarge;

/// Writes the messages that answer one query. Each has the question, whose name is that of the zone.
#[derive(Debug)]
pub struct MessageWriter {
    /// Header and question.
    head: Vec<u8>,
    has_edns: bool,
    out: Vec<u8>,
    answers: u16,
    /// The owner of the last record below the zone's name, and its offset in this message.
    last: (Vec<u8>, Option<usize>),
}

impl MessageWriter {
    /// A writer of the answer to a query.
    pub fn new(query: &TransferQuery<'_>) -> Self {
        let mut head = Vec::with_capacity(HEADER + query.question.len());
        let flags = flag::QR | flag::AA | query.flags & flag::RD;
        head.extend_from_slice(&query.id);
        head.extend_from_slice(&flags.to_be_bytes());
        head.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        head.extend_from_slice(query.question);
        Self {
            out: head.clone(),
            head,
            has_edns: query.has_edns,
            answers: 0,
            last: (Vec::new(), None),
        }
    }

    /// Adds a record. `owner` is the part of its name before that of the zone: labels without a root label. `data` has no
    /// compressed names. Returns the message before it, if that is full or has no room for the record.
    ///
    /// # Errors
    /// [`RecordTooLarge`] if the record does not fit into an empty message. The message is unchanged then.
    pub fn push(
        &mut self,
        owner: &[u8],
        rtype: u16,
        ttl: u32,
        data: &[u8],
    ) -> Result<Option<Vec<u8>>, RecordTooLarge> {
        let size = u16::try_from(data.len()).map_err(|_| RecordTooLarge)?;
        let most = owner.len() + 12 + data.len();
        let fits = |before: &[u8]| before.len() + most <= MAX_MESSAGE - SIGNATURE;
        if !fits(&self.head) {
            return Err(RecordTooLarge);
        }
        let is_full = self.out.len() >= FULL || !fits(&self.out);
        let message = is_full.then(|| self.take());
        self.owner(owner);
        self.out.extend_from_slice(&rtype.to_be_bytes());
        self.out.extend_from_slice(&class::IN.to_be_bytes());
        self.out.extend_from_slice(&ttl.to_be_bytes());
        self.out.extend_from_slice(&size.to_be_bytes());
        self.out.extend_from_slice(data);
        self.answers += 1;
        Ok(message)
    }

    /// Whether the message has no records yet.
    pub fn is_empty(&self) -> bool {
        self.answers == 0
    }

    /// Takes the message, and begins the next one.
    pub fn take(&mut self) -> Vec<u8> {
        self.out[6..8].copy_from_slice(&self.answers.to_be_bytes());
        if self.has_edns {
            push_opt(&mut self.out);
        }
        (self.answers, self.last.1) = (0, None);
        let next = Vec::with_capacity(FULL + 512);
        let message = std::mem::replace(&mut self.out, next);
        self.out.extend_from_slice(&self.head);
        message
    }

    /// Writes an owner. The records of one name follow each other, and those of the names below it are often next.
    fn owner(&mut self, owner: &[u8]) {
        let start = self.out.len();
        let (last, offset) = &self.last;
        let first = owner.first().map_or(0, |len| 1 + usize::from(*len));
        let target = match *offset {
            Some(at) if owner == last => Some((0, at)),
            Some(at) if first > 0 && owner[first..] == **last => Some((first, at)),
            _ => None,
        };
        // The zone's name is that of the question.
        let (labels, target) = target.unwrap_or((owner.len(), HEADER));
        self.out.extend_from_slice(&owner[..labels]);
        let pointer = POINTER | target as u16;
        self.out.extend_from_slice(&pointer.to_be_bytes());
        if labels > 0 {
            self.last.0.clear();
            self.last.0.extend_from_slice(owner);
            self.last.1 = Some(start);
        }
    }
}

/// Appends an OPT record, and counts it.
fn push_opt(out: &mut Vec<u8>) {
    out.push(0);
    out.extend_from_slice(&rtype::OPT.to_be_bytes());
    out.extend_from_slice(&UDP_PAYLOAD.to_be_bytes());
    out.extend_from_slice(&[0; 6]);
    out[11] += 1;
}

/// Overwrites `out` with an answer without records.
pub fn refuse(query: &TransferQuery<'_>, rcode: Rcode, out: &mut Vec<u8>) {
    let mut writer = MessageWriter::new(query);
    *out = writer.take();
    out[2] &= !((flag::AA >> 8) as u8);
    out[3] |= (rcode as u16 & 0x000F) as u8;
}

/// Sets the flag that tells a secondary to ask again over TCP.
pub fn truncate(message: &mut [u8]) {
    message[2] |= (flag::TC >> 8) as u8;
}

/// The labels of a name without the root's.
pub fn labels(name: &Name) -> &[u8] {
    let wire = name.wire();
    &wire[..wire.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::super::tests::messages::zone;
    use super::super::{Event, Kind, Request, Serial, Transfer, query};
    use super::*;

    /// The messages with these owners between two SOA records, each record with this many bytes of data.
    fn write(owners: &[&str], size: usize) -> Vec<Vec<u8>> {
        let records: Vec<_> = owners.iter().map(|owner| (*owner, size)).collect();
        write_sizes(&records)
    }

    /// The same with a size for each record.
    fn write_sizes(records: &[(&str, usize)]) -> Vec<Vec<u8>> {
        let packet = query::Query::Axfr.write(7, &zone());
        let mut name = Name::default();
        let asked = TransferQuery::parse(&packet, &mut name).expect("a query");
        let mut writer = MessageWriter::new(&asked);
        let mut messages = Vec::new();
        let soa = [
            &b"\x01m\0\x01r\0"[..],
            &5_u32.to_be_bytes(),
            &[0, 0, 0, 9].repeat(4),
        ]
        .concat();
        let mut push = |owner: &[u8], rtype, data: &[u8]| {
            messages.extend(writer.push(owner, rtype, 60, data).expect("it fits"));
        };
        push(b"", rtype::SOA, &soa);
        for (owner, size) in records {
            let owner = Name::from_text(owner).unwrap_or_default();
            push(labels(&owner), rtype::CNAME, &vec![0; *size]);
        }
        push(b"", rtype::SOA, &soa);
        messages.push(writer.take());
        messages
    }

    /// The owners as a secondary reads them.
    fn read(messages: &[Vec<u8>]) -> Vec<String> {
        let mut transfer = Transfer::new(&Request {
            id: 7,
            zone: zone(),
            ours: None,
            max_records: 1_000_000,
        });
        let mut owners = Vec::new();
        for message in messages {
            for event in transfer.read(message).expect("a transfer") {
                match event.expect("a record") {
                    Event::Record(record) => {
                        let mut owner = Name::default();
                        record.read_owner(&mut owner).expect("a name");
                        owners.push(owner.to_string());
                    }
                    Event::Begin { soa, kind } => {
                        assert_eq!((soa.serial, kind), (Serial(5), Kind::Whole));
                    }
                    event => assert!(matches!(event, Event::End)),
                }
            }
        }
        assert!(transfer.has_ended());
        owners
    }

    #[test]
    fn a_secondary_reads_the_owners_that_are_written() {
        let owners = [
            "a", "a", "*.a", "*.a", "b.a", "x.b.a", "a", "", "b", "ab", "a.ab",
        ];
        let expected = owners.map(|owner| match owner {
            "" => "feed.test".to_owned(),
            owner => format!("{owner}.feed.test"),
        });
        assert_eq!(read(&write(&owners, 1)), expected);
    }

    #[test]
    fn many_records_share_a_message_and_all_pointers_are_within_reach() {
        let owners: Vec<_> = (0..20_000).map(|n| format!("n{n}.example")).collect();
        let owners: Vec<_> = owners.iter().map(String::as_str).collect();
        let messages = write(&owners, 1);
        assert!(messages.len() < 60, "{}", messages.len());
        assert_eq!(read(&messages).len(), 20_000);
        for owners in [["a"; 9], ["*.a"; 9]] {
            assert_eq!(read(&write(&owners, 8000)).len(), 9);
            assert_eq!(read(&write(&owners, 40_000)).len(), 9);
        }
    }

    #[test]
    fn a_record_without_room_in_a_message_is_the_first_one_of_the_next() {
        let messages = write_sizes(&[("a", 10_000), ("a", 60_000), ("*.a", 60_000), ("b", 1)]);
        assert_eq!(messages.len(), 4);
        let owners = ["a", "a", "*.a", "b"].map(|owner| format!("{owner}.feed.test"));
        assert_eq!(read(&messages), owners);
    }

    #[test]
    fn the_usual_pair_of_a_name_and_its_wildcard_costs_the_name_once() {
        let one: usize = write(&["long-name.example"], 1).iter().map(Vec::len).sum();
        let both = write(&["long-name.example", "*.long-name.example"], 1);
        // A label, a pointer, the fixed fields and the data.
        assert_eq!(both.iter().map(Vec::len).sum::<usize>(), one + 2 + 2 + 11);
    }

    #[test]
    fn a_record_that_no_message_can_hold_is_an_error() {
        let packet = query::Query::Axfr.write(7, &zone());
        let mut name = Name::default();
        let asked = TransferQuery::parse(&packet, &mut name).expect("a query");
        let mut writer = MessageWriter::new(&asked);
        let pushed = writer.push(b"", rtype::TXT, 60, &vec![0; 65_000]);
        assert_eq!(pushed, Err(RecordTooLarge));
        assert!(writer.is_empty());
    }
}
