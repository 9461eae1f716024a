//! The record of which images came into force together, and when.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::contents::Contents;
use super::error::StoreError;
use crate::config::regular;
use crate::config::shown::Show;
use crate::control::persist::durable::{self, Access};
use crate::control::persist::store::names::{Base, Delta, MANIFEST, Pair};

/// The version of the file's format.
const VERSION: u32 = 1;
/// The largest file that is read, in bytes: a hundred pairs take some 60 KiB, plus the names of lists that are not in
/// force.
const SIZE_MAX: u64 = 64 << 20;
/// The time for which replaced pairs are kept in addition to those that `keep` counts: an accident is often noticed
/// only after many small edits.
const RECENT: SignedDuration = SignedDuration::from_hours(24);
/// The most pairs that are kept for that reason.
const RECENT_MAX: usize = 100;
/// The most runs of generations that are recorded for a pair.
const RUNS_MAX: usize = 100;

/// Images that came into force together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The images.
    #[serde(flatten)]
    pub pair: Pair,
    /// Their first generation; numbers go on over restarts.
    pub generation: u64,
    /// When they came into force.
    pub at: Timestamp,
    /// The number of rules of all lists; `None` if an older version recorded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<u64>,
    /// The lists whose rules are in the images but were not in force; `None` if an older version recorded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<BTreeSet<String>>,
    /// The fingerprints of the rules; `None` if an older version recorded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<Contents>,
    /// Later generations with the same lists, as the first and the last of each run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub again: Vec<(u64, u64)>,
}

impl Published {
    /// Whether that generation had these lists.
    pub fn has(&self, generation: u64) -> bool {
        let mut again = self.again.iter();
        let mut is_again = || again.any(|(first, last)| (*first..=*last).contains(&generation));
        self.generation == generation || is_again()
    }

    /// The last generation that is recorded to have had these lists.
    pub fn last(&self) -> u64 {
        self.again.last().map_or(self.generation, |(_, last)| *last)
    }

    /// Whether its lists have the same rules as those of `other`.
    fn has_rules_of(&self, other: &Self) -> bool {
        let is_same_pair = self.pair == other.pair && self.gone == other.gone;
        is_same_pair || self.agrees(other, |contents| &contents.lists)
    }

    /// Whether its base has the same rules as that of `other`.
    fn has_base_of(&self, other: &Self) -> bool {
        self.agrees(other, |contents| &contents.base)
    }

    fn agrees(&self, other: &Self, of: fn(&Contents) -> &String) -> bool {
        let contents = self.contents.as_ref().zip(other.contents.as_ref());
        contents.is_some_and(|(one, other)| of(one) == of(other))
    }

    /// Replaces its images by newer ones of the same rules, which record the newest state of the lists' files.
    fn renew(&mut self, new: Self) {
        let generation = new.generation;
        let run = self.again.last_mut();
        if let Some((_, last)) = run.filter(|(_, last)| *last + 1 == generation) {
            *last = generation;
        } else if !self.has(generation) {
            self.again.push((generation, generation));
        }
        let excess = self.again.len().saturating_sub(RUNS_MAX);
        self.again.drain(..excess);
        *self = Self {
            generation: self.generation,
            at: self.at,
            again: std::mem::take(&mut self.again),
            ..new
        };
    }
}

/// Why the record can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The system reports an error.
    #[error("{path}: {source}; the newest base image that can be read is used instead", path = .path.shown())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It differs from what was written.
    #[error(
        "{path}: damaged, not what was written; the newest base image that can be read is used instead", path = .0.shown())]
    Damaged(PathBuf),
    /// Another version of this program wrote it.
    #[error(
        "{path}: of format {version}, and this program reads format {VERSION}; the newest base image that can be read is used instead", path = .path.shown())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version.
        version: u32,
    },
}

/// The images that came into force. The newest come first: they are in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest(pub(crate) Vec<Published>);

/// The part that all versions of the file have.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Text {
    version: u32,
    /// BLAKE3 of `published`, in hexadecimal.
    digest: String,
    published: Vec<Published>,
}

