//! Sorts a limited number of rules in memory by their paths.

use std::cmp::Ordering;
use std::io;

use foldhash::HashMap;
use memmap2::MmapMut;

use crate::policy::image::bits::word;
use crate::policy::image::path::{Key, labels};
use crate::wire::name::Name;

/// Bytes after a path that may be read and are ignored. A short path is copied with a fixed number of bytes, which
/// needs no branch.
pub(super) const SLACK: usize = 32;
/// Bytes of a record before its path: the rule and the path's length.
pub(super) const HEAD: usize = 5;
/// Longest path.
pub(super) const MAX_PATH: usize = 254;
/// The largest number of top-level labels that are kept. The DNS has some 1,500.
const KNOWN: usize = 1 << 14;
/// Up to this many rules with the same rank are sorted by comparing their paths.
const FEW: usize = 16;

/// The first sort key of a name: the hashes of its first two labels from the root, 0 for a missing one.
pub(super) type Rank = (u64, u64);

/// Rules in memory.
pub(super) struct Batch {
    key: Key,
    entries: Vec<Entry>,
    most: usize,
    /// The length of each path, and the path. They are read in the order of their hashes. With huge pages, such reads
    /// are much faster.
    paths: MmapMut,
    filled: usize,
    firsts: Firsts,
}

/// The top-level labels, to detect two with the same hash. To look for such labels in all paths would cost a cache miss
/// for each path.
#[derive(Default)]
struct Firsts {
    /// The offset of a path with the label, by the hash of the label.
    known: HashMap<u64, u32>,
    /// There are too many labels, or two may have the same hash.
    unsure: bool,
}

impl Firsts {
    #[inline]
    fn add(&mut self, hash: u64, paths: &[u8], at: u32) {
        match self.known.get(&hash) {
            Some(&known) => {
                let (known, at) = (known as usize + 1, at as usize + 1);
                self.unsure |= !same_label(paths, known, paths, at);
            }
            None if self.known.len() < KNOWN => {
                self.known.insert(hash, at);
            }
            None => self.unsure = true,
        }
    }
}

/// A rule, with the rank and the offset of its path.
#[derive(Clone, Copy)]
struct Entry {
    rank: Rank,
    at: u32,
    rule: u32,
}

