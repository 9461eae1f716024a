//! The journal's two files: opening them, finding the last whole entry, and appending.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use memchr::memrchr_iter;

use super::chain::{Entry, Hash, LineError, zero_hash};
use super::entry::{Damaged, Event, OtherHead, Start};
use super::heartbeat;
use super::key::{Authenticity, Keys, Tag};
use super::lines::{JournalError, LINE_MAX, PIECE, read_lines};
use crate::config::paths::legible;
use crate::config::regular::{self, Unread};
use crate::config::shown::Show;
use crate::control::persist::durable;

/// How the first entry begins.
const START: &[u8] = b"{\"number\":";
/// Bytes of the head, without its line end.
const HEAD: usize = 255;
/// A larger file is no head.
const HEAD_MAX: u64 = 64 << 10;

/// The last entry that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) number: u64,
    pub(super) generation: u64,
    pub(super) hash: Hash,
}

impl Last {
    /// The state before the first entry.
    pub(super) fn none() -> Self {
        Self {
            number: 0,
            generation: 0,
            hash: zero_hash(),
        }
    }
}

/// Problems that were found when the journal was opened.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Anomalies {
    pub(super) damaged: Option<Damaged>,
    pub(super) missing: Option<(u64, u64)>,
    /// The first and the last number of entries that are whole and that the head does not cover.
    pub(super) uncovered: Option<(u64, u64)>,
    /// The head, if the entry with its number has another hash.
    pub(super) other_head: Option<OtherHead>,
    /// When the last whole entry was made.
    pub(super) last_at: Option<Timestamp>,
    /// The last time at which the previous server is known to have run, if it did not shut down.
    pub(super) ran_until: Option<Timestamp>,
    /// The time since which earlier servers did not write their changes.
    pub(super) unwritten_since: Option<Timestamp>,
    /// Keys are configured, and none of them authenticates the head.
    pub(super) unauthenticated: bool,
}

impl Anomalies {
    /// The entry `start` of the server that opened the journal.
    pub(super) fn start(self, config: Option<PathBuf>) -> Start {
        Start {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            config,
            damaged: self.damaged,
            missing: self.missing,
            continues: None,
            ran_until: self.ran_until,
            unwritten_since: self.unwritten_since,
            uncovered: self.uncovered,
            other_head: self.other_head,
            unauthenticated: self.unauthenticated,
        }
    }
}

/// The journal, open for writing, and locked.
#[derive(Debug)]
pub(super) struct JournalFile {
    path: PathBuf,
    /// The file of the keys that authenticate the head.
    key: Option<PathBuf>,
    file: File,
    /// Bytes of whole entries.
    len: u64,
}

