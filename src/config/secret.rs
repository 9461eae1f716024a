//! Reads files with secrets. A file that other users can read or change is refused.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::regular;

/// Permissions that the file must not have: writing for the group, anything for others.
const FORBIDDEN: u32 = 0o027;

/// What to do about a file that is [`Exposed`](UnreadSecret::Exposed).
pub const PROTECT: &str = "chmod 600 it if it belongs to the server's user, else give it to that user's group (chgrp) \
                           and chmod 640 it; and put a new key in it";

/// The reason why a secret was not read.
#[derive(Debug, thiserror::Error)]
pub enum UnreadSecret {
    /// The file can't be read, or is not text.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Others may read it, or the group may write to it.
    #[error("users other than the server's can read or change this file")]
    Exposed,
}

/// Reads the text of a regular file, up to `most` bytes of it.
///
/// # Errors
/// [`UnreadSecret`], also if other users can read or change the file.
pub fn read(path: &Path, most: u64) -> Result<String, UnreadSecret> {
    let (bytes, meta) = regular::read_start(path, most).map_err(io::Error::from)?;
    if is_exposed(&meta) {
        return Err(UnreadSecret::Exposed);
    }
    let text = String::from_utf8(bytes);
    text.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error).into())
}

fn is_exposed(meta: &Metadata) -> bool {
    meta.mode() & FORBIDDEN != 0
}

/// The remedy for a file that can't be read. Often root made it, and the server's user can't read it.
pub fn remedy(path: &Path, error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::PermissionDenied && path.metadata().is_ok() {
        return "the server's user must be able to read it: give it to that user's group and chmod 640 it \
                (chgrp tapis FILE; chmod 640 FILE, for user `tapis`), or to that user and chmod 600 it; other users \
                run this command as root"
            .to_owned();
    }
    regular::remedy(path, error)
}
