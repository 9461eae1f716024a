//! Owns the places where hits of lists are counted: a list keeps its place for as long as the server runs.
//! Refuses to count.

use std::collections::HashMap;

use crate::stats::LISTS;

/// The places by the lists' names.
#[derive(Debug, Default)]
pub(crate) struct Slots(HashMap<String, u16>);

impl Slots {
    /// A list's place; a free one if it has none. Nothing, when there have been too many lists: its
    /// hits are not counted by themselves.
    pub(crate) fn of(&mut self, list: &str) -> Option<u16> {
        if let Some(slot) = self.0.get(list) {
            return Some(*slot);
        }
        let next = u16::try_from(self.0.len()).ok();
        let slot = next.filter(|slot| usize::from(*slot) < LISTS)?;
        self.0.insert(list.to_owned(), slot);
        Some(slot)
    }

    /// All lists with their places.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, usize)> {
        let all = self.0.iter();
        all.map(|(list, slot)| (&**list, usize::from(*slot)))
    }

    /// A list's place, if it has one.
    pub(crate) fn known(&self, list: &str) -> Option<usize> {
        self.0.get(list).copied().map(usize::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_its_place_and_too_many_lists_have_none() {
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
