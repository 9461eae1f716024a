//! Values of nodes: the rules on a name, and the sources that have rules below it. If a node has an only child in its
//! bucket, its value has only the rules. The sources below are then read from the only child.

use foldhash::HashMap;

use super::bits::word;
use super::bucket::VALUE_LIMIT;
use super::error::TooLarge;
use crate::policy::rule::Scope;

/// The maximum number of sources of an image. A value stores the count of its sources in 16 bits, and the number of a
/// source has 16 bits, too.
pub const SOURCES: usize = u16::MAX as usize;

/// A rule of a name, stored in 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ImageRule {
    /// Number of the clause, which has the source and the effect.
    pub clause: u32,
    /// The names that the rule matches.
    pub scope: Scope,
}

impl ImageRule {
    /// The scope bits of an exact rule.
    pub const EXACT: u32 = 0;
    /// The scope bits of a below rule.
    pub const BELOW: u32 = 1;
    /// The scope bits of a subtree rule.
    pub const SUBTREE: u32 = 2;
    /// The bits of the scope.
    pub const SCOPE: u32 = 3;
    /// The lowest bit of the clause.
    pub const CLAUSE_SHIFT: u32 = 3;

    /// The rule in 32 bits, which sort by clause, then by scope. Bit 2 is zero.
    pub fn to_bits(self) -> u32 {
        let scope = match self.scope {
            Scope::Exact => Self::EXACT,
            Scope::Below => Self::BELOW,
            Scope::Subtree => Self::SUBTREE,
        };
        self.clause << Self::CLAUSE_SHIFT | scope
    }

    /// The rule in these bits. `None` if they are no rule.
    pub fn from_bits(bits: u32) -> Option<Self> {
        let scope = match bits & ((1 << Self::CLAUSE_SHIFT) - 1) {
            Self::EXACT => Scope::Exact,
            Self::BELOW => Scope::Below,
            Self::SUBTREE => Scope::Subtree,
            _ => return None,
        };
        Some(Self {
            clause: bits >> Self::CLAUSE_SHIFT,
            scope,
        })
    }
}

/// A source that has rules below a name, stored in 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceBelow {
    /// Index of the source in the image's provenance.
    pub source: u16,
    /// Whether some of these rules have the default effect.
    pub has_default: bool,
    /// Whether some of these rules have another effect.
    pub has_effect: bool,
}

impl SourceBelow {
    /// The source in 32 bits, which sort by source.
    pub(super) fn to_bits(self) -> u32 {
        let effects = u32::from(self.has_default) | u32::from(self.has_effect) << 1;
        u32::from(self.source) << 2 | effects
    }

    pub(super) fn from_bits(bits: u32) -> Self {
        Self {
            source: (bits >> 2) as u16,
            has_default: bits & 1 != 0,
            has_effect: bits & 2 != 0,
        }
    }
}

/// Numbers the distinct values while an image is written.
#[derive(Default)]
pub(super) struct Interner {
    known: HashMap<Box<[u32]>, u32>,
    /// By number: offset of its words, number of rules, number of sources.
    table: Vec<(u32, u16, u16)>,
    words: Vec<u32>,
    key: Vec<u32>,
}

impl Interner {
    /// The number of the value with these rules and these sources below (see [`SourceBelow`]), both sorted.
    ///
    /// # Errors
    /// If there are too many rules, sources or values.
    pub(super) fn intern(
        &mut self,
        rules: &[u32],
        below: impl Iterator<Item = u32>,
    ) -> Result<u32, TooLarge> {
        self.key.clear();
        self.key.push(rules.len() as u32);
        self.key.extend(rules);
        self.key.extend(below);
        if let Some(&number) = self.known.get(&*self.key) {
            return Ok(number);
        }
        let number = self.table.len() as u32;
        if number >= VALUE_LIMIT || self.words.len() + self.key.len() > u32::MAX as usize {
            return Err(TooLarge::Values);
        }
        let sources_below = self.key.len() - 1 - rules.len();
        let fits = |count: usize| u16::try_from(count).map_err(|_| TooLarge::Sources);
        let (rules, below) = (fits(rules.len())?, fits(sources_below)?);
        self.table.push((self.words.len() as u32, rules, below));
        self.words.extend(&self.key[1..]);
        self.known.insert(self.key.as_slice().into(), number);
        Ok(number)
    }

