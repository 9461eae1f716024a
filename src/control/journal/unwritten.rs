//! A file with the time since which changes are not in the journal. If this server ends before it can write them, the
//! next one reports that time.
//!
//! It is in the state directory, which can often be written to when the journal can't; without one, beside the journal.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::heartbeat;
use super::lines::JournalError;
use crate::config::regular;
use crate::control::persist::durable::{self, Access, DurableError};

/// Its name in the state directory; beside the journal, the extension after the journal's name.
const NAME: &str = "unwritten";
/// A larger file is something else.
const SIZE_MAX: u64 = 4096;

/// The file as one server uses it.
#[derive(Debug)]
pub(super) struct UnwrittenFile {
    path: PathBuf,
    is_beside_journal: bool,
    /// The time since which earlier servers did not write their changes, until an entry records it.
    before: Option<Timestamp>,
    /// The time in the file; `None` if there is no file.
    marked: Option<Timestamp>,
    /// The journal's file belongs to another program, so nothing is written beside it.
    is_foreign: bool,
    is_failing: bool,
}

impl UnwrittenFile {
    /// Reads the file in the state directory `dir`, or, without one, beside the journal at `path`.
    pub(super) fn read(dir: Option<&Path>, path: &Path) -> Self {
        let marked = read(dir, path);
        // On a full disk the file could not be written; then only the heartbeat has the time.
        let beat = heartbeat::read(path).filter(|beat| beat.waits);
        Self {
            path: file_path(dir, path),
            is_beside_journal: dir.is_none(),
            before: beat.map(|beat| beat.at).into_iter().chain(marked).min(),
            marked,
            is_foreign: false,
            is_failing: false,
        }
    }

    /// The time since which earlier servers did not write their changes; `None` if they wrote all.
    pub(super) fn before(&self) -> Option<Timestamp> {
        self.before
    }

    /// Records whether the journal could not be opened because another program uses its path.
    pub(super) fn note_open_error(&mut self, error: &JournalError) {
        self.is_foreign = matches!(
            error,
            JournalError::InUse(_) | JournalError::Foreign(_) | JournalError::NotOurs(_)
        );
    }

    /// Writes the time to the file, if it is not there yet.
    pub(super) fn set(&mut self, since: Timestamp) {
        let since = self.before.map_or(since, |before| before.min(since));
        if self.marked == Some(since) || (self.is_foreign && self.is_beside_journal) {
            return;
        }
        let failed = write(&self.path, since).err();
        if let Some(error) = failed.as_ref().filter(|_| !self.is_failing) {
            tracing::warn!(%error, "the next start can't report the changes that are not written to the journal");
        }
        self.is_failing = failed.is_some();
        if failed.is_none() {
            self.marked = Some(since);
        }
    }

    /// Removes the file, as all changes are written.
    pub(super) fn clear(&mut self) {
        self.before = None;
        if self.marked.take().is_some()
            && let Err(error) = durable::remove(&self.path)
        {
            tracing::warn!(%error, "the file that marks unwritten changes of the journal can't be removed, although all are written; remove it");
        }
    }
}

fn file_path(dir: Option<&Path>, path: &Path) -> PathBuf {
    match dir {
        Some(dir) => dir.join(NAME),
        None => {
            let mut file = path.as_os_str().to_owned();
            file.push(".");
            file.push(NAME);
            file.into()
        }
    }
}

/// Reads the time since which changes are not written. The server may be running or have ended.
pub(crate) fn read(dir: Option<&Path>, path: &Path) -> Option<Timestamp> {
    let bytes = regular::read(&file_path(dir, path), SIZE_MAX).ok()?;
    String::from_utf8(bytes).ok()?.trim().parse().ok()
}

fn write(path: &Path, since: Timestamp) -> Result<(), DurableError> {
    let text = format!("{since:.9}\n");
    durable::replace(path, text.as_bytes(), Access::Private)
}
