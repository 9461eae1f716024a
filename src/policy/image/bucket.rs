//! Owns the bucket: up to 31 children of one node, their tags, sizes and texts side by side.
//! Refuses to know what a value or a text means.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | bits 0 to 4: how many children (n); `LONG`, `WIDE` |
//! | 1, or 3 if `WIDE` | the value of the children that don't tell their own |
//! | n | a tag each: seven bits of the first label's hash, above the bit `EXPLICIT` |
//! | n | the size of each child in bits, or its lowest byte |
//! | n if `LONG` | the other byte of each size |
//! | the rest, filled up with zeros to a multiple of [`UNIT`] | the children, bit behind bit |
//!
//! A child is its text; if it `EXPLICIT`, then, if it has children, 32 bits of [`ChildRef`], and then a
//! bit whether it has, and its value in 7, or 23, bits.
//!
//! A child with the tag `ONLY_CHILD` is the only child of the one before it, which has no [`ChildRef`]:
//! most nodes with children have one, called `www`, and a bucket of its own would be one more wait
//! for memory.

use super::bits::{BitWriter, peek, word};
use crate::sys::lanes::Sixteen;
use crate::wire::name::MAX_NAME;

/// Most children in a bucket.
pub const MAX_CHILDREN: usize = 31;
/// A child has more than 255 bits.
const LONG: u8 = 0x40;
/// Values take 23 bits.
const WIDE: u8 = 0x80;
/// In a tag: the child tells its value, and where its children are.
const EXPLICIT: u8 = 1;
/// The tag of the only child of the child before. No hash has it.
const ONLY_CHILD: u8 = 0;

/// All of a bucket that is not `LONG` lies in so many bytes: a power of two, so that an index is
/// in bounds by being cut to it, without a comparison.
const NEAR_BYTES: usize = 1 << 11;
/// Zeros before the first bucket: all are read from some bytes earlier on, as what a child tells
/// is read with the bytes before it, whatever they are.
pub const LEADING_ZEROS: usize = 8;
/// Zeros behind the last bucket, so that each can be read as if it were as large as any.
pub const TRAILING_ZEROS: usize = NEAR_BYTES + 16;

/// First value that does not fit.
pub const VALUE_LIMIT: u32 = 1 << 23;
/// First offset of a bucket that does not fit.
pub const OFFSET_LIMIT: u64 = 1 << 31;
/// First group of the directory that does not fit.
pub const GROUP_LIMIT: u64 = 1 << 24;
/// First class whose buckets can't be counted.
pub const CLASS_LIMIT: u32 = 120;
/// Buckets take a multiple of so many bytes.
pub const UNIT: usize = 4;
/// Bytes that no bucket exceeds. A label of 2n bytes takes 2n + 1 in its path, and as text at most
/// 30n bits, if all pairs are escaped, and 14 if another label follows; one of 2n + 1 takes 2n + 2,
/// and 30n + 22. So text has at most 15 bits for each byte of a path. Behind it are told at most 32
/// and 24 bits; the head is at most 4 bytes, and 3 for each child.
pub const MAX_BUCKET_BYTES: usize =
    4 + 3 * MAX_CHILDREN + ((15 * (MAX_NAME - 1) + 56) * MAX_CHILDREN).div_ceil(8);

/// Where a node's children are: in one bucket, in a range of the directory, or nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildRef(pub u32);

impl ChildRef {
    /// No children.
    pub const NONE: Self = Self(u32::MAX);

    /// Children in the bucket at `offset`, which is below [`OFFSET_LIMIT`].
    pub fn bucket(offset: u64) -> Self {
        Self(offset as u32)
    }

    /// Children in as many buckets as `class` means, from that group of the directory on, which is
    /// below [`GROUP_LIMIT`].
    pub fn range(start: u64, class: u32) -> Self {
        Self(1 << 31 | class << 24 | start as u32)
    }

    /// The bucket, if there is just one.
    #[inline(always)]
    pub fn as_bucket(self) -> Option<u32> {
        (self.0 >> 31 == 0).then_some(self.0)
    }

    /// Whether a range of it is of a class whose buckets can be counted.
    pub fn is_countable(self) -> bool {
        (self.0 >> 24 & 0x7F) < CLASS_LIMIT
    }

    /// The first group of the directory and how many buckets there are, if there is not just one,
    /// nor none.
    #[inline(always)]
    pub fn as_range(self) -> Option<(u32, u32)> {
        let range = self.0 >> 31 != 0 && self != Self::NONE;
        range.then(|| (self.0 & 0xFF_FFFF, buckets(self.0 >> 24 & 0x7F)))
    }
}

/// How many buckets a class means: 4 to 7, and four steps to each power of two from there on.
#[inline(always)]
pub fn buckets(class: u32) -> u32 {
    (4 + class % 4) << (class / 4 % 32)
}

/// The bucket that a hash belongs to. Rises with the hash.
#[inline(always)]
pub fn index(hash: u64, buckets: u32) -> u32 {
    (((hash >> 32) * u64::from(buckets)) >> 32) as u32
}

