//! Writes a file under a temporary name and renames it when it is complete. Only a killed process leaves a temporary file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

/// The suffix of an incomplete file's name. The state directory removes such files, which a killed compiler leaves.
const UNFINISHED: &str = ".tmp";
/// The prefix of the name that a file has for a moment before it is unlinked. The state directory removes such files, too.
pub(super) const UNSORTED: &str = "base.tmp-sort";
/// Bytes that are written at a time.
const PIECE: usize = 256 << 10;

/// An incomplete file. Dropping it removes it.
pub(super) struct Target {
    at: PathBuf,
    unfinished: PathBuf,
    kept: bool,
}

/// The directory of the file at `at`; for a bare file name, the working directory.
pub(super) fn folder(at: &Path) -> &Path {
    match at.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Creates a new file in `folder`, open for reading and writing, whose name starts with `start`. Existing files are never
/// opened.
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
    /// Creates the file that will be at `at`. Returns it with a writer for its content.
    ///
    /// # Errors
    /// If it can't be created.
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

    /// Moves the complete file to its path, durably.
    ///
    /// # Errors
    /// If that fails; the previous file is then unchanged.
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
            // If it can't be removed, its name still shows that it is no image.
            let _ = fs::remove_file(&self.unfinished);
        }
    }
}
