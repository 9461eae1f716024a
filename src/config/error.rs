//! The problems of a configuration.

use std::fmt;
use std::path::PathBuf;

use super::shown::Show;

/// A problem of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// The path of the file, as it was given.
    pub path: PathBuf,
    /// The line, from 1; `None` if the problem concerns the whole file.
    pub line: Option<u32>,
    /// The actual value, the expected one, and the remedy: one line without a final full stop.
    pub message: String,
}

/// `path:line: message`, or `path: message` without a line.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.shown())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.message)
    }
}

/// All problems of a configuration file: at least one, ordered by line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

/// One problem per line, no newline at the end.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}
