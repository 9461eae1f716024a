//! Owns rules in memory on their way to an image: taken in any order, given in that of paths.
//! Refuses to hold more than it has room for.

use std::cmp::Ordering;

use crate::policy::image::bits::word;
use crate::policy::image::order::{Key, labels};

/// Octets behind a path that may be read, though they mean nothing: of short ones a fixed number
/// is copied, as that needs no branch.
pub(super) const SLACK: usize = 32;
/// Octets of a record but for its path: the rule, the path's length.
pub(super) const HEAD: usize = 5;
/// Longest path.
pub(super) const MAX_PATH: usize = 254;
/// Rules on names of one beginning, up to which they are compared one by one.
const FEW: usize = 16;

/// What a name is sorted by first: the hashes of its first two labels, 0 for one that is not there.
pub(super) type Rank = (u64, u64);

/// Rules in memory.
pub(super) struct Batch {
    key: Key,
    entries: Vec<Entry>,
    most: usize,
    /// For each: the length of the path, the path.
    paths: Vec<u8>,
    filled: usize,
}

/// What a rule is sorted by first, and where the rest is.
#[derive(Clone, Copy)]
struct Entry {
    rank: Rank,
    at: u32,
    rule: u32,
}

impl Batch {
    /// Room for `rules` rules and `octets` octets of paths. Memory is taken as it is filled.
    pub(super) fn new(key: Key, rules: usize, octets: usize) -> Self {
        Self {
            key,
            entries: Vec::with_capacity(rules),
            most: rules.max(1),
            paths: vec![0; octets.max(1 + MAX_PATH) + SLACK],
            filled: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.filled = 0;
    }

    /// Takes a rule on a path. Returns whether there was room for it.
    #[inline]
    pub(super) fn push(&mut self, path: &[u8], rule: u32) -> bool {
        let (at, end) = (self.filled, self.filled + 1 + path.len());
        if self.entries.len() == self.most || end + SLACK > self.paths.len() {
            return false;
        }
        self.paths[at] = path.len() as u8;
        self.paths[at + 1..end].copy_from_slice(path);
        self.filled = end;
        self.entries.push(Entry {
            rank: rank(&self.key, &self.paths, at + 1, path.len()),
            at: at as u32,
            rule,
        });
        true
    }

    /// Brings the rules into their order.
    pub(super) fn sort(&mut self) {
        let Self {
            entries,
            paths,
            key,
            ..
        } = self;
        Paths(paths).arrange(entries, 0, key);
    }

    /// Writes records of the sorted rules from the one numbered `next` on, as many as `into` has
    /// room for, each different one once. Returns how many octets they take.
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

/// Where paths are: each behind its length.
#[derive(Clone, Copy)]
struct Paths<'p>(&'p [u8]);

impl<'p> Paths<'p> {
    fn of(self, entry: &Entry) -> &'p [u8] {
        let at = entry.at as usize;
        &self.0[at + 1..at + 1 + usize::from(self.0[at])]
    }

    /// Sorts entries whose paths share the first `skip` octets. Their ranks are those of what
    /// comes behind.
    fn arrange(self, entries: &mut [Entry], skip: usize, key: &Key) {
        entries.sort_unstable_by_key(|entry| entry.rank);
        // Two labels with one hash are rare, and possible.
        let collide = |pair: &[Entry]| {
            pair[0].rank.0 == pair[1].rank.0 && !self.share_label(&pair[0], &pair[1], skip)
        };
        if entries.windows(2).any(collide) {
            return self.compare(entries, skip, key);
        }
        for same in entries.chunk_by_mut(|one, other| one.rank == other.rank) {
            if same.len() > 1 {
                self.arrange_same(same, skip, key);
            }
        }
    }

    /// Sorts entries of one rank. Their paths share the first `skip` octets, and one label more if
    /// there is one.
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
            self.arrange(entries, common.len(), key);
        }
    }

    /// Sorts entries whose paths share the first `skip` octets by what comes behind.
    fn compare(self, entries: &mut [Entry], skip: usize, key: &Key) {
        entries.sort_unstable_by(|one, other| {
            key.compare(&self.of(one)[skip..], &self.of(other)[skip..])
                .then(one.rule.cmp(&other.rule))
        });
    }

    /// Whether the label behind the first `skip` octets of both paths is the same, or missing.
    #[inline]
    fn share_label(self, one: &Entry, other: &Entry, skip: usize) -> bool {
        same_label(&self.of(one)[skip..], &self.of(other)[skip..])
    }
}

/// Whether the first labels of two paths are the same, or both missing.
#[inline]
fn same_label(one: &[u8], other: &[u8]) -> bool {
    match (one.first(), other.first()) {
        (Some(a), Some(b)) => a == b && one[..=usize::from(*a)] == other[..=usize::from(*b)],
        (a, b) => a == b,
    }
}

/// How many octets of whole labels two paths share.
fn shared(one: &[u8], other: &[u8]) -> usize {
    let pairs = labels(one).zip(labels(other));
    pairs
        .take_while(|(a, b)| a == b)
        .map(|(label, _)| 1 + label.len())
        .sum()
}

/// [`Key::compare`] for paths whose ranks are at hand.
#[inline]
pub(super) fn compare(key: &Key, one: (Rank, &[u8]), other: (Rank, &[u8])) -> Ordering {
    let ((rank, path), (other_rank, other_path)) = (one, other);
    if rank.0 != other_rank.0 {
        return rank.0.cmp(&other_rank.0);
    }
    if rank.1 != other_rank.1 && same_label(path, other_path) {
        return rank.1.cmp(&other_rank.1);
    }
    key.compare(path, other_path)
}

/// The rank of the path of `size` octets at `at`, behind which there is [`SLACK`].
#[inline]
pub(super) fn rank(key: &Key, octets: &[u8], at: usize, size: usize) -> Rank {
    if size == 0 {
        return (0, 0);
    }
    let first = usize::from(octets[at]);
    let one = hash(key, octets, at + 1, first);
    if size == 1 + first {
        return (one, 0);
    }
    let at = at + 1 + first;
    (one, hash(key, octets, at + 1, usize::from(octets[at])))
}

/// Masks for the first octets of eight, by their count.
const FIRST: [u64; 9] = {
    let mut masks = [u64::MAX; 9];
    let mut count = 0;
    while count < 8 {
        masks[count] = (1 << (8 * count)) - 1;
        count += 1;
    }
    masks
};

/// The hash of the label of `size` octets at `at`, read eight octets at a time.
#[inline]
fn hash(key: &Key, octets: &[u8], at: usize, size: usize) -> u64 {
    let low = word(octets, at) & FIRST[size.min(8)];
    let high = word(octets, at + 8) & FIRST[size.saturating_sub(8).min(8)];
    let hash = key.sixteen(low, high, size);
    if size <= 16 {
        return hash;
    }
    key.continued(hash, &octets[at..at + size])
}
