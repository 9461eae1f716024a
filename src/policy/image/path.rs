//! Owns the keyed hash of labels, and the order of names that follows from it.
//! Refuses to hash anything else, and to be the last word on equality: text is.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

use super::bits::word;
use crate::wire::name::{MAX_LABEL, MAX_NAME, Name};

/// A keyed hash of labels, the same on every machine.
///
/// One folded multiplication for each sixteen bytes, which the walk has at hand as two numbers: a
/// library's hash would read them again, and branch on their count. The seed is random, so that
/// nobody outside knows which labels share a bucket or a tag.
#[derive(Clone)]
pub struct Key {
    seed: u64,
    low: u64,
    high: u64,
}

/// Odd, without pattern: the golden ratio, and the first digits of pi.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
const PI: u64 = 0x2437_54A8_885A_308D;

impl Key {
    /// The key of that seed.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            low: fold(seed ^ PI, GOLDEN),
            high: fold(seed ^ GOLDEN, PI),
        }
    }

    /// A key that nobody knows, from the system's randomness by way of the standard library.
    pub fn random() -> Self {
        Self::new(RandomState::new().build_hasher().finish())
    }

    /// What it was made of.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The hash of a label, lower-cased and without its length byte.
    #[inline(always)]
    pub fn hash(&self, label: &[u8]) -> u64 {
        self.continued(
            self.sixteen(word(label, 0), word(label, 8), label.len()),
            label,
        )
    }

    /// The hash of a label of up to sixteen bytes, given as two numbers that are filled up with
    /// zeros; of a longer one, what [`continued`](Self::continued) goes on from.
    #[inline(always)]
    pub fn sixteen(&self, low: u64, high: u64, size: usize) -> u64 {
        let size = (size as u64).wrapping_mul(GOLDEN);
        fold(low ^ self.low.wrapping_add(size), high ^ self.high)
    }

    /// The hash of a label of which the first sixteen bytes are hashed.
    #[inline(always)]
    pub fn continued(&self, first: u64, label: &[u8]) -> u64 {
        let rest = label.chunks(16).skip(1);
        rest.fold(first, |hash, chunk| {
            self.next(hash, word(chunk, 0), word(chunk, 8))
        })
    }

    /// The hash of some bytes and sixteen more, given as two numbers.
    #[inline(always)]
    pub fn next(&self, hash: u64, low: u64, high: u64) -> u64 {
        fold(low ^ hash, high ^ self.high)
    }

    /// Which of two paths comes first: by the hashes of their labels from the root down, then by
    /// the labels, and an ancestor before what is beneath it. Children of one node that share a
    /// bucket are neighbours in this order, and the buckets come one after the other.
    pub fn compare(&self, one: &[u8], other: &[u8]) -> Ordering {
        let (mut ones, mut others) = (labels(one), labels(other));
        loop {
            match (ones.next(), others.next()) {
                (None, None) => return Ordering::Equal,
                (None, Some(_)) => return Ordering::Less,
                (Some(_), None) => return Ordering::Greater,
                (Some(a), Some(b)) if a == b => {}
                (Some(a), Some(b)) => {
                    return self.hash(a).cmp(&self.hash(b)).then_with(|| a.cmp(b));
                }
            }
        }
    }
}

#[inline(always)]
fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    product as u64 ^ (product >> 64) as u64
}

impl fmt::Debug for Key {
    /// The seed is a secret as long as the image serves.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// A name from the root down: its labels, each behind its length byte. The root has none.
#[derive(Clone)]
pub struct Path {
    len: u8,
    bytes: [u8; MAX_NAME],
}

impl Path {
    /// The path of the root.
    pub const ROOT: Self = Self {
        len: 0,
        bytes: [0; MAX_NAME],
    };

    /// The path of these bytes: whole labels, each behind its length byte, in all 254 at most.
    ///
    /// # Panics
    /// When there are more.
    pub fn of(bytes: &[u8]) -> Self {
        let mut path = Self::ROOT;
        path.bytes[..bytes.len()].copy_from_slice(bytes);
        path.len = bytes.len() as u8;
        path
    }

    /// Labels, each behind its length byte.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Makes it longer by a label of 1 to 63 bytes.
    ///
    /// # Panics
    /// When there is no room: in all, labels and length bytes have at most 254 bytes.
    pub fn push(&mut self, label: &[u8]) {
        let start = usize::from(self.len);
        self.bytes[start] = label.len() as u8;
        self.bytes[start + 1..=start + label.len()].copy_from_slice(label);
        self.len += 1 + label.len() as u8;
    }

    /// Makes it longer by a label, if that is one and there is room. Returns whether it did.
    pub fn try_push(&mut self, label: &[u8]) -> bool {
        let fits = usize::from(self.len) + 1 + label.len() < MAX_NAME;
        let good = (1..=MAX_LABEL).contains(&label.len()) && fits;
        if good {
            self.push(label);
        }
        good
    }

    /// Cuts it back to the length that [`as_bytes`](Self::as_bytes) had before.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len as u8);
    }

    /// The name.
    pub fn to_name(&self) -> Name {
        let mut starts = [0_u8; MAX_NAME / 2];
        let mut count = 0;
        let mut at = 0;
        while at < usize::from(self.len) {
            starts[count] = at as u8;
            count += 1;
            at += 1 + usize::from(self.bytes[at]);
        }
        let mut wire = [0_u8; MAX_NAME];
        let mut end = 0;
        for &start in starts[..count].iter().rev() {
            let start = usize::from(start);
            let label = &self.bytes[start..=start + usize::from(self.bytes[start])];
            wire[end..end + label.len()].copy_from_slice(label);
            end += label.len();
        }
        match Name::read(&wire[..=end], 0) {
            Ok((name, _)) => name,
            Err(error) => unreachable!("a path holds whole labels with room for the root: {error}"),
        }
    }
}

impl From<&Name> for Path {
    fn from(name: &Name) -> Self {
        let mut path = Self::ROOT;
        for label in name.labels_from_root() {
            path.push(label);
        }
        path
    }
}

/// The labels of a path's bytes.
pub fn labels(mut path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&size, rest) = path.split_first()?;
        let (label, rest) = rest.split_at_checked(usize::from(size))?;
        path = rest;
        Some(label)
    })
}