impl Batch {
    /// A batch of at most `rules` rules and at least `bytes` bytes of paths. Memory is allocated as it is filled.
    ///
    /// # Errors
    /// If the address space runs out.
    pub(super) fn new(key: Key, rules: usize, bytes: usize) -> io::Result<Self> {
        let paths = MmapMut::map_anon(bytes + 1 + MAX_PATH + SLACK)?;
        #[cfg(target_os = "linux")]
        // Without huge pages, sorting is only slower.
        let _ = paths.advise(memmap2::Advice::HugePage);
        Ok(Self {
            key,
            entries: Vec::with_capacity(rules),
            most: rules.max(1),
            paths,
            filled: 0,
            firsts: Firsts::default(),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.filled = 0;
        self.firsts = Firsts::default();
    }

    /// Adds a rule for a name. Returns its path, or `None` if the batch is full.
    #[inline]
    pub(super) fn push(&mut self, name: &Name, rule: u32) -> Option<&[u8]> {
        let start = self.filled;
        if self.entries.len() == self.most {
            return None;
        }
        let paths = self.paths.get_mut(start..start + 1 + MAX_PATH + SLACK)?;
        let mut ranks = [0, 0];
        let mut end = 1;
        for level in 0..name.label_count() {
            let label = name.sixteen_from_root(level);
            let (low, high, size) = label;
            paths[end] = size as u8;
            paths[end + 1..end + 9].copy_from_slice(&low.to_le_bytes());
            paths[end + 9..end + 17].copy_from_slice(&high.to_le_bytes());
            let from = end + 1;
            end = from + size;
            if size > 16 {
                paths[from..end].copy_from_slice(name.label_from_root(level));
            }
            if let Some(rank) = ranks.get_mut(level) {
                *rank = self.key.at_level(name, level, label);
            }
        }
        paths[0] = (end - 1) as u8;
        self.filled = start + end;
        if end == 1 {
            // The root has no label, and its rank may equal the hash of a label.
            self.firsts.unsure = true;
        } else {
            self.firsts.add(ranks[0], &self.paths, start as u32);
        }
        self.entries.push(Entry {
            rank: (ranks[0], ranks[1]),
            at: start as u32,
            rule,
        });
        Some(&self.paths[start + 1..start + end])
    }

    /// Sorts the rules.
    pub(super) fn sort(&mut self) {
        let Self {
            entries,
            paths,
            key,
            firsts,
            ..
        } = self;
        Paths(paths).arrange(entries, 0, key, firsts.unsure);
    }

    /// Writes records of the sorted rules to `into`, without duplicates, from index `next` on and as many as fit. Returns
    /// the number of bytes written.
    pub(super) fn gather(&self, next: &mut usize, into: &mut [u8]) -> usize {
        let mut filled = 0;
        let room = into.len().saturating_sub(HEAD + MAX_PATH + SLACK);
        let paths = Paths(&self.paths);
        while filled <= room
            && let Some(entry) = self.entries.get(*next)
        {
            *next += 1;
            let before = next.checked_sub(2).map(|at| &self.entries[at]);
            let again = before.is_some_and(|before| {
                before.rank == entry.rank
                    && before.rule == entry.rule
                    && paths.of(before) == paths.of(entry)
            });
            if again {
                continue;
            }
            let at = entry.at as usize;
            let size = 1 + usize::from(self.paths[at]);
            into[filled..filled + 4].copy_from_slice(&entry.rule.to_le_bytes());
            filled += 4;
            into[filled..filled + SLACK].copy_from_slice(&self.paths[at..at + SLACK]);
            if size > SLACK {
                into[filled..filled + size].copy_from_slice(&self.paths[at..at + size]);
            }
            filled += size;
        }
        filled
    }
}

/// A buffer of paths, each after its length.
#[derive(Clone, Copy)]
struct Paths<'p>(&'p [u8]);

impl<'p> Paths<'p> {
    fn of(self, entry: &Entry) -> &'p [u8] {
        let at = entry.at as usize;
        &self.0[at + 1..at + 1 + usize::from(self.0[at])]
    }

    /// Sorts entries whose paths share the first `skip` bytes. Their ranks are those of the rest of their paths. If
    /// `unsure`, different labels at the start of the rest may have the same hash.
    fn arrange(self, entries: &mut [Entry], skip: usize, key: &Key, unsure: bool) {
        entries.sort_unstable_by_key(|entry| entry.rank);
        // Two labels with the same hash are rare, but possible.
        let collide = |pair: &[Entry]| {
            pair[0].rank.0 == pair[1].rank.0 && !self.share_label(&pair[0], &pair[1], skip)
        };
        if unsure && entries.windows(2).any(collide) {
            return self.compare(entries, skip, key);
        }
        for same in entries.chunk_by_mut(|one, other| one.rank == other.rank) {
            if same.len() > 1 {
                self.arrange_same(same, skip, key);
            }
        }
    }

    /// Sorts entries with the same rank. Their paths share the first `skip` bytes, and the next label if there is one.
    fn arrange_same(self, entries: &mut [Entry], skip: usize, key: &Key) {
        let first = self.of(&entries[0]);
        let mut common = first;
        let mut equal = true;
        for entry in &entries[1..] {
            let path = self.of(entry);
            if path != common {
                equal &= path == first;
                common = &common[..shared(common, path)];
            }
        }
        if equal {
            entries.sort_unstable_by_key(|entry| entry.rule);
        } else if entries.len() <= FEW || common.len() <= skip {
            self.compare(entries, common.len(), key);
        } else {
            for entry in &mut *entries {
                let at = entry.at as usize + 1 + common.len();
                entry.rank = rank(key, self.0, at, self.of(entry).len() - common.len());
            }
            self.arrange(entries, common.len(), key, true);
        }
    }

