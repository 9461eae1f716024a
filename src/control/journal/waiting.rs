//! Entries that wait to be written to the journal, up to a limit.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::draft::Draft;
use super::entry::Event;

/// The limit for waiting entries. Each entry counts as 16. The entry of a generation counts as 1 more for each order,
/// because it has the states of all orders. Beyond the limit, each new generation replaces the last one that waits:
/// only the new one is recorded, with the changes of both, and the entry that is missing counts as lost.
const MOST: usize = 1 << 20;

/// An entry to be written.
pub(super) enum Item {
    Publish(Box<Draft>),
    Event(Timestamp, u64, Box<Event>),
}

impl Item {
    /// When the event happened.
    fn at(&self) -> Timestamp {
        match self {
            Self::Publish(draft) => draft.at,
            Self::Event(at, ..) => *at,
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Publish(draft) => 16 + draft.states.len(),
            Self::Event(..) => 16,
        }
    }
}

/// Waiting entries, the oldest first.
#[derive(Default)]
pub(super) struct Waiting {
    items: VecDeque<Item>,
    /// The number of entries that did not fit.
    lost: u64,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The time of the oldest one.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.items.front().map(Item::at)
    }

    pub(super) fn push_front(&mut self, item: Item) {
        self.items.push_front(item);
    }

    pub(super) fn pop_front(&mut self) -> Option<Item> {
        self.items.pop_front()
    }

    /// Adds an entry. If it does not fit, returns its time.
    pub(super) fn push(&mut self, item: Item) -> Option<Timestamp> {
        if self.items.iter().map(Item::weight).sum::<usize>() < MOST {
            self.items.push_back(item);
            return None;
        }
        let at = item.at();
        self.lost += 1;
        let last = self.items.iter_mut().rev().find_map(|item| match item {
            Item::Publish(last) => Some(last),
            Item::Event(..) => None,
        });
        if let (Item::Publish(mut draft), Some(last)) = (item, last) {
            draft.order_records = draft.order_records.or_else(|| last.order_records.take());
            *last = draft;
        }
        Some(at)
    }

    /// The number of entries that did not fit since the last call.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}
