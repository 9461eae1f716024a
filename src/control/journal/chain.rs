//! The format of a line: an entry, its hash, and the hash of the line before.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::entry::Event;

/// `MARK` separates an entry's text from its hash; `END` follows the hash.
const MARK: &[u8] = b",\"hash\":\"";
const END: &[u8] = b"\"}";
/// Length of a hash, in characters.
const HEX: usize = 64;

/// SHA-256 in lower-case hexadecimal.
pub(super) type Hash = String;

/// The field `previous` of the first entry.
pub(super) fn zero_hash() -> Hash {
    "0".repeat(HEX)
}

/// One entry of the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Its number; the first is 1.
    pub number: u64,
    /// When the event happened.
    pub at: Timestamp,
    /// The policy's generation at that time.
    pub generation: u64,
    /// The hash of the previous entry.
    pub previous: Hash,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// Why a line is not an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It does not end as an entry does.
    #[error("is not whole")]
    Cut,
    /// Its hash does not match its text.
    #[error("was changed: its text does not match its hash")]
    Changed,
    /// Its hash is right, and this program can't parse it.
    #[error("was written by another version of tapis: use that one")]
    Foreign,
}

impl Entry {
    /// Returns the line, with its line end, and its hash.
    pub(super) fn seal(&self) -> (Vec<u8>, Hash) {
        let mut line = serde_json::to_vec(self).expect("texts and numbers have a JSON form");
        line.pop();
        let hash = digest(&line);
        line.extend(MARK);
        line.extend(hash.as_bytes());
        line.extend(END);
        line.push(b'\n');
        (line, hash)
    }

    /// Parses a line without its line end; also returns its hash.
    ///
    /// # Errors
    /// [`LineError`].
    pub(super) fn parse(line: &[u8]) -> Result<(Self, Hash), LineError> {
        let cut = LineError::Cut;
        let open = line.strip_suffix(END).ok_or(cut)?;
        let (rest, hash) = open
            .split_at_checked(open.len().wrapping_sub(HEX))
            .ok_or(cut)?;
        let text = rest.strip_suffix(MARK).ok_or(cut)?;
        let computed = digest(text);
        if computed.as_bytes() != hash {
            return Err(LineError::Changed);
        }
        let whole = [text, b"}"].concat();
        let entry = serde_json::from_slice(&whole).map_err(|_| LineError::Foreign)?;
        Ok((entry, computed))
    }
}

pub(super) fn digest(text: &[u8]) -> Hash {
    hex(&Sha256::digest(text))
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_line_is_parsed_and_no_byte_of_it_can_be_changed() {
        let entry = Entry {
            number: 7,
            at: "2017-07-14T04:30:00Z".parse().expect("a time"),
            generation: 3,
            previous: zero_hash(),
            event: Event::Stop,
        };
        let (line, hash) = entry.seal();
        let line = line.strip_suffix(b"\n").expect("its end");
        let (read, same) = Entry::parse(line).expect("an entry");
        assert_eq!((read.number, read.at, same), (7, entry.at, hash));
        for at in 0..line.len() {
            let mut other = line.to_vec();
            other[at] ^= 0x20;
            Entry::parse(&other).expect_err("changed");
            Entry::parse(&line[..at]).expect_err("cut");
        }
        // The example of FIPS 180-4.
        assert_eq!(
            digest(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
