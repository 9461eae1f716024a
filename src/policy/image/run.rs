//! A sorted run of rules in memory, from which an image is written.

use std::cmp::Ordering;

use super::error::TooLarge;
use super::path::{Key, labels};

/// Rules in insertion order until [`sort`](Self::sort), then in the order of paths.
pub struct Run {
    entries: Vec<Entry>,
    /// For each rule the length of the path, and the path.
    paths: Vec<u8>,
}

/// The sort key of a rule, and where its path is.
#[derive(Clone, Copy)]
struct Entry {
    /// The hashes of the first two labels; 0 for missing labels.
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
    /// An empty run.
    pub fn new() -> Self {
        Self {
            entries: Vec::new(),
            paths: Vec::new(),
        }
    }

    /// Appends a rule on a path of at most 254 bytes.
    ///
    /// # Errors
    /// If the paths exceed 4 GB.
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

    /// Sorts the rules by path, then by rule. This is faster if they were appended in few sorted sequences.
    pub fn sort(&mut self, key: &Key) {
        let paths = &self.paths;
        self.entries.sort_by(|one, other| {
            let ((path, rule), (other_path, other_rule)) = (
                (path(paths, one.at), one.rule),
                (path(paths, other.at), other.rule),
            );
            let by_hash = one.first.cmp(&other.first).then_with(|| {
                // If different labels have the same hash, the second labels do not matter.
                let same = labels(path).next() == labels(other_path).next();
                let seconds = one.second.cmp(&other.second);
                if same { seconds } else { Ordering::Equal }
            });
            by_hash
                .then_with(|| key.compare(path, other_path))
                .then_with(|| rule.cmp(&other_rule))
        });
    }

    /// The rules: path and rule of each.
    pub fn rules(&self) -> impl Iterator<Item = (&[u8], u32)> {
        let rule = |entry: &Entry| (path(&self.paths, entry.at), entry.rule);
        self.entries.iter().map(rule)
    }
}

fn path(paths: &[u8], at: u32) -> &[u8] {
    let at = at as usize;
    &paths[at + 1..at + 1 + usize::from(paths[at])]
}

#[cfg(test)]
mod tests {
    use crate::policy::image::path::Path;
    use crate::policy::image::tests::colliding;
    use crate::wire::name::Name;

    use super::*;

    #[test]
    fn labels_with_equal_hashes_do_not_mix() {
        let (key, labels) = colliding();
        let mut run = Run::new();
        for below in 0..50 {
            for label in &labels {
                let name = Name::from_text(&format!("n{below}.{label}")).expect("a name");
                let path = Path::from(&name);
                run.push(&key, path.as_bytes(), 0).expect("room");
            }
        }
        run.sort(&key);
        let paths: Vec<_> = run.rules().map(|(path, _)| path).collect();
        assert!(paths.is_sorted_by(|one, other| key.compare(one, other).is_lt()));
    }
}
