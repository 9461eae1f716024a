//! The file format of an image: the header, and the sections with their digests.
//!
//! Numbers are little-endian. The header has [`HEADER`] bytes:
//!
//! | at | bytes | content |
//! |---|---|---|
//! | 0 | 8 | [`MAGIC`] |
//! | 8 | 4 | [`VERSION`] |
//! | 12 | 4 | [`BYTE_ORDER`] |
//! | 16 | 8 | seed of the hash of labels |
//! | 24 | 4, 4 | the root's value and [`ChildRef`] |
//! | 32 | 8, 8 | number of rules in the image; number of rules left out because others of the same source cover them |
//! | 48 | 8, 8 | number of nodes, number of buckets |
//! | 64 | 4 | number of children in the fullest bucket |
//! | 128 | 48 for each [`Section`] | offset, length, BLAKE3 digest |
//! | 992 | 32 | BLAKE3 digest of the preceding bytes |

use std::io::{BufWriter, Seek, SeekFrom, Write};

use super::bits::word;
use super::bucket::ChildRef;
use super::error::{ImageError, WriteError};

/// The magic number.
pub const MAGIC: [u8; 8] = *b"\x89tapis\r\n";
/// The version of the layout.
pub const VERSION: u32 = 4;
/// Detects files in which the byte order of numbers was swapped.
pub const BYTE_ORDER: u32 = 0x0403_0201;
/// The size of the header.
pub const HEADER: usize = 1024;
/// The offset of the section table.
pub(super) const TABLE: usize = 128;
/// The size of an entry of the section table.
const ENTRY: usize = 48;
/// The offset of the header's digest.
const DIGEST_AT: usize = HEADER - 32;
/// The alignment of sections: a cache line.
pub(super) const LINE: u64 = 64;

/// The number of sections.
const SECTIONS: usize = 13;

/// The sections of an image, in the order of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// The buckets: see `bucket`.
    Buckets,
    /// Offsets of the buckets of nodes with many children: see `directory`.
    Directory,
    /// A filter for each slot of the directory.
    Filters,
    /// The children of the root: see `tld_table`.
    TldTable,
    /// Eight bytes for each value: offset in `Words`, number of rules, number of sources with rules below.
    Values,
    /// Rules and sources of the values, four bytes each.
    Words,
    /// Eight bytes for each clause: source and effect.
    Clauses,
    /// The effects of the clauses, as JSON.
    Effects,
    /// Rules on networks of addresses: see `triggers`.
    Prefixes,
    /// Rules with patterns: see `triggers`.
    Patterns,
    /// The code lengths of the text code.
    Text,
    /// The frequency of each pair of bytes in the text: see `text`.
    PairHistogram,
    /// The provenance of the rules, as JSON.
    Provenance,
}

impl Section {
    /// All sections.
    pub const ALL: [Self; SECTIONS] = [
        Self::Buckets,
        Self::Directory,
        Self::Filters,
        Self::TldTable,
        Self::Values,
        Self::Words,
        Self::Clauses,
        Self::Effects,
        Self::Prefixes,
        Self::Patterns,
        Self::Text,
        Self::PairHistogram,
        Self::Provenance,
    ];

    /// The name of the section in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Buckets => "buckets",
            Self::Directory => "directory",
            Self::Filters => "filters",
            Self::TldTable => "top labels",
            Self::Values => "values",
            Self::Words => "words",
            Self::Clauses => "clauses",
            Self::Effects => "effects",
            Self::Prefixes => "prefixes",
            Self::Patterns => "patterns",
            Self::Text => "text code",
            Self::PairHistogram => "pair histogram",
            Self::Provenance => "provenance",
        }
    }
}

/// The fields of the header, without the section table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderFacts {
    /// Seed of the hash of labels.
    pub seed: u64,
    /// The root's value.
    pub root_value: u32,
    /// The root's children.
    pub root_children: ChildRef,
    /// Number of rules in the image.
    pub rules: u64,
    /// Number of rules left out because others of the same source cover them.
    pub pruned: u64,
    /// Number of nodes without the root.
    pub nodes: u64,
    /// Number of buckets.
    pub buckets: u64,
    /// Number of children in the fullest bucket.
    pub fullest: u32,
}

impl HeaderFacts {
    /// The number of distinct rules that were given to the writer, including those that it left out.
    pub fn given(&self) -> usize {
        self.rules.saturating_add(self.pruned) as usize
    }
}

impl Default for HeaderFacts {
    fn default() -> Self {
        Self {
            seed: 0,
            root_value: 0,
            root_children: ChildRef::NONE,
            rules: 0,
            pruned: 0,
            nodes: 0,
            buckets: 0,
            fullest: 0,
        }
    }
}

/// The position and the digest of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its offset in the file.
    pub offset: usize,
    /// Its length in bytes.
    pub len: usize,
    /// Its BLAKE3 digest.
    pub digest: [u8; 32],
}

/// The extents of all sections, in the order of [`Section::ALL`].
pub type Extents = [Extent; SECTIONS];