impl Manifest {
    /// Reads the record of a directory; an empty one if there is none.
    pub(crate) fn read(dir: &Path) -> Result<Self, ManifestError> {
        let path = dir.join(MANIFEST);
        let bytes = match regular::read(&path, SIZE_MAX).map_err(io::Error::from) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(ManifestError::Unreadable { path, source }),
            Ok(bytes) => bytes,
        };
        match serde_json::from_slice(&bytes) {
            Ok(Head { version: VERSION }) => {}
            Ok(Head { version }) => return Err(ManifestError::Version { path, version }),
            Err(_) => return Err(ManifestError::Damaged(path)),
        }
        let text = serde_json::from_slice::<Text>(&bytes).ok();
        let whole = text.filter(|text| text.digest == digest(&text.published));
        whole.map_or(Err(ManifestError::Damaged(path)), |text| {
            Ok(Self(text.published))
        })
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), StoreError> {
        let text = Text {
            version: VERSION,
            digest: digest(&self.0),
            published: self.0.clone(),
        };
        let bytes = serde_json::to_vec_pretty(&text).expect("numbers and times have a JSON form");
        let path = dir.join(MANIFEST);
        Ok(durable::replace(&path, &bytes, Access::Umask)?)
    }

    /// Records images that came into force. The last `keep` pairs stay in the record, the new one included. So does the
    /// last pair of each of the last `keep` bases: otherwise a hundred new deltas would remove all older bases. Other
    /// pairs of these bases stay for a day, up to a hundred: their deltas are small.
    ///
    /// New images with the same rules as the newest recorded ones replace these. A new base replaces the base of older
    /// pairs if both have the same rules. So a list's file that is replaced by an equal one each hour does not remove
    /// older generations.
    pub(super) fn publish(&mut self, new: Published, keep: usize) {
        let now = new.at;
        for old in self.0.iter_mut().filter(|old| old.has_base_of(&new)) {
            old.pair.base = new.pair.base;
        }
        match self.0.first_mut() {
            Some(last) if last.has_rules_of(&new) => last.renew(new),
            _ => self.0.insert(0, new),
        }
        let (mut bases, mut pairs, mut recent) = (Vec::new(), Vec::new(), 0);
        let mut replaced = now;
        self.0.retain(|published| {
            let Published { pair, at, .. } = *published;
            let is_recent = now.duration_since(std::mem::replace(&mut replaced, at)) <= RECENT;
            let is_of_new_base = !bases.contains(&pair.base);
            if is_of_new_base {
                bases.push(pair.base);
            }
            if !pairs.contains(&pair) {
                pairs.push(pair);
            }
            recent += 1;
            pairs.len() <= keep && recent <= RECENT_MAX
                || bases.len() <= keep && (is_of_new_base || is_recent && recent <= RECENT_MAX)
        });
    }

    pub(super) fn names_base(&self, base: Base) -> bool {
        self.0.iter().any(|published| published.pair.base == base)
    }

    pub(super) fn names_delta(&self, delta: Delta) -> bool {
        let mut pairs = self.0.iter().map(|published| published.pair);
        pairs.any(|pair| pair.delta == Some(delta))
    }

    /// The largest number of an image in it.
    pub(super) fn last(&self) -> u64 {
        let pairs = self.0.iter().map(|published| published.pair);
        let last = pairs.map(|pair| pair.base.0.max(pair.delta.map_or(0, |delta| delta.0)));
        last.max().unwrap_or(0)
    }
}

fn digest(published: &[Published]) -> String {
    let bytes = serde_json::to_vec(published).expect("numbers and times have a JSON form");
    blake3::hash(&bytes).to_hex().to_string()
}

