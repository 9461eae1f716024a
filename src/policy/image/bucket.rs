//! Owns the bucket: up to 31 children of one node, their tags, sizes and texts side by side.
//! Refuses to know what a value or a text means.
//!
//! | octets | what |
//! |---|---|
//! | 1 | bits 0 to 4: how many children (n); [`LONG`], [`WIDE`] |
//! | 1, or 3 if `WIDE` | the value of the children that don't tell their own |
//! | n | a tag each: seven bits of the first label's hash, above the bit [`TELLS`] |
//! | n, or 2 n if `LONG` | the size of each child in bits |
//! | the rest, filled up with zeros | the children, bit behind bit |
//!
//! A child is its text; if it `TELLS`, then, if it has children, 32 bits of [`Kids`], and then a
//! bit whether it has, and its value in 7, or 23, bits.

use super::bits::{BitWriter, mask, peek, word};
use crate::sys::lanes::{equal, sum_of_first};

/// Most children in a bucket.
pub const MOST: usize = 31;
/// A child has more than 255 bits.
const LONG: u8 = 0x40;
/// Values take 23 bits.
const WIDE: u8 = 0x80;
/// In a tag: the child tells its value, and where its children are.
const TELLS: u8 = 1;

/// First value that does not fit.
pub const VALUES: u32 = 1 << 23;
/// First offset of a bucket that does not fit.
pub const OFFSETS: u64 = 1 << 31;
/// First place in the directory that does not fit.
pub const PLACES: u64 = 1 << 24;

/// Where a node's children are: in one bucket, in a range of the directory, or nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kids(pub u32);

impl Kids {
    /// No children.
    pub const NONE: Self = Self(u32::MAX);

    /// Children in the bucket at `offset`, which is below [`OFFSETS`].
    pub fn bucket(offset: u64) -> Self {
        Self(offset as u32)
    }

    /// Children in as many buckets as `class` means, from `start` on, which is below [`PLACES`].
    pub fn range(start: u64, class: u32) -> Self {
        Self(1 << 31 | class << 24 | start as u32)
    }

    /// The bucket, if there is just one.
    #[inline(always)]
    pub fn as_bucket(self) -> Option<u32> {
        (self.0 >> 31 == 0).then_some(self.0)
    }

    /// The first place in the directory and how many there are, if there is not just one bucket,
    /// nor none.
    #[inline(always)]
    pub fn as_range(self) -> Option<(usize, u32)> {
        let range = self.0 >> 31 != 0 && self != Self::NONE;
        range.then(|| ((self.0 & 0xFF_FFFF) as usize, buckets(self.0 >> 24 & 0x7F)))
    }
}

/// How many buckets a class means: 1 to 4, then four steps to each power of two.
#[inline(always)]
pub fn buckets(class: u32) -> u32 {
    match class {
        0..4 => class + 1,
        _ => (4 + class % 4) << (class / 4 - 1).min(29),
    }
}

/// The bucket that a hash belongs to. Rises with the hash.
#[inline(always)]
pub fn index(hash: u64, buckets: u32) -> u32 {
    (((hash >> 32) * u64::from(buckets)) >> 32) as u32
}

/// The tag of a hash.
#[inline(always)]
pub fn tag(hash: u64) -> u8 {
    (hash as u8) & !TELLS
}

/// The bits of a hash in the directory's filter.
#[inline(always)]
pub fn filter(hash: u64) -> u32 {
    1 << (hash >> 8 & 31) | 1 << (hash >> 13 & 31)
}

/// A bucket's parts; all offsets are into the section of buckets.
#[derive(Clone, Copy, Debug)]
pub struct Bucket<'o> {
    octets: &'o [u8],
    head: u8,
    tags: usize,
    sizes: usize,
    children: usize,
}

/// What a child has beside its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holds {
    /// Its value.
    pub value: u32,
    /// Where its children are.
    pub kids: Kids,
}

/// Where a child's text is, and what stands behind it.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// Its first bit in the section.
    pub start: u64,
    /// The bit behind it.
    pub end: u64,
    /// What it holds.
    pub holds: Holds,
}

impl<'o> Bucket<'o> {
    /// The bucket at that offset. Whatever stands there, this and all below neither panic nor
    /// read elsewhere than in `octets`.
    #[inline(always)]
    pub fn at(octets: &'o [u8], at: u32) -> Self {
        let at = at as usize;
        let head = word(octets, at) as u8;
        let count = usize::from(head) & MOST;
        let tags = at + 2 + usize::from(head / WIDE * 2);
        let sizes = tags + count;
        Self {
            octets,
            head,
            tags,
            sizes,
            children: sizes + count + if head & LONG == 0 { 0 } else { count },
        }
    }

    /// How many children it has.
    #[inline(always)]
    pub fn len(&self) -> usize {
        usize::from(self.head) & MOST
    }