/// Reads the header of a file of `size` bytes. Checks that each section is after the preceding one and within the file.
///
/// # Errors
/// [`ImageError`] if `head` is not a valid header.
pub fn read_header(head: &[u8], size: u64) -> Result<(HeaderFacts, Extents), ImageError> {
    let number = |at: usize| word(head, at);
    let short = |at: usize| word(head, at) as u32;
    if head.len() < 8 || head[..8] != MAGIC {
        return Err(ImageError::NotAnImage);
    }
    if head.len() < HEADER {
        return Err(ImageError::Truncated);
    }
    if short(12) != BYTE_ORDER {
        return Err(ImageError::NotAnImage);
    }
    if short(8) != VERSION {
        return Err(ImageError::Version {
            found: short(8),
            supported: VERSION,
        });
    }
    if blake3::hash(&head[..DIGEST_AT]) != head[DIGEST_AT..HEADER] {
        return Err(ImageError::Damaged("header"));
    }
    let facts = HeaderFacts {
        seed: number(16),
        root_value: short(24),
        root_children: ChildRef(short(28)),
        rules: number(32),
        pruned: number(40),
        nodes: number(48),
        buckets: number(56),
        fullest: short(64),
    };
    let mut extents = [Extent {
        offset: 0,
        len: 0,
        digest: [0; 32],
    }; SECTIONS];
    let mut last = HEADER as u64;
    for (index, extent) in extents.iter_mut().enumerate() {
        let at = TABLE + index * ENTRY;
        let (offset, len) = (number(at), number(at + 8));
        let end = offset.checked_add(len).ok_or(ImageError::Truncated)?;
        if offset < last || end > size {
            return Err(ImageError::Truncated);
        }
        last = end;
        extent.offset = offset as usize;
        extent.len = len as usize;
        extent.digest.copy_from_slice(&head[at + 16..at + ENTRY]);
    }
    Ok((facts, extents))
}

/// Writes the sections one after the other, and the header last.
pub(super) struct SectionWriter<W: Write> {
    to: BufWriter<W>,
    /// Where the image starts.
    origin: u64,
    /// The number of bytes written, including the header.
    at: u64,
    /// Where the current section starts.
    start: u64,
    hasher: blake3::Hasher,
    pending: Vec<u8>,
    table: Vec<u8>,
}

/// The number of bytes that are hashed at a time; hashing small pieces would be slower.
const HASH_CHUNK: usize = 1 << 16;

impl<W: Write + Seek> SectionWriter<W> {
    pub(super) fn new(mut to: W) -> Result<Self, WriteError> {
        let origin = to.stream_position()?;
        to.write_all(&[0; HEADER])?;
        Ok(Self {
            to: BufWriter::with_capacity(HASH_CHUNK, to),
            origin,
            at: HEADER as u64,
            start: HEADER as u64,
            hasher: blake3::Hasher::new(),
            pending: Vec::with_capacity(2 * HASH_CHUNK),
            table: Vec::new(),
        })
    }

    /// The length of the current section so far.
    pub(super) fn section_len(&self) -> u64 {
        self.at - self.start
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.pending.extend(bytes);
        self.at += bytes.len() as u64;
        if self.pending.len() >= HASH_CHUNK {
            self.flush_pending()?;
        }
        Ok(())
    }

    fn flush_pending(&mut self) -> Result<(), WriteError> {
        self.hasher.update(&self.pending);
        self.to.write_all(&self.pending)?;
        self.pending.clear();
        Ok(())
    }

    /// Ends the current section, which must be the next one of [`Section::ALL`].
    pub(super) fn end(&mut self, section: Section) -> Result<(), WriteError> {
        debug_assert_eq!(self.table.len(), section as usize * ENTRY);
        self.flush_pending()?;
        self.table.extend(self.start.to_le_bytes());
        self.table.extend(self.section_len().to_le_bytes());
        self.table.extend(self.hasher.finalize().as_bytes());
        self.hasher.reset();
        let gap = self.at.next_multiple_of(LINE) - self.at;
        self.to.write_all(&[0; LINE as usize][..gap as usize])?;
        self.at += gap;
        self.start = self.at;
        Ok(())
    }

    pub(super) fn finish(self, facts: &HeaderFacts) -> Result<W, WriteError> {
        let mut head = [0; HEADER];
        let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(12, &BYTE_ORDER.to_le_bytes());
        put(16, &facts.seed.to_le_bytes());
        put(24, &facts.root_value.to_le_bytes());
        put(28, &facts.root_children.0.to_le_bytes());
        put(32, &facts.rules.to_le_bytes());
        put(40, &facts.pruned.to_le_bytes());
        put(48, &facts.nodes.to_le_bytes());
        put(56, &facts.buckets.to_le_bytes());
        put(64, &facts.fullest.to_le_bytes());
        put(TABLE, &self.table);
        let seal = blake3::hash(&head[..DIGEST_AT]);
        head[DIGEST_AT..].copy_from_slice(seal.as_bytes());
        let mut to = self
            .to
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)?;
        to.seek(SeekFrom::Start(self.origin))?;
        to.write_all(&head)?;
        to.seek(SeekFrom::End(0))?;
        Ok(to)
    }
}