/// The tag of a hash: not `ONLY_CHILD`.
#[inline(always)]
pub fn tag(hash: u64) -> u8 {
    ((hash as u8) & !EXPLICIT).max(EXPLICIT + 1)
}

/// A bucket. Bits and bytes are counted from [`LEADING_ZEROS`] it on.
#[derive(Clone, Copy)]
pub struct Bucket<'o> {
    near: &'o [u8; TRAILING_ZEROS],
    /// All bytes, and where `near` starts.
    bytes: &'o [u8],
    start: usize,
    /// The first eight bytes.
    head: u64,
}

/// What a child has beside its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its value.
    pub value: u32,
    /// Where its children are.
    pub children: ChildRef,
}

/// Where a child's text is, and what stands behind it.
#[derive(Clone, Copy, Debug)]
pub struct ChildSpan {
    /// Its first bit.
    pub start: u64,
    /// The bit behind it.
    pub text_end: u64,
    /// The bit behind the child.
    pub end: u64,
    /// What it holds.
    pub node: Node,
}

impl<'o> Bucket<'o> {
    /// The bucket at that offset, if there is room for one. Whatever stands there, all below
    /// neither panics nor reads elsewhere than in `bytes`.
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

    /// How many children it has.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.head as usize & MAX_CHILDREN
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all children are among the first sixteen, with sizes of one byte.
    #[inline(always)]
    pub fn is_usual(&self) -> bool {
        self.head & u64::from(LONG | MAX_CHILDREN as u8) <= 16
    }

    #[inline(always)]
    fn tags(&self) -> usize {
        LEADING_ZEROS + 2 + (self.head as usize & usize::from(WIDE)) / (usize::from(WIDE) / 2)
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
        Sixteen::from_octets(*bytes.expect("there are sixteen more"))
    }

    /// The bits from that one on, at least 57, in a usual bucket.
    #[inline(always)]
    pub fn near_bits(&self, at: u64) -> u64 {
        self.word((at / 8) as usize) >> (at % 8)
    }

    /// The same in any bucket.
    #[inline(always)]
    pub fn bits(&self, at: u64) -> u64 {
        peek(self.bytes, self.section_bit(at))
    }

    /// The same bit, counted from the start of the section.
    pub fn section_bit(&self, at: u64) -> u64 {
        at.wrapping_add(self.start as u64 * 8)
    }

    /// A bit for each of the first sixteen children with that tag.
    #[inline(always)]
    pub fn first_with(&self, tag: u8) -> u32 {
        // What stands behind the tags may look like one.
        self.sixteen(self.tags()).equal(tag, EXPLICIT) & ((1 << self.len()) - 1)
    }

    /// A bit for each child with that tag.
    pub fn all_with(&self, tag: u8) -> u32 {
        let more = self.sixteen(self.tags() + 16).equal(tag, EXPLICIT) << 16;
        (self.first_with(tag) | more) & ((1 << self.len()) - 1)
    }

    /// A child's tag; nothing if it is the only child of the one before.
    pub fn tag(&self, place: usize) -> Option<u8> {
        let tag = self.word(self.tags() + place) as u8 & !EXPLICIT;
        (tag != ONLY_CHILD).then_some(tag)
    }

    /// Whether the child behind that place is the only child of the one there.
    #[inline(always)]
    pub fn has_only_child(&self, place: usize) -> bool {
        let next = self.word(self.tags() + place + 1) as u8 & !EXPLICIT;
        next == ONLY_CHILD && place + 1 < self.len()
    }

    /// One of the first sixteen children of a usual bucket, in which values take 23 bits or not.
    #[inline(always)]
    pub fn near_child<const IS_WIDE: bool>(&self, place: usize) -> ChildSpan {
        let tags = if IS_WIDE {
            LEADING_ZEROS + 4
        } else {
            LEADING_ZEROS + 2
        };
        let sizes = tags + self.len();
        let before = self.sixteen(sizes).sum_of_first(place % 16);
        let start = (sizes + self.len()) as u64 * 8 + before;
        let over = start + (self.word(sizes + place) & 0xFF);
        let tells = self.word(tags + place) & u64::from(EXPLICIT);
        // The last 56 bits: children, if any, and what it tells in 8 or 24.
        let last = self.near_bits(over.wrapping_sub(56));
        ChildSpan::new::<IS_WIDE>(self.head, tells, start, over, last)
    }

    /// Whether a child has more than 255 bits.
    #[inline(always)]
    fn is_long(&self) -> bool {
        self.head & u64::from(LONG) != 0
    }

    /// Whether values take 23 bits.
    #[inline(always)]
    pub fn is_wide(&self) -> bool {
        self.head & u64::from(WIDE) != 0
    }

    /// A child.
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

    /// The sum of so many bytes from there on.
    #[inline(always)]
    fn sum(&self, at: usize, count: usize) -> u64 {
        let more = self.sixteen(at + 16).sum_of_first(count.saturating_sub(16));
        self.sixteen(at).sum_of_first(count) + more
    }

