//! Reads one file of an order or of exceptions.

use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use crate::config::regular::Unread;
use crate::config::{Problem, Problems, regular};
use crate::control::list_file::signature::Signature;

/// The largest file that is read, in bytes. A larger one is no file of an order or of exceptions.
const SIZE_MAX: u64 = 16 << 20;

/// The signature of a file, or the number of the system's error if the file can't be looked at. So a symbolic link that
/// leads to itself has a state as well, and does not seem to change at each look.
pub(super) type FileState = Result<Signature, Option<i32>>;

pub(super) fn state_of(path: &Path) -> FileState {
    Signature::of(path).map_err(|error| error.raw_os_error())
}

/// The result of reading a file.
pub(super) struct FileRead<T> {
    /// The state that the result belongs to; `None` if reading the same state again may give another result.
    pub(super) state: Option<FileState>,
    pub(super) result: ReadResult<T>,
}

pub(super) enum ReadResult<T> {
    /// The file changed while it was read.
    Changing,
    /// There is no such file.
    Gone {
        /// Its directory can be listed.
        is_listed: bool,
    },
    /// Its content and its text.
    Parsed(Result<(Arc<T>, Arc<str>), Problems>),
}

/// Reads and parses a file.
pub(super) fn read_file<T>(path: &Path, parse: Parse<T>) -> FileRead<T> {
    let state = state_of(path);
    let bytes = read_bytes(path);
    // Reading may succeed at the next sweep although the file did not change.
    let may_pass = match &bytes {
        Err(Unread::Io(error)) => error.kind() != io::ErrorKind::PermissionDenied,
        _ => false,
    };
    let result = match bytes {
        _ if state_of(path) != state => ReadResult::Changing,
        Err(Unread::Io(error)) if error.kind() == io::ErrorKind::NotFound => ReadResult::Gone {
            is_listed: path.parent().is_none_or(|dir| fs::read_dir(dir).is_ok()),
        },
        Err(why) => refused(path, problem_text(&why)),
        Ok(bytes) => ReadResult::Parsed(as_text(path, bytes).and_then(|text| {
            let value = parse(&text, path)?;
            Ok((Arc::new(value), text.into()))
        })),
    };
    let state = (!may_pass).then_some(state);
    FileRead { state, result }
}

/// The result for a file that is refused for this reason.
pub(super) fn refused<T>(path: &Path, message: String) -> ReadResult<T> {
    ReadResult::Parsed(Err(problem(path, message)))
}

fn problem(path: &Path, message: String) -> Problems {
    Problems(vec![Problem {
        path: path.to_owned(),
        line: None,
        message,
    }])
}

/// The text of an order's file, read with the same limits as by the server.
///
/// # Errors
/// [`Problems`] if it can't be read.
pub fn text(path: &Path) -> Result<String, Problems> {
    let bytes = read_bytes(path).map_err(|why| problem(path, problem_text(&why)))?;
    as_text(path, bytes)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, Unread> {
    regular::read(path, SIZE_MAX)
}

fn as_text(path: &Path, bytes: Vec<u8>) -> Result<String, Problems> {
    let message = "is not UTF-8 text: save the file as UTF-8";
    String::from_utf8(bytes).map_err(|_| problem(path, message.to_owned()))
}

fn problem_text(why: &Unread) -> String {
    match why {
        Unread::NotRegular => "is not a regular file: take it out of the directory".to_owned(),
        Unread::TooLarge(_) => "is over 16 MiB: split it".to_owned(),
        Unread::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            format!("cannot be read: {error}")
        }
        Unread::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            format!(
                "cannot be read: {error}; let the user that runs tapis read it (chmod or chown)"
            )
        }
        Unread::Io(error) => {
            format!("cannot be read: {error}; check the disk or the network mount")
        }
    }
}

/// Parses the text of a file, whose path is for messages.
pub(super) type Parse<T> = fn(&str, &Path) -> Result<T, Problems>;
