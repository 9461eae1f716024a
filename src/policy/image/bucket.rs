//! A bucket: up to 31 children of one node, with their tags, sizes and texts side by side.
//!
//! | bytes | content |
//! |---|---|
//! | 1 | bits 0 to 4: number of children (n); bit 5: `LONG`; bits 6 and 7: how values are stored ([`ValueFormat`]) |
//! | 0 to 3 | the common value: that of all children that are not `EXPLICIT` |
//! | n | the tag of each child: seven bits of the hash of its first label, and `EXPLICIT` in the lowest bit |
//! | n | the size of each child in bits, or its low byte |
//! | n if `LONG` | the high byte of each size |
//! | the rest, padded with zeros to a multiple of [`UNIT`] | the children, one after the other without padding |
//!
//! A child that is not `EXPLICIT` consists of its text alone. In an `EXPLICIT` child, three fields follow the text: the
//! [`ChildRef`] (32 bits, only if the child has children), one bit that says whether the child has children, and its
//! value in 7, 11 or 23 bits.
//!
//! In a bucket without a common value, each child has its value in 15 bits, and `EXPLICIT` itself says whether a
//! [`ChildRef`] precedes it. This takes the fewest bits if the values of nearly all children differ.
//!
//! A child with the tag `ONLY_CHILD` is the only child of the one before it, which has no [`ChildRef`]. Most
//! nodes with children have one child, called `www`, and a bucket for it would cost another access to memory.

use std::ops::Range;

use super::bits::{BitWriter, peek, word};
use crate::sys::lanes::Sixteen;
use crate::wire::name::MAX_NAME;

/// The maximum number of children in a bucket.
pub const MAX_CHILDREN: usize = 31;
/// Some child has more than 255 bits.
const LONG: u8 = 0x20;
/// The lowest bit of the number of [`ValueFormat`].
const FORMAT_SHIFT: u32 = 6;
/// The bit of a tag that is set if fields follow the text of the child. In a bucket without a common value, it is set
/// if the child has children.
const EXPLICIT: u8 = 1;
/// The tag of the only child of the preceding child. No hash has this tag.
const ONLY_CHILD: u8 = 0;

/// A bucket that is not `LONG` has at most this many bytes. A power of two, so that masking an index bounds
/// it without a comparison.
const NEAR_BYTES: usize = 1 << 11;
/// Zeros before the first bucket. The explicit part of a child is read together with the bytes before it,
/// whatever they are.
pub const LEADING_ZEROS: usize = 8;
/// Zeros after the last bucket, so that an array of this length can be read at each bucket.
pub const TRAILING_ZEROS: usize = NEAR_BYTES + 16;

/// The first value that does not fit into 23 bits.
pub const VALUE_LIMIT: u32 = 1 << 23;
/// The first offset of a bucket that does not fit into 31 bits.
pub const OFFSET_LIMIT: u64 = 1 << 31;
/// The first group of the directory whose number does not fit into 24 bits.
pub const GROUP_LIMIT: u64 = 1 << 24;
/// The first class of a range (see [`buckets`]) whose number of buckets does not fit into 32 bits.
pub const CLASS_LIMIT: u32 = 120;
/// The size of a bucket is a multiple of this number of bytes.
pub const UNIT: usize = 4;
/// The maximum size of a bucket: 4 bytes of head, 3 bytes for each child, 15 bits of text for each byte of its path,
/// and 56 bits for reference and value.
///
/// The longest text is one in which all pairs are escaped. A label of 2n bytes takes 2n+1 bytes of the path. It has at
/// most 30n bits of text, and 14 more if another label follows. A label of 2n+1 bytes takes 2n+2 bytes of the path, and
/// has at most 30n+22 bits of text.
pub const MAX_BUCKET_BYTES: usize =
    4 + 3 * MAX_CHILDREN + ((15 * (MAX_NAME - 1) + 56) * MAX_CHILDREN).div_ceil(8);

/// Refers to the children of a node: one bucket, a range of the directory, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildRef(pub u32);

impl ChildRef {
    /// No children.
    pub const NONE: Self = Self(u32::MAX);

    /// Children in the bucket at `offset`, which is below [`OFFSET_LIMIT`].
    pub fn bucket(offset: u64) -> Self {
        Self(offset as u32)
    }

