//! Locks a directory in which a verb edits a file, so that two verbs at a time don't overwrite each other's change.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long to wait for the lock of another verb.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait between two attempts to lock.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Locks the directory against other verbs until the result is dropped. `None` after [`LOCK_TIMEOUT`].
pub(crate) fn lock_directory(folder: &Path) -> io::Result<Option<File>> {
    let directory = File::open(folder)?;
    let until = Instant::now() + LOCK_TIMEOUT;
    loop {
        match directory.try_lock() {
            Ok(()) => return Ok(Some(directory)),
            Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}
