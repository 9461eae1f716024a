//! Why the state directory can't be used.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::config::shown::Show;
use crate::control::persist::durable::DurableError;

/// Why something could not be written to the state directory, or read. The policy in force does not change, and the
/// next attempt may succeed without a restart.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process uses the directory.
    #[error(
        "{dir}: in use by {owner}; stop that process, or give each server a `dir` of its own in [state]",
        owner = owner(*.pid), dir = .dir.shown())]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The process, if the lock file has its number.
        pid: Option<u32>,
    },
    /// An image that should come into force was removed.
    #[error(
        "{path}: removed from the state directory while it was needed; leave the directory to the server, which writes a new image when it compiles all large lists again", path = .0.shown())]
    Gone(PathBuf),
    /// The system reports an error.
    #[error("{path}: can't be {done}: {source}; {remedy}", remedy = remedy(.source), path = .path.shown())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The operation that failed, as a participle.
        done: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl From<DurableError> for StoreError {
    fn from(error: DurableError) -> Self {
        let DurableError {
            path, done, source, ..
        } = error;
        Self::Io { path, done, source }
    }
}

impl StoreError {
    /// For `map_err`: `path` can't be `done`.
    pub(super) fn io(path: &Path, done: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, done, source }
    }
}

fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    )
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "free space on its disk"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "let the server's user write to the state directory"
        }
        ErrorKind::NotFound => "create the directory that it is in",
        ErrorKind::NotADirectory => "name a directory as `dir` in [state]",
        ErrorKind::Unsupported => "name a `dir` in [state] on a file system that supports this",
        _ => "check its disk",
    }
}