    /// Children in a range of the directory with the number of buckets of `class`. `start` is its first
    /// group, below [`GROUP_LIMIT`].
    pub fn range(start: u64, class: u32) -> Self {
        Self(1 << 31 | class << 24 | start as u32)
    }

    /// The offset of the bucket. `None` unless the children are in one bucket.
    #[inline(always)]
    pub fn as_bucket(self) -> Option<u32> {
        (self.0 >> 31 == 0).then_some(self.0)
    }

    /// Whether the class of a range is below [`CLASS_LIMIT`].
    pub fn is_countable(self) -> bool {
        (self.0 >> 24 & 0x7F) < CLASS_LIMIT
    }

    /// The first group of the directory and the number of buckets. `None` unless the children are in a range.
    #[inline(always)]
    pub fn as_range(self) -> Option<(u32, u32)> {
        let range = self.0 >> 31 != 0 && self != Self::NONE;
        range.then(|| (self.0 & 0xFF_FFFF, buckets(self.0 >> 24 & 0x7F)))
    }
}

/// The number of buckets of a class: 4, 5, 6, 7, then 8, 10, 12, 14, then 16, 20, and so on.
#[inline(always)]
pub fn buckets(class: u32) -> u32 {
    (4 + class % 4) << (class / 4 % 32)
}

/// The bucket of a range that a hash belongs to. Increases with the hash.
#[inline(always)]
pub fn index(hash: u64, buckets: u32) -> u32 {
    (((hash >> 32) * u64::from(buckets)) >> 32) as u32
}

/// The tag of a hash, which is never `ONLY_CHILD`.
#[inline(always)]
pub fn tag(hash: u64) -> u8 {
    ((hash as u8) & !EXPLICIT).max(EXPLICIT + 1)
}

/// How a bucket stores the values of its children. The order is that of the numbers in the bucket's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueFormat {
    /// Seven bits, and a common value.
    Short,
    /// Eleven bits, and a common value.
    Medium,
    /// Fifteen bits in each child, without a common value.
    Each,
    /// 23 bits, and a common value.
    Long,
}

impl ValueFormat {
    /// The format of the bucket with this head.
    #[inline(always)]
    fn of(head: u64) -> Self {
        match head >> FORMAT_SHIFT & 3 {
            0 => Self::Short,
            1 => Self::Medium,
            2 => Self::Each,
            _ => Self::Long,
        }
    }

    /// The number of bits of a value.
    #[inline(always)]
    fn value_bits(self) -> u64 {
        match self {
            Self::Short => 7,
            Self::Medium => 11,
            Self::Each => 15,
            Self::Long => 23,
        }
    }

    /// The number of bits after the text and the [`ChildRef`] of a child: those of its value and, except with
    /// [`Each`](Self::Each), the bit that says whether it has children.
    #[inline(always)]
    fn tail_bits(self) -> u64 {
        self.value_bits() + 1 - self.is_each()
    }

    /// The number of bytes before the tags: those of the first byte and the common value.
    #[inline(always)]
    fn head_bytes(self) -> usize {
        match self {
            Self::Each => 1,
            Self::Short => 2,
            Self::Medium => 3,
            Self::Long => 4,
        }
    }

    /// 1 for [`Each`](Self::Each), else 0.
    #[inline(always)]
    fn is_each(self) -> u64 {
        u64::from(self == Self::Each)
    }

    /// The number of bits of the common value and of the tails in a bucket of `count` children. Of these, `explicit`
    /// have children, or a value other than the common one.
    fn bits(self, count: usize, explicit: usize) -> usize {
        let tails = if self == Self::Each { count } else { explicit };
        (self.head_bytes() - 1) * 8 + tails * self.tail_bits() as usize
    }
}

/// A bucket in its section. Offsets of bits and bytes count from [`LEADING_ZEROS`] bytes before it.
#[derive(Clone, Copy)]
pub struct Bucket<'o> {
    near: &'o [u8; TRAILING_ZEROS],
    /// The whole section, and the offset of `near` in it.
    bytes: &'o [u8],
    start: usize,
    /// The first eight bytes.
    head: u64,
}

/// The value of a child and the reference to its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// The number of the value.
    pub value: u32,
    /// Its children.
    pub children: ChildRef,
}

