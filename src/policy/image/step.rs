//! One step of a lookup: from a node to the child with the next label.

use super::bits::mask;
use super::bucket::{Bucket, ChildRef, ChildSpan, ValueFormat, tag};
use super::directory::{BucketSlot, Directory};
use super::edge::Edges;
use super::path::Key;
use crate::sys::prefetch::prefetch;
use crate::wire::name::Name;

/// The position of a node relative to the looked-up name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// An ancestor of the name.
    Above,
    /// The name itself.
    At,
    /// Below the name. At most two such nodes are reported; all others are below the last reported node.
    Below,
}

/// The state of one lookup, on its way from a node to the child with the next label.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct LookupState<'n> {
    pub(super) name: &'n Name,
    /// The number of labels walked.
    pub(super) level: usize,
    /// The next label: its first sixteen bytes, its length and its hash.
    low: u64,
    high: u64,
    size: usize,
    hash: u64,
    /// The slot of the bucket in the directory, and whether there is one.
    slot: BucketSlot,
    in_directory: bool,
    /// The offset of the bucket, once it is known.
    bucket: u32,
    /// Properties of the next label: [`LAST`], [`LONG`].
    pub(super) kind: u8,
    /// The place in the bucket of the child that was found, and whether its only child follows it.
    place: u32,
    has_only_child: bool,
}

/// The label is the last one of the name.
const LAST: u8 = 1;
/// The label has more than eight bytes.
const LONG: u8 = 2;

/// The parts of an image that lookups read.
pub(super) struct TrieView<'i> {
    pub(super) key: &'i Key,
    pub(super) edges: Edges<'i>,
    pub(super) buckets: &'i [u8],
    pub(super) directory: Directory<'i>,
}

/// The child that was found. It consists of two numbers, which a function returns in registers. The level is
/// a separate number, because it is known before the bucket has arrived from memory. So code that depends only on the
/// level need not wait.
#[derive(Clone, Copy)]
struct FoundChild {
    /// The number of labels walked, or [`NOWHERE`]. It exceeds the labels of the name if the child is below the name.
    level: usize,
    /// The value, and the [`ChildRef`] from bit 32 on.
    packed: u64,
}

/// The level if no child was found: that of the root, which is never a child.
const NOWHERE: usize = 0;

impl FoundChild {
    const NOTHING: Self = Self {
        level: NOWHERE,
        packed: 0,
    };

    #[inline(always)]
    fn value(self) -> u32 {
        self.packed as u32
    }

    #[inline(always)]
    fn children(self) -> ChildRef {
        ChildRef((self.packed >> 32) as u32)
    }
}

impl<'n> LookupState<'n> {
    #[inline(always)]
    pub(super) fn new(name: &'n Name) -> Self {
        Self {
            name,
            level: 0,
            low: 0,
            high: 0,
            size: 0,
            hash: 0,
            slot: BucketSlot::FIRST,
            in_directory: false,
            bucket: 0,
            kind: 0,
            place: 0,
            has_only_child: false,
        }
    }
}

