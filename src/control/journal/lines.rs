//! Reads a journal line by line.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::chain::{Entry, Hash, LineError};
use super::key::KeyError;
use crate::config::regular;
use crate::config::shown::Show;
use crate::control::persist::durable::DurableError;

/// Bytes that are read at a time.
pub(super) const PIECE: u64 = 64 << 10;
/// The longest line that can be an entry: far above an order's text or the states of a million orders.
pub(super) const LINE_MAX: u64 = 256 << 20;

/// Why the journal can't be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system reports an error.
    #[error(
        "{path}: can't be {done}: {source}; the user that runs tapis must be able to write there, and the disk must have room", path = .path.shown())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operation that failed, as a participle.
        done: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// It can't be read.
    #[error("{path}: can't be {done}: {source}; {remedy}", remedy = regular::remedy(.path, .source), path = .path.shown())]
    Unread {
        /// The file.
        path: PathBuf,
        /// The operation that failed, as a participle.
        done: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// Another process writes to it.
    #[error("{path}: another process writes this journal; give each server one of its own", path = .0.shown())]
    InUse(PathBuf),
    /// An entry in it is of another version of this program.
    #[error(
        "{path}: its last entry was written by another version of tapis: use that one, or name another file", path = .0.shown())]
    Foreign(PathBuf),
    /// It does not begin as a journal does.
    #[error("{path}: is no journal: name another file", path = .0.shown())]
    NotOurs(PathBuf),
    /// The keys can't be read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It is no longer the file that was opened, or has another length.
    #[error("{path}: was changed by another program", path = .0.shown())]
    Replaced(PathBuf),
}

impl From<DurableError> for JournalError {
    fn from(error: DurableError) -> Self {
        let DurableError {
            path, done, source, ..
        } = error;
        Self::Io { path, done, source }
    }
}

impl JournalError {
    pub(super) fn io(path: &Path, done: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, done, source }
    }

    pub(super) fn unread(path: &Path, done: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Unread { path, done, source }
    }

    /// Whether the file does not exist.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Unread { source, .. } if source.kind() == ErrorKind::NotFound)
    }
}

/// A line of the journal.
pub(super) struct Line {
    /// Its number, counted from 1.
    pub(super) line: u64,
    /// The entry and its hash.
    pub(super) entry: Result<(Entry, Hash), LineError>,
}

#[cfg(test)]
thread_local! {
    /// How often this thread began to read a journal.
    pub(crate) static READS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Reads lines until `each` returns false.
pub(super) fn read_lines(
    path: &Path,
    mut each: impl FnMut(Line) -> bool,
) -> Result<(), JournalError> {
    #[cfg(test)]
    READS.set(READS.get() + 1);
    let opened = regular::open(path).map_err(io::Error::from);
    let (file, _) = opened.map_err(JournalError::unread(path, "opened"))?;
    let mut reader = BufReader::with_capacity(PIECE as usize, file);
    let mut bytes = Vec::new();
    for line in 1.. {
        let read = read_line(&mut reader, &mut bytes);
        if read.map_err(JournalError::unread(path, "read"))? == 0 {
            break;
        }
        let whole = bytes.strip_suffix(b"\n").ok_or(LineError::Cut);
        let entry = whole.and_then(Entry::parse);
        if !each(Line { line, entry }) {
            break;
        }
    }
    Ok(())
}

/// Reads the next line, with its line end if it has one. Only the start of a line that is too long for an entry is
/// kept. Returns its length; 0 at the end of the file.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<u64> {
    line.clear();
    let limit = LINE_MAX + 1;
    let mut read = reader.by_ref().take(limit).read_until(b'\n', line)? as u64;
    if read < limit || line.ends_with(b"\n") {
        return Ok(read);
    }
    line.truncate(PIECE as usize);
    let mut rest = Vec::new();
    while !rest.ends_with(b"\n") {
        rest.clear();
        match reader.by_ref().take(PIECE).read_until(b'\n', &mut rest)? {
            0 => break,
            more => read += more as u64,
        }
    }
    Ok(read)
}

/// Reads the entries of a journal's files, the oldest first, until `each` returns false. Skips lines that are not entries;
/// [`verify`](super::verify::verify) reports those.
///
/// # Errors
/// [`JournalError`] if a file can't be read.
pub fn read_files(
    paths: &[&Path],
    mut each: impl FnMut(Entry) -> bool,
) -> Result<(), JournalError> {
    let mut goes_on = true;
    for path in paths {
        read_lines(path, |line| {
            goes_on = line.entry.map_or(true, |(entry, _)| each(entry));
            goes_on
        })?;
        if !goes_on {
            break;
        }
    }
    Ok(())
}

/// As [`read_files`], for one file. A missing file has no entries.
///
/// # Errors
/// [`JournalError`] if the file can't be read.
pub fn read(path: &Path, each: impl FnMut(Entry) -> bool) -> Result<(), JournalError> {
    match read_files(&[path], each) {
        Err(error) if error.is_absent() => Ok(()),
        result => result,
    }
}
