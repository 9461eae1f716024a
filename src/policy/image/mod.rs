//! Owns the compiled rules of all sources: one immutable block of bytes, the same in a file and in memory.
//! Refuses to decide: it tells which rules lie on a name's way.

pub mod bits;
pub mod bucket;
pub mod cursor;
pub mod directory;
mod edge;
pub mod layout;
pub mod order;
pub mod provenance;
pub mod run;
#[cfg(test)]
pub(crate) mod tests;
pub mod text;
mod tld_table;
mod validate;
pub mod values;
pub mod walk;
pub mod writer;

use std::io;
use std::ops::Deref;

use memmap2::MmapMut;

use directory::Directory;
use layout::{Extent, Extents, Facts, HEADER, Section, read_header};
use order::Key;
use provenance::Provenance;
use text::{PairHistogram, TextCode};
use values::Value;

/// Why bytes are not an image that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The first bytes are others.
    #[error("not an image of Tapis")]
    NotAnImage,
    /// Another version of the layout.
    #[error("an image of layout {0}, and this program reads layout {version}", version = layout::VERSION)]
    Version(u32),
    /// It ends too early.
    #[error("cut short")]
    Truncated,
    /// A digest is not that of the bytes.
    #[error("damaged: its {0} is not what was written")]
    Damaged(&'static str),
    /// The digests are right, but what they vouch for can't be.
    #[error("invalid: its {0} is not what this program writes")]
    Invalid(&'static str),
}

/// What there is too much of for one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// More than two gigabytes of buckets.
    #[error("more names than fit into 2 GiB of image; leave out a list")]
    Buckets,
    /// More than 16,777,216 nodes with many children, or groups of their buckets.
    #[error("more names with many names below them than fit into one image; leave out a list")]
    Directory,
    /// More than 65,535 sources, or rules on a name.
    #[error("more than 65,535 lists, or rules of lists on one name; join some lists")]
    Sources,
    /// More than 8,388,608 different combinations of rules.
    #[error("more than 8,388,608 different combinations of lists on a name; leave out a list")]
    Values,
}

/// Why an image was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// There is too much of something.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The system's reason.
    #[error(transparent)]
    Io(#[from] io::Error),
}

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
    bytes: ImageBytes,
    key: Key,
    text: TextCode,
    facts: Facts,
    extents: Extents,
    provenance: Provenance,
    root_value: u32,
    root_children: bucket::ChildRef,
    /// Whether there are rules on the root.
    root_matters: bool,
}

impl Image {
    /// The image in those bytes.
    ///
    /// # Errors
    /// [`ImageError`] when they are damaged, or not one at all.
    pub fn open(bytes: ImageBytes) -> Result<Self, ImageError> {
        let all = &*bytes;
        let (facts, extents) = read_header(&all[..all.len().min(HEADER)], all.len() as u64)?;
        for (section, extent) in Section::ALL.into_iter().zip(&extents) {
            if section != Section::Buckets {
                check_digest(all, section, extent)?;
            }
        }
        check_gaps(all, &extents)?;
        let section = |section: Section| {
            let extent = &extents[section as usize];
            &all[extent.offset..extent.offset + extent.len]
        };
        let text = TextCode::new(section(Section::Text)).ok_or(ImageError::Invalid("text code"))?;
        let provenance = Provenance::from_json(section(Section::Provenance))?;
        let root = Value::at(
            section(Section::Values),
            section(Section::Words),
            facts.root_value,
        );
        let root_has_rules = root.rules().next().is_some();
        let image = Self {
            key: Key::new(facts.seed),
            text,
            facts,
            extents,
            provenance,
            root_value: facts.root_value,
            root_children: facts.root_children,
            root_matters: root_has_rules,
            bytes,
        };
        let buckets = Section::Buckets;
        let extent = &image.extents[buckets as usize];
        let digest = || check_digest(&image.bytes, buckets, extent);
        let (sealed, valid) = side_by_side(image.size(), digest, || validate::validate(&image));
        sealed.and(valid)?;
        Ok(image)
    }

    fn section(&self, section: Section) -> &[u8] {
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
    fn directory(&self) -> Directory<'_> {
        Directory::new(|section| self.section(section))
    }

    /// How many values there are.
    pub fn value_count(&self) -> u32 {
        (self.extents[Section::Values as usize].len / 8) as u32
    }

    /// What the header tells.
    pub fn facts(&self) -> &Facts {
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

/// Bytes of an image from which on a second thread is worth its start.
const LARGE: usize = 1 << 22;

/// Both checks of an image of so many bytes; those of a large one at the same time, as the start of
/// a server waits for them.
fn side_by_side<A: Send, B>(
    size: usize,
    one: impl Fn() -> A + Sync,
    other: impl Fn() -> B,
) -> (A, B) {
    if size < LARGE {
        return (one(), other());
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, &one);
        let other = other();
        // If the system has no thread more, or it broke, once more in this one.
        let done = thread.ok().and_then(|thread| thread.join().ok());
        (done.unwrap_or_else(&one), other)
    })
}

/// Whether a section is what was written.
fn check_digest(all: &[u8], section: Section, extent: &Extent) -> Result<(), ImageError> {
    let bytes = &all[extent.offset..extent.offset + extent.len];
    if *blake3::hash(bytes).as_bytes() != extent.digest {
        return Err(ImageError::Damaged(section.name()));
    }
    Ok(())
}

/// Whether nothing is hidden between sections.
fn check_gaps(all: &[u8], extents: &Extents) -> Result<(), ImageError> {
    let mut last = HEADER;
    for extent in extents {
        check_gap(&all[last..extent.offset])?;
        last = extent.offset + extent.len;
    }
    check_gap(&all[last..])
}

/// What stands between sections, and behind the last one, is zeros up to the next cache line.
fn check_gap(bytes: &[u8]) -> Result<(), ImageError> {
    let zeros = bytes.iter().all(|byte| *byte == 0);
    if !zeros || bytes.len() >= layout::LINE as usize {
        return Err(ImageError::Damaged("space between sections"));
    }
    Ok(())
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({} rules)", self.facts.rules)
    }
}
