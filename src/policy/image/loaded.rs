//! An image in memory: its bytes, and what lookups need of the header and of the text code.

use std::ops::Deref;

use memmap2::MmapMut;

use super::bucket::ChildRef;
use super::directory::Directory;
use super::layout::{Extent, Extents, HeaderFacts, Section};
use super::path::Key;
use super::provenance::Provenance;
use super::text::{PairHistogram, TextCode};
use super::values::Value;

/// Where the bytes of an image are.
pub enum ImageBytes {
    /// On the heap.
    Heap(Vec<u8>),
    /// In a mapping of their own, which takes huge pages if there are some.
    Mapped(MmapMut),
}

impl Deref for ImageBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Mapped(bytes) => bytes,
        }
    }
}

/// Compiled rules.
pub struct Image {
    pub(super) bytes: ImageBytes,
    pub(super) key: Key,
    pub(super) text: TextCode,
    pub(super) facts: HeaderFacts,
    pub(super) extents: Extents,
    pub(super) provenance: Provenance,
    pub(super) root_value: u32,
    pub(super) root_children: ChildRef,
    /// Whether there are rules on the root.
    pub(super) root_has_rules: bool,
}

impl Image {
    pub(super) fn section(&self, section: Section) -> &[u8] {
        let extent = &self.extents[section as usize];
        &self.bytes[extent.offset..extent.offset + extent.len]
    }

    /// The keyed hash of its labels.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// What a value stands for.
    pub fn value(&self, value: u32) -> Value<'_> {
        Value::at(
            self.section(Section::Values),
            self.section(Section::Words),
            value,
        )
    }

    #[inline(always)]
    pub(super) fn directory(&self) -> Directory<'_> {
        Directory::new(|section| self.section(section))
    }

    /// How many values there are.
    pub fn value_count(&self) -> u32 {
        (self.extents[Section::Values as usize].len / 8) as u32
    }

    /// What the header tells.
    pub fn facts(&self) -> &HeaderFacts {
        &self.facts
    }

    /// Rules of its sources that are not in it, as others of the same source cover them: left out
    /// when it was written, or before, when they were compiled to the image that they came from.
    pub fn pruned(&self) -> u64 {
        let rules = self.provenance.sources.iter().map(|source| source.rules);
        let given = rules.fold(0, u64::saturating_add);
        given.saturating_sub(self.facts.rules)
    }

    /// Where the rules come from.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// Bytes in all.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes: what is written to a file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The sections with their sizes.
    pub fn extents(&self) -> impl Iterator<Item = (Section, &Extent)> {
        Section::ALL.into_iter().zip(&self.extents)
    }

    /// How often each pair stands in its text, for the text code of the next one.
    pub fn pair_histogram(&self) -> PairHistogram {
        PairHistogram::from_bytes(self.section(Section::PairHistogram))
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({} rules)", self.facts.rules)
    }
}