/// Writes the record in the form of older versions, which did not record the lists in force.
#[cfg(test)]
pub(crate) fn write_as_older(dir: &Path) {
    let mut manifest = Manifest::read(dir).expect("a record");
    for published in &mut manifest.0 {
        (published.gone, published.contents) = (None, None);
        published.again.clear();
    }
    manifest.write(dir).expect("written");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The record after these pairs of base and delta came into force, `hours` apart.
    fn manifest(keep: usize, hours: i64, pairs: impl IntoIterator<Item = (u64, u64)>) -> Manifest {
        let mut manifest = Manifest::default();
        for ((base, delta), generation) in pairs.into_iter().zip(1..) {
            let new = Published {
                pair: Pair {
                    base: Base(base),
                    delta: (delta > 0).then_some(Delta(delta)),
                },
                generation,
                at: Timestamp::from_second(generation as i64 * hours * 3600).expect("a time"),
                rules: Some(generation),
                gone: Some(BTreeSet::new()),
                contents: None,
                again: Vec::new(),
            };
            manifest.publish(new, keep);
        }
        manifest
    }

    /// The pairs that are left in [`manifest`].
    fn kept(keep: usize, hours: i64, pairs: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let numbers = |pair: Pair| (pair.base.0, pair.delta.map_or(0, |delta| delta.0));
        let manifest = manifest(keep, hours, pairs.iter().copied());
        manifest.0.iter().map(|old| numbers(old.pair)).collect()
    }

    #[test]
    fn many_deltas_do_not_remove_the_base_before() {
        let pairs = [(1, 0), (2, 0), (2, 3), (4, 0), (4, 5), (4, 6), (4, 7)];
        let kept = |keep| kept(keep, 48, &pairs);
        assert_eq!(kept(3), [(4, 7), (4, 6), (4, 5), (2, 3), (1, 0)]);
        assert_eq!(kept(2), [(4, 7), (4, 6), (2, 3)]);
        assert_eq!(kept(1), [(4, 7), (4, 6)], "replaced just now");
    }

    #[test]
    fn deltas_of_a_day_are_kept_beside_those_that_are_counted() {
        let pairs: Vec<_> = (1..=40).map(|delta| (1, delta)).collect();
        assert_eq!(kept(3, 1, &pairs).len(), 26, "in force within 24 hours");
        assert_eq!(kept(3, 20, &pairs).len(), 3);
        let busy = (1..=1000).map(|delta| (1, delta));
        assert_eq!(manifest(3, 0, busy).0.len(), RECENT_MAX);
        // A base takes more room, so only the number counts.
        let bases: Vec<_> = (1..=10).map(|base| (base, 0)).collect();
        assert_eq!(kept(3, 1, &bases), [(10, 0), (9, 0), (8, 0)]);
    }

    #[test]
    fn a_pair_that_stays_in_force_keeps_its_first_generation() {
        let manifest = manifest(3, 48, [(1, 0), (1, 2), (1, 2)]);
        let generations = manifest.0.iter().map(|old| old.generation);
        assert_eq!(generations.collect::<Vec<_>>(), [2, 1]);
    }

    /// Publishes a pair whose base and whose lists have these fingerprints.
    fn publish(manifest: &mut Manifest, generation: u64, pair: (u64, u64), contents: (&str, &str)) {
        let new = Published {
            pair: Pair {
                base: Base(pair.0),
                delta: Some(Delta(pair.1)),
            },
            generation,
            at: Timestamp::from_second(generation as i64 * 3600).expect("a time"),
            rules: Some(1),
            gone: Some(BTreeSet::new()),
            contents: Some(Contents {
                base: contents.0.to_owned(),
                lists: contents.1.to_owned(),
            }),
            again: Vec::new(),
        };
        manifest.publish(new, 2);
    }

    fn numbers(manifest: &Manifest) -> Vec<(u64, u64, u64)> {
        let numbers = |old: &Published| {
            let delta = old.pair.delta.map_or(0, |delta| delta.0);
            (old.generation, old.pair.base.0, delta)
        };
        manifest.0.iter().map(numbers).collect()
    }

    #[test]
    fn images_of_equal_rules_count_once_and_all_their_generations_are_known() {
        let mut manifest = Manifest::default();
        publish(&mut manifest, 1, (1, 1), ("old", "one"));
        for at in 2..=1000 {
            publish(&mut manifest, at, (at, at), ("new", "two"));
        }
        assert_eq!(numbers(&manifest), [(2, 1000, 1000), (1, 1, 1)]);
        assert!((2..=1000).all(|at| manifest.0[0].has(at)));
        assert!(!manifest.0[0].has(1) && !manifest.0[0].has(1001));
        assert_eq!(manifest.0[0].last(), 1000);
        // The generations between these changed only orders, and have no images of their own.
        for at in (1002..1400).step_by(2) {
            publish(&mut manifest, at, (at, at), ("new", "two"));
        }
        let newest = &manifest.0[0];
        assert!(newest.again.len() <= RUNS_MAX && newest.has(1398) && !newest.has(1397));
    }

    #[test]
    fn a_base_of_equal_rules_replaces_the_one_before_in_all_pairs() {
        let mut manifest = Manifest::default();
        publish(&mut manifest, 1, (1, 1), ("big", "one"));
        publish(&mut manifest, 2, (1, 2), ("big", "two"));
        publish(&mut manifest, 3, (3, 3), ("big", "two"));
        publish(&mut manifest, 4, (4, 4), ("big", "three"));
        let expected = [(4, 4, 4), (2, 4, 3), (1, 4, 1)];
        assert_eq!(numbers(&manifest), expected);
        publish(&mut manifest, 5, (5, 5), ("other", "three"));
        assert_eq!(numbers(&manifest)[..2], [(4, 5, 5), (2, 4, 3)]);
    }

    #[test]
    fn a_pair_with_other_lists_in_force_is_another_record() {
        let mut manifest = manifest(3, 1, [(1, 0)]);
        let new = Published {
            gone: Some(BTreeSet::from(["ads".to_owned()])),
            generation: 2,
            ..manifest.0[0].clone()
        };
        manifest.publish(new, 3);
        assert_eq!(numbers(&manifest), [(2, 1, 0), (1, 1, 0)]);
        let folder = tempfile::tempdir().expect("a folder");
        manifest.write(folder.path()).expect("written");
        assert_eq!(Manifest::read(folder.path()).expect("undamaged"), manifest);
    }

    #[test]
    fn a_record_of_an_older_version_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut old = manifest(3, 1, [(1, 0), (1, 2)]);
        old.0.iter_mut().for_each(|old| old.gone = None);
        old.write(folder.path()).expect("written");
        let text = std::fs::read_to_string(folder.path().join(MANIFEST)).expect("readable");
        assert!(!text.contains("gone") && !text.contains("again") && !text.contains("contents"));
        assert_eq!(Manifest::read(folder.path()).expect("undamaged"), old);
    }

    #[test]
    fn a_pair_that_comes_back_counts_once() {
        let pairs = [(1, 0), (2, 0), (3, 0), (2, 0)];
        assert_eq!(kept(3, 48, &pairs), [(2, 0), (3, 0), (2, 0), (1, 0)]);
    }
}
