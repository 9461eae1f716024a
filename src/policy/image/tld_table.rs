//! A table of the nodes directly below the root, indexed by top-level label.
//!
//! Nearly every lookup begins with one of a few hundred labels, which are found by comparing eight bytes at
//! once. Longer or unusual labels are looked up in the root's buckets. A slot has sixteen bytes: the label
//! padded with zeros, its value, and its [`ChildRef`] or [`IN_BUCKET`]. A slot with the label 0 is empty, and
//! there is always one.

use super::bits::word;
use super::bucket::ChildRef;
use crate::wire::name::Name;

/// There is no table for more labels than this.
pub(super) const MAX_LABELS: usize = 1 << 12;
/// The minimum number of slots per label.
const SLOTS_PER_LABEL: usize = 4;
/// The size of a slot.
const SLOT_BYTES: usize = 16;
/// The label starts an edge of several labels, which is in the root's buckets.
pub(super) const IN_BUCKET: ChildRef = ChildRef(u32::MAX - 1);

/// The result of looking up a top-level label.
pub(super) enum TldEntry {
    /// Not in the table: look into the root's buckets.
    Unknown,
    /// No name has this label.
    Missing,
    /// The node of the label.
    Node { value: u32, children: ChildRef },
}

/// The key of a label. `None` if the table cannot hold it.
pub(super) fn key(label: &[u8]) -> Option<u64> {
    let plain = label.iter().all(|byte| *byte != 0);
    (plain && label.len() <= 8).then(|| word(label, 0))
}

/// The table of these keys, values and children; empty if there are too many.
pub(super) fn table(nodes: &[(u64, u32, ChildRef)], seed: u64) -> Vec<u8> {
    if nodes.len() > MAX_LABELS {
        return Vec::new();
    }
    let slots = (nodes.len() * SLOTS_PER_LABEL).max(1).next_power_of_two();
    let mut table = vec![0; slots * SLOT_BYTES];
    for &(key, value, children) in nodes {
        let mut slot = first_slot(key, seed, slots);
        while word(&table, slot * SLOT_BYTES) != 0 {
            slot = (slot + 1) & (slots - 1);
        }
        let at = slot * SLOT_BYTES;
        table[at..at + 8].copy_from_slice(&key.to_le_bytes());
        table[at + 8..at + 12].copy_from_slice(&value.to_le_bytes());
        table[at + 12..at + 16].copy_from_slice(&children.0.to_le_bytes());
    }
    table
}

/// Looks up the top-level label of a name other than the root.
#[inline(always)]
pub(super) fn find(table: &[u8], seed: u64, name: &Name) -> TldEntry {
    let (key, _, size) = name.sixteen_from_root(0);
    if size > 8 || !name.is_plain() || table.is_empty() {
        return TldEntry::Unknown;
    }
    let (slots, _) = table.as_chunks::<SLOT_BYTES>();
    let mut slot = first_slot(key, seed, slots.len());
    // Ends at an empty slot, or after all slots.
    for _ in 0..slots.len() {
        let Some(bytes) = slots.get(slot) else { break };
        let found = word(bytes, 0);
        if found == key {
            let holds = word(bytes, 8);
            let children = ChildRef((holds >> 32) as u32);
            if children == IN_BUCKET {
                return TldEntry::Unknown;
            }
            let value = holds as u32;
            return TldEntry::Node { value, children };
        }
        if found == 0 {
            return TldEntry::Missing;
        }
        slot = (slot + 1) & (slots.len() - 1);
    }
    TldEntry::Missing
}

#[inline(always)]
fn first_slot(key: u64, seed: u64, slots: usize) -> usize {
    let mixed = (key ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 32) as usize & (slots - 1)
}
