//! Owns where the buckets of a node with many children are, and the filter before each of them.
//! Refuses to look into a bucket.
//!
//! The buckets of such a node lie one behind the other, and so do their places here, twelve to a
//! group; each node starts a group of its own. A group takes sixteen bytes, so that those of all
//! nodes stay in the cache: twelve sizes of buckets, in units of [`UNIT`] bytes, and the offset of
//! the first of them. A group with a bucket too large for that is coarse: all its buckets are filled
//! up with zeros to, and their sizes told in, units of [`COARSE_UNIT`] bytes. The filters, four bytes
//! for each place, are a section of their own, which is read at the same time: what they refuse
//! needs no bucket.

use super::bits::word;
use super::bucket::{ChildRef, GROUP_LIMIT, MAX_BUCKET_BYTES, OFFSET_LIMIT, UNIT, buckets, index};
use super::error::TooLarge;
use super::layout::Section;
use crate::sys::lanes::Sixteen;
use crate::sys::prefetch::prefetch;

/// Places in a group.
pub const GROUP_SLOTS: usize = 12;
/// Bytes of a group.
const GROUP_BYTES: usize = 16;
/// Unit of the buckets of a coarse group, whose offset has the bit [`OFFSET_LIMIT`].
pub const COARSE_UNIT: usize = 64;

/// Most units that a size tells.
const MAX_UNITS: usize = 255;
const _: () = assert!(MAX_BUCKET_BYTES <= MAX_UNITS * COARSE_UNIT);

/// A place: its group, and which of the group's it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketSlot {
    group: u32,
    slot: u32,
}

impl BucketSlot {
    /// The first place of all.
    pub const FIRST: Self = Self { group: 0, slot: 0 };

    /// The place of a range's bucket.
    #[inline(always)]
    fn of(start: u32, bucket: u32) -> Self {
        Self {
            group: start.wrapping_add(bucket / GROUP_SLOTS as u32),
            slot: bucket % GROUP_SLOTS as u32,
        }
    }

    /// The place in a range of the bucket that a hash belongs to.
    #[inline(always)]
    pub fn wanted(start: u32, count: u32, hash: u64) -> Self {
        Self::of(start, index(hash, count))
    }

    #[inline(always)]
    fn number(self) -> usize {
        self.group as usize * GROUP_SLOTS + self.slot as usize
    }
}

/// The bits of a hash in a filter.
#[inline(always)]
fn filter_bits(hash: u64) -> u32 {
    1 << (hash >> 8 & 31) | 1 << (hash >> 13 & 31)
}

/// The directory of an image.
#[derive(Clone, Copy)]
pub struct Directory<'i> {
    groups: &'i [[u8; GROUP_BYTES]],
    filters: &'i [[u8; 4]],
}

impl<'i> Directory<'i> {
    /// What those sections hold.
    #[inline(always)]
    pub fn new(section: impl Fn(Section) -> &'i [u8]) -> Self {
        Self {
            groups: section(Section::Directory).as_chunks().0,
            filters: section(Section::Filters).as_chunks().0,
        }
    }

    /// Asks for what the next two will read.
    #[inline(always)]
    pub fn prefetch(&self, place: BucketSlot) {
        prefetch(
            self.groups.as_flattened(),
            place.group as usize * GROUP_BYTES,
        );
        prefetch(self.filters.as_flattened(), place.number() * 4);
    }

    /// Whether the bucket at a place may hold a child with that hash.
    #[inline(always)]
    pub fn may_hold(&self, place: BucketSlot, hash: u64) -> bool {
        let wanted = filter_bits(hash);
        let filter = self.filters.get(place.number());
        filter.is_some_and(|filter| u32::from_le_bytes(*filter) & wanted == wanted)
    }

    /// The bucket at a place.
    #[inline(always)]
    pub fn bucket(&self, place: BucketSlot) -> Option<u32> {
        let group = self.groups.get(place.group as usize)?;
        let first = word(group, 8) >> 32;
        let before = Sixteen::from_octets(*group).sum_of_first(place.slot as usize);
        // Four bytes, or sixteen times that: a shift, as a branch would be a guess.
        let unit =
            UNIT.ilog2() as u64 + (first / OFFSET_LIMIT) * (COARSE_UNIT / UNIT).ilog2() as u64;
        Some((first % OFFSET_LIMIT + (before << unit)) as u32)
    }

