//! An image in memory: its bytes, and the parts of its header and text code that lookups need.

use std::ops::Deref;

use memmap2::MmapMut;

use super::bucket::ChildRef;
use super::clauses::Clauses;
use super::directory::Directory;
use super::layout::{Extent, Extents, HeaderFacts, Section};
use super::path::Key;
use super::provenance::Provenance;
use super::text::{PairHistogram, TextCode};
use super::triggers::{PatternGroup, Triggers};
use super::values::{ImageRule, Value};

/// The memory that holds an image.
pub enum ImageBytes {
    /// On the heap.
    Heap(Vec<u8>),
    /// An anonymous mapping, which may have huge pages.
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

/// The compiled rules of some sources, read-only.
pub struct Image {
    pub(super) bytes: ImageBytes,
    pub(super) key: Key,
    pub(super) text: TextCode,
    pub(super) facts: HeaderFacts,
    pub(super) extents: Extents,
    pub(super) provenance: Provenance,
    pub(super) clauses: Clauses,
    pub(super) triggers: Triggers,
    pub(super) pattern_groups: Vec<PatternGroup>,
    pub(super) root_value: u32,
    pub(super) root_children: ChildRef,
    /// Whether there are rules on the root.
    pub(super) root_has_rules: bool,
}

impl Image {
    /// Whether there are rules on the root.
    pub(in crate::policy) fn has_rules_on_root(&self) -> bool {
        self.root_has_rules
    }

    pub(super) fn section(&self, section: Section) -> &[u8] {
        let extent = &self.extents[section as usize];
        &self.bytes[extent.offset..extent.offset + extent.len]
    }

    /// The key of the hash of labels.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The value with this number.
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

    /// The number of values.
    pub fn value_count(&self) -> u32 {
        (self.extents[Section::Values as usize].len / 8) as u32
    }

    /// The fields of the header.
    pub fn facts(&self) -> &HeaderFacts {
        &self.facts
    }

    /// The number of rules of its sources that are not in the image, because others of the same source cover them. They
    /// were left out when this image was written, or when an earlier image was written from which its rules were
    /// copied. Of an image that amends sources, only those count that were left out when it was written.
    pub fn pruned(&self) -> u64 {
        if self.provenance.amends() {
            return self.facts.pruned;
        }
        let rules = self.provenance.sources.iter().map(|source| source.rules);
        let given = rules.fold(0, u64::saturating_add);
        given.saturating_sub(self.facts.rules)
    }

    /// The sources of the rules.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// The clauses that its rules refer to.
    pub fn clauses(&self) -> &Clauses {
        &self.clauses
    }

    /// The rules whose triggers are not names.
    pub fn triggers(&self) -> &Triggers {
        &self.triggers
    }

    /// The rules with patterns, grouped by source and tier.
    pub fn pattern_groups(&self) -> &[PatternGroup] {
        &self.pattern_groups
    }

    /// The source of a rule: an index of the provenance.
    pub fn source_of(&self, rule: ImageRule) -> u16 {
        self.clauses.get(rule.clause).source
    }

    /// The size in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes of the image, as written to a file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The sections with their extents.
    pub fn extents(&self) -> impl Iterator<Item = (Section, &Extent)> {
        Section::ALL.into_iter().zip(&self.extents)
    }

    /// The frequencies of pairs in the text, from which the text code of the next image is made.
    pub fn pair_histogram(&self) -> PairHistogram {
        PairHistogram::from_bytes(self.section(Section::PairHistogram))
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({} rules)", self.facts.rules)
    }
}