/// Where a child is in its bucket.
#[derive(Clone, Copy, Debug)]
pub struct ChildSpan {
    /// Its first bit.
    pub start: u64,
    /// The first bit after its text.
    pub text_end: u64,
    /// The first bit after the child.
    pub end: u64,
    /// Its value and children.
    pub node: Node,
}

impl<'o> Bucket<'o> {
    /// The bucket at offset `at`. `None` if the section is too short for a bucket at this offset. Whatever the
    /// bytes are, reading the bucket never panics and stays inside `bytes`.
    #[inline(always)]
    pub fn at(bytes: &'o [u8], at: u32) -> Option<Self> {
        let start = (at as usize).wrapping_sub(LEADING_ZEROS);
        let near = bytes.get(start..)?.first_chunk()?;
        let head = word(near, LEADING_ZEROS);
        Some(Self {
            near,
            bytes,
            start,
            head,
        })
    }

    /// The number of children.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.head as usize & MAX_CHILDREN
    }

    /// Whether it has no children.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it has at most sixteen children, all with sizes of one byte.
    #[inline(always)]
    pub fn is_usual(&self) -> bool {
        self.head & u64::from(LONG | MAX_CHILDREN as u8) <= 16
    }

    /// How values are stored.
    #[inline(always)]
    pub fn format(&self) -> ValueFormat {
        ValueFormat::of(self.head)
    }

    #[inline(always)]
    fn tags(&self) -> usize {
        LEADING_ZEROS + self.format().head_bytes()
    }

    #[inline(always)]
    fn sizes(&self) -> usize {
        self.tags() + self.len()
    }

    #[inline(always)]
    fn word(&self, at: usize) -> u64 {
        word(self.near, at % NEAR_BYTES)
    }

    #[inline(always)]
    fn sixteen(&self, at: usize) -> Sixteen {
        let bytes = self.near[at % NEAR_BYTES..].first_chunk();
        Sixteen::from_bytes(*bytes.expect("there are sixteen more"))
    }

    /// The bits from bit `at` on, at least 57, in a usual bucket.
    #[inline(always)]
    pub fn near_bits(&self, at: u64) -> u64 {
        self.word((at / 8) as usize) >> (at % 8)
    }

    /// The bits from bit `at` on, at least 57, in any bucket.
    #[inline(always)]
    pub fn bits(&self, at: u64) -> u64 {
        peek(self.bytes, self.section_bit(at))
    }

    /// Converts the offset of a bit from the bucket to the section.
    pub fn section_bit(&self, at: u64) -> u64 {
        at.wrapping_add(self.start as u64 * 8)
    }

    /// The children with this tag among the first sixteen: one bit for each. `format` is that of the bucket; if it is a
    /// constant, the compiled function is faster.
    #[inline(always)]
    pub fn first_with(&self, format: ValueFormat, tag: u8) -> u32 {
        // Bytes after the tags may look like a tag.
        let tags = self.sixteen(LEADING_ZEROS + format.head_bytes());
        tags.equal(tag, EXPLICIT) & ((1 << self.len()) - 1)
    }

    /// The children with this tag: one bit for each.
    pub fn all_with(&self, tag: u8) -> u32 {
        let more = self.sixteen(self.tags() + 16).equal(tag, EXPLICIT) << 16;
        (self.first_with(self.format(), tag) | more) & ((1 << self.len()) - 1)
    }

    /// The tag of a child. `None` if it is the only child of the preceding one.
    pub fn tag(&self, place: usize) -> Option<u8> {
        let tag = self.word(self.tags() + place) as u8 & !EXPLICIT;
        (tag != ONLY_CHILD).then_some(tag)
    }

    /// Whether the next child is the only child of the one at `place`.
    #[inline(always)]
    pub fn has_only_child(&self, place: usize) -> bool {
        let next = self.word(self.tags() + place + 1) as u8 & !EXPLICIT;
        next == ONLY_CHILD && place + 1 < self.len()
    }

    /// One of the first sixteen children of a usual bucket. `format` is that of the bucket, as for
    /// [`first_with`](Self::first_with).
    #[inline(always)]
    pub fn near_child(&self, format: ValueFormat, place: usize) -> ChildSpan {
        let tags = LEADING_ZEROS + format.head_bytes();
        let sizes = tags + self.len();
        let before = self.sixteen(sizes).sum_of_first(place % 16);
        let start = (sizes + self.len()) as u64 * 8 + before;
        let end = start + (self.word(sizes + place) & 0xFF);
        let explicit = self.word(tags + place) & u64::from(EXPLICIT);
        // The last 56 bits: the reference to its children, if any, and up to 24 bits with its value.
        let last = self.near_bits(end.wrapping_sub(56));
        ChildSpan::new(format, self.head, explicit, start..end, last)
    }

    /// Whether sizes have two bytes.
    #[inline(always)]
    fn is_long(&self) -> bool {
        self.head & u64::from(LONG) != 0
    }

    /// The child at `place` of any bucket.
    pub fn child(&self, place: usize) -> ChildSpan {
        let (len, sizes) = (self.len(), self.sizes());
        let byte = |at: usize| self.word(at) & 0xFF;
        let long = self.is_long();
        let size = |place: usize| {
            let high = if long { byte(sizes + len + place) } else { 0 };
            byte(sizes + place) | high << 8
        };
        let texts = sizes + len + if long { len } else { 0 };
        let mut before = self.sum(sizes, place);
        if long {
            before += self.sum(sizes + len, place) << 8;
        }
        let start = texts as u64 * 8 + before;
        self.child_from(start, place, size(place))
    }

    /// The sum of `count` bytes from `at` on.
    #[inline(always)]
    fn sum(&self, at: usize, count: usize) -> u64 {
        let more = self.sixteen(at + 16).sum_of_first(count.saturating_sub(16));
        self.sixteen(at).sum_of_first(count) + more
    }

    #[inline(always)]
    fn child_from(&self, start: u64, place: usize, size: u64) -> ChildSpan {
        let end = start + size;
        let explicit = self.word(self.tags() + place) & u64::from(EXPLICIT);
        let last = self.bits(end.wrapping_sub(56));
        ChildSpan::new(self.format(), self.head, explicit, start..end, last)
    }

    /// Calls `each` for every child. The first argument says whether it is the only child of the preceding child.
    #[inline(always)]
    pub fn each(&self, each: impl FnMut(bool, ChildSpan)) {
        // Short values are the most common, and a constant format is faster.
        match (self.is_long(), self.format()) {
            (false, ValueFormat::Short) => self.each_as::<false>(ValueFormat::Short, each),
            (false, format) => self.each_as::<false>(format, each),
            (true, format) => self.each_as::<true>(format, each),
        }
    }

    #[inline(always)]
    fn each_as<const IS_LONG: bool>(
        &self,
        format: ValueFormat,
        mut each: impl FnMut(bool, ChildSpan),
    ) {
        let len = self.len();
        let tags = LEADING_ZEROS + format.head_bytes();
        let sizes = tags + len;
        let byte = |at: usize| self.word(at) & 0xFF;
        let high = |place: usize| byte(sizes + len + place) << 8;
        let mut start = (sizes + len + if IS_LONG { len } else { 0 }) as u64 * 8;
        for place in 0..len {
            let end = start + (byte(sizes + place) | if IS_LONG { high(place) } else { 0 });
            let tag = byte(tags + place) as u8;
            let last = match IS_LONG {
                true => self.bits(end.wrapping_sub(56)),
                false => self.near_bits(end.wrapping_sub(56)),
            };
            let explicit = u64::from(tag & EXPLICIT);
            let is_only_child = tag & !EXPLICIT == ONLY_CHILD;
            each(
                is_only_child,
                ChildSpan::new(format, self.head, explicit, start..end, last),
            );
            start = end;
        }
    }
}

