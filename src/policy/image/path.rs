//! Names as paths from the root, the keyed hash of their labels, and the order of paths.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

use super::bits::word;
use crate::wire::name::{MAX_LABEL, MAX_NAME, Name};

/// A keyed hash of labels, the same on every machine.
///
/// The hash takes one folded multiplication for each sixteen bytes. A lookup already has these bytes as two
/// numbers; a general-purpose hash would read the bytes again and branch on their count. The seed is random and
/// secret, so that no one can choose labels that share a bucket or a tag.
#[derive(Clone)]
pub struct Key {
    seed: u64,
    low: u64,
    high: u64,
}

/// Odd numbers without a pattern: the golden ratio, and the first digits of pi.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
const PI: u64 = 0x2437_54A8_885A_308D;

impl Key {
    /// The key with this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            low: fold(seed ^ PI, GOLDEN),
            high: fold(seed ^ GOLDEN, PI),
        }
    }

    /// A random key, seeded by the operating system by way of the standard library.
    pub fn random() -> Self {
        Self::new(RandomState::new().build_hasher().finish())
    }

    /// The seed of the key.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The hash of a lower-cased label without its length byte.
    #[inline(always)]
    pub fn hash(&self, label: &[u8]) -> u64 {
        self.continued(
            self.sixteen(word(label, 0), word(label, 8), label.len()),
            label,
        )
    }

    /// The hash of a label of up to sixteen bytes, given as two numbers padded with zeros. For a longer
    /// label, the state for [`continued`](Self::continued).
    #[inline(always)]
    pub fn sixteen(&self, low: u64, high: u64, size: usize) -> u64 {
        let size = (size as u64).wrapping_mul(GOLDEN);
        fold(low ^ self.low.wrapping_add(size), high ^ self.high)
    }

    /// The hash of a label. `first` is the result of [`sixteen`](Self::sixteen) for it.
    #[inline(always)]
    pub fn continued(&self, first: u64, label: &[u8]) -> u64 {
        let rest = label.chunks(16).skip(1);
        rest.fold(first, |hash, chunk| {
            self.next(hash, word(chunk, 0), word(chunk, 8))
        })
    }

    /// The hash of the label of a name at `level`. `label` is the result of [`Name::sixteen_from_root`] for it.
    #[inline(always)]
    pub fn at_level(&self, name: &Name, level: usize, label: (u64, u64, usize)) -> u64 {
        let (low, high, size) = label;
        let mut hash = self.sixteen(low, high, size);
        let mut from = 16;
        while from < size {
            let (low, high) = name.sixteen_at(level, from);
            hash = self.next(hash, low, high);
            from += 16;
        }
        hash
    }

    /// The hash of the bytes hashed so far and sixteen more, given as two numbers.
    #[inline(always)]
    pub fn next(&self, hash: u64, low: u64, high: u64) -> u64 {
        fold(low ^ hash, high ^ self.high)
    }

    /// Compares two paths: by the hashes of their labels from the root down, then by the labels; an ancestor
    /// precedes the names below it. In this order the children of a node that share a bucket are adjacent,
    /// and buckets are in order.
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
    /// The seed must stay secret as long as the image is in use.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// A name from the root down: its labels, each after its length byte, without the root label.
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

    /// A path of these bytes: whole labels, each after its length byte, at most 254 bytes in all.
    ///
    /// # Panics
    /// If there are more bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut path = Self::ROOT;
        path.bytes[..bytes.len()].copy_from_slice(bytes);
        path.len = bytes.len() as u8;
        path
    }

    /// The labels, each after its length byte.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Appends a label of 1 to 63 bytes.
    ///
    /// # Panics
    /// If the path would exceed 254 bytes.
    pub fn push(&mut self, label: &[u8]) {
        let start = usize::from(self.len);
        self.bytes[start] = label.len() as u8;
        self.bytes[start + 1..=start + label.len()].copy_from_slice(label);
        self.len += 1 + label.len() as u8;
    }

    /// Appends a label. False if it is empty or too long, or if there is no room.
    pub fn try_push(&mut self, label: &[u8]) -> bool {
        let fits = usize::from(self.len) + 1 + label.len() < MAX_NAME;
        let good = (1..=MAX_LABEL).contains(&label.len()) && fits;
        if good {
            self.push(label);
        }
        good
    }

    /// Shortens the path to a length that [`as_bytes`](Self::as_bytes) had before.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len as u8);
    }

    /// The name with this path.
    pub fn to_name(&self) -> Name {
        let mut name = Name::ROOT;
        self.write_name(&mut name);
        name
    }

    /// Like [`to_name`](Self::to_name), but overwrites an existing name, which avoids a copy.
    pub fn write_name(&self, name: &mut Name) {
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
        if let Err(error) = name.parse_wire(&wire[..=end], 0) {
            unreachable!("a path holds whole labels with room for the root: {error}");
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

/// The labels of a path.
pub fn labels(mut path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&size, rest) = path.split_first()?;
        let (label, rest) = rest.split_at_checked(usize::from(size))?;
        path = rest;
        Some(label)
    })
}
