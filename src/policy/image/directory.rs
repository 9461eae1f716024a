//! Owns where the buckets of a node with many children are, and the filter before each of them.
//! Refuses to look into a bucket.
//!
//! The buckets of such a node lie one behind the other, and so do their places here, twelve to a
//! group; each node starts a group of its own. A group takes sixteen octets, so that those of all
//! nodes stay in the cache: twelve sizes of buckets, in units of [`UNIT`] octets, and the offset of
//! the first of them. The filters, four octets for each place, are a section of their own, which is
//! read at the same time: what they refuse needs no bucket.

use super::bits::word;
use super::bucket::{GROUPS, Kids, UNIT, buckets, index};
use super::{TooLarge, layout::Section};
use crate::sys::lanes::Sixteen;
use crate::sys::prefetch::prefetch;

/// Places in a group.
const GROUP: usize = 12;
/// Octets of a group.
const RECORD: usize = 16;
/// Largest bucket that a group can tell, in octets.
pub const LARGEST: usize = 255 * UNIT;

/// A place: its group, and which of the group's it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    group: u32,
    slot: u32,
}

impl Place {
    /// The first place of all.
    pub const FIRST: Self = Self { group: 0, slot: 0 };

    /// The place of a range's bucket.
    #[inline(always)]
    fn of(start: u32, bucket: u32) -> Self {
        Self {
            group: start.wrapping_add(bucket / GROUP as u32),
            slot: bucket % GROUP as u32,
        }
    }

    /// The place in a range of the bucket that a hash belongs to.
    #[inline(always)]
    pub fn wanted(start: u32, count: u32, hash: u64) -> Self {
        Self::of(start, index(hash, count))
    }

    #[inline(always)]
    fn number(self) -> usize {
        self.group as usize * GROUP + self.slot as usize
    }
}

/// The bits of a hash in a filter.
#[inline(always)]
fn filter(hash: u64) -> u32 {
    1 << (hash >> 8 & 31) | 1 << (hash >> 13 & 31)
}

/// The directory of an image.
#[derive(Clone, Copy)]
pub struct Directory<'i> {
    groups: &'i [[u8; RECORD]],
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
    pub fn prefetch(&self, place: Place) {
        prefetch(self.groups.as_flattened(), place.group as usize * RECORD);
        prefetch(self.filters.as_flattened(), place.number() * 4);
    }

    /// Whether the bucket at a place may hold a child with that hash.
    #[inline(always)]
    pub fn may_hold(&self, place: Place, hash: u64) -> bool {
        let wanted = filter(hash);
        let filter = self.filters.get(place.number());
        filter.is_some_and(|filter| u32::from_le_bytes(*filter) & wanted == wanted)
    }

    /// The bucket at a place.
    #[inline(always)]
    pub fn bucket(&self, place: Place) -> Option<u32> {
        let group = self.groups.get(place.group as usize)?;
        let first = (word(group, 8) >> 32) as u32;
        let before = Sixteen::from_octets(*group).sum_of_first(place.slot as usize);
        Some(first.wrapping_add(before as u32 * UNIT as u32))
    }

    /// The buckets of a range, from the given one on, that are not empty; nothing for one whose
    /// place does not exist.
    pub fn range(
        self,
        start: u32,
        buckets: std::ops::Range<u32>,
    ) -> impl Iterator<Item = Option<u32>> + use<'i> {
        let places = buckets.map(move |bucket| Place::of(start, bucket));
        places.filter_map(move |place| match self.filters.get(place.number()) {
            None => Some(None),
            Some([0, 0, 0, 0]) => None,
            Some(_) => Some(self.bucket(place)),
        })
    }

    /// How many groups there are, if the sections fit together.
    pub fn len(&self) -> Option<usize> {
        (self.filters.len() == self.groups.len() * GROUP).then_some(self.groups.len())
    }
}

/// The groups of a range of so many buckets.
pub fn groups(count: u32) -> u32 {
    count.div_ceil(GROUP as u32)
}

/// A directory that is being written.
#[derive(Default)]
pub struct Growing {
    groups: Vec<[u8; RECORD]>,
    filters: Vec<u32>,
}

impl Growing {
    /// Begins the range of a node with as many buckets as `class` means.
    ///
    /// # Errors
    /// When there is no room.
    pub fn begin(&mut self, class: u32) -> Result<Kids, TooLarge> {
        let start = self.groups.len() as u64;
        if start + u64::from(groups(buckets(class))) > GROUPS {
            return Err(TooLarge::Directory);
        }
        Ok(Kids::range(start, class))
    }

    /// Adds the next bucket of the present range, at `offset` and of `size` octets, which holds
    /// children with these hashes.
    pub fn push(
        &mut self,
        bucket: u32,
        offset: u64,
        size: usize,
        hashes: impl Iterator<Item = u64>,
    ) {
        let slot = bucket as usize % GROUP;
        if slot == 0 {
            let mut group = [0; RECORD];
            group[GROUP..].copy_from_slice(&(offset as u32).to_le_bytes());
            self.groups.push(group);
            self.filters.resize(self.groups.len() * GROUP, 0);
        }
        if let Some(group) = self.groups.last_mut() {
            group[slot] = (size / UNIT) as u8;
        }
        let place = (self.groups.len() - 1) * GROUP + slot;
        self.filters[place] = hashes.fold(0, |bits, hash| bits | filter(hash));
    }

    /// The octets of both sections.
    pub fn sections(self) -> (Vec<u8>, Vec<u8>) {
        let filters = self.filters.iter().flat_map(|bits| bits.to_le_bytes());
        (self.groups.as_flattened().to_vec(), filters.collect())
    }
}
