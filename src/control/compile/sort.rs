//! Sorts more rules than memory should hold: each full batch is sorted and written to an unlinked file. The sorted runs
//! are then read back side by side.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::batch::{Batch, HEAD, MAX_PATH, Rank, RankedPath, SLACK, rank};
use crate::policy::image::path::Key;
use crate::policy::image::text::PairHistogram;
use crate::wire::name::Name;

/// Bytes that are read or written at a time.
const PIECE: usize = 64 << 10;

/// Up to this many rules, the pairs of bytes in each name are counted.
const COUNTED: usize = 2 << 20;
/// Beyond that number, pairs are counted in the name of one rule out of this many. A pair that is missed is so rare
/// that its escape in the image costs nothing.
const SAMPLE: usize = 8;

/// The most that a sorter holds in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Rules, of 24 bytes each.
    pub(super) rules: usize,
    /// Bytes of their paths.
    pub(super) bytes: usize,
}

impl Budget {
    /// 48 MiB for rules and as much for paths: two million names of usual length.
    pub(super) const USUAL: Self = Self {
        rules: 2 << 20,
        bytes: 48 << 20,
    };
}

/// Sorts rules.
pub(super) struct Sorter<'d> {
    key: Key,
    batch: Batch,
    pairs: PairHistogram,
    /// Rules that were pushed.
    pushed: usize,
    /// The directory of the file.
    folder: &'d Path,
    spilled: Option<Spilled>,
}

/// Sorted runs, one after the other.
struct Spilled {
    file: File,
    /// The end of each run.
    ends: Vec<u64>,
}

impl<'d> Sorter<'d> {
    /// Sorts by `key`. Rules over the budget are written to a file in `folder`.
    ///
    /// # Errors
    /// If memory runs out.
    pub(super) fn new(key: Key, budget: Budget, folder: &'d Path) -> io::Result<Self> {
        Ok(Self {
            batch: Batch::new(key.clone(), budget.rules, budget.bytes)?,
            key,
            pairs: PairHistogram::default(),
            pushed: 0,
            folder,
            spilled: None,
        })
    }

    /// Adds a rule for a name.
    ///
    /// # Errors
    /// If the file can't be written.
    #[inline]
    pub(super) fn push(&mut self, name: &Name, rule: u32) -> io::Result<()> {
        let path = match self.batch.push(name, rule) {
            Some(path) => path,
            None => {
                self.spill()?;
                let path = self.batch.push(name, rule);
                path.expect("an empty batch has room for any name")
            }
        };
        self.pushed += 1;
        if self.pushed <= COUNTED || self.pushed.is_multiple_of(SAMPLE) {
            self.pairs.count(path);
        }
        Ok(())
    }

    #[cold]
    fn spill(&mut self) -> io::Result<()> {
        self.batch.sort();
        let spilled = match &mut self.spilled {
            Some(spilled) => spilled,
            none => none.insert(Spilled {
                // The file has no name, so it vanishes with the process, however that ends.
                file: tempfile::tempfile_in(self.folder)?,
                ends: Vec::new(),
            }),
        };
        let mut end = spilled.ends.last().copied().unwrap_or(0);
        let mut piece = vec![0; PIECE];
        let mut next = 0;
        loop {
            let size = self.batch.gather(&mut next, &mut piece);
            if size == 0 {
                break;
            }
            spilled.file.write_all(&piece[..size])?;
            end += size as u64;
        }
        spilled.ends.push(end);
        self.batch.clear();
        Ok(())
    }

    /// Sorts the last batch.
    ///
    /// # Errors
    /// If the file can't be written.
    pub(super) fn finish(mut self) -> io::Result<Sorted> {
        if self.spilled.is_none() {
            self.batch.sort();
        } else if !self.batch.is_empty() {
            // The merge needs the memory.
            self.spill()?;
        }
        Ok(Sorted {
            key: self.key,
            pairs: self.pairs,
            from: match self.spilled {
                Some(spilled) => From::File(spilled),
                None => From::Memory(self.batch),
            },
        })
    }
}

/// Rules in sorted runs.
pub(super) struct Sorted {
    key: Key,
    /// How often each pair of bytes occurs in the names.
    pub(super) pairs: PairHistogram,
    from: From,
}

enum From {
    Memory(Batch),
    File(Spilled),
}

impl Sorted {
    /// Reads each run from its start.
    pub(super) fn runs(&self) -> Vec<Run<'_>> {
        let run = |rest| Run {
            key: &self.key,
            rest,
            // The bytes after a path may be read, so they must exist.
            piece: vec![0; PIECE + SLACK],
            at: 0,
            end: 0,
            path: (0, 0),
            rank: (0, 0),
        };
        match &self.from {
            From::Memory(batch) => vec![run(Rest::Memory { batch, next: 0 })],
            From::File(spilled) => {
                let starts = std::iter::once(0).chain(spilled.ends.iter().copied());
                let extents = starts.zip(&spilled.ends);
                extents
                    .map(|(at, &end)| {
                        run(Rest::File {
                            file: &spilled.file,
                            at,
                            end,
                        })
                    })
                    .collect()
            }
        }
    }
}

/// A sorted run that is read from its start to its end.
pub(super) struct Run<'s> {
    key: &'s Key,
    rest: Rest<'s>,
    /// Records: the rule, the length of the path, the path.
    piece: Vec<u8>,
    at: usize,
    end: usize,
    /// The start and end of the current path.
    path: (usize, usize),
    rank: Rank,
}

/// The part of a run that is not in its piece yet.
enum Rest<'s> {
    Memory { batch: &'s Batch, next: usize },
    File { file: &'s File, at: u64, end: u64 },
}

impl Run<'_> {
    /// Moves to the next rule. Returns whether there is one.
    #[inline]
    pub(super) fn advance(&mut self) -> io::Result<bool> {
        if self.end - self.at < HEAD + MAX_PATH {
            self.refill()?;
        }
        if self.at == self.end {
            return Ok(false);
        }
        let start = self.at + HEAD;
        let size = usize::from(self.piece[start - 1]);
        self.path = (start, start + size);
        self.rank = rank(self.key, &self.piece, start, size);
        self.at = start + size;
        Ok(true)
    }

    fn refill(&mut self) -> io::Result<()> {
        self.piece.copy_within(self.at..self.end, 0);
        self.end -= self.at;
        self.at = 0;
        let room = self.piece.len() - SLACK;
        match &mut self.rest {
            Rest::Memory { batch, next } => {
                self.end += batch.gather(next, &mut self.piece[self.end..room]);
            }
            Rest::File { file, at, end } => {
                let left = usize::try_from(*end - *at).unwrap_or(usize::MAX);
                let size = left.min(room - self.end);
                file.read_exact_at(&mut self.piece[self.end..self.end + size], *at)?;
                *at += size as u64;
                self.end += size;
            }
        }
        Ok(())
    }

    /// The current path.
    #[inline]
    pub(super) fn current(&self) -> RankedPath<'_> {
        RankedPath {
            rank: self.rank,
            bytes: &self.piece[self.path.0..self.path.1 + SLACK],
            size: self.path.1 - self.path.0,
        }
    }

    /// The rule of the current path.
    #[inline]
    pub(super) fn rule(&self) -> u32 {
        let rule = self.piece[self.path.0 - HEAD..].first_chunk();
        rule.map_or(0, |rule| u32::from_le_bytes(*rule))
    }
}
