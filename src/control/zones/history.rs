//! The changes of a published zone in the state directory, so that secondaries get changes after a restart, too.
//!
//! Each change is a file, named by the serial that it leads to, in a directory of the zone. It is stored before that serial
//! is. So the files are followed back from the stored serial, and a file that does not belong there, is missing or is
//! damaged ends the history.
//!
//! A file has, with integers in big endian: [`MAGIC`], the serials of the older and the newer version, the length of the
//! deleted records in 8 bytes, the deleted and the added records, and the BLAKE3 digest of all these.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use crate::config::publish::Publish;
use crate::config::regular;
use crate::config::shown::Show;
use crate::control::persist::durable::{self, Access, DurableError, TEMPORARY};
use crate::policy::served_zones::{StoredRecords, ZoneChange};
use crate::wire::name::Name;
use crate::wire::transfer::Serial;

/// The start of a file. Another form of the file has another one.
const MAGIC: &[u8; 8] = b"tapisch1";
const DIGEST: usize = 32;
/// Bytes of a file besides the records.
const OVERHEAD: u64 = 8 + 4 + 4 + 8 + DIGEST as u64;

/// The most that is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Changes.
    pub(super) changes: usize,
    /// Their bytes together.
    pub(super) bytes: u64,
}

impl Limits {
    /// Those of the configuration.
    pub(super) fn of(publish: &Publish) -> Self {
        Self {
            changes: publish.history_changes,
            bytes: publish.history_bytes,
        }
    }

    /// The newest changes that are within the limits.
    pub(super) fn bounded(self, mut history: Vec<Arc<ZoneChange>>) -> Vec<Arc<ZoneChange>> {
        let (mut bytes, mut kept) = (0, 0);
        for change in history.iter().rev().take(self.changes) {
            bytes += change.bytes();
            if bytes > self.bytes {
                break;
            }
            kept += 1;
        }
        history.split_off(history.len() - kept)
    }
}

/// The directory with the changes of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HistoryFiles(PathBuf);

impl HistoryFiles {
    /// The directory in the state directory. Names of zones may have any characters, so it is named by a hash.
    pub(super) fn of(state_dir: &Path, zone: &Name) -> Self {
        let hash = blake3::hash(zone.wire()).to_hex();
        Self(state_dir.join(format!("zone-{}.changes", &hash[..16])))
    }

    /// Reads the changes that lead to the version with this serial.
    pub(super) fn read(&self, last: Serial, limits: Limits) -> Vec<Arc<ZoneChange>> {
        let (mut history, mut to, mut bytes) = (Vec::new(), last, 0);
        while history.len() < limits.changes {
            let path = self.path(to);
            let read = match regular::read(&path, limits.bytes + OVERHEAD) {
                Ok(read) => read,
                Err(error) => {
                    // The oldest change has none before it.
                    if path.exists() {
                        let path = path.shown();
                        tracing::warn!(%path, %error, "changes not read; secondaries with older versions transfer the whole zone");
                    }
                    break;
                }
            };
            let Some(change) = decode(&read).filter(|change| change.to == to) else {
                let path = path.shown();
                tracing::warn!(%path, "changes damaged; secondaries with older versions transfer the whole zone");
                break;
            };
            bytes += change.bytes();
            if bytes > limits.bytes {
                break;
            }
            to = change.from;
            history.push(Arc::new(change));
        }
        history.reverse();
        history
    }

    /// Stores a change.
    ///
    /// # Errors
    /// If the file can't be written.
    pub(super) fn store(&self, change: &ZoneChange) -> Result<(), DurableError> {
        durable::create_directory(&self.0)?;
        durable::replace(&self.path(change.to), &encode(change), Access::Private)
    }

    /// The directory at this path; `None` if it has another name than such directories have.
    pub(super) fn named(path: PathBuf) -> Option<Self> {
        let is_named = path.file_name().is_some_and(is_directory_of_changes);
        (is_named && path.is_dir()).then_some(Self(path))
    }

    /// Removes all files but those of these changes. A file that can't be removed only takes space, and the next removal tries
    /// again.
    pub(super) fn retain(&self, history: &[Arc<ZoneChange>]) {
        let all = match entries(&self.0) {
            Ok(all) => all,
            Err(error) => return self.not_removed(&self.0, &error),
        };
        for path in all.into_iter().filter(|path| is_own(path)) {
            if history.iter().any(|change| self.path(change.to) == path) {
                continue;
            }
            if let Err(error) = fs::remove_file(&path) {
                self.not_removed(&path, &error);
            }
        }
    }

    /// Removes all files and the directory.
    pub(super) fn remove(&self) {
        self.retain(&[]);
        if let Err(error) = fs::remove_dir(&self.0) {
            self.not_removed(&self.0, &error);
        }
    }

    fn not_removed(&self, path: &Path, error: &io::Error) {
        let path = path.shown();
        tracing::warn!(%path, %error, "old changes can't be removed from the state directory");
    }

    fn path(&self, to: Serial) -> PathBuf {
        self.0.join(format!("{:08x}", to.0))
    }
}

/// The paths in a directory; none if it does not exist.
pub(super) fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let listed = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed?,
    };
    listed.map(|entry| Ok(entry?.path())).collect()
}

