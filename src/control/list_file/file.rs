//! Reads the file of a list to its end. Files that change meanwhile, or are no text, are refused.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use crate::config::regular::{self, Unread};
use crate::config::shown::Show;
use crate::control::list_file::signature::Signature;

/// Largest list file that is read.
pub const MAX_FILE: u64 = 2 << 30;
/// Bytes at the start of a file. A NUL among them means that it is no text.
pub(crate) const SNIFF: usize = 8192;
/// Bytes that are read at a time.
const PIECE: usize = 256 << 10;

/// Why a file can't be read, or is no list.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system does not let it be read.
    #[error("{path}: {source}; the file must exist and be readable by the server's user", path = .path.shown())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It is no regular file.
    #[error("{path}: not a regular file", path = .0.shown())]
    NotAFile(PathBuf),
    /// It is larger than 2 GiB.
    #[error("{path}: larger than 2 GiB; split it into several lists", path = .0.shown())]
    Gigantic(PathBuf),
    /// It changed while it was read; it will be read again.
    #[error("{path}: changed while it was read; it is read again when it is quiet", path = .0.shown())]
    Changing(PathBuf),
    /// It contains NUL bytes.
    #[error("{path}: holds binary data, not text; if it is compressed, unpack it first", path = .0.shown())]
    Binary(PathBuf),
    /// It is UTF-16.
    #[error("{path}: UTF-16 text, and lists are UTF-8: save it as UTF-8, or convert it with: iconv -f UTF-16 -t UTF-8", path = .0.shown())]
    Utf16(PathBuf),
}

impl FileError {
    /// Whether another attempt may succeed although the file did not change.
    pub fn passing(&self) -> bool {
        matches!(self, Self::Unreadable { source, .. } if !matches!(
            source.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
        ))
    }
}

/// BLAKE3 of the file at `path`, or of `text` instead if there is one, in hexadecimal.
///
/// # Errors
/// The system's error.
pub fn digest(path: &Path, text: Option<&str>) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    match text {
        Some(text) => {
            hasher.update(text.as_bytes());
        }
        None => {
            let (mut file, _) = regular::open(path)?;
            io::copy(&mut file, &mut hasher)?;
        }
    }
    Ok(hasher.finalize().to_string())
}

/// Whether a file with this start is UTF-16: it has a byte order mark, or every second byte is NUL.
fn is_utf16(start: &[u8]) -> bool {
    let pairs = || start.chunks_exact(2);
    start.starts_with(b"\xFF\xFE")
        || start.starts_with(b"\xFE\xFF")
        || (start.len() > 1 && pairs().all(|pair| pair[0] != 0 && pair[1] == 0))
        || (start.len() > 1 && pairs().all(|pair| pair[0] == 0 && pair[1] != 0))
}

/// Why a file is read from its start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// For lines that take back others before them.
    Scan,
    /// For its rules.
    Rules,
}

/// Reads `text`, or the file at `path` if there is none, for its rules. If `is_scanned`, it is read once more before that.
/// Passes on each piece with the size of the whole. Returns the signature of the file.
pub(crate) fn read_passes(
    path: &Path,
    text: Option<&str>,
    is_scanned: bool,
    mut each: impl FnMut(Pass, &[u8], u64),
) -> Result<Option<Signature>, FileError> {
    let passes: &[Pass] = match is_scanned {
        true => &[Pass::Scan, Pass::Rules],
        false => &[Pass::Rules],
    };
    let Some(text) = text else {
        return read_quiet(path, passes, each).map(Some);
    };
    for pass in passes {
        each(*pass, text.as_bytes(), text.len() as u64);
    }
    Ok(None)
}

