//! Owns what is told of a configuration that is refused: every problem, its place, its remedy.
//! Refuses to judge: what is a problem is decided by the readers and the validation.

use std::fmt;
use std::path::PathBuf;

use super::shown::Show;

/// One thing that is wrong with a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// The file, as it was named to us.
    pub path: PathBuf,
    /// The line, from 1; none when the file as a whole is the problem.
    pub line: Option<u32>,
    /// What was found, what is expected, and the remedy: one line without the final full stop.
    pub message: String,
}

/// `path:line: message`, or `path: message` where there is no line.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.shown())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.message)
    }
}

/// All that is wrong with a configuration file: never empty, in the order of the lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

/// One problem a line, no newline at the end.
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
