//! Where settings come from, and those that do not carry over.

use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::super::shown::Show;

/// A setting that did not carry over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NotCarried {
    /// The file, as it was found.
    pub file: PathBuf,
    /// Its line, from 1.
    pub line: u32,
    /// The setting, without secrets.
    pub setting: String,
    /// Why it did not carry over, and what to do instead.
    pub reason: String,
}

/// `path:line: setting: reason`
impl fmt::Display for NotCarried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            setting,
            reason,
        } = self;
        write!(f, "{}:{line}: {setting}: {reason}", file.shown())
    }
}

/// The line that a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SourceLine {
    pub(super) file: Rc<Path>,
    pub(super) number: u32,
}

impl SourceLine {
    pub(super) fn new(file: &Rc<Path>, number: usize) -> Self {
        Self {
            file: file.clone(),
            number: u32::try_from(number).unwrap_or(u32::MAX),
        }
    }
}