    /// The buckets of a range, from the given one on, that are not empty; nothing for one whose
    /// place does not exist.
    pub fn range(
        self,
        start: u32,
        buckets: std::ops::Range<u32>,
    ) -> impl Iterator<Item = Option<u32>> + use<'i> {
        let places = buckets.map(move |bucket| BucketSlot::of(start, bucket));
        places.filter_map(move |place| match self.filters.get(place.number()) {
            None => Some(None),
            Some([0, 0, 0, 0]) => None,
            Some(_) => Some(self.bucket(place)),
        })
    }

    /// Whether nothing is told of the places behind a range's last one, in the same group.
    pub fn ends(&self, start: u32, count: u32) -> bool {
        let mut spare =
            (count..groups(count) * GROUP_SLOTS as u32).map(|bucket| BucketSlot::of(start, bucket));
        spare.all(|place| {
            let group = self.groups.get(place.group as usize);
            let size = group.map(|group| group[place.slot as usize]);
            size == Some(0) && self.filters.get(place.number()) == Some(&[0; 4])
        })
    }

    /// How many groups there are, if the sections, of so many bytes, are whole and fit together.
    pub fn count(&self, groups: usize, filters: usize) -> Option<usize> {
        let len = self.groups.len();
        let whole = groups == len * GROUP_BYTES && filters == len * GROUP_SLOTS * 4;
        whole.then_some(len)
    }
}

/// The groups of a range of so many buckets.
pub fn groups(count: u32) -> u32 {
    count.div_ceil(GROUP_SLOTS as u32)
}

/// What a group tells of its buckets.
#[derive(Default)]
pub struct GroupContent {
    /// Bytes of each, at most [`MAX_BUCKET_BYTES`].
    pub sizes: [usize; GROUP_SLOTS],
    filters: [u32; GROUP_SLOTS],
}

impl GroupContent {
    /// Tells that the bucket of that slot has so many bytes, and children with these hashes.
    pub fn set(&mut self, slot: usize, size: usize, hashes: impl Iterator<Item = u64>) {
        self.sizes[slot] = size;
        self.filters[slot] = hashes.fold(0, |bits, hash| bits | filter_bits(hash));
    }
}

/// A directory that is being written.
#[derive(Default)]
pub struct DirectoryBuilder {
    groups: Vec<[u8; GROUP_BYTES]>,
    filters: Vec<u32>,
}

impl DirectoryBuilder {
    /// Begins the range of a node with as many buckets as `class` means.
    ///
    /// # Errors
    /// When there is no room.
    pub fn begin(&mut self, class: u32) -> Result<ChildRef, TooLarge> {
        let start = self.groups.len() as u64;
        if start + u64::from(groups(buckets(class))) > GROUP_LIMIT {
            return Err(TooLarge::Directory);
        }
        Ok(ChildRef::range(start, class))
    }

    /// Adds the next group of the present range, which starts at `offset`. Returns to a multiple of
    /// how many bytes its buckets must be filled up.
    pub fn push(&mut self, offset: u64, group: &GroupContent) -> usize {
        let fine = group.sizes.iter().all(|size| *size <= MAX_UNITS * UNIT);
        let (unit, coarse) = if fine {
            (UNIT, 0)
        } else {
            (COARSE_UNIT, OFFSET_LIMIT)
        };
        let mut record = [0; GROUP_BYTES];
        for (told, size) in record.iter_mut().zip(group.sizes) {
            *told = size.div_ceil(unit) as u8;
        }
        record[GROUP_SLOTS..].copy_from_slice(&((offset | coarse) as u32).to_le_bytes());
        self.groups.push(record);
        self.filters.extend(group.filters);
        unit
    }

    /// The bytes of both sections.
    pub fn sections(self) -> (Vec<u8>, Vec<u8>) {
        let filters = self.filters.iter().flat_map(|bits| bits.to_le_bytes());
        (self.groups.as_flattened().to_vec(), filters.collect())
    }
}
