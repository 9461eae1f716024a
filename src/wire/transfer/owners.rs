//! Checks that the owners of a message's records are in a zone, in a few nanoseconds per record.

use super::error::TransferError;
use crate::wire::name::{MAX_NAME, Name};

/// The offsets that a compression pointer can have (RFC 1035, section 4.1.4).
const TARGETS: usize = 1 << 14;

const BAD_NAME: TransferError = TransferError::Malformed("the owner of a record is malformed");

/// Checks owners, and remembers where in the message names of the zone are.
///
/// Almost every owner ends in a pointer to the zone's name or to an earlier owner. If that was found to be in the zone,
/// so is the owner, and its name need not be read.
#[derive(Debug)]
pub(super) struct OwnerCheck {
    zone: Box<Name>,
    /// For each offset of the message at which a name of the zone is known to start: the length of that name in wire
    /// form. 0 for all other offsets.
    lengths: Box<[u8; TARGETS]>,
}

/// An owner that is in the zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// Its length in wire form, uncompressed.
    pub(super) len: usize,
    /// The offset after it in the message.
    pub(super) after: usize,
}

impl OwnerCheck {
    pub(super) fn new(zone: &Name) -> Self {
        Self {
            zone: Box::new(zone.clone()),
            lengths: Box::new([0; TARGETS]),
        }
    }

    pub(super) fn zone(&self) -> &Name {
        &self.zone
    }

    /// Forgets the names of the message before.
    pub(super) fn start_message(&mut self) {
        self.lengths.fill(0);
    }

    /// Checks the owner at an offset.
    #[inline]
    pub(super) fn check(&mut self, message: &[u8], start: usize) -> Result<Owner, TransferError> {
        let mut at = start;
        while let Some(size @ 1..=63) = message.get(at).copied() {
            at += 1 + usize::from(size);
        }
        if let Some(&[high @ 0xC0..=0xFF, low]) = message.get(at..at + 2) {
            let target = usize::from(high & 0x3F) << 8 | usize::from(low);
            // A name that is known starts before this owner.
            let known = usize::from(self.lengths[target]);
            let len = at - start + known;
            if known > 0 && len <= MAX_NAME {
                self.remember(message, start, len);
                return Ok(Owner { len, after: at + 2 });
            }
        }
        self.check_whole(message, start)
    }

    /// The same by reading the whole name.
    #[cold]
    fn check_whole(&mut self, message: &[u8], start: usize) -> Result<Owner, TransferError> {
        let (name, after) = Name::parse_compressed(message, start).map_err(|_| BAD_NAME)?;
        let labels = self.zone.label_count();
        let is_within = name.label_count() >= labels && name.ancestor(labels) == self.zone.wire();
        if !is_within {
            return Err(TransferError::OutsideZone);
        }
        let len = name.wire().len();
        self.remember(message, start, len);
        Ok(Owner { len, after })
    }

    /// Remembers the labels of an owner, and the target of its pointer, where names of the zone start.
    fn remember(&mut self, message: &[u8], start: usize, len: usize) {
        let (mut at, mut left) = (start, len);
        while at < TARGETS && left >= self.zone.wire().len() {
            // A name has at most 255 bytes.
            self.lengths[at] = left as u8;
            match message.get(at).copied() {
                Some(size @ 1..=63) => {
                    let label = 1 + usize::from(size);
                    at += label;
                    left = left.saturating_sub(label);
                }
                Some(high @ 0xC0..=0xFF) => {
                    let low = message.get(at + 1).copied().unwrap_or_default();
                    let target = usize::from(high & 0x3F) << 8 | usize::from(low);
                    if self.lengths[target] > 0 {
                        return;
                    }
                    at = target;
                }
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&[u8]]) -> Vec<Result<usize, TransferError>> {
        let zone = Name::from_text("feed.test").expect("a name");
        let mut owners = OwnerCheck::new(&zone);
        let mut message = vec![0; 12];
        let mut found = Vec::new();
        for name in names {
            let start = message.len();
            message.extend_from_slice(name);
            let owner = owners.check(&message, start);
            if let Ok(owner) = owner {
                assert_eq!(owner.after, message.len(), "{name:?}");
            }
            found.push(owner.map(|owner| owner.len));
        }
        found
    }

    const OUTSIDE: Result<usize, TransferError> = Err(TransferError::OutsideZone);

    #[test]
    fn owners_are_in_the_zone_if_they_end_with_its_name() {
        // The first name starts at offset 12, `test` in it at 17.
        let zone = b"\x04FEED\x04test\0";
        let found = check(&[
            zone,
            b"\xC0\x0C",
            b"\x01a\xC0\x0C",
            b"\x01*\xC0\x19",
            b"\x01b\xC0\x11",
            b"\x04feed\xC0\x11",
            b"\x01a\x04feed\x04test\0",
            b"\x05xfeed\x04test\0",
            b"\x09feed\x04test\0",
        ]);
        let expected = [Ok(11), Ok(11), Ok(13), Ok(15), OUTSIDE, Ok(11), Ok(13)];
        assert_eq!(found[..7], expected);
        assert_eq!(
            found[7..],
            [OUTSIDE, OUTSIDE],
            "not at the start of a label"
        );
    }

    #[test]
    fn names_that_grow_beyond_255_bytes_through_pointers_are_malformed() {
        let mut first = [&[63][..], &[b'a'; 63]].concat().repeat(3);
        first.extend_from_slice(b"\x04feed\x04test\0");
        let mut fits = vec![51];
        fits.extend_from_slice(&[b'b'; 51]);
        fits.extend_from_slice(b"\xC0\x0C");
        let long = [&[52][..], &[b'b'; 52], b"\xC0\x0C"].concat();
        assert_eq!(check(&[&first, &fits])[1], Ok(255));
        assert_eq!(check(&[&first, &long])[1], Err(BAD_NAME));
    }

    #[test]
    fn pointers_forward_and_to_themselves_are_malformed() {
        for name in [
            &b"\xC0\x0C"[..],
            b"\x01a\xC0\x0E",
            b"\xC0\x40",
            b"\x80",
            b"",
        ] {
            assert_eq!(check(&[name]), [Err(BAD_NAME)], "{name:?}");
        }
    }
}
