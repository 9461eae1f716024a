//! The rules of an image whose triggers are networks of addresses.

use super::bits::word;
use super::error::{ImageError, TooLarge};
use crate::policy::prefix::{AddressOf, Prefix};

/// The bytes of a rule: its clause (4), whose address it is about (1), the length of the prefix (1), two zeros, the first
/// address (16, the most significant byte first).
const SIZE: usize = 24;
/// The number of rules on networks that an image can have.
const MAX_PREFIXES: usize = 1 << 24;

/// Rules on networks, each with the number of its clause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Triggers {
    prefixes: Vec<(Prefix, u32)>,
}

impl Triggers {
    /// Adds a rule on a network.
    ///
    /// # Errors
    /// If there are too many.
    pub fn add_prefix(&mut self, prefix: Prefix, clause: u32) -> Result<(), TooLarge> {
        if self.prefixes.len() >= MAX_PREFIXES {
            return Err(TooLarge::Prefixes);
        }
        self.prefixes.push((prefix, clause));
        Ok(())
    }

    /// Adds the rules of `other` for whose clauses `clause` returns a new number.
    ///
    /// # Errors
    /// If there are too many.
    pub fn carry(
        &mut self,
        other: &Self,
        mut clause: impl FnMut(u32) -> Option<u32>,
    ) -> Result<(), TooLarge> {
        for &(prefix, old) in &other.prefixes {
            if let Some(clause) = clause(old) {
                self.add_prefix(prefix, clause)?;
            }
        }
        Ok(())
    }

    /// Sorts the rules, and removes duplicates.
    pub(super) fn sort(&mut self) {
        self.prefixes.sort_unstable();
        self.prefixes.dedup();
    }

    /// The rules on networks. Those of an image are sorted: each network follows those that contain it.
    pub fn prefixes(&self) -> &[(Prefix, u32)] {
        &self.prefixes
    }

    /// The number of rules.
    pub fn len(&self) -> usize {
        self.prefixes.len()
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// The bytes of the section.
    pub(super) fn section(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.prefixes.len() * SIZE);
        for (prefix, clause) in &self.prefixes {
            bytes.extend(clause.to_le_bytes());
            bytes.extend([prefix.of as u8, prefix.len, 0, 0]);
            bytes.extend(prefix.first.to_be_bytes());
        }
        bytes
    }

    /// Reads the section of an image that has this number of clauses.
    ///
    /// # Errors
    /// If it is not what [`section`](Self::section) writes of sorted rules.
    pub(super) fn from_section(bytes: &[u8], clauses: usize) -> Result<Self, ImageError> {
        let (rules, rest) = bytes.as_chunks::<SIZE>();
        let rule = |bytes: &[u8; SIZE]| {
            let head = word(bytes, 0);
            let of = match head >> 32 & 0xFF {
                0 => AddressOf::Client,
                1 => AddressOf::Answer,
                _ => return None,
            };
            let (clause, len) = (head as u32, (head >> 40) as u8);
            let first = u128::from_be_bytes(*bytes.last_chunk()?);
            let prefix = Prefix::from_bits(of, first, len)?;
            (head >> 48 == 0 && (clause as usize) < clauses).then_some((prefix, clause))
        };
        let prefixes: Option<Vec<_>> = rules.iter().map(rule).collect();
        let prefixes = prefixes.filter(|rules| {
            rest.is_empty() && rules.len() <= MAX_PREFIXES && rules.is_sorted_by(|a, b| a < b)
        });
        let prefixes = prefixes.ok_or(ImageError::Invalid("prefixes"))?;
        Ok(Self { prefixes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn triggers() -> Triggers {
        let mut triggers = Triggers::default();
        for (of, network, clause) in [
            (AddressOf::Answer, "192.0.2.0/24", 1),
            (AddressOf::Answer, "192.0.0.0/16", 0),
            (AddressOf::Client, "2001:db8::/32", 2),
            (AddressOf::Answer, "192.0.2.0/24", 1),
            (AddressOf::Answer, "192.0.2.0/24", 0),
        ] {
            let prefix = Prefix::new(of, network.parse().expect("a network"));
            let added = triggers.add_prefix(prefix.expect("valid"), clause);
            added.expect("room");
        }
        triggers.sort();
        triggers
    }

    #[test]
    fn rules_are_read_as_they_were_written() {
        let written = triggers();
        assert_eq!(written.len(), 4, "one was added twice");
        let networks = written.prefixes().iter();
        let networks: Vec<_> = networks
            .map(|(prefix, _)| prefix.network().to_string())
            .collect();
        let sorted = [
            "2001:db8::/32",
            "192.0.0.0/16",
            "192.0.2.0/24",
            "192.0.2.0/24",
        ];
        assert_eq!(networks, sorted);
        assert_eq!(Triggers::from_section(&written.section(), 3), Ok(written));
    }

    #[test]
    fn sections_with_other_contents_are_refused() {
        let bytes = triggers().section();
        let invalid = Err(ImageError::Invalid("prefixes"));
        assert_eq!(Triggers::from_section(&bytes, 2), invalid, "two clauses");
        assert_eq!(Triggers::from_section(&bytes[1..], 3), invalid);
        let changed = |at: usize, byte: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            Triggers::from_section(&bytes, 3)
        };
        assert_eq!(changed(4, 2), invalid, "neither client nor answer");
        assert_eq!(changed(23, 1), invalid, "host bits");
        assert_eq!(changed(5, 129), invalid);
        assert_eq!(changed(6, 1), invalid, "padding");
        assert_eq!(changed(7, 1), invalid, "padding");
        let swapped = [&bytes[SIZE..2 * SIZE], &bytes[..SIZE], &bytes[2 * SIZE..]].concat();
        assert_eq!(Triggers::from_section(&swapped, 3), invalid, "order");
        let twice = [&bytes[..SIZE], &bytes].concat();
        assert_eq!(Triggers::from_section(&twice, 3), invalid, "a rule twice");
    }
}
