//! Assigns to each list or order the slot in which its hits are counted. It keeps this slot while the server runs.

use std::collections::HashMap;

use crate::policy::rule::Source;
use crate::stats::{LISTS, SLOTS_WITH_ACTIONS};

/// The slots by the names of sources.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    of: HashMap<String, u16>,
    /// How many of the slots that count by action are used, and how many of the others.
    used: [usize; 2],
}

impl Slots {
    /// The slot of a source. It is assigned at the first call; `None` if no slot is free, so its hits are not
    /// counted separately.
    pub(crate) fn of(&mut self, source: &str) -> Option<u16> {
        if let Some(slot) = self.of.get(source) {
            return Some(*slot);
        }
        let counts = [SLOTS_WITH_ACTIONS, LISTS - SLOTS_WITH_ACTIONS];
        // All rules of an order have the same action. Of lists, some are policy zones, whose rules have several.
        let ranges = match source.starts_with(Source::ORDER) {
            true => [1, 0],
            false => [0, 1],
        };
        let range = ranges
            .into_iter()
            .find(|&range| self.used[range] < counts[range])?;
        let slot = self.used[range] + range * SLOTS_WITH_ACTIONS;
        let slot = u16::try_from(slot).ok()?;
        self.used[range] += 1;
        self.of.insert(source.to_owned(), slot);
        Some(slot)
    }

    /// All sources with their slots.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, usize)> {
        let all = self.of.iter();
        all.map(|(source, slot)| (&**source, usize::from(*slot)))
    }

    /// The slot of a source; `None` if it was not assigned one.
    pub(crate) fn known(&self, source: &str) -> Option<usize> {
        self.of.get(source).copied().map(usize::from)
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

    #[test]
    fn lists_are_counted_by_action_although_there_are_more_orders_than_slots_for_that() {
        let mut slots = Slots::default();
        for order in 0..2 * SLOTS_WITH_ACTIONS {
            let slot = slots.of(&format!("order:{order}"));
            assert!(slot.is_some_and(|slot| usize::from(slot) >= SLOTS_WITH_ACTIONS));
        }
        assert_eq!(slots.of("ads"), Some(0));
    }
}
