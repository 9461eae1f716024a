//! Owns the way of octets to the disk: whole and durable under their name, or not at all.
//! Refuses to choose names.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::error::StoreError;

/// Makes a directory for its owner alone, unless it is there. What is above it must be there: a
/// disk that is not mounted should be told, not stood in for.
pub(super) fn make_directory(dir: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => {
            // Some file systems can't; then it is there only as safely as they make it.
            let _ = sync_directory(dir.parent().unwrap_or(dir));
            Ok(())
        }
        Err(_) if dir.is_dir() => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let source = ErrorKind::NotADirectory.into();
            Err(StoreError::io(dir, "used")(source))
        }
        Err(error) => Err(StoreError::io(dir, "made")(error)),
    }
}

/// Makes an empty file, in place of any that is there.
pub(super) fn make_file(path: &Path) -> Result<File, StoreError> {
    let make = || OpenOptions::new().write(true).create_new(true).open(path);
    let made = make().or_else(|error| match error.kind() {
        ErrorKind::AlreadyExists => fs::remove_file(path).and_then(|()| make()),
        _ => Err(error),
    });
    made.map_err(StoreError::io(path, "made"))
}

/// Writes `octets` under the name `path` by way of the file `temporary` beside it.
pub(super) fn write(path: &Path, temporary: &Path, octets: &[u8]) -> Result<(), StoreError> {
    let result = make_file(temporary).and_then(|mut file| {
        let written = file.write_all(octets);
        written.map_err(StoreError::io(temporary, "written"))?;
        drop(file);
        put(temporary, path)
    });
    if result.is_err() {
        // What can't be removed now is at the next opening.
        let _ = fs::remove_file(temporary);
    }
    result
}

/// Gives the file `from` the name `to` beside it. What is found there after a crash is the file as
/// it is now, or what was there before.
pub(super) fn put(from: &Path, to: &Path) -> Result<(), StoreError> {
    let synced = File::open(from).and_then(|file| file.sync_all());
    synced.map_err(StoreError::io(from, "written"))?;
    fs::rename(from, to).map_err(StoreError::io(to, "put in place"))?;
    let dir = to.parent().unwrap_or(to);
    sync_directory(dir).map_err(StoreError::io(dir, "written"))
}

fn sync_directory(dir: &Path) -> io::Result<()> {
    let here = Path::new(".");
    let dir = if dir.as_os_str().is_empty() {
        here
    } else {
        dir
    };
    File::open(dir)?.sync_all()
}