impl TrieView<'_> {
    /// Prepares the step from a node's children to the child with the next label. Prefetches the bucket, or its
    /// slot in the directory.
    #[inline(always)]
    pub(super) fn head_for(&self, state: &mut LookupState<'_>, children: ChildRef) {
        let label = state.name.sixteen_from_root(state.level);
        let (low, high, size) = label;
        let hash = self.key.at_level(state.name, state.level, label);
        match children.as_range() {
            Some((start, count)) => {
                state.in_directory = true;
                state.slot = BucketSlot::wanted(start, count, hash);
                self.directory.prefetch(state.slot);
            }
            None => {
                state.in_directory = false;
                state.bucket = children.0;
                self.prefetch_bucket(children.0);
            }
        }
        (state.low, state.high, state.size, state.hash) = (low, high, size, hash);
        let is_last = state.level + 1 == state.name.label_count();
        state.kind = (u8::from(is_last) * LAST) | (u8::from(size > 8) * LONG);
    }

    /// Whether the bucket may hold the child.
    #[inline(always)]
    pub(super) fn may_hold(&self, state: &LookupState<'_>) -> bool {
        !state.in_directory || self.directory.may_hold(state.slot, state.hash)
    }

    /// Reads the offset of the bucket from the directory, and prefetches the bucket.
    #[inline(always)]
    pub(super) fn locate_bucket(&self, state: &mut LookupState<'_>) {
        if state.in_directory {
            // A slot that does not exist has no filter either, so `may_hold` is false for it.
            state.bucket = self.directory.bucket(state.slot).unwrap_or(state.bucket);
            self.prefetch_bucket(state.bucket);
        }
    }

    #[inline(always)]
    fn prefetch_bucket(&self, at: u32) {
        prefetch(self.buckets, at as usize);
        prefetch(self.buckets, at as usize + 64);
        prefetch(self.buckets, at as usize + 128);
    }

    /// Steps to the child in the bucket. If that child's only child follows in the same bucket and matches, steps
    /// to it as well. Returns the children to continue from.
    #[inline(always)]
    pub(super) fn step(
        &self,
        state: &mut LookupState<'_>,
        kind: u8,
        pass: &mut impl FnMut(Position, usize, u32, Option<usize>),
    ) -> Option<ChildRef> {
        let depth = state.name.label_count();
        let mut found = match (kind & LAST != 0, kind & LONG != 0) {
            (false, false) => self.find::<false, false>(state),
            (false, true) => self.find::<false, true>(state),
            (true, false) => self.find::<true, false>(state),
            (true, true) => self.find::<true, true>(state),
        };
        loop {
            let level = found.level;
            if level == NOWHERE {
                return None;
            }
            if level > depth {
                pass(Position::Below, depth, found.value(), None);
            } else {
                let place = state.bucket as usize + state.place as usize;
                pass(at_or_above(level, depth), level, found.value(), Some(place));
            }
            if level >= depth {
                if state.has_only_child {
                    pass(Position::Below, depth, self.only_child_value(state), None);
                }
                return None;
            }
            state.level = level;
            if !state.has_only_child {
                return (found.children() != ChildRef::NONE).then_some(found.children());
            }
            found = self.find_only_child(state);
        }
    }

    /// Finds the child with the next label. There is one function for each kind of label, because a branch on the kind
    /// would be mispredicted. They are not inlined, because there are not enough registers for one of them and the walk
    /// around it.
    #[inline(never)]
    fn find<const IS_LAST: bool, const IS_LONG: bool>(
        &self,
        state: &mut LookupState<'_>,
    ) -> FoundChild {
        let Some(bucket) = Bucket::at(self.buckets, state.bucket) else {
            return FoundChild::NOTHING;
        };
        if !bucket.is_usual() || !state.name.is_plain() {
            self.find_any(state)
        } else {
            // In each of these calls the format is a constant.
            let format = bucket.format();
            match format {
                ValueFormat::Short => {
                    self.find_usual::<IS_LAST, IS_LONG>(&bucket, ValueFormat::Short, state)
                }
                ValueFormat::Medium => {
                    self.find_usual::<IS_LAST, IS_LONG>(&bucket, ValueFormat::Medium, state)
                }
                ValueFormat::Each => {
                    self.find_usual::<IS_LAST, IS_LONG>(&bucket, ValueFormat::Each, state)
                }
                ValueFormat::Long => {
                    self.find_usual::<IS_LAST, IS_LONG>(&bucket, ValueFormat::Long, state)
                }
            }
        }
    }

    #[inline(always)]
    fn find_usual<const IS_LAST: bool, const IS_LONG: bool>(
        &self,
        bucket: &Bucket<'_>,
        format: ValueFormat,
        state: &mut LookupState<'_>,
    ) -> FoundChild {
        let with = bucket.first_with(format, tag(state.hash));
        if with == 0 {
            return FoundChild::NOTHING;
        }
        let place = with.trailing_zeros() as usize;
        let text = bucket.near_child(format, place);
        let Some((bits, count)) = self.edges.text.eight(state.low) else {
            return self.find_any(state);
        };
        let mut at = text.start + u64::from(count);
        let mut differing = (bucket.near_bits(text.start) ^ bits) & mask(count);
        if IS_LONG {
            let Some((bits, count)) = self.edges.text.eight(state.high) else {
                return self.find_any(state);
            };
            differing |= (bucket.near_bits(at) ^ bits) & mask(count);
            at += u64::from(count);
        }
        if differing != 0 {
            // Another child may have the same tag.
            return if with & (with - 1) == 0 {
                FoundChild::NOTHING
            } else {
                self.find_any(state)
            };
        }
        if IS_LONG && state.size > 16 || at != text.text_end {
            return self.find_rest(state, place, at, &text);
        }
        let found = found(bucket, state, state.level + 1, place, &text);
        match IS_LAST {
            // The reference to its children is not needed.
            true => FoundChild {
                packed: u64::from(found.value()),
                ..found
            },
            false => found,
        }
    }

    /// Finds the child with the next label. The text of the child at `place` matches the first sixteen bytes of the
    /// label, up to bit `at`; the rest of the text is still to be compared.
    #[inline(never)]
    fn find_rest(
        &self,
        state: &mut LookupState<'_>,
        place: usize,
        at: u64,
        text: &ChildSpan,
    ) -> FoundChild {
        let Some(bucket) = Bucket::at(self.buckets, state.bucket) else {
            return FoundChild::NOTHING;
        };
        let (name, level) = (state.name, state.level);
        let at = if state.size > 16 {
            self.edges
                .same_from_sixteen(&bucket, text.start, at, name, level)
        } else {
            Some(at)
        };
        let end = at.and_then(|at| {
            self.edges
                .same_rest(&bucket, at, text.text_end, name, level + 1)
        });
        match end {
            Some(level) => found(&bucket, state, level, place, text),
            None => self.find_any(state),
        }
    }

    /// Finds the child in any bucket, for any label.
    #[inline(never)]
    fn find_any(&self, state: &mut LookupState<'_>) -> FoundChild {
        let Some(bucket) = Bucket::at(self.buckets, state.bucket) else {
            return FoundChild::NOTHING;
        };
        let mut with = bucket.all_with(tag(state.hash));
        while with != 0 {
            let place = with.trailing_zeros() as usize;
            let text = bucket.child(place);
            let end = self
                .edges
                .same_edge(&bucket, &text, state.name, state.level);
            if let Some(level) = end {
                return found(&bucket, state, level, place, &text);
            }
            with &= with - 1;
        }
        FoundChild::NOTHING
    }

    /// The value of the only child of the child that was found.
    #[inline(never)]
    fn only_child_value(&self, state: &LookupState<'_>) -> u32 {
        let bucket = Bucket::at(self.buckets, state.bucket);
        bucket.map_or(0, |bucket| {
            bucket.child(state.place as usize + 1).node.value
        })
    }

    /// Follows the only child of the child that was found, if its label is the next one.
    #[inline(never)]
    fn find_only_child(&self, state: &mut LookupState<'_>) -> FoundChild {
        let Some(bucket) = Bucket::at(self.buckets, state.bucket) else {
            return FoundChild::NOTHING;
        };
        let place = state.place as usize + 1;
        let text = bucket.child(place);
        match self
            .edges
            .same_edge(&bucket, &text, state.name, state.level)
        {
            Some(level) => found(&bucket, state, level, place, &text),
            None => FoundChild::NOTHING,
        }
    }
}

/// Records in the state which child was found, and returns the child.
#[inline(always)]
fn found(
    bucket: &Bucket<'_>,
    state: &mut LookupState<'_>,
    level: usize,
    place: usize,
    text: &ChildSpan,
) -> FoundChild {
    state.place = place as u32;
    state.has_only_child = bucket.has_only_child(place);
    FoundChild {
        level,
        packed: u64::from(text.node.value) | u64::from(text.node.children.0) << 32,
    }
}

#[inline(always)]
pub(super) fn at_or_above(level: usize, depth: usize) -> Position {
    if level == depth {
        Position::At
    } else {
        Position::Above
    }
}
