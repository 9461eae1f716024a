//! Messages in a stream, each after its length in two bytes (RFC 1035, section 4.2.2).

use std::io;

use tokio_util::bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

/// Splits a stream into messages. It keeps no state: the bytes of an incomplete message stay in the buffer, so that
/// another process can go on with them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frames;

impl Decoder for Frames {
    type Item = BytesMut;
    type Error = io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> io::Result<Option<BytesMut>> {
        let Some(length) = buffer.first_chunk() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes(*length));
        if buffer.len() < 2 + length {
            buffer.reserve(2 + length - buffer.len());
            return Ok(None);
        }
        buffer.advance(2);
        Ok(Some(buffer.split_to(length)))
    }
}

impl Encoder<Bytes> for Frames {
    type Error = io::Error;

    fn encode(&mut self, message: Bytes, buffer: &mut BytesMut) -> io::Result<()> {
        let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let length = u16::try_from(message.len()).map_err(too_long)?;
        buffer.reserve(2 + message.len());
        buffer.put_u16(length);
        buffer.extend_from_slice(&message);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_arrives_byte_by_byte_is_whole_and_incomplete_bytes_stay() {
        let mut stream = BytesMut::new();
        for message in [&b"first"[..], b"", b"third"] {
            Frames
                .encode(Bytes::copy_from_slice(message), &mut stream)
                .expect("short");
        }
        let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
        for byte in &stream[..stream.len() - 1] {
            buffer.put_u8(*byte);
            found.extend(Frames.decode(&mut buffer).expect("no error"));
        }
        assert_eq!(found, [&b"first"[..], b""]);
        assert_eq!(&buffer[..], b"\x00\x05thir");
    }
}
