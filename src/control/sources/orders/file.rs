//! Reads one file of an order or of exceptions, and says why it can't be read.

use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use crate::config::regular::Unread;
use crate::config::{Problem, Problems, regular};
use crate::control::sources::signature::Signature;

/// A larger file is something else.
const SIZE_MAX: u64 = 16 << 20;

/// What a look at a file finds: its signature, or the number of the system's error, so that a link that leads in
/// a circle is a state like any other and not a new one at each look.
pub(super) type FileState = Result<Signature, Option<i32>>;

pub(super) fn state_of(path: &Path) -> FileState {
    Signature::of(path).map_err(|error| error.raw_os_error())
}

/// A file that was read.
pub(super) struct Looked<T> {
    /// The state that it was in before.
    pub(super) state: Option<FileState>,
    pub(super) content: Content<T>,
}

/// What reading a file came to.
pub(super) enum Content<T> {
    /// It changed meanwhile.
    Changing,
    /// It is not there; whether its directory is.
    Gone {
        listed: bool,
    },
    Parsed(Result<(Arc<T>, Arc<str>), Problems>),
}

/// Reads a file.
pub(super) fn look<T>(path: &Path, parse: Parse<T>) -> Looked<T> {
    let state = state_of(path);
    let text = read(path);
    // What the disk or the system lacks may be there at the next sweep, though the file is the same.
    let passes = match &text {
        Err(Unread::Io(error)) => error.kind() != io::ErrorKind::PermissionDenied,
        _ => false,
    };
    let content = match text {
        _ if state_of(path) != state => Content::Changing,
        Err(Unread::Io(error)) if error.kind() == io::ErrorKind::NotFound => Content::Gone {
            listed: path.parent().is_none_or(|dir| fs::read_dir(dir).is_ok()),
        },
        Err(why) => refused(path, told(&why)),
        Ok(bytes) => Content::Parsed(as_text(path, bytes).and_then(|text| {
            let value = parse(&text, path)?;
            Ok((Arc::new(value), text.into()))
        })),
    };
    let state = (!passes).then_some(state);
    Looked { state, content }
}

/// A file that is not taken, and why.
pub(super) fn refused<T>(path: &Path, message: String) -> Content<T> {
    Content::Parsed(Err(problem(path, message)))
}

fn problem(path: &Path, message: String) -> Problems {
    Problems(vec![Problem {
        path: path.to_owned(),
        line: None,
        message,
    }])
}

/// The text of an order's file, with the bounds that the server has for it.
///
/// # Errors
/// [`Problems`] when it can't be read.
pub fn text(path: &Path) -> Result<String, Problems> {
    let bytes = read(path).map_err(|why| problem(path, told(&why)))?;
    as_text(path, bytes)
}

fn read(path: &Path) -> Result<Vec<u8>, Unread> {
    regular::read(path, SIZE_MAX)
}

fn as_text(path: &Path, bytes: Vec<u8>) -> Result<String, Problems> {
    let message = "is not UTF-8 text: save the file as UTF-8";
    String::from_utf8(bytes).map_err(|_| problem(path, message.to_owned()))
}

fn told(why: &Unread) -> String {
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

/// How a file's text is read.
pub(super) type Parse<T> = fn(&str, &Path) -> Result<T, Problems>;
