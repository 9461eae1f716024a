//! The directory of buckets for nodes with many children, and a filter for each bucket.
//!
//! The buckets of such a node are adjacent, and so are their slots in the directory, twelve to a group. Each
//! node starts a new group; the slots of one node are its range. A group has sixteen bytes: the sizes of twelve
//! buckets in units of [`UNIT`] bytes, one byte each, and the offset of the first bucket. Groups are so small that
//! those of all nodes stay in the cache. If the size of a bucket does not fit into its byte, the group is coarse: all
//! buckets of the group are padded to multiples of [`COARSE_UNIT`] bytes, which is the unit of their sizes.
//!
//! The filters are a section with four bytes for each slot. A lookup reads group and filter at the same time,
//! and needs no bucket if the filter rejects the hash.

use super::bits::word;
use super::bucket::{ChildRef, GROUP_LIMIT, MAX_BUCKET_BYTES, OFFSET_LIMIT, UNIT, buckets, index};
use super::error::TooLarge;
use super::layout::Section;
use crate::sys::lanes::Sixteen;
use crate::sys::prefetch::prefetch;

/// The number of slots of a group.
pub const GROUP_SLOTS: usize = 12;
/// The size of a group.
const GROUP_BYTES: usize = 16;
/// The unit of the sizes in a coarse group. The offset of such a group has the bit [`OFFSET_LIMIT`].
pub const COARSE_UNIT: usize = 64;

/// The largest size in units.
const MAX_UNITS: usize = 255;
const _: () = assert!(MAX_BUCKET_BYTES <= MAX_UNITS * COARSE_UNIT);

/// The slot of a bucket in the directory: its group, and its number in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketSlot {
    group: u32,
    slot: u32,
}

impl BucketSlot {
    /// The first slot of the directory.
    pub const FIRST: Self = Self { group: 0, slot: 0 };

    /// The slot of the bucket with number `bucket` in the range that starts at group `start`.
    #[inline(always)]
    fn of(start: u32, bucket: u32) -> Self {
        Self {
            group: start.wrapping_add(bucket / GROUP_SLOTS as u32),
            slot: bucket % GROUP_SLOTS as u32,
        }
    }

    /// The slot of the bucket that a hash belongs to, in a range of `count` buckets.
    #[inline(always)]
    pub fn wanted(start: u32, count: u32, hash: u64) -> Self {
        Self::of(start, index(hash, count))
    }

    #[inline(always)]
    fn number(self) -> usize {
        self.group as usize * GROUP_SLOTS + self.slot as usize
    }
}

/// The bits that a hash sets in a filter.
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
    /// The directory in the sections of an image.
    #[inline(always)]
    pub fn new(section: impl Fn(Section) -> &'i [u8]) -> Self {
        Self {
            groups: section(Section::Directory).as_chunks().0,
            filters: section(Section::Filters).as_chunks().0,
        }
    }

    /// Prefetches the memory that the next two functions read.
    #[inline(always)]
    pub fn prefetch(&self, place: BucketSlot) {
        prefetch(
            self.groups.as_flattened(),
            place.group as usize * GROUP_BYTES,
        );
        prefetch(self.filters.as_flattened(), place.number() * 4);
    }

    /// Whether the bucket of a slot may hold a child with this hash.
    #[inline(always)]
    pub fn may_hold(&self, place: BucketSlot, hash: u64) -> bool {
        let wanted = filter_bits(hash);
        let filter = self.filters.get(place.number());
        filter.is_some_and(|filter| u32::from_le_bytes(*filter) & wanted == wanted)
    }

    /// The offset of the bucket of a slot.
    #[inline(always)]
    pub fn bucket(&self, place: BucketSlot) -> Option<u32> {
        let group = self.groups.get(place.group as usize)?;
        let first = word(group, 8) >> 32;
        let before = Sixteen::from_bytes(*group).sum_of_first(place.slot as usize);
        // Units of 4 or 64 bytes, chosen by a shift: a branch would often be mispredicted.
        let unit =
            UNIT.ilog2() as u64 + (first / OFFSET_LIMIT) * (COARSE_UNIT / UNIT).ilog2() as u64;
        Some((first % OFFSET_LIMIT + (before << unit)) as u32)
    }

    /// The offsets of some buckets of a range, without the empty buckets; `None` for a slot that does not exist.
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

    /// Whether the unused slots in the last group of a range are empty.
    pub fn ends(&self, start: u32, count: u32) -> bool {
        let mut spare =
            (count..groups(count) * GROUP_SLOTS as u32).map(|bucket| BucketSlot::of(start, bucket));
        spare.all(|place| {
            let group = self.groups.get(place.group as usize);
            let size = group.map(|group| group[place.slot as usize]);
            size == Some(0) && self.filters.get(place.number()) == Some(&[0; 4])
        })
    }

    /// The number of groups. `None` unless sections of these sizes consist of whole groups with a filter for
    /// each slot.
    pub fn count(&self, groups: usize, filters: usize) -> Option<usize> {
        let len = self.groups.len();
        let whole = groups == len * GROUP_BYTES && filters == len * GROUP_SLOTS * 4;
        whole.then_some(len)
    }
}