    /// The first child with that tag for whose text `same` returns something: that.
    #[inline(always)]
    pub fn find<T>(&self, tag: u8, mut same: impl FnMut(Text) -> Option<T>) -> Option<T> {
        let tags = |at: usize| {
            word(self.octets, self.tags + at) & !(0x0101_0101_0101_0101 * u64::from(TELLS))
        };
        let mut found = equal(tags(0), tags(8), tag);
        if self.len() > 16 {
            found |= equal(tags(16), tags(24), tag) << 16;
        }
        found &= (1 << self.len()) - 1;
        while found != 0 {
            let text = self.child(found.trailing_zeros() as usize);
            if let Some(same) = same(text) {
                return Some(same);
            }
            found &= found - 1;
        }
        None
    }

    /// A child's tag.
    pub fn tag(&self, place: usize) -> u8 {
        word(self.octets, self.tags + place) as u8 & !TELLS
    }

    /// The first bit of a child, and how many it has.
    #[inline(always)]
    fn extent(&self, place: usize) -> (u64, u64) {
        let start = self.children as u64 * 8;
        let sizes = |at: usize| word(self.octets, self.sizes + at);
        if self.head & LONG != 0 {
            let before: u64 = (0..place).map(|place| sizes(2 * place) & 0xFFFF).sum();
            return (start + before, sizes(2 * place) & 0xFFFF);
        }
        let mut before = sum_of_first(sizes(0), sizes(8), place.min(16));
        if place > 16 {
            before += sum_of_first(sizes(16), sizes(24), place - 16);
        }
        (start + before, sizes(place) & 0xFF)
    }

    /// A child. Without branches: what was found may still be on its way from memory.
    #[inline(always)]
    pub fn child(&self, place: usize) -> Text {
        let (start, size) = self.extent(place);
        let end = start + size;
        let bits = 8 + u32::from(self.head / WIDE) * 16;
        let tells = word(self.octets, self.tags + place) as u8 & TELLS != 0;
        let told = peek(self.octets, end.wrapping_sub(u64::from(bits)));
        let inner = tells & (told & 1 != 0);
        let kids = peek(self.octets, end.wrapping_sub(u64::from(bits + 32))) as u32;
        let main = word(self.octets, self.tags.wrapping_sub((bits / 8) as usize));
        // All ones, or none: arithmetic, as a branch would be a guess.
        let own = u64::from(tells).wrapping_neg();
        let kids_own = u64::from(inner).wrapping_neg();
        let value = (told >> 1 & own | main & !own) & mask(bits - u32::from(tells));
        let behind = u64::from(bits) & own | 32 & kids_own;
        Text {
            start,
            end: end.wrapping_sub(behind),
            holds: Holds {
                value: value as u32,
                kids: Kids(kids | !kids_own as u32),
            },
        }
    }

    /// The offset behind the bucket, if it is one: not empty, inside the section, each child with
    /// text.
    pub fn end(&self) -> Option<usize> {
        let last = self.len().checked_sub(1)?;
        let texts = (0..=last).all(|place| {
            let text = self.child(place);
            text.end > text.start && text.end <= self.octets.len() as u64 * 8
        });
        let (start, size) = self.extent(last);
        let end = (start + size).div_ceil(8) as usize;
        (texts && end <= self.octets.len()).then_some(end)
    }
}

/// A child that is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Child<'t> {
    /// The first label's hash.
    pub hash: u64,
    /// Its value.
    pub value: u32,
    /// Its children.
    pub kids: Kids,
    /// The size of its text in bits; below 65,000.
    pub size: u32,
    /// Its text from the first bit on.
    pub text: &'t [u8],
}

impl Child<'_> {
    fn tells(&self, main: u32) -> bool {
        self.value != main || self.kids != Kids::NONE
    }
}

/// Writes a bucket.
pub fn write(children: &[Child<'_>], into: &mut Vec<u8>) {
    let wide = children.iter().any(|child| child.value > 127);
    let main = usual(children);
    let told = if wide { 24 } else { 8 };
    let size = |child: &Child<'_>| {
        let told = if child.tells(main) { told } else { 0 };
        child.size + told + if child.kids == Kids::NONE { 0 } else { 32 }
    };
    let long = children.iter().any(|child| size(child) > 255);
    let flag = |flag, set| if set { flag } else { 0 };
    into.push(children.len() as u8 | flag(LONG, long) | flag(WIDE, wide));
    into.extend(&main.to_le_bytes()[..told as usize / 8]);
    into.extend(
        children
            .iter()
            .map(|child| tag(child.hash) | flag(TELLS, child.tells(main))),
    );
    for child in children {
        into.extend(&size(child).to_le_bytes()[..1 + usize::from(long)]);
    }
    let mut bits = BitWriter::default();
    for child in children {
        bits.append(child.text, child.size);
        let inner = child.kids != Kids::NONE;
        if inner {
            bits.push(u64::from(child.kids.0), 32);
        }
        if child.tells(main) {
            bits.push(u64::from(child.value) << 1 | u64::from(inner), told);
        }
    }
    bits.take(into);
}

/// The value that most of the childless have.
fn usual(children: &[Child<'_>]) -> u32 {
    let leaves = || children.iter().filter(|child| child.kids == Kids::NONE);
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
