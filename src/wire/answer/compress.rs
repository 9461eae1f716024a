//! Compresses the names of a message (RFC 1035, section 4.1.4).

use smallvec::SmallVec;

use super::spelling::{AskedLabels, CasedName};
use crate::wire::name::Name;

/// The maximum number of labels that later names may point to: the first ones of the message.
const MAX_POSITIONS: usize = 64;
/// How many of these labels may belong to the name that the message begins with.
const FIRST_POSITIONS: usize = 32;
/// The maximum number of comparisons for compressing an answer; after that, names are written in full. Each position
/// that is tried for a name counts, and so does each label or pointer that is read there. 1024 records with usual names
/// take fewer than 200,000, but 238 names of 127 labels took two million.
const MAX_STEPS: usize = 1 << 18;
/// A compression pointer has fourteen bits (RFC 1035, section 4.1.4).
pub(in crate::wire) const LAST_TARGET: usize = 0x3FFF;

/// The labels of a message that later names may point to.
pub(in crate::wire) struct Compressor {
    label_positions: SmallVec<[LabelPosition; MAX_POSITIONS]>,
    /// How many of [`MAX_STEPS`] are left.
    steps: usize,
}

/// The position of a label that names may point to.
#[derive(Clone, Copy)]
struct LabelPosition {
    at: u16,
    /// The length of the name from there on, uncompressed. Compared first, because few names have the same length.
    len: u16,
}

impl Compressor {
    /// A compressor for a message that has this uncompressed name at offset `at`.
    pub(in crate::wire) fn of_name(name: &[u8], at: usize) -> Self {
        let starts = label_starts(name).filter(|start| at + start <= LAST_TARGET);
        let label_positions = starts.map(|start| LabelPosition {
            at: (at + start) as u16,
            len: (name.len() - start) as u16,
        });
        Self {
            label_positions: label_positions.take(FIRST_POSITIONS).collect(),
            steps: MAX_STEPS,
        }
    }

    /// Later names point to none of the names that were written so far.
    pub(super) fn clear(&mut self) {
        self.label_positions.clear();
    }

    /// Appends the name at offset `at` of another message to `out`. Returns the offset after the name in that message.
    pub(in crate::wire) fn copy(
        &mut self,
        message: &[u8],
        at: usize,
        compressed: bool,
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        let (name, after) = CasedName::parse(message, at, &AskedLabels::of(&Name::ROOT))?;
        self.write(out, &name, compressed);
        Some(after)
    }

    /// Appends a name to a message; compresses it if allowed.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, name: &CasedName, compressed: bool) {
        for start in name.labels() {
            let suffix = name.from(start);
            let len = suffix.len() as u16;
            if compressed && let Some(at) = self.find(out, suffix) {
                out.extend_from_slice(&(0xC000 | at).to_be_bytes());
                return;
            }
            if out.len() <= LAST_TARGET && self.label_positions.len() < MAX_POSITIONS {
                let at = out.len() as u16;
                self.label_positions.push(LabelPosition { at, len });
            }
            let label = usize::from(suffix[0]);
            out.extend_from_slice(&suffix[..=label]);
        }
        out.push(0);
    }

    /// The position of an equal name in the message. `None` if there is none, or no steps are left.
    fn find(&mut self, out: &[u8], suffix: &[u8]) -> Option<u16> {
        for place in &self.label_positions {
            self.steps = self.steps.checked_sub(1)?;
            if usize::from(place.len) == suffix.len()
                && is_name_at(out, usize::from(place.at), suffix, &mut self.steps)
            {
                return Some(place.at);
            }
        }
        None
    }
}

/// The offsets of the labels of an uncompressed name.
pub(in crate::wire) fn label_starts(name: &[u8]) -> impl Iterator<Item = usize> {
    let size = |start: usize| name.get(start).copied().map_or(0, usize::from);
    let next = move |start: &usize| Some(start + 1 + size(*start));
    std::iter::successors(Some(0), next).take_while(move |start| size(*start) > 0)
}

/// Whether the name at offset `at` of the written message equals `name`. Also false if no steps are left.
fn is_name_at(out: &[u8], mut at: usize, name: &[u8], steps: &mut usize) -> bool {
    let mut rest = name;
    loop {
        let Some(left) = steps.checked_sub(1) else {
            return false;
        };
        *steps = left;
        let Some(&size) = out.get(at) else {
            return false;
        };
        if size >= 0xC0 {
            // Pointers only point backwards, so this ends.
            at = usize::from(size & 0x3F) << 8 | usize::from(out[at + 1]);
            continue;
        }
        let label = usize::from(size) + 1;
        let Some((expected, after)) = rest.split_at_checked(label) else {
            return false;
        };
        if out.get(at..at + label) != Some(expected) {
            return false;
        }
        if size == 0 {
            return after.is_empty();
        }
        (at, rest) = (at + label, after);
    }
}
