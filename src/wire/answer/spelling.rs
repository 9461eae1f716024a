//! A name with the letter case of a message.

use smallvec::SmallVec;

use crate::wire::name::{MAX_JUMPS, MAX_NAME, Name};

/// The labels of the queried name as sorted hashes. A label whose hash is among them is lower-cased. A label that
/// has an equal hash only by chance is lower-cased, too, which is harmless. Comparing the labels themselves would be
/// slow for hostile names.
pub(super) struct AskedLabels(SmallVec<[u32; 8]>);

impl AskedLabels {
    pub(super) fn of(name: &Name) -> Self {
        let mut hashes: SmallVec<_> = name.labels_from_root().map(hash).collect();
        hashes.sort_unstable();
        Self(hashes)
    }
}

/// FNV-1a of a label, ignoring letter case.
fn hash(label: &[u8]) -> u32 {
    label.iter().fold(0x811C_9DC5, |hash, byte| {
        (hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0193)
    })
}

/// A name in wire form with the letter case that was read.
pub(super) struct CasedName {
    bytes: [u8; MAX_NAME],
    len: usize,
}

impl CasedName {
    /// A name in lower case.
    pub(super) fn from_name(name: &Name) -> Self {
        let mut bytes = [0; MAX_NAME];
        let len = name.wire().len();
        bytes[..len].copy_from_slice(name.wire());
        Self { bytes, len }
    }

    /// Reads a name that may be compressed. Returns it with the offset after it. Labels in `asked` are
    /// lower-cased, because their case may be that of our query. `None` if the name is malformed.
    pub(super) fn parse(message: &[u8], at: usize, asked: &AskedLabels) -> Option<(Self, usize)> {
        let mut name = Self {
            bytes: [0; MAX_NAME],
            len: 0,
        };
        let mut at = at;
        let mut end = None;
        let mut jumps = 0;
        loop {
            match *message.get(at)? {
                0 => break,
                size @ 1..=63 => {
                    let label = message.get(at..=at + usize::from(size))?;
                    let after = name.len + label.len();
                    // Keeps room for the root. Also ends cycles of pointers.
                    if after >= MAX_NAME {
                        return None;
                    }
                    let to = &mut name.bytes[name.len..after];
                    to.copy_from_slice(label);
                    if asked.0.binary_search(&hash(&label[1..])).is_ok() {
                        to.make_ascii_lowercase();
                    }
                    name.len = after;
                    at += label.len();
                }
                high @ 0xC0.. => {
                    let target = usize::from(high & 0x3F) << 8 | usize::from(*message.get(at + 1)?);
                    jumps += 1;
                    if target >= at || jumps > MAX_JUMPS {
                        return None;
                    }
                    end.get_or_insert(at + 2);
                    at = target;
                }
                _ => return None,
            }
        }
        name.len += 1;
        Some((name, end.unwrap_or(at + 1)))
    }

    /// The offsets of its labels, without the root.
    pub(super) fn labels(&self) -> impl Iterator<Item = usize> {
        let next = |at: &usize| Some(at + 1 + usize::from(self.bytes[*at]));
        std::iter::successors(Some(0), next).take_while(|at| self.bytes[*at] != 0)
    }

    /// The part of the name that begins at a label.
    pub(super) fn from(&self, start: usize) -> &[u8] {
        &self.bytes[start..self.len]
    }
}