impl JournalFile {
    /// Opens it, or creates it. Bytes after the last whole entry are moved to another file.
    ///
    /// Calls `known` with the last generation as soon as it is known, before a damaged end is copied, which may take
    /// long.
    ///
    /// # Errors
    /// [`JournalError`]; then the file is as it was.
    pub(super) fn open(
        path: &Path,
        key: Option<&Path>,
        known: impl FnOnce(u64),
    ) -> Result<(Self, Last, Anomalies), JournalError> {
        let no_file = || JournalError::io(path, "opened")(Unread::NotRegular.into());
        // Opening a device may have an effect on it.
        if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
            return Err(no_file());
        }
        let file = durable::open_or_create(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => {
                return Err(JournalError::io(path, "locked")(error));
            }
        }
        let read = |error| JournalError::io(path, "read")(error);
        let meta = file.metadata().map_err(read)?;
        if !meta.is_file() {
            return Err(no_file());
        }
        let size = meta.len();
        let whole = last_whole_entry(size, |bytes, at| file.read_exact_at(bytes, at));
        let whole = whole.map_err(read)?;
        let (len, mut last, end) = whole.ok_or_else(|| JournalError::Foreign(path.to_owned()))?;
        if len == 0 && size > 0 && !begins_like_a_journal(&file).map_err(read)? {
            return Err(JournalError::NotOurs(path.to_owned()));
        }
        known(last.generation);
        let mut found = Anomalies::default();
        if len < size {
            found.damaged = Some(move_damaged_end(path, &file, len, size)?);
        }
        // If this user may not read the head, writing it fails as well, and that is reported.
        let head = read_head(path).ok().flatten();
        if let Some(head) = head.as_ref().filter(|head| head.number > last.number) {
            found.missing = Some((last.number + 1, head.number));
            // The numbers and hashes of new entries continue after the missing ones, in case these are found again.
            last.number = head.number;
            last.hash.clone_from(&head.hash);
        } else if len > 0 {
            let covered = head.as_ref().map_or(0, |head| head.number);
            found.uncovered = (covered < last.number).then_some((covered + 1, last.number));
            if let Some(head) = &head {
                found.other_head = other_head(path, head, &last)?;
            }
        }
        found.last_at = end.map(|end| end.at);
        found.ran_until = end.filter(|end| !end.is_stop).map(|end| {
            let beat = heartbeat::read(path).filter(|beat| beat.number <= last.number);
            // The clock may have been ahead, and the server can't have run in the future.
            beat.map_or(end.at, |beat| beat.at.min(Timestamp::now()).max(end.at))
        });
        if let Some(key) = key.filter(|_| last.number > 0) {
            // If the keys can't be read, the next head can't be signed, and that is reported.
            let keys = Keys::read(key).ok();
            let authenticity = keys.map(|keys| head.as_ref().map(|head| head.authenticity(&keys)));
            found.unauthenticated = authenticity != Some(Some(Authenticity::Authentic));
        }
        let (path, key) = (path.to_owned(), key.map(Path::to_owned));
        let file = Self {
            path,
            key,
            file,
            len,
        };
        Ok((file, last, found))
    }

    /// Whether its path still leads to it: the file may have been moved, or a file system mounted over it.
    pub(super) fn is_in_place(&self) -> bool {
        let identity = |meta: fs::Metadata| (meta.dev(), meta.ino());
        let here = fs::metadata(&self.path).map(identity).ok();
        here.is_some() && here == self.file.metadata().map(identity).ok()
    }

    /// Appends whole lines, and syncs them to the disk.
    ///
    /// # Errors
    /// [`JournalError`]; then none of them is in the file.
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
            // If this fails too, the next opening moves the damaged end away.
            let _ = self.file.set_len(self.len);
            return Err(JournalError::io(&self.path, "written")(error));
        }
        self.len += lines.len() as u64;
        Ok(())
    }

    /// Writes the number and the hash of the last entry to the head.
    ///
    /// # Errors
    /// [`JournalError`] if the head can't be written or the key can't be read.
    pub(super) fn write_head(&self, last: &Last) -> Result<(), JournalError> {
        // Read each time, so that keys can be changed without a restart.
        let keys = self.key.as_deref().map(Keys::read).transpose()?;
        let tag = keys.and_then(|keys| keys.sign(last.number, &last.hash));
        write_head_file(&self.path, last, tag)
    }
}

/// The generation of the last whole entry; `None` if the journal can't be read. Needs no permission to write.
pub(super) fn last_generation(path: &Path) -> Option<u64> {
    let (file, meta) = regular::open(path).ok()?;
    let whole = last_whole_entry(meta.len(), |bytes, at| file.read_exact_at(bytes, at));
    let (_, last, _) = whole.ok()??;
    Some(last.generation)
}

/// The path of the head of a journal.
fn head_path(path: &Path) -> PathBuf {
    let mut head = path.as_os_str().to_owned();
    head.push(".head");
    head.into()
}

/// The head: the last entry according to the file beside the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) number: u64,
    pub(super) hash: Hash,
    pub(super) tag: Option<Tag>,
}

impl Head {
    pub(super) fn authenticity(&self, keys: &Keys) -> Authenticity {
        keys.verify(self.number, &self.hash, self.tag.as_ref())
    }
}

