//! A bounded ring of records, from one thread of the data plane to the recorder's thread.

use rtrb::{Consumer, Producer, RingBuffer};

use super::record::{Head, Record};

/// The records that a ring holds.
const HEADS: usize = 16_384;
/// The bytes of records that a ring holds.
const BYTES: usize = 2 << 20;

/// The end of a data-plane thread.
pub(super) struct RingWriter {
    heads: Producer<Head>,
    bytes: Producer<u8>,
    /// The state of a generator of random numbers, which only decide what is sampled.
    random: u64,
}

/// The end of the recorder's thread.
pub(super) struct RingReader {
    heads: Consumer<Head>,
    bytes: Consumer<u8>,
    /// The bytes of the record that is being read.
    current: Vec<u8>,
}

/// An empty ring.
pub(super) fn ring() -> (RingWriter, RingReader) {
    sized(HEADS, BYTES)
}

/// An empty ring with room for these numbers of records and bytes.
pub(super) fn sized(heads: usize, bytes: usize) -> (RingWriter, RingReader) {
    let (write_heads, read_heads) = RingBuffer::new(heads);
    let (write_bytes, read_bytes) = RingBuffer::new(bytes);
    let writer = RingWriter {
        heads: write_heads,
        bytes: write_bytes,
        // The generator stops at 0.
        random: rand::random::<u64>() | 1,
    };
    let reader = RingReader {
        heads: read_heads,
        bytes: read_bytes,
        current: Vec::new(),
    };
    (writer, reader)
}

impl RingWriter {
    /// Writes a record whose bytes are these `parts`. Returns false if there is no room for all of it.
    pub(super) fn write(&mut self, head: Head, parts: [&[u8]; 3]) -> bool {
        if self.heads.is_full() || self.bytes.slots() < head.bytes() {
            return false;
        }
        // There is room, so neither fails.
        let written = parts
            .into_iter()
            .all(|part| self.bytes.push_entire_slice(part).is_ok());
        written && self.heads.push(head).is_ok()
    }

    /// A random number (xorshift64*).
    pub(super) fn random(&mut self) -> u32 {
        let mut state = self.random;
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.random = state;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as u32
    }
}

impl RingReader {
    /// The number of records that wait.
    pub(super) fn waiting(&self) -> usize {
        self.heads.slots()
    }

    /// Passes on the next record; returns false if there is none.
    pub(super) fn read(&mut self, take: impl FnOnce(Record<'_>)) -> bool {
        let Ok(head) = self.heads.pop() else {
            return false;
        };
        self.current.resize(head.bytes(), 0);
        // The bytes were written before the head.
        if self.bytes.pop_entire_slice(&mut self.current).is_ok() {
            take(Record::new(&head, &self.current));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::time::Instant;

    use super::*;
    use crate::serve::client::Transport;

    fn head(lengths: [u16; 3]) -> Head {
        Head {
            sinks: 1,
            address: Ipv4Addr::LOCALHOST.into(),
            port: 53,
            local: None,
            transport: Transport::Udp,
            outcome: None,
            rcode: None,
            upstream: None,
            received: Instant::now(),
            ended: Instant::now(),
            rule: None,
            answer_len: 0,
            lengths,
        }
    }

    #[test]
    fn a_full_ring_takes_nothing_and_what_it_took_arrives_whole() {
        let (mut writer, mut reader) = sized(4, 16);
        let parts: [&[u8]; 3] = [b"ads", b"query", b""];
        assert!(writer.write(head([3, 5, 0]), parts));
        assert!(writer.write(head([3, 5, 0]), parts));
        assert!(
            !writer.write(head([0, 1, 0]), [b"", b"q", b""]),
            "no bytes left"
        );
        for _ in 0..3 {
            // Records pass the end of the buffer, too.
            for _ in 0..2 {
                assert!(reader.read(|record| {
                    assert_eq!(record.source, b"ads");
                    assert_eq!((record.query, record.answer), (&b"query"[..], &b""[..]));
                }));
            }
            assert!(!reader.read(|_| panic!("there is no other")));
            assert!(writer.write(head([3, 5, 0]), parts));
            assert!(writer.write(head([3, 5, 0]), parts));
        }
        let (mut writer, _reader) = sized(1, 16);
        assert!(writer.write(head([0; 3]), [b"", b"", b""]));
        assert!(!writer.write(head([0; 3]), [b"", b"", b""]), "no head left");
    }
}
