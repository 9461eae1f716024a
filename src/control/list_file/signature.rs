//! Detects changes of a file without reading it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::{fs, io};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Differs between two states of a file, unless a change keeps its inode, size and times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Signature {
    /// The number of the file in its file system.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// The size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// When the file was last written; `None` if that time is out of range.
    pub fn modified(&self) -> Option<Timestamp> {
        let (seconds, nanoseconds) = self.modified;
        Timestamp::new(seconds, nanoseconds as i32).ok()
    }

    /// The signature of the file that `path` leads to now, through symbolic links.
    ///
    /// # Errors
    /// If the file can't be examined.
    pub fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|meta| Self::from(&meta))
    }
}

impl From<&fs::Metadata> for Signature {
    fn from(meta: &fs::Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}