impl ChildSpan {
    /// Branch-free, because the bytes may still be on their way from memory.
    #[inline(always)]
    fn new(format: ValueFormat, head: u64, explicit: u64, bits: Range<u64>, last: u64) -> Self {
        let (tail_bits, is_each) = (format.tail_bits(), format.is_each());
        let mask = (1 << tail_bits) - 1;
        let tail = last >> (56 - tail_bits) & mask;
        let has_children = (tail | is_each) & explicit;
        let child_ref = (last >> (24 - tail_bits)) as u32;
        let common = head >> 8 & mask;
        // All ones or all zeros; a branch would often be mispredicted.
        let has_tail = (explicit | is_each).wrapping_neg();
        let value = tail >> (1 - is_each);
        Self {
            start: bits.start,
            text_end: (bits.end).wrapping_sub((tail_bits & has_tail) + has_children * 32),
            end: bits.end,
            node: Node {
                value: (value & has_tail | common & !has_tail) as u32,
                children: ChildRef(child_ref | (has_children as u32).wrapping_sub(1)),
            },
        }
    }
}

/// A child to be written.
#[derive(Clone, Copy, Debug)]
pub struct NewChild<'t> {
    /// The hash of its first label. For an only child, this is the hash of its parent.
    pub hash: u64,
    /// Whether it is the only child of the preceding child.
    pub is_only_child: bool,
    /// The number of its value.
    pub value: u32,
    /// Its children.
    pub children: ChildRef,
    /// The size of its text in bits, below 65,000.
    pub size: u32,
    /// Its text, from the first bit on.
    pub text: &'t [u8],
}