    #[inline(always)]
    fn child_from(&self, start: u64, place: usize, size: u64) -> ChildSpan {
        let over = start + size;
        let tells = self.word(self.tags() + place) & u64::from(EXPLICIT);
        let last = self.bits(over.wrapping_sub(56));
        if self.is_wide() {
            ChildSpan::new::<true>(self.head, tells, start, over, last)
        } else {
            ChildSpan::new::<false>(self.head, tells, start, over, last)
        }
    }

    /// Calls `each` with every child, and whether it is the only child of the one before.
    #[inline(always)]
    pub fn each(&self, each: impl FnMut(bool, ChildSpan)) {
        match (self.is_long(), self.is_wide()) {
            (false, false) => self.each_as::<false, false>(each),
            (false, true) => self.each_as::<false, true>(each),
            (true, false) => self.each_as::<true, false>(each),
            (true, true) => self.each_as::<true, true>(each),
        }
    }

    #[inline(always)]
    fn each_as<const IS_LONG: bool, const IS_WIDE: bool>(
        &self,
        mut each: impl FnMut(bool, ChildSpan),
    ) {
        let (len, tags, sizes) = (self.len(), self.tags(), self.sizes());
        let byte = |at: usize| self.word(at) & 0xFF;
        let high = |place: usize| byte(sizes + len + place) << 8;
        let mut start = (sizes + len + if IS_LONG { len } else { 0 }) as u64 * 8;
        for place in 0..len {
            let over = start + (byte(sizes + place) | if IS_LONG { high(place) } else { 0 });
            let tag = byte(tags + place) as u8;
            let last = match IS_LONG {
                true => self.bits(over.wrapping_sub(56)),
                false => self.near_bits(over.wrapping_sub(56)),
            };
            let tells = u64::from(tag & EXPLICIT);
            let inner = tag & !EXPLICIT == ONLY_CHILD;
            each(
                inner,
                ChildSpan::new::<IS_WIDE>(self.head, tells, start, over, last),
            );
            start = over;
        }
    }
}

impl ChildSpan {
    /// Without branches: what was found may still be on its way from memory.
    #[inline(always)]
    fn new<const IS_WIDE: bool>(head: u64, tells: u64, start: u64, over: u64, last: u64) -> Self {
        let bits = if IS_WIDE { 24 } else { 8 };
        let told = last >> (56 - bits) & ((1 << bits) - 1);
        let inner = told & tells;
        let kids = (last >> (24 - bits)) as u32;
        let main = head >> 8 & ((1 << bits) - 1);
        // All ones, or none: arithmetic, as a branch would be a guess.
        let own = tells.wrapping_neg();
        Self {
            start,
            text_end: over.wrapping_sub((bits & own) + inner * 32),
            end: over,
            node: Node {
                value: (told >> 1 & own | main & !own) as u32,
                children: ChildRef(kids | (inner as u32).wrapping_sub(1)),
            },
        }
    }
}

/// A child that is to be written.
#[derive(Clone, Copy, Debug)]
pub struct NewChild<'t> {
    /// The first label's hash; of an only child that stands behind its parent, the parent's.
    pub hash: u64,
    /// Whether it is the only child of the one before.
    pub is_only_child: bool,
    /// Its value.
    pub value: u32,
    /// Its children.
    pub children: ChildRef,
    /// The size of its text in bits; below 65,000.
    pub size: u32,
    /// Its text from the first bit on.
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

    fn is_explicit(&self, main: u32) -> bool {
        self.value != main || self.children != ChildRef::NONE
    }
}

/// Writes a bucket, at a multiple of [`UNIT`] in `into`.
pub fn write(children: &[NewChild<'_>], into: &mut Vec<u8>) {
    let wide = children.iter().any(|child| child.value > 127);
    let main = commonest_leaf_value(children);
    let told = if wide { 24 } else { 8 };
    let size = |child: &NewChild<'_>| {
        let told = if child.is_explicit(main) { told } else { 0 };
        child.size
            + told
            + if child.children == ChildRef::NONE {
                0
            } else {
                32
            }
    };
    let long = children.iter().any(|child| size(child) > 255);
    let flag = |flag, set| if set { flag } else { 0 };
    into.push(children.len() as u8 | flag(LONG, long) | flag(WIDE, wide));
    into.extend(&main.to_le_bytes()[..told as usize / 8]);
    into.extend(
        children
            .iter()
            .map(|child| child.tag() | flag(EXPLICIT, child.is_explicit(main))),
    );
    for byte in 0..1 + usize::from(long) {
        into.extend(children.iter().map(|child| size(child).to_le_bytes()[byte]));
    }
    let mut bits = BitWriter::default();
    for child in children {
        bits.append(child.text, child.size);
        let inner = child.children != ChildRef::NONE;
        if inner {
            bits.push(u64::from(child.children.0), 32);
        }
        if child.is_explicit(main) {
            bits.push(u64::from(child.value) << 1 | u64::from(inner), told);
        }
    }
    bits.take(into);
    into.resize(into.len().next_multiple_of(UNIT), 0);
}

/// The value that most of the childless have.
fn commonest_leaf_value(children: &[NewChild<'_>]) -> u32 {
    let leaves = || {
        children
            .iter()
            .filter(|child| child.children == ChildRef::NONE)
    };
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
