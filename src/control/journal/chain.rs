//! Owns the form of one line: an entry, and the digests that chain it to the one before.
//! Refuses to touch files.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::entry::Event;

/// What stands between an entry's text and its hash, and behind that.
const MARK: &[u8] = b",\"hash\":\"";
const END: &[u8] = b"\"}";
/// Characters of a hash.
const HEX: usize = 64;

/// SHA-256 in lower-case hexadecimal.
pub(super) type Hash = String;

/// The hash that stands before the first entry.
pub(super) fn nothing() -> Hash {
    "0".repeat(HEX)
}

/// One entry of the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Its number; the first is 1.
    pub number: u64,
    /// When what it tells happened.
    pub at: Timestamp,
    /// The policy's generation then.
    pub generation: u64,
    /// The hash of the entry before.
    pub previous: Hash,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Why a line is no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It does not end as an entry does.
    #[error("is not whole")]
    Cut,
    /// Its hash is that of another text.
    #[error("was changed: its hash is that of another text")]
    Changed,
    /// It is what its hash says, and this program can't read it.
    #[error("was written by another version of tapis: use that one")]
    Foreign,
}

impl Entry {
    /// The line, with its end, and its hash.
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

    /// Reads a line, without its end; with the entry comes its hash.
    ///
    /// # Errors
    /// [`LineError`] when it is not what was written.
    pub(super) fn read(line: &[u8]) -> Result<(Self, Hash), LineError> {
        let cut = LineError::Cut;
        let open = line.strip_suffix(END).ok_or(cut)?;
        let (rest, hash) = open
            .split_at_checked(open.len().wrapping_sub(HEX))
            .ok_or(cut)?;
        let text = rest.strip_suffix(MARK).ok_or(cut)?;
        let told = digest(text);
        if told.as_bytes() != hash {
            return Err(LineError::Changed);
        }
        let whole = [text, b"}"].concat();
        let entry = serde_json::from_slice(&whole).map_err(|_| LineError::Foreign)?;
        Ok((entry, told))
    }
}

pub(super) fn digest(text: &[u8]) -> Hash {
    hex(&Sha256::digest(text))
}

/// Lower-case hexadecimal.
pub(super) fn hex(octets: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    let digits = octets.iter().flat_map(|octet| [octet >> 4, octet & 15]);
    digits.map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_was_sealed_and_no_octet_of_it_can_be_another() {
        let entry = Entry {
            number: 7,
            at: "2017-07-14T04:30:00Z".parse().expect("a time"),
            generation: 3,
            previous: nothing(),
            event: Event::Stop,
        };
        let (line, hash) = entry.seal();
        let line = line.strip_suffix(b"\n").expect("its end");
        let (read, same) = Entry::read(line).expect("an entry");
        assert_eq!((read.number, read.at, same), (7, entry.at, hash));
        for at in 0..line.len() {
            let mut other = line.to_vec();
            other[at] ^= 0x20;
            Entry::read(&other).expect_err("changed");
            Entry::read(&line[..at]).expect_err("cut");
        }
        // As any other program computes it.
        assert_eq!(
            digest(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
