//! Reads the file of a list to its end. Files that change meanwhile, or are no text, are refused.

use std::io::{self, Read};
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

/// Reads a text file in pieces, and passes on each with the size of the file. Fails if the file changes meanwhile. A
/// file that is no text is not read to its end.
pub(crate) fn read_quiet(
    path: &Path,
    mut each: impl FnMut(&[u8], u64),
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
    let mut piece = Vec::with_capacity(PIECE);
    let (mut read, mut binary, mut utf16) = (0, false, false);
    // Reads past the expected end, too: a byte there shows that the file has grown.
    while read <= meta.len() {
        let most = if read == 0 { SNIFF } else { PIECE };
        piece.clear();
        let result = (&mut file).take(most as u64).read_to_end(&mut piece);
        let count = result.map_err(unreadable)?;
        utf16 = read == 0 && is_utf16(&piece);
        binary = utf16 || (read == 0 && piece.contains(&0));
        if count == 0 || binary {
            break;
        }
        read += count as u64;
        each(&piece, meta.len());
    }
    let after = Signature::from(&file.metadata().map_err(unreadable)?);
    if before != after || (!binary && read != meta.len()) {
        return Err(FileError::Changing(path.to_owned()));
    }
    if utf16 {
        return Err(FileError::Utf16(path.to_owned()));
    }
    if binary {
        return Err(FileError::Binary(path.to_owned()));
    }
    Ok(after)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

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
            let result = read_quiet(&path, |_, _| {
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
        read_quiet(&path, |_, _| ()).expect("quiet");
    }
}