impl NewChild<'_> {
    fn tag(&self) -> u8 {
        if self.is_only_child {
            ONLY_CHILD
        } else {
            tag(self.hash)
        }
    }

    fn has_children(&self) -> bool {
        self.children != ChildRef::NONE
    }
}

/// Appends a bucket to `into`, the length of which is a multiple of [`UNIT`].
pub fn write(children: &[NewChild<'_>], into: &mut Vec<u8>) {
    let common = commonest_leaf_value(children);
    let format = smallest(children, common);
    let is_each = format == ValueFormat::Each;
    let tail_bits = format.tail_bits() as u32;
    let has_tail = |child: &NewChild<'_>| is_each || child.value != common || child.has_children();
    let size = |child: &NewChild<'_>| {
        let tail = if has_tail(child) { tail_bits } else { 0 };
        child.size + tail + if child.has_children() { 32 } else { 0 }
    };
    let long = children.iter().any(|child| size(child) > 255);
    let flag = |flag, set| if set { flag } else { 0 };
    into.push(children.len() as u8 | flag(LONG, long) | (format as u8) << FORMAT_SHIFT);
    into.extend(&common.to_le_bytes()[..format.head_bytes() - 1]);
    into.extend(children.iter().map(|child| {
        let explicit = child.has_children() || !is_each && has_tail(child);
        child.tag() | flag(EXPLICIT, explicit)
    }));
    for byte in 0..1 + usize::from(long) {
        into.extend(children.iter().map(|child| size(child).to_le_bytes()[byte]));
    }
    let mut bits = BitWriter::default();
    for child in children {
        bits.append(child.text, child.size);
        if child.has_children() {
            bits.push(u64::from(child.children.0), 32);
        }
        let value = u64::from(child.value);
        match is_each {
            true => bits.push(value, tail_bits),
            false if has_tail(child) => {
                bits.push(value << 1 | u64::from(child.has_children()), tail_bits);
            }
            false => {}
        }
    }
    bits.take(into);
    into.resize(into.len().next_multiple_of(UNIT), 0);
}

/// The way to store the children's values that takes the fewest bits. Short values are preferred, because lookups are
/// fastest with them.
fn smallest(children: &[NewChild<'_>], common: u32) -> ValueFormat {
    let highest = children.iter().map(|child| child.value).max();
    let highest = highest.unwrap_or(0);
    let fits = |format: ValueFormat| highest >> format.value_bits() == 0;
    if fits(ValueFormat::Short) {
        return ValueFormat::Short;
    }
    let explicit = children.iter();
    let explicit = explicit.filter(|child| child.value != common || child.has_children());
    let explicit = explicit.count();
    let fit = [ValueFormat::Medium, ValueFormat::Each, ValueFormat::Long].into_iter();
    let fit = fit.filter(|format| fits(*format));
    fit.min_by_key(|format| format.bits(children.len(), explicit))
        .unwrap_or(ValueFormat::Long)
}

/// The most common value of the children that have no children.
fn commonest_leaf_value(children: &[NewChild<'_>]) -> u32 {
    let leaves = || children.iter().filter(|child| !child.has_children());
    let count = |value: u32| leaves().filter(|child| child.value == value).count();
    let Some(first) = leaves().next() else {
        return 0;
    };
    if count(first.value) * 2 >= leaves().count() {
        return first.value;
    }
    let most = leaves().max_by_key(|child| count(child.value));
    most.map_or(0, |child| child.value)
}

#[cfg(test)]
mod tests;