    /// The bytes of the two sections: eight for each value, four for each word.
    pub(super) fn sections(&self) -> (Vec<u8>, Vec<u8>) {
        let mut table = Vec::with_capacity(self.table.len() * 8);
        for &(start, rules, below) in &self.table {
            table.extend(start.to_le_bytes());
            table.extend(rules.to_le_bytes());
            table.extend(below.to_le_bytes());
        }
        let words = self.words.iter().flat_map(|word| word.to_le_bytes());
        (table, words.collect())
    }
}

/// The rules on a name and the sources that have rules below it, as an image stores them.
#[derive(Clone, Copy)]
pub struct Value<'o> {
    words: &'o [u8],
    rules: usize,
}

impl<'o> Value<'o> {
    /// The value with this number; without rules and sources if there is none.
    pub(super) fn at(table: &'o [u8], words: &'o [u8], number: u32) -> Self {
        let entry = word(table, number as usize * 8);
        let start = (entry & 0xFFFF_FFFF) as usize * 4;
        let rules = (entry >> 32 & 0xFFFF) as usize;
        let below = (entry >> 48) as usize;
        let words = words.get(start..start + (rules + below) * 4);
        Self {
            rules: if words.is_some() { rules } else { 0 },
            words: words.unwrap_or(&[]),
        }
    }

    /// The rules on the name, sorted by clause.
    pub fn rules(self) -> impl Iterator<Item = ImageRule> + use<'o> {
        self.words()
            .take(self.rules)
            .filter_map(ImageRule::from_bits)
    }

    /// The sources that have rules below the name, sorted. Empty if the node has an only child in its bucket; a walk reports
    /// that child, too.
    pub fn sources_below(self) -> impl Iterator<Item = SourceBelow> + use<'o> {
        self.words().skip(self.rules).map(SourceBelow::from_bits)
    }

    fn words(self) -> impl Iterator<Item = u32> + use<'o> {
        let chunks = self.words.chunks_exact(4);
        chunks.map(|chunk| word(chunk, 0) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bit_between_clause_and_scope_makes_a_rule_invalid() {
        for scope in [Scope::Exact, Scope::Below, Scope::Subtree] {
            let rule = ImageRule { clause: 7, scope };
            assert_eq!(ImageRule::from_bits(rule.to_bits()), Some(rule));
            assert_eq!(ImageRule::from_bits(rule.to_bits() | 1 << 2), None);
        }
        assert_eq!(ImageRule::from_bits(3), None);
    }

    #[test]
    fn a_source_below_is_read_as_it_was_written() {
        for (source, has_default, has_effect) in
            [(0, true, false), (7, false, true), (u16::MAX, true, true)]
        {
            let below = SourceBelow {
                source,
                has_default,
                has_effect,
            };
            assert_eq!(SourceBelow::from_bits(below.to_bits()), below);
        }
    }

    #[test]
    fn more_rules_or_sources_than_a_value_counts_are_too_large() {
        let mut interner = Interner::default();
        let many: Vec<u32> = (0..1 << 16).collect();
        let sources = || 0..=u32::from(u16::MAX);
        let (most, all) = (usize::from(u16::MAX), 1 << 16);
        assert_eq!(interner.intern(&many[..most], sources().take(most)), Ok(0));
        let refused = Err(TooLarge::Sources);
        assert_eq!(interner.intern(&many, sources().take(0)), refused);
        assert_eq!(interner.intern(&[], sources().take(all)), refused);
    }
}
