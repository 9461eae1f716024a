//! Adds lists to the file of a configuration and removes them, by one atomic replacement.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::Problems;
use crate::config::list_edit::{self, ListEditError, NewList};
use crate::config::regular::remedy;
use crate::config::shown::Show;
use crate::control::persist::durable::{self, Access, DurableError};
use crate::control::persist::lock::lock_directory;

/// A reason why a file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The file can't be found, or its directory can't be read.
    #[error("not changed: {path}: {source}; {remedy}", path = .path.shown(), remedy = remedy(.path, .source))]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file can't be read as text.
    #[error("not changed: {0}")]
    Unreadable(Problems),
    /// Another program holds the lock of the directory for too long.
    #[error("not changed: {path}: another program holds a lock on its directory (see lslocks): try again", path = .0.shown())]
    Locked(PathBuf),
    /// The edit is not possible.
    #[error("{path}: {source}", path = .path.shown())]
    List {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ListEditError,
    },
    /// The file can't be replaced.
    #[error("not changed: {0}")]
    Unwritten(DurableError),
    /// The file was changed, and neither made permanent nor changed back.
    #[error(
        "{path}: changed, but can't be made permanent: {source}; a power cut may undo the change: check its disk, then \
         look at the file again", path = .0.path.shown(), source = .0.source)]
    Unsynced(DurableError),
}

/// Appends a list to a configuration.
///
/// # Errors
/// [`EditError`]; the file is unchanged then, except after [`EditError::Unsynced`].
pub fn add(path: &Path, new: &NewList) -> Result<(), EditError> {
    edit(path, |text| list_edit::with_list(text, path, new))
}

/// Removes a list from a configuration.
///
/// # Errors
/// As for [`add`].
pub fn remove(path: &Path, name: &str) -> Result<(), EditError> {
    edit(path, |text| list_edit::without_list(text, path, name))
}

/// Replaces the file by an edited one with the same owner, group and mode. Waits up to 10 s for another verb that edits a
/// file in the same directory.
fn edit(
    path: &Path,
    change: impl FnOnce(&str) -> Result<String, ListEditError>,
) -> Result<(), EditError> {
    let io = |source| EditError::Io {
        path: path.to_owned(),
        source,
    };
    // If it is a symbolic link, its target is replaced, not the link.
    let target = fs::canonicalize(path).map_err(io)?;
    let lock = lock_directory(durable::directory_of(&target)).map_err(io)?;
    let _lock = lock.ok_or_else(|| EditError::Locked(path.to_owned()))?;
    let before = list_edit::text(path).map_err(EditError::Unreadable)?;
    let after = change(&before).map_err(|source| EditError::List {
        path: path.to_owned(),
        source,
    })?;
    let (new, before) = (after.as_bytes(), Some(before.as_bytes()));
    durable::replace_locked(&target, new, before, Access::Inherit).map_err(|error| {
        match error.is_in_place {
            true => EditError::Unsynced(error),
            false => EditError::Unwritten(error),
        }
    })
}
