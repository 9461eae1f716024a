//! Owns rules in memory on their way to an image: taken in any order, given in that of paths.
//! Refuses to write them anywhere.

use super::TooLarge;
use super::order::{Key, labels};

/// Rules of any number of names, one after the other in memory.
pub struct Run {
    entries: Vec<Entry>,
    /// For each: the length of the path, the path.
    paths: Vec<u8>,
}

/// What a rule is sorted by first, and where the rest is.
#[derive(Clone, Copy)]
struct Entry {
    /// The hashes of the first two labels; of labels that are not there, 0.
    first: u64,
    second: u64,
    at: u32,
    rule: u32,
}

impl Default for Run {
    fn default() -> Self {
        Self::new()
    }
}

impl Run {
    /// No rules.
    pub fn new() -> Self {
        Self {
            entries: Vec::new(),
            paths: Vec::new(),
        }
    }

    /// Takes a rule on a path (at most 254 octets).
    ///
    /// # Errors
    /// When it holds 4 GB.
    pub fn push(&mut self, key: &Key, path: &[u8], rule: u32) -> Result<(), TooLarge> {
        let at = u32::try_from(self.paths.len()).map_err(|_| TooLarge::Buckets)?;
        let mut labels = labels(path).map(|label| key.hash(label));
        self.entries.push(Entry {
            first: labels.next().unwrap_or(0),
            second: labels.next().unwrap_or(0),
            at,
            rule,
        });
        self.paths.push(path.len() as u8);
        self.paths.extend_from_slice(path);
        Ok(())
    }

    /// Brings the rules into their order.
    pub fn sort(&mut self, key: &Key) {
        let paths = &self.paths;
        self.entries.sort_unstable_by(|one, other| {
            (one.first, one.second)
                .cmp(&(other.first, other.second))
                .then_with(|| key.compare(path(paths, one.at), path(paths, other.at)))
                .then_with(|| one.rule.cmp(&other.rule))
        });
    }

    /// The rules: path and rule each.
    pub fn rules(&self) -> impl Iterator<Item = (&[u8], u32)> {
        let rule = |entry: &Entry| (path(&self.paths, entry.at), entry.rule);
        self.entries.iter().map(rule)
    }
}

fn path(paths: &[u8], at: u32) -> &[u8] {
    let at = at as usize;
    &paths[at + 1..at + 1 + usize::from(paths[at])]
}
