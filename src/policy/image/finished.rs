//! The children of a node that is being written, once they are complete.

use super::bits::{BitWriter, word};
use super::bucket::{ChildRef, NewChild};

/// The number of bytes before the text of a finished child.
const CHILD_HEADER: usize = 19;

/// The finished children of an unfinished node.
#[derive(Default)]
pub(super) struct FinishedChildren {
    pub(super) count: usize,
    /// For each child: hash (8 bytes), value (4), children (4), size in bits (2), whether it is the only
    /// child of the preceding one (1), text.
    bytes: Vec<u8>,
}

impl FinishedChildren {
    pub(super) fn children(&self) -> impl Iterator<Item = NewChild<'_>> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (head, tail) = rest.split_at_checked(CHILD_HEADER)?;
            let size = word(head, 16) as u32 & 0xFFFF;
            let (text, tail) = tail.split_at(size.div_ceil(8) as usize);
            rest = tail;
            Some(NewChild {
                hash: word(head, 0),
                is_only_child: head[18] != 0,
                value: word(head, 8) as u32,
                children: ChildRef(word(head, 12) as u32),
                size,
                text,
            })
        })
    }

    /// Whether there is one child, without an only child after it.
    pub(super) fn is_one_child(&self) -> bool {
        self.count == 1
    }

    /// Whether there is one child, perhaps with its only child.
    pub(super) fn is_chain(&self) -> bool {
        self.children().skip(1).all(|child| child.is_only_child) && self.count > 0
    }

    pub(super) fn clear(&mut self) {
        self.count = 0;
        self.bytes.clear();
    }

    pub(super) fn push(
        &mut self,
        hash: u64,
        is_only_child: bool,
        value: u32,
        children: ChildRef,
        bits: &mut BitWriter,
    ) {
        self.bytes.extend(hash.to_le_bytes());
        self.bytes.extend(value.to_le_bytes());
        self.bytes.extend(children.0.to_le_bytes());
        self.bytes.extend((bits.count() as u16).to_le_bytes());
        self.bytes.push(u8::from(is_only_child));
        bits.take(&mut self.bytes);
        self.count += 1;
    }
}