/// Reads a text file in pieces, once for each pass, and passes on each piece with the size of the file. Fails if the file
/// changes meanwhile. A file that is no text is not read to its end.
fn read_quiet(
    path: &Path,
    passes: &[Pass],
    mut each: impl FnMut(Pass, &[u8], u64),
) -> Result<Signature, FileError> {
    let unreadable = |source| FileError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let (mut file, meta) = regular::open(path).map_err(|why| match why {
        Unread::NotRegular => FileError::NotAFile(path.to_owned()),
        other => unreadable(other.into()),
    })?;
    if meta.len() > MAX_FILE {
        return Err(FileError::Gigantic(path.to_owned()));
    }
    let before = Signature::from(&meta);
    let mut is_whole = true;
    let mut content = Content::Text;
    for pass in passes {
        file.rewind().map_err(unreadable)?;
        let read = read_pieces(&mut file, meta.len(), |piece| {
            each(*pass, piece, meta.len());
        });
        let (bytes, found) = read.map_err(unreadable)?;
        content = found;
        is_whole = content != Content::Text || bytes == meta.len();
        if content != Content::Text || !is_whole {
            break;
        }
    }
    let after = file.metadata().map_err(unreadable)?;
    let after = Signature::from(&after);
    if before != after || !is_whole {
        return Err(FileError::Changing(path.to_owned()));
    }
    match content {
        Content::Text => Ok(after),
        Content::Utf16 => Err(FileError::Utf16(path.to_owned())),
        Content::Binary => Err(FileError::Binary(path.to_owned())),
    }
}

/// What the start of a file shows about it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Text,
    Utf16,
    Binary,
}

impl Content {
    fn of(start: &[u8]) -> Self {
        match start {
            _ if is_utf16(start) => Self::Utf16,
            _ if start.contains(&0) => Self::Binary,
            _ => Self::Text,
        }
    }
}

/// Reads a file of `len` bytes to its end, unless it is no text. Returns the number of bytes that were passed on.
fn read_pieces(
    file: &mut File,
    len: u64,
    mut each: impl FnMut(&[u8]),
) -> io::Result<(u64, Content)> {
    let mut piece = Vec::with_capacity(PIECE);
    let mut read = 0;
    // Reads past the expected end, too: a byte there shows that the file has grown.
    while read <= len {
        let most = if read == 0 { SNIFF } else { PIECE };
        piece.clear();
        let count = file.by_ref().take(most as u64).read_to_end(&mut piece)?;
        if count == 0 {
            break;
        }
        if read == 0 {
            let content = Content::of(&piece);
            if content != Content::Text {
                return Ok((read, content));
            }
        }
        read += count as u64;
        each(&piece);
    }
    Ok((read, Content::Text))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_changes_while_it_is_read_is_not_taken() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("list");
        let content = "a.example\n".repeat(100_000);
        let open = || File::options().write(true).open(&path).expect("opened");
        let append = || {
            let mut file = File::options().append(true).open(&path).expect("opened");
            io::Write::write_all(&mut file, b"b.example\n").expect("written");
        };
        let cut = || open().set_len(500_000).expect("cut");
        let rewrite = || {
            std::os::unix::fs::FileExt::write_all_at(&open(), b"x", 900_000).expect("written");
        };
        for (kind, change) in [
            ("appended to", &append as &dyn Fn()),
            ("cut", &cut),
            ("changed in place", &rewrite),
        ] {
            fs::write(&path, &content).expect("written");
            let mut pieces = 0;
            let result = read_quiet(&path, &[Pass::Scan, Pass::Rules], |_, _, _| {
                pieces += 1;
                if pieces == 1 {
                    change();
                }
            });
            assert!(
                matches!(result, Err(FileError::Changing(_))),
                "{kind}: {result:?}"
            );
        }
        fs::write(&path, &content).expect("written");
        let mut read = Vec::new();
        let mut each = |pass, piece: &[u8], _| read.push((pass, piece.len()));
        read_quiet(&path, &[Pass::Scan, Pass::Rules], &mut each).expect("quiet");
        for pass in [Pass::Scan, Pass::Rules] {
            let of_pass = read.iter().filter(|(of, _)| *of == pass);
            assert_eq!(
                of_pass.map(|(_, bytes)| bytes).sum::<usize>(),
                content.len()
            );
        }
    }
}
