//! The rollback's record, a file in the state directory: it keeps a rollback in force over restarts.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::regular;
use crate::config::shown::Show;
use crate::control::guard::acceptance::InForce;
use crate::control::persist::durable::{self, Access};

/// The file's name in the state directory.
pub(crate) const FILE: &str = "held";
/// The largest file that is read, in bytes.
const SIZE_MAX: u64 = 16 << 20;

/// A rollback that has not been released.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RollbackRecord {
    /// The generation whose lists were put in force again.
    pub(crate) generation: u64,
    /// When the rollback was requested.
    pub(crate) since: Timestamp,
    /// A lower bound for the number of the generation that put them in force. Stored images of this or a later
    /// generation are those of the rollback.
    pub(crate) first: u64,
    /// The names of the lists that are held. Others, which that generation did not have, follow their files.
    pub(crate) lists: Vec<String>,
    /// The versions of them that guards or the operator had accepted before the rollback. They are not checked again
    /// after the release.
    #[serde(default)]
    pub(crate) accepted: BTreeMap<String, InForce>,
    /// Differences from that generation that remain, a sentence each.
    #[serde(default)]
    pub(crate) unrestored: Vec<String>,
}

impl RollbackRecord {
    /// Reads the record of a state directory; `None` if there is no rollback in force.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, String> {
        let path = dir.join(FILE);
        let bad = |error: &dyn std::fmt::Display| {
            let path = path.shown();
            format!(
                "{path}: can't be read, so no list is held: {error}; roll back again, or remove it"
            )
        };
        match regular::read(&path, SIZE_MAX).map_err(io::Error::from) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| bad(&error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(bad(&error)),
        }
    }

    /// Writes the file. A rollback that is reported as failed must not count after a restart, so after an error the
    /// file is as it was.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), String> {
        let text = serde_json::to_string(&self).expect("numbers and times have a JSON form");
        let path = dir.join(FILE);
        let before = regular::read(&path, SIZE_MAX).ok();
        let written =
            durable::replace_or_restore(&path, text.as_bytes(), before.as_deref(), Access::Private);
        written.map_err(|error| match error.is_in_place {
            false => error.to_string(),
            true => format!(
                "{error}; the file can't be put back as it was: this rollback may count after a restart, so roll \
                 back again then"
            ),
        })
    }

    /// The alarm while it is in force.
    pub(crate) fn alarm(&self) -> String {
        let (generation, since) = (self.generation, self.since);
        format!(
            "lists are held as they were in generation {generation}, since {since:.0}; to follow \
             their files again: tapis rollback --release"
        )
    }
}

/// Removes the file. A release that is reported as failed must not count after a restart either, so after an error
/// the file is as it was.
pub(crate) fn remove(dir: &Path) -> Result<(), String> {
    let path = dir.join(FILE);
    let failed = |error: &dyn std::fmt::Display| {
        let path = path.shown();
        format!("{path}: can't be removed: {error}; the lists stay held, after a restart too")
    };
    let before = match regular::read(&path, SIZE_MAX).map_err(io::Error::from) {
        Ok(before) => before,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(&error)),
    };
    let removed = durable::remove_or_restore(&path, &before, Access::Private);
    removed.map_err(|error| match error.is_in_place {
        false => failed(&error.source),
        true => format!(
            "{}: its removal can't be made permanent: {}; the lists stay held until a restart, and may be held \
             after it: check the disk, then release them again",
            path.shown(),
            error.source
        ),
    })
}

/// The generation that is rolled back to in a state directory. `None` if there is no rollback, or its record can't be
/// read.
pub fn held(dir: &Path) -> Option<u64> {
    let record = RollbackRecord::read(dir).ok()?;
    record.map(|record| record.generation)
}

/// A rollback of one list, for tests.
#[cfg(test)]
pub(crate) fn sample(generation: u64, first: u64) -> RollbackRecord {
    RollbackRecord {
        generation,
        since: "2026-01-01T00:00:00Z".parse().expect("a time"),
        first,
        lists: vec!["ads".to_owned()],
        accepted: BTreeMap::new(),
        unrestored: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{sample as rollback, *};
    use crate::control::persist::durable::faults;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(RollbackRecord::read(folder.path()), Ok(None));
        assert_eq!(held(folder.path()), None);
        for generation in [7, 8] {
            let record = rollback(generation, 9);
            record.write(folder.path()).expect("written");
            assert_eq!(RollbackRecord::read(folder.path()), Ok(Some(record)));
            assert_eq!(held(folder.path()), Some(generation));
        }
        let files = fs::read_dir(folder.path()).expect("readable").count();
        assert_eq!(files, 1, "nothing else is left over");
    }

    #[test]
    fn a_rollback_that_is_reported_as_failed_leaves_the_disk_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let broken = faults::broken(folder.path());
        let problem = rollback(7, 9).write(folder.path()).expect_err("not synced");
        drop(broken);
        assert!(problem.contains("held: can't be written"), "{problem}");
        assert_eq!(RollbackRecord::read(folder.path()), Ok(None));
        // The rollback before stays in force.
        rollback(7, 9).write(folder.path()).expect("written");
        let broken = faults::broken(folder.path());
        rollback(8, 10)
            .write(folder.path())
            .expect_err("not synced");
        drop(broken);
        assert_eq!(
            RollbackRecord::read(folder.path()),
            Ok(Some(rollback(7, 9)))
        );
        let files = fs::read_dir(folder.path()).expect("readable").count();
        assert_eq!(files, 1, "nothing else is left over");
    }

    #[test]
    fn a_release_that_is_reported_as_failed_leaves_the_lists_held_after_a_restart_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let broken = faults::broken(folder.path());
        assert_eq!(remove(folder.path()), Ok(()), "nothing is held");
        drop(broken);
        rollback(7, 9).write(folder.path()).expect("written");
        let broken = faults::broken(folder.path());
        let problem = remove(folder.path()).expect_err("not synced");
        drop(broken);
        assert!(
            problem.ends_with("; the lists stay held, after a restart too"),
            "{problem}"
        );
        assert_eq!(held(folder.path()), Some(7));
        assert_eq!(remove(folder.path()), Ok(()));
        assert_eq!(held(folder.path()), None);
        // A file that can't be removed.
        fs::create_dir(folder.path().join(FILE)).expect("made");
        let problem = remove(folder.path()).expect_err("a directory");
        assert!(
            problem.ends_with("; the lists stay held, after a restart too"),
            "{problem}"
        );
    }

    #[test]
    fn a_record_that_can_not_be_read_is_an_error_with_a_remedy() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        for damage in ["", "{", "{\"generation\":1}", "\0\0\0\0"] {
            fs::write(&path, damage).expect("written");
            let problem = RollbackRecord::read(folder.path()).expect_err("damaged");
            let start = format!("{}: can't be read", path.display());
            assert!(problem.starts_with(&start), "{problem}");
            assert!(
                problem.ends_with("roll back again, or remove it"),
                "{problem}"
            );
            assert_eq!(held(folder.path()), None);
        }
        // A record that can't be read is not a missing one.
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("made");
        let problem = RollbackRecord::read(folder.path()).expect_err("no file");
        assert!(
            problem.contains("can't be read, so no list is held"),
            "{problem}"
        );
    }
}
