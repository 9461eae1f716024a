//! Owns a file that takes its name when it is whole.
//! Refuses to leave half of one behind, unless the process is killed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

/// What stands behind the name of a file that is not whole: the state directory knows such names
/// and removes what a compiler that was killed leaves.
const UNFINISHED: &str = ".tmp";
/// What starts the name that a file has for a moment, before it has none. Of the same kind.
pub(super) const UNSORTED: &str = "base.tmp-sort";
/// Octets that are written at a time.
const PIECE: usize = 256 << 10;

/// A file in the making.
pub(super) struct Target {
    at: PathBuf,
    unfinished: PathBuf,
    kept: bool,
}

/// Where a file at `at` lies; for a bare file name that is where the process runs.
pub(super) fn folder(at: &Path) -> &Path {
    match at.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes a file in `folder` that was not there, to read and write: nobody else has it, and nobody
/// else's is written to. Its name starts with `start`.
pub(super) fn create_new(folder: &Path, start: &str) -> io::Result<(PathBuf, File)> {
    let process = std::process::id();
    for attempt in 0..u32::MAX {
        let path = folder.join(format!("{start}-{process}-{attempt}"));
        let mut options = OpenOptions::new();
        match options.read(true).write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            file => return Ok((path, file?)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

impl Target {
    /// A file that will be at `at`, and what to write it through.
    ///
    /// # Errors
    /// When there can't be one.
    pub(super) fn create(at: &Path) -> io::Result<(Self, BufWriter<File>)> {
        let Some(name) = at.file_name().filter(|_| !at.is_dir()) else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        let start = name.to_string_lossy() + UNFINISHED;
        let (unfinished, file) = create_new(folder(at), &start)?;
        let target = Self {
            at: at.to_owned(),
            unfinished,
            kept: false,
        };
        Ok((target, BufWriter::with_capacity(PIECE, file)))
    }

    /// It is whole: puts it in its place, in a way that outlives a power cut.
    ///
    /// # Errors
    /// When the system can't; then what was there before is there still.
    pub(super) fn keep(mut self, file: &File) -> io::Result<()> {
        file.sync_all()?;
        fs::rename(&self.unfinished, &self.at)?;
        self.kept = true;
        File::open(folder(&self.at))?.sync_all()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.kept {
            // When it can't be removed, nobody takes it for an image all the same.
            let _ = fs::remove_file(&self.unfinished);
        }
    }
}
