//! Owns the record of which images came into force together, and when.
//! Refuses to know whether their files are there.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::disk;
use super::error::StoreError;
use super::names::{Base, Delta, MANIFEST, Pair, temporary};
use crate::config::regular;
use crate::config::shown::Show;

/// The version of the file's form.
const VERSION: u32 = 1;
/// A larger file is none of ours: a hundred pairs take some 30 KiB.
const SIZE_MAX: u64 = 1 << 20;

/// Images that came into force together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The images.
    #[serde(flatten)]
    pub pair: Pair,
    /// The generation that they came into force with; numbers go on over restarts.
    pub generation: u64,
    /// When that was.
    pub at: Timestamp,
}

/// Why the record was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The system does not let it be read.
    #[error("{path}: {source}; the newest base image that can be read is used instead", path = .path.shown())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is not what was written.
    #[error(
        "{path}: damaged, not what was written; the newest base image that can be read is used instead", path = .0.shown())]
    Damaged(PathBuf),
    /// Another version of this program wrote it.
    #[error(
        "{path}: of form {version}, and this program reads form {VERSION}; the newest base image that can be read is used instead", path = .path.shown())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version.
        version: u32,
    },
}

/// What came into force, newest first; the first is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest(pub(super) Vec<Published>);

/// What all versions of the file have.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Text {
    version: u32,
    /// BLAKE3 of what was published, in hexadecimal.
    digest: String,
    published: Vec<Published>,
}

impl Manifest {
    /// The one in the directory; an empty one if there is none.
    pub(super) fn read(dir: &Path) -> Result<Self, ManifestError> {
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

    pub(super) fn write(&self, dir: &Path, number: u64) -> Result<(), StoreError> {
        let text = Text {
            version: VERSION,
            digest: digest(&self.0),
            published: self.0.clone(),
        };
        let octets = serde_json::to_vec_pretty(&text).expect("numbers and times have a JSON form");
        let temporary = dir.join(temporary(MANIFEST, number));
        disk::write(&dir.join(MANIFEST), &temporary, &octets)
    }

    /// Takes in what came into force. Of what was before, the last `keep` pairs stay, and the last
    /// pair of each of the last `keep` bases: a hundred deltas must not drive out the only other
    /// base there is to fall back on.
    pub(super) fn publish(&mut self, new: Published, keep: usize) {
        self.0.retain(|old| old.pair != new.pair);
        self.0.insert(0, new);
        let mut bases = Vec::new();
        let mut pairs = 0;
        self.0.retain(|published| {
            let base = published.pair.base;
            let first = !bases.contains(&base);
            if first {
                bases.push(base);
            }
            pairs += 1;
            pairs <= keep || (first && bases.len() <= keep)
        });
    }

    pub(super) fn names_base(&self, base: Base) -> bool {
        self.0.iter().any(|published| published.pair.base == base)
    }

    pub(super) fn names_delta(&self, delta: Delta) -> bool {
        let mut pairs = self.0.iter().map(|published| published.pair);
        pairs.any(|pair| pair.delta == Some(delta))
    }

    /// The largest number that it names.
    pub(super) fn last(&self) -> u64 {
        let pairs = self.0.iter().map(|published| published.pair);
        let last = pairs.map(|pair| pair.base.0.max(pair.delta.map_or(0, |delta| delta.0)));
        last.max().unwrap_or(0)
    }
}

fn digest(published: &[Published]) -> String {
    let octets = serde_json::to_vec(published).expect("numbers and times have a JSON form");
    blake3::hash(&octets).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pairs that are left, as base and delta.
    fn kept(keep: usize, pairs: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut manifest = Manifest::default();
        for (generation, &(base, delta)) in pairs.iter().enumerate() {
            let new = Published {
                pair: Pair {
                    base: Base(base),
                    delta: (delta > 0).then_some(Delta(delta)),
                },
                generation: generation as u64,
                at: Timestamp::UNIX_EPOCH,
            };
            manifest.publish(new, keep);
        }
        let numbers = |pair: Pair| (pair.base.0, pair.delta.map_or(0, |delta| delta.0));
        manifest.0.iter().map(|old| numbers(old.pair)).collect()
    }

    #[test]
    fn many_deltas_do_not_drive_out_the_base_before() {
        let pairs = [(1, 0), (2, 0), (2, 3), (4, 0), (4, 5), (4, 6), (4, 7)];
        assert_eq!(kept(3, &pairs), [(4, 7), (4, 6), (4, 5), (2, 3), (1, 0)]);
        assert_eq!(kept(2, &pairs), [(4, 7), (4, 6), (2, 3)]);
        assert_eq!(kept(1, &pairs), [(4, 7)]);
    }

    #[test]
    fn a_pair_that_comes_back_is_there_once() {
        assert_eq!(kept(3, &[(1, 0), (2, 0), (1, 0)]), [(1, 0), (2, 0)]);
    }
}
