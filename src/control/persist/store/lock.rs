//! The lock that gives a state directory to one process. The file is never removed: otherwise two processes could lock
//! two files of the same name.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::error::StoreError;
use super::names::LOCK;

/// How long to wait for a process that only checks the lock.
const MOMENT: Duration = Duration::from_millis(50);

/// A locked directory, until this is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
    /// Why the file could only be opened for reading.
    read_only: Option<io::Error>,
}

impl Lock {
    /// Locks the directory. If it can't be written to, an existing lock file is enough.
    pub(super) fn take(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(LOCK);
        let (mut file, read_only) = open(&path).map_err(StoreError::io(&path, "opened"))?;
        let mut locked = file.try_lock();
        if matches!(locked, Err(TryLockError::WouldBlock)) {
            // `tapis check` locks it for an instant.
            thread::sleep(MOMENT);
            locked = file.try_lock();
        }
        match locked {
            Ok(()) => Ok(Self {
                file,
                path,
                read_only,
            }),
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Its owner may be writing it at this moment.
                let read = (&mut file).take(32).read_to_string(&mut text);
                let pid = read.ok().and_then(|_| text.trim().parse().ok());
                let dir = dir.to_owned();
                Err(StoreError::InUse { dir, pid })
            }
            Err(TryLockError::Error(error)) => Err(StoreError::io(&path, "locked")(error)),
        }
    }

    /// Writes the process's number into the file, which also shows whether the directory can be written to.
    pub(super) fn sign(&mut self) -> Result<(), StoreError> {
        let writable = self.read_only.take().map_or(Ok(()), Err);
        let emptied = writable.and_then(|()| self.file.set_len(0));
        let written = emptied.and_then(|()| writeln!(self.file, "{}", std::process::id()));
        written.map_err(StoreError::io(&self.path, "written"))
    }

    /// Whether the locked file still has its name.
    pub(super) fn is_in_place(&self) -> bool {
        let (Ok(ours), Ok(found)) = (self.file.metadata(), fs::metadata(&self.path)) else {
            return false;
        };
        (ours.dev(), ours.ino()) == (found.dev(), found.ino())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file would not unlock it while a child that is being started has it open, too.
        let _ = self.file.unlock();
    }
}

/// Opens the file; also returns why it could only be opened for reading.
fn open(path: &Path) -> io::Result<(File, Option<io::Error>)> {
    let mut options = OpenOptions::new();
    // A symbolic link could lead to a file of another user's choice.
    options
        .read(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW);
    match options.clone().write(true).create(true).open(path) {
        Ok(file) => Ok((file, None)),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            match options.open(path) {
                Ok(file) => Ok((file, Some(error))),
                Err(_) => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}