/// Whether this is the name of a directory with changes.
fn is_directory_of_changes(name: &OsStr) -> bool {
    let name = name.to_str();
    let hash = name.and_then(|name| name.strip_prefix("zone-")?.strip_suffix(".changes"));
    hash.is_some_and(|hash| hash.len() == 16 && is_hexadecimal(hash))
}

/// Whether this is a number in the form in which names of files have it.
fn is_hexadecimal(text: &str) -> bool {
    let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.bytes().all(is_digit)
}

/// Whether a file was written here: it is named by a serial, perhaps with the end of the name of a temporary file.
fn is_own(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str);
    let name = name.map(|name| name.split_once(TEMPORARY).map_or(name, |(name, _)| name));
    name.is_some_and(|name| name.len() == 8 && is_hexadecimal(name))
}

fn encode(change: &ZoneChange) -> Vec<u8> {
    let (deleted, added) = (change.deleted.as_bytes(), change.added.as_bytes());
    let mut bytes = Vec::with_capacity(OVERHEAD as usize + deleted.len() + added.len());
    bytes.extend(MAGIC);
    bytes.extend(change.from.0.to_be_bytes());
    bytes.extend(change.to.0.to_be_bytes());
    bytes.extend((deleted.len() as u64).to_be_bytes());
    bytes.extend(deleted);
    bytes.extend(added);
    let digest = blake3::hash(&bytes);
    bytes.extend(digest.as_bytes());
    bytes
}

/// `None` if the bytes are no whole file.
fn decode(bytes: &[u8]) -> Option<ZoneChange> {
    let (start, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST)?)?;
    if blake3::hash(start).as_bytes() != digest {
        return None;
    }
    let rest = start.strip_prefix(MAGIC)?;
    let (from, rest) = rest.split_first_chunk()?;
    let (to, rest) = rest.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let len = usize::try_from(u64::from_be_bytes(*len)).ok()?;
    let (deleted, added) = rest.split_at_checked(len)?;
    Some(ZoneChange {
        from: Serial(u32::from_be_bytes(*from)),
        to: Serial(u32::from_be_bytes(*to)),
        deleted: StoredRecords::from(deleted.to_vec()),
        added: StoredRecords::from(added.to_vec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::published::PublishedRecord;

    const LIMITS: Limits = Limits {
        changes: 10,
        bytes: 1 << 20,
    };

    fn change(from: u32, to: u32) -> Arc<ZoneChange> {
        let records = |ttl_secs| {
            let mut records = StoredRecords::default();
            records.push(PublishedRecord {
                owner: &Name::from_text("x.test").expect("a name"),
                rtype: 5,
                ttl_secs,
                data: b"\0",
            });
            records
        };
        Arc::new(ZoneChange {
            from: Serial(from),
            to: Serial(to),
            deleted: records(from),
            added: records(to),
        })
    }

    /// Files with the changes from serial 1 to 2, 4 and 7.
    fn stored() -> (tempfile::TempDir, HistoryFiles, Vec<Arc<ZoneChange>>) {
        let dir = tempfile::tempdir().expect("a folder");
        let files = HistoryFiles::of(dir.path(), &Name::from_text("rpz.test").expect("a name"));
        let history = vec![change(1, 2), change(2, 4), change(4, 7)];
        for change in &history {
            files.store(change).expect("stored");
        }
        (dir, files, history)
    }

    #[test]
    fn changes_are_read_back_from_the_last_serial() {
        let (_dir, files, history) = stored();
        files.store(&change(7, 9)).expect("stored");
        assert_eq!(files.read(Serial(7), LIMITS), history);
        assert_eq!(files.read(Serial(4), LIMITS), history[..2]);
        assert_eq!(files.read(Serial(3), LIMITS), []);
        let two = Limits {
            changes: 2,
            ..LIMITS
        };
        assert_eq!(files.read(Serial(7), two), history[1..]);
        let bytes = history[2].bytes() * 2;
        let small = Limits { bytes, ..LIMITS };
        assert_eq!(files.read(Serial(7), small), history[1..]);
    }

    #[test]
    fn a_file_that_is_damaged_cut_or_missing_ends_the_history() {
        let (_dir, files, history) = stored();
        let path = files.path(Serial(4));
        let whole = fs::read(&path).expect("readable");
        for place in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[place] ^= 1;
            assert_eq!(decode(&damaged), None, "{place}");
            assert_eq!(decode(&whole[..place]), None, "{place}");
        }
        fs::write(&path, &whole[1..]).expect("written");
        assert_eq!(files.read(Serial(7), LIMITS), history[2..]);
        fs::copy(files.path(Serial(2)), &path).expect("copied");
        assert_eq!(
            files.read(Serial(7), LIMITS),
            history[2..],
            "another change"
        );
        fs::remove_file(path).expect("removed");
        assert_eq!(files.read(Serial(7), LIMITS), history[2..]);
    }

    #[test]
    fn only_the_files_of_the_history_are_retained() {
        let (_dir, files, history) = stored();
        fs::write(files.0.join("00000009.tmp-x"), "").expect("written");
        files.retain(&history[1..]);
        let left = fs::read_dir(&files.0).expect("listed").count();
        assert_eq!(left, 2);
        assert_eq!(files.read(Serial(7), LIMITS), history[1..]);
    }
}
