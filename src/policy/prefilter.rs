//! A one-hash Bloom filter in front of the delta and the orders, because most names have no rule in either.

use super::image::Image;
use super::image::path::{Key, labels};
use crate::wire::name::Name;

/// Rejects most names without rules in an image. May pass a name that has none.
#[derive(Debug)]
pub(super) struct Prefilter {
    /// The bits set by the hashes of the top two labels (counted from the root) of each name in the image.
    bits: Vec<u64>,
    /// Every name passes: the image has rules on names of fewer than two labels, which may cover all names
    /// below them, or it cannot be read to its end.
    passes_all: bool,
}

const BITS_PER_NAME: usize = 16;

impl Prefilter {
    pub(super) fn new(image: &Image) -> Self {
        // The number of nodes is an upper bound of the number of names.
        let names = image.facts().nodes as usize;
        let words = (names * BITS_PER_NAME / 64).max(1).next_power_of_two();
        let mut prefilter = Self {
            bits: vec![0; words],
            passes_all: false,
        };
        let mut cursor = image.cursor();
        while cursor.advance() {
            let mut labels = labels(cursor.path()).map(|label| image.key().hash(label));
            match (labels.next(), labels.next()) {
                (Some(first), Some(second)) => {
                    let (word, bit) = prefilter.bit_position(first, second);
                    prefilter.bits[word] |= 1 << bit;
                }
                _ => prefilter.passes_all = true,
            }
        }
        prefilter.passes_all |= cursor.damage().is_some();
        prefilter
    }

    #[inline]
    pub(super) fn may_match(&self, key: &Key, name: &Name) -> bool {
        if self.passes_all || name.label_count() < 2 {
            return true;
        }
        let (word, bit) = self.bit_position(
            key.hash(name.label_from_root(0)),
            key.hash(name.label_from_root(1)),
        );
        self.bits[word] >> bit & 1 != 0
    }

    #[inline]
    fn bit_position(&self, first: u64, second: u64) -> (usize, u32) {
        let mixed = (first.rotate_left(32) ^ second).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (
            (mixed >> 32) as usize & (self.bits.len() - 1),
            (mixed >> 26) as u32 & 63,
        )
    }
}