/// Overwrites the head in place. Its text always has the same length, so that this is one small write.
fn write_head_file(path: &Path, last: &Last, tag: Option<Tag>) -> Result<(), JournalError> {
    let head = head_path(path);
    let tag = tag.map_or_else(String::new, |Tag { key, code }| format!(" {key} {code}"));
    let text = format!("{:20} {}{tag}", last.number, last.hash);
    let text = format!("{text:<HEAD$}\n");
    let file = durable::open_or_create(&head)?;
    let written = file.write_all_at(text.as_bytes(), 0);
    // Without a sync, a power cut could leave entries beyond the head, as if another program had added them.
    let written = written.and_then(|()| file.sync_data());
    written.map_err(JournalError::io(&head, "written"))
}

/// Reads the head; `None` if it is missing or damaged.
///
/// # Errors
/// [`JournalError::Unread`] if this user may not read it, which says nothing about the journal.
pub(super) fn read_head(path: &Path) -> Result<Option<Head>, JournalError> {
    let path = head_path(path);
    match regular::read(&path, HEAD_MAX) {
        Ok(bytes) => Ok(parse_head(bytes)),
        Err(Unread::Io(error)) if error.kind() == ErrorKind::PermissionDenied => {
            Err(JournalError::unread(&path, "read")(error))
        }
        Err(_) => Ok(None),
    }
}

fn parse_head(bytes: Vec<u8>) -> Option<Head> {
    let text = String::from_utf8(bytes).ok()?;
    let mut words = text.split_ascii_whitespace();
    let (number, hash) = (words.next()?.parse().ok()?, words.next()?.to_owned());
    let tag = words.next().zip(words.next());
    let tag = tag.map(|(key, code)| Tag {
        key: key.to_owned(),
        code: code.to_owned(),
    });
    Some(Head { number, hash, tag })
}

/// Returns the head if the journal's entry with its number has another hash, or if there is no such entry. A key
/// authenticates the entries only by the head's hash. So if the entries were replaced, a new head would authenticate
/// the forgery.
fn other_head(path: &Path, head: &Head, last: &Last) -> Result<Option<OtherHead>, JournalError> {
    let differs = if head.number == last.number {
        head.hash != last.hash
    } else {
        // There are entries beyond the head: after a crash, or added by another program.
        let (mut found, mut same) = (false, true);
        read_lines(path, |line| {
            if let Ok((entry, hash)) = line.entry
                && entry.number == head.number
            {
                found = true;
                same &= hash == head.hash;
            }
            true
        })?;
        !found || !same
    };
    let (number, hash) = (head.number, head.hash.clone());
    Ok(differs.then_some(OtherHead { number, hash }))
}

/// Whether a file without a whole entry is the beginning of a first entry, which a crash truncated.
fn begins_like_a_journal(file: &File) -> io::Result<bool> {
    let mut bytes = [0; START.len()];
    let mut read = 0;
    loop {
        match file.read_at(&mut bytes[read..], read as u64)? {
            0 => break,
            count => read += count,
        }
    }
    Ok(START.starts_with(&bytes[..read]))
}

/// The time of the last whole entry, and whether it is a `stop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    at: Timestamp,
    /// The server shut down.
    is_stop: bool,
}

/// Returns the offset of the end of the last whole entry, and the entry; `None` if another version wrote it. `read` fills
/// a buffer from an offset in the file.
///
/// Reads each byte at most twice, whatever follows the last entry: once while it searches a piece for line ends, and
/// once more if the line is longer than a piece.
fn last_whole_entry(
    size: u64,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<()>,
) -> io::Result<Option<(u64, Last, Option<End>)>> {
    let (mut start, mut end) = (size, size);
    let (mut piece, mut long) = (Vec::new(), Vec::new());
    while start > 0 {
        let len = start.min(PIECE);
        start -= len;
        piece.resize(len as usize, 0);
        read(&mut piece, start)?;
        // A line begins at the start of the file, too.
        let first = (start == 0).then_some(0);
        let breaks = memrchr_iter(b'\n', &piece).map(|at| at as u64 + 1);
        for at in breaks.chain(first) {
            let line = start + at;
            let bytes = match piece.get(at as usize..(end - start) as usize) {
                Some(bytes) => bytes,
                None if end - line > LINE_MAX => &[],
                None => {
                    long.resize((end - line) as usize, 0);
                    read(&mut long, line)?;
                    &long[..]
                }
            };
            let whole = bytes.strip_suffix(b"\n").ok_or(LineError::Cut);
            match whole.and_then(Entry::parse) {
                Ok((entry, hash)) => {
                    let last = Last {
                        number: entry.number,
                        generation: entry.generation,
                        hash,
                    };
                    let is_stop = matches!(entry.event, Event::Stop);
                    let at = entry.at;
                    return Ok(Some((end, last, Some(End { at, is_stop }))));
                }
                Err(LineError::Foreign) => return Ok(None),
                Err(_) => end = line,
            }
        }
    }
    Ok(Some((0, Last::none(), None)))
}

