//! Owns the journal's two files: opening them, finding the last whole entry, appending, reading.
//! Refuses to decide what is written.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::chain::{Entry, Hash, LineError, nothing};
use super::entry::Damaged;
use crate::control::notes::legible;

/// How the first entry begins.
const START: &[u8] = b"{\"number\":";
/// Octets that are read at a time from the end.
const PIECE: u64 = 64 << 10;

/// Why the journal can't be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system does not let it be read or written.
    #[error(
        "{path}: can't be {done}: {source}; the user that runs tapis must be able to write there, and the disk must have room"
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        done: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// Another process writes to it.
    #[error("{0}: another process writes this journal; give each server one of its own")]
    InUse(PathBuf),
    /// An entry in it is of another version of this program.
    #[error(
        "{0}: its last entry was written by another version of tapis: use that one, or name another file"
    )]
    Foreign(PathBuf),
    /// It is something else.
    #[error("{0}: is no journal: name another file")]
    NotOurs(PathBuf),
    /// It is no longer the file that was opened, or has another length.
    #[error("{0}: was changed by somebody else")]
    Replaced(PathBuf),
}

impl JournalError {
    fn io(path: &Path, done: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, done, source }
    }
}

/// The last entry that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) number: u64,
    pub(super) generation: u64,
    pub(super) hash: Hash,
}

impl Last {
    /// Before the first.
    pub(super) fn none() -> Self {
        Self {
            number: 0,
            generation: 0,
            hash: nothing(),
        }
    }
}

/// What opening found that should not be.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    pub(super) damaged: Option<Damaged>,
    pub(super) missing: Option<(u64, u64)>,
}

/// The journal, open for writing; nobody else writes to it.
#[derive(Debug)]
pub(super) struct JournalFile {
    path: PathBuf,
    file: File,
    /// Octets of whole entries.
    len: u64,
}

impl JournalFile {
    /// Opens it, made first if it is missing. What stands behind the last whole entry is put aside.
    ///
    /// # Errors
    /// [`JournalError`]; then nothing was changed.
    pub(super) fn open(path: &Path) -> Result<(Self, Last, Found), JournalError> {
        if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
            // Opening a pipe would wait for its other end.
            let source = io::Error::other("is no file");
            return Err(JournalError::io(path, "opened")(source));
        }
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(0o600).open(path);
        let file = file.map_err(JournalError::io(path, "opened"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => {
                return Err(JournalError::io(path, "locked")(error));
            }
        }
        let read = |error| JournalError::io(path, "read")(error);
        let size = file.metadata().map_err(read)?.len();
        let whole = last_whole(&file, size).map_err(read)?;
        let (len, mut last) = whole.ok_or_else(|| JournalError::Foreign(path.to_owned()))?;
        if len == 0 && size > 0 && !begins(&file).map_err(read)? {
            return Err(JournalError::NotOurs(path.to_owned()));
        }
        let mut found = Found::default();
        if len < size {
            found.damaged = Some(put_aside(path, &file, len, size)?);
        }
        if let Some((number, _)) = read_head(path).filter(|(number, _)| *number > last.number) {
            found.missing = Some((last.number + 1, number));
            last.number = number;
        }
        let path = path.to_owned();
        Ok((Self { path, file, len }, last, found))
    }

    /// Appends whole lines, and waits for the disk.
    ///
    /// # Errors
    /// [`JournalError`]; then none of them is there.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), JournalError> {
        let here = fs::metadata(&self.path).ok();
        let ours = self.file.metadata().ok();
        let identity = |meta: &fs::Metadata| (meta.dev(), meta.ino(), meta.len());
        let same = here.as_ref().map(identity) == ours.as_ref().map(identity);
        if !same || ours.is_none_or(|meta| meta.len() != self.len) {
            return Err(JournalError::Replaced(self.path.clone()));
        }
        let written = self.file.write_all_at(lines, self.len);
        if let Err(error) = written.and_then(|()| self.file.sync_data()) {
            // If even that fails, opening finds half an entry behind the last whole one.
            let _ = self.file.set_len(self.len);
            return Err(JournalError::io(&self.path, "written")(error));
        }
        self.len += lines.len() as u64;
        Ok(())
    }

    /// Tells which entry is the last, for those who look whether something is missing at the end.
    ///
    /// # Errors
    /// [`JournalError`] when that can't be written.
    pub(super) fn mark(&self, last: &Last) -> Result<(), JournalError> {
        write_head(&self.path, last)
    }
}

/// Where the number and the hash of the last entry are.
fn head_path(path: &Path) -> PathBuf {
    let mut head = path.as_os_str().to_owned();
    head.push(".head");
    head.into()
}

/// Always as long, so that writing it over is one small write.
fn write_head(path: &Path, last: &Last) -> Result<(), JournalError> {
    let head = head_path(path);
    let text = format!("{:20} {}\n", last.number, last.hash);
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false);
    let file = options.mode(0o600).open(&head);
    let written = file.and_then(|file| file.write_all_at(text.as_bytes(), 0));
    written.map_err(JournalError::io(&head, "written"))
}

