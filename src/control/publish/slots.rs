//! Assigns to each list or order the slot in which its hits are counted. It keeps this slot while the server runs.

use std::collections::HashMap;

use crate::stats::LISTS;

/// The slots by the names of sources.
#[derive(Debug, Default)]
pub(crate) struct Slots(HashMap<String, u16>);

impl Slots {
    /// The slot of a source. It is assigned at the first call; `None` if no slot is free, so its hits are not
    /// counted separately.
    pub(crate) fn of(&mut self, source: &str) -> Option<u16> {
        if let Some(slot) = self.0.get(source) {
            return Some(*slot);
        }
        let next = u16::try_from(self.0.len()).ok();
        let slot = next.filter(|slot| usize::from(*slot) < LISTS)?;
        self.0.insert(source.to_owned(), slot);
        Some(slot)
    }

    /// All sources with their slots.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, usize)> {
        let all = self.0.iter();
        all.map(|(source, slot)| (&**source, usize::from(*slot)))
    }

    /// The slot of a source; `None` if it was not assigned one.
    pub(crate) fn known(&self, source: &str) -> Option<usize> {
        self.0.get(source).copied().map(usize::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_its_slot_and_lists_beyond_the_limit_have_none() {
        let mut slots = Slots::default();
        assert_eq!(
            (slots.of("one"), slots.of("two"), slots.of("one")),
            (Some(0), Some(1), Some(0))
        );
        for list in 2..LISTS {
            assert!(slots.of(&list.to_string()).is_some());
        }
        assert_eq!(slots.of("one more"), None);
        assert_eq!(slots.known("two"), Some(1));
    }
}