/// Copies the bytes after `len` to another file, and cuts them off.
fn move_damaged_end(
    path: &Path,
    file: &File,
    len: u64,
    size: u64,
) -> Result<Damaged, JournalError> {
    let mut kept = path.as_os_str().to_owned();
    kept.push(format!(".damaged-{}", Timestamp::now().as_nanosecond()));
    let kept = PathBuf::from(kept);
    durable::create_new(&kept, |copy| {
        let mut at = len;
        while at < size {
            let mut piece = vec![0; (size - at).min(PIECE) as usize];
            file.read_exact_at(&mut piece, at)?;
            copy.write_all_at(&piece, at - len)?;
            at += piece.len() as u64;
        }
        Ok(())
    })?;
    let cut = file.set_len(len).and_then(|()| file.sync_all());
    if let Err(error) = cut {
        // The next attempt writes its own copy.
        let _ = durable::remove(&kept);
        return Err(JournalError::io(path, "written")(error));
    }
    tracing::error!(path = %path.shown(), bytes = size - len, kept = %kept.shown(), "the journal's end was damaged");
    Ok(Damaged {
        bytes: size - len,
        kept: legible(&kept),
    })
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    /// A whole entry.
    fn entry(number: u64) -> Vec<u8> {
        let entry = Entry {
            number,
            at: Timestamp::UNIX_EPOCH,
            generation: number,
            previous: zero_hash(),
            event: Event::Stop,
        };
        entry.seal().0
    }

    /// The offset of the end of the last whole entry, its number, and how many bytes were read to find it.
    fn found(file: &[u8]) -> (Option<(u64, u64)>, u64) {
        let mut read = 0;
        let last = last_whole_entry(file.len() as u64, |bytes, at| {
            read += bytes.len() as u64;
            bytes.copy_from_slice(&file[at as usize..at as usize + bytes.len()]);
            Ok(())
        });
        let last = last.expect("memory can be read");
        (last.map(|(end, last, _)| (end, last.number)), read)
    }

    #[test]
    fn an_entry_is_not_reported_as_written_before_the_disk_has_it() {
        // Writing its default value to this file succeeds, and a sync fails, as on a disk that breaks between the two.
        let path = Path::new("/proc/self/coredump_filter");
        let file = OpenOptions::new().read(true).write(true).open(path);
        let mut journal = JournalFile {
            path: path.to_owned(),
            key: None,
            file: file.expect("opened"),
            len: 0,
        };
        let error = journal.append(b"0x33\n").expect_err("not synced");
        assert!(
            matches!(
                error,
                JournalError::Io {
                    done: "written",
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(journal.len, 0);
    }

    #[test]
    fn a_damaged_end_of_any_form_is_read_at_most_twice() {
        let whole = [entry(1), entry(2)].concat();
        let size = 4 << 20;
        let lines = |line: &[u8]| line.repeat(size / line.len());
        for damage in [
            vec![b'x'; size],
            vec![0; size],
            lines(b"\n"),
            lines(b"{}\n"),
            lines(b"\"}\n"),
            lines(&[&[b'y'; 100_000][..], b"\n"].concat()),
            lines(&entry(3)[1..]),
            entry(3)[..40].to_vec(),
        ] {
            let file = [&whole[..], &damage].concat();
            let (last, read) = found(&file);
            assert_eq!(last, Some((whole.len() as u64, 2)));
            assert!(read <= 2 * file.len() as u64, "{read} of {}", file.len());
        }
        assert_eq!(found(b"").0, Some((0, 0)));
        assert_eq!(found(&entry(1)).0, Some((whole.len() as u64 / 2, 1)));
    }
}