/// The number and the hash of the last entry, if they can be told.
pub(super) fn read_head(path: &Path) -> Option<(u64, Hash)> {
    let text = fs::read_to_string(head_path(path)).ok()?;
    let (number, hash) = text.trim().split_once(' ')?;
    Some((number.parse().ok()?, hash.to_owned()))
}

/// Whether a file without a whole entry begins as the first one does, as far as it goes.
fn begins(file: &File) -> io::Result<bool> {
    let mut octets = [0; START.len()];
    let mut read = 0;
    loop {
        match file.read_at(&mut octets[read..], read as u64)? {
            0 => break,
            count => read += count,
        }
    }
    Ok(START.starts_with(&octets[..read]))
}

/// Where the last whole entry ends, and which it is; nothing where another version wrote it.
fn last_whole(file: &File, size: u64) -> io::Result<Option<(u64, Last)>> {
    let mut end = size;
    while end > 0 {
        let line = line_before(file, end)?;
        let whole = line.strip_suffix(b"\n").ok_or(LineError::Cut);
        match whole.and_then(Entry::read) {
            Ok((entry, hash)) => {
                let last = Last {
                    number: entry.number,
                    generation: entry.generation,
                    hash,
                };
                return Ok(Some((end, last)));
            }
            Err(LineError::Foreign) => return Ok(None),
            Err(_) => end -= line.len() as u64,
        }
    }
    Ok(Some((0, Last::none())))
}

/// The line that ends at `end`, with its own end if it has one.
fn line_before(file: &File, end: u64) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut start = end;
    while start > 0 {
        let size = start.min(PIECE);
        let mut piece = vec![0; size as usize];
        file.read_exact_at(&mut piece, start - size)?;
        // The line's own end is not the one before it.
        let searched = piece.len() - usize::from(start == end);
        let break_at = piece[..searched].iter().rposition(|octet| *octet == b'\n');
        let from = break_at.map_or(0, |at| at + 1);
        piece.drain(..from);
        piece.extend(line);
        line = piece;
        if break_at.is_some() {
            break;
        }
        start -= size;
    }
    Ok(line)
}

/// Keeps what stands behind `len` in a file of its own, and cuts it off.
fn put_aside(path: &Path, file: &File, len: u64, size: u64) -> Result<Damaged, JournalError> {
    let mut kept = path.as_os_str().to_owned();
    kept.push(format!(".damaged-{}", Timestamp::now().as_nanosecond()));
    let kept = PathBuf::from(kept);
    let mut options = OpenOptions::new();
    let copy = options.write(true).create_new(true).mode(0o600).open(&kept);
    let copied = copy.and_then(|copy| {
        let mut at = len;
        while at < size {
            let mut piece = vec![0; (size - at).min(PIECE) as usize];
            file.read_exact_at(&mut piece, at)?;
            copy.write_all_at(&piece, at - len)?;
            at += piece.len() as u64;
        }
        copy.sync_all()
    });
    let copied = copied.map_err(JournalError::io(&kept, "written"));
    let cut = copied.and_then(|()| {
        let cut = file.set_len(len).and_then(|()| file.sync_all());
        cut.map_err(JournalError::io(path, "written"))
    });
    if let Err(error) = cut {
        // The next attempt makes a copy of its own.
        let _ = fs::remove_file(&kept);
        return Err(error);
    }
    tracing::error!(path = %path.display(), octets = size - len, kept = %kept.display(), "the journal's end was damaged");
    Ok(Damaged {
        octets: size - len,
        kept: legible(&kept),
    })
}

/// A line of the journal.
pub(super) struct Line {
    /// Its number, counted from 1.
    pub(super) line: u64,
    /// What it says, and its hash.
    pub(super) entry: Result<(Entry, Hash), LineError>,
}

/// Reads the lines up to the first for which `each` says `false`.
pub(super) fn read_lines(
    path: &Path,
    mut each: impl FnMut(Line) -> bool,
) -> Result<(), JournalError> {
    let file = File::open(path).map_err(JournalError::io(path, "opened"))?;
    let mut reader = BufReader::with_capacity(PIECE as usize, file);
    let mut octets = Vec::new();
    for line in 1.. {
        octets.clear();
        let read = reader.read_until(b'\n', &mut octets);
        if read.map_err(JournalError::io(path, "read"))? == 0 {
            break;
        }
        let whole = octets.strip_suffix(b"\n").ok_or(LineError::Cut);
        let entry = whole.and_then(Entry::read);
        if !each(Line { line, entry }) {
            break;
        }
    }
    Ok(())
}

/// Reads the entries up to the first for which `each` says `false`, and leaves out lines that are
/// none: [`verify`](super::verify::verify) tells of those. A journal that is not there has none.
///
/// # Errors
/// [`JournalError`] when it can't be read.
pub fn read(path: &Path, mut each: impl FnMut(Entry) -> bool) -> Result<(), JournalError> {
    let entries = read_lines(path, |line| {
        line.entry.map_or(true, |(entry, _)| each(entry))
    });
    match entries {
        Err(JournalError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
