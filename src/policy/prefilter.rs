//! A one-hash Bloom filter in front of the delta and the orders, because most names have no rule in either.

use super::image::Image;
use super::image::path::{Key, labels};
use crate::wire::name::Name;

/// Rejects most names without rules in an image. May pass a name that has none.
#[derive(Debug)]
pub(super) struct Prefilter {
    /// The bits set by the hashes of the top two labels (counted from the root) of each name in the image.
    bits: Vec<u64>,
    passes: Passes,
}

/// The names that pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passes {
    /// None: the image has no rules on names.
    None,
    /// Those with a bit.
    Some,
    /// All: the image has rules on names of fewer than two labels, which may cover all names below them, or it cannot be
    /// read to its end.
    All,
}

const BITS_PER_NAME: usize = 16;

impl Prefilter {
    pub(super) fn new(image: &Image) -> Self {
        // The number of nodes is an upper bound of the number of names.
        let names = image.facts().nodes as usize;
        let words = (names * BITS_PER_NAME / 64).max(1).next_power_of_two();
        let mut prefilter = Self {
            bits: vec![0; words],
            passes: Passes::None,
        };
        let mut cursor = image.cursor();
        while cursor.advance() {
            let mut labels = labels(cursor.path()).map(|label| image.key().hash(label));
            match (labels.next(), labels.next()) {
                (Some(first), Some(second)) => {
                    let (word, bit) = prefilter.bit_position(first, second);
                    prefilter.bits[word] |= 1 << bit;
                    if prefilter.passes == Passes::None {
                        prefilter.passes = Passes::Some;
                    }
                }
                _ => prefilter.passes = Passes::All,
            }
        }
        if cursor.damage().is_some() {
            prefilter.passes = Passes::All;
        }
        prefilter
    }

    /// A prefilter that every name passes.
    pub(super) fn of_all_names() -> Self {
        Self {
            bits: Vec::new(),
            passes: Passes::All,
        }
    }

    /// Whether no name can match.
    pub(super) fn passes_none(&self) -> bool {
        self.passes == Passes::None
    }

    #[inline(always)]
    pub(super) fn may_match(&self, key: &Key, name: &Name) -> bool {
        if self.passes == Passes::All || name.label_count() < 2 {
            return true;
        }
        let hash = |level| key.at_level(name, level, name.sixteen_from_root(level));
        let (word, bit) = self.bit_position(hash(0), hash(1));
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

#[cfg(test)]
mod tests {
    use super::super::builder::Builder;
    use super::super::image::provenance::ImageSource;
    use super::super::rule::Scope;
    use super::*;

    fn prefilter(owners: &[&str]) -> (Image, Prefilter) {
        let mut builder = Builder::new();
        let source = builder.source(ImageSource::named("list")).expect("room");
        for owner in owners {
            let owner = Name::from_text(owner).expect("a name");
            builder
                .insert(&owner, source, Scope::Subtree)
                .expect("room");
        }
        let image = builder.finish().expect("room");
        let prefilter = Prefilter::new(&image);
        (image, prefilter)
    }

    fn passing(owners: &[&str], names: &[&str]) -> Vec<bool> {
        let (image, prefilter) = prefilter(owners);
        let passes = |name: &&str| {
            let name = Name::from_text(name).expect("a name");
            !prefilter.passes_none() && prefilter.may_match(image.key(), &name)
        };
        names.iter().map(passes).collect()
    }

    #[test]
    fn names_with_rules_and_names_below_them_pass() {
        let long = format!("{}.{}", "a".repeat(63), "b".repeat(33));
        let owners = [
            "x.test",
            "deep.below.example",
            &long,
            "sixteen-bytes-xx.seventeen-bytes-x",
        ];
        let names: Vec<_> = owners.iter().map(|owner| format!("a.b.{owner}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        assert_eq!(passing(&owners, &owners), [true; 4]);
        assert_eq!(passing(&owners, &names), [true; 4]);
    }

    #[test]
    fn of_a_thousand_other_names_most_are_rejected() {
        let owners: Vec<_> = (0..1000).map(|number| format!("x{number}.test")).collect();
        let names: Vec<_> = (0..1000).map(|number| format!("y{number}.test")).collect();
        let [owners, names] =
            [&owners, &names].map(|of| -> Vec<_> { of.iter().map(String::as_str).collect() });
        let passed = passing(&owners, &names);
        let passed = passed.iter().filter(|passes| **passes).count();
        assert!(passed < 200, "{passed}");
    }

    #[test]
    fn a_rule_on_a_top_level_domain_or_the_root_lets_all_names_pass() {
        for owner in ["test", "."] {
            assert_eq!(passing(&[owner, "x.test"], &["a.example", "."]), [true; 2]);
        }
    }

    #[test]
    fn without_rules_on_names_no_name_passes() {
        assert_eq!(passing(&[], &["x.test", "test", "."]), [false; 3]);
    }
}