    /// Sorts entries whose paths share the first `skip` bytes by the rest of their paths.
    fn compare(self, entries: &mut [Entry], skip: usize, key: &Key) {
        entries.sort_unstable_by(|one, other| {
            key.compare(&self.of(one)[skip..], &self.of(other)[skip..])
                .then(one.rule.cmp(&other.rule))
        });
    }

    /// Whether the label after the first `skip` bytes of both paths is the same, or missing in both.
    #[inline]
    fn share_label(self, one: &Entry, other: &Entry, skip: usize) -> bool {
        let (one, other) = (one.at as usize, other.at as usize);
        let (ends, other_ends) = (self.size(one) == skip, self.size(other) == skip);
        if ends || other_ends {
            return ends && other_ends;
        }
        same_label(self.0, one + 1 + skip, self.0, other + 1 + skip)
    }

    fn size(self, at: usize) -> usize {
        usize::from(self.0[at])
    }
}

/// Whether the labels at these offsets are the same. Both buffers have [`SLACK`] after the label.
#[inline]
fn same_label(one: &[u8], at: usize, other: &[u8], other_at: usize) -> bool {
    let size = 1 + usize::from(one[at]);
    // Together with their length byte, most top-level labels have at most eight bytes.
    let differ = (word(one, at) ^ word(other, other_at)) & FIRST[size.min(8)];
    differ == 0 && (size <= 8 || one[at..at + size] == other[other_at..other_at + size])
}

/// How many bytes of whole labels two paths share.
fn shared(one: &[u8], other: &[u8]) -> usize {
    let pairs = labels(one).zip(labels(other));
    pairs
        .take_while(|(a, b)| a == b)
        .map(|(label, _)| 1 + label.len())
        .sum()
}

/// A path with its rank.
#[derive(Clone, Copy)]
pub(super) struct RankedPath<'p> {
    pub(super) rank: Rank,
    /// The path, and [`SLACK`] after it.
    pub(super) bytes: &'p [u8],
    pub(super) size: usize,
}

impl<'p> RankedPath<'p> {
    #[inline]
    pub(super) fn path(self) -> &'p [u8] {
        &self.bytes[..self.size]
    }

    /// Compares the two paths, as [`Key::compare`] does.
    #[inline]
    pub(super) fn compare(self, other: Self, key: &Key) -> Ordering {
        if self.rank.0 != other.rank.0 {
            return self.rank.0.cmp(&other.rank.0);
        }
        let labels = self.size > 0 && other.size > 0;
        if self.rank.1 != other.rank.1 && labels && same_label(self.bytes, 0, other.bytes, 0) {
            return self.rank.1.cmp(&other.rank.1);
        }
        key.compare(self.path(), other.path())
    }
}

/// The rank of the path of `size` bytes at `at`, which has [`SLACK`] after it.
#[inline]
pub(super) fn rank(key: &Key, bytes: &[u8], at: usize, size: usize) -> Rank {
    if size == 0 {
        return (0, 0);
    }
    let first = usize::from(bytes[at]);
    let one = hash(key, bytes, at + 1, first);
    if size == 1 + first {
        return (one, 0);
    }
    let at = at + 1 + first;
    (one, hash(key, bytes, at + 1, usize::from(bytes[at])))
}

/// `FIRST[n]` masks the first n of eight bytes.
const FIRST: [u64; 9] = {
    let mut masks = [u64::MAX; 9];
    let mut count = 0;
    while count < 8 {
        masks[count] = (1 << (8 * count)) - 1;
        count += 1;
    }
    masks
};

/// The hash of the label of `size` bytes at `at`. Reads eight bytes at a time.
#[inline]
fn hash(key: &Key, bytes: &[u8], at: usize, size: usize) -> u64 {
    let low = word(bytes, at) & FIRST[size.min(8)];
    let high = word(bytes, at + 8) & FIRST[size.saturating_sub(8).min(8)];
    let hash = key.sixteen(low, high, size);
    if size <= 16 {
        return hash;
    }
    key.continued(hash, &bytes[at..at + size])
}
