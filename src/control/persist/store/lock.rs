//! Owns the lock that keeps a state directory to one process.
//! Refuses to remove the file: whoever does would let two processes lock two files of one name.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::error::StoreError;
use super::names::LOCK;

/// How long one waits for those who only look whether it is free.
const MOMENT: Duration = Duration::from_millis(50);

/// A directory that is ours as long as this lives.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
    /// Why the file could be opened for reading alone.
    read_only: Option<io::Error>,
}

impl Lock {
    /// Takes the directory. Where nothing can be written, a lock file that is there does.
    pub(super) fn take(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(LOCK);
        let (mut file, read_only) = open(&path).map_err(StoreError::io(&path, "opened"))?;
        let mut locked = file.try_lock();
        if matches!(locked, Err(TryLockError::WouldBlock)) {
            // `tapis check` has it for an instant.
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
                // Who holds it may be writing it at this moment.
                let read = (&mut file).take(32).read_to_string(&mut text);
                let pid = read.ok().and_then(|_| text.trim().parse().ok());
                let dir = dir.to_owned();
                Err(StoreError::InUse { dir, pid })
            }
            Err(TryLockError::Error(error)) => Err(StoreError::io(&path, "locked")(error)),
        }
    }

    /// Writes into it whose it is, which also shows whether anything can be written.
    pub(super) fn sign(&mut self) -> Result<(), StoreError> {
        let writable = self.read_only.take().map_or(Ok(()), Err);
        let emptied = writable.and_then(|()| self.file.set_len(0));
        let written = emptied.and_then(|()| writeln!(self.file, "{}", std::process::id()));
        written.map_err(StoreError::io(&self.path, "written"))
    }

    /// Whether others still find it where it was taken.
    pub(super) fn stands(&self) -> bool {
        let (Ok(ours), Ok(found)) = (self.file.metadata(), fs::metadata(&self.path)) else {
            return false;
        };
        (ours.dev(), ours.ino()) == (found.dev(), found.ino())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing would not do while a child that is just being started has the file open, too.
        let _ = self.file.unlock();
    }
}

/// The file, and why it can't be written to if so.
fn open(path: &Path) -> io::Result<(File, Option<io::Error>)> {
    let mut options = OpenOptions::new();
    // A link would let others choose a file for us to write to.
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