/// The number of groups of a range of `count` buckets.
pub fn groups(count: u32) -> u32 {
    count.div_ceil(GROUP_SLOTS as u32)
}

/// The sizes and filters of the buckets of one group.
#[derive(Default)]
pub struct GroupContent {
    /// The size of each bucket in bytes, at most [`MAX_BUCKET_BYTES`].
    pub sizes: [usize; GROUP_SLOTS],
    filters: [u32; GROUP_SLOTS],
}

impl GroupContent {
    /// Sets the size of a bucket and the hashes of its children.
    pub fn set(&mut self, slot: usize, size: usize, hashes: impl Iterator<Item = u64>) {
        self.sizes[slot] = size;
        self.filters[slot] = hashes.fold(0, |bits, hash| bits | filter_bits(hash));
    }
}

/// Builds a directory group by group.
#[derive(Default)]
pub struct DirectoryBuilder {
    groups: Vec<[u8; GROUP_BYTES]>,
    filters: Vec<u32>,
}

impl DirectoryBuilder {
    /// Starts the range of a node.
    ///
    /// # Errors
    /// If the directory is full.
    pub fn begin(&mut self, class: u32) -> Result<ChildRef, TooLarge> {
        let start = self.groups.len() as u64;
        if start + u64::from(groups(buckets(class))) > GROUP_LIMIT {
            return Err(TooLarge::Directory);
        }
        Ok(ChildRef::range(start, class))
    }

    /// Appends the next group of the current range. The first bucket of the group is at `offset`. Returns the unit of
    /// the group: each of its buckets must be padded to a multiple of the unit.
    pub fn push(&mut self, offset: u64, group: &GroupContent) -> usize {
        let fine = group.sizes.iter().all(|size| *size <= MAX_UNITS * UNIT);
        let (unit, coarse) = if fine {
            (UNIT, 0)
        } else {
            (COARSE_UNIT, OFFSET_LIMIT)
        };
        let mut record = [0; GROUP_BYTES];
        for (units, size) in record.iter_mut().zip(group.sizes) {
            *units = size.div_ceil(unit) as u8;
        }
        record[GROUP_SLOTS..].copy_from_slice(&((offset | coarse) as u32).to_le_bytes());
        self.groups.push(record);
        self.filters.extend(group.filters);
        unit
    }

    /// The bytes of the two sections: groups and filters.
    pub fn sections(self) -> (Vec<u8>, Vec<u8>) {
        let filters = self.filters.iter().flat_map(|bits| bits.to_le_bytes());
        (self.groups.as_flattened().to_vec(), filters.collect())
    }
}
