//! Owns the search for entries that were changed, removed or moved.
//! Refuses to mend anything.

use std::fmt;
use std::path::Path;

use super::chain::LineError;
use super::entry::Event;
use super::file::{JournalError, Last, read_head, read_lines};

/// What a journal is found to be.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Whole entries.
    pub entries: u64,
    /// What is wrong, in the order of the lines; nothing if all is as it was written.
    pub findings: Vec<Finding>,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The line, counted from 1; nothing where it is about the end.
    pub line: Option<u64>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a line, or before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is no entry.
    Line(LineError),
    /// Entries that should stand before it do not: the first and the last of them.
    Missing(u64, u64),
    /// The same, and the server that went on after it said so.
    Lost(u64, u64),
    /// This entry belongs further up.
    Moved(u64),
    /// This entry does not follow the one before it: that is another one than was written.
    Unchained(u64),
    /// The file that tells the last entry's number is missing or can't be read.
    NoHead,
    /// It tells of another last entry than this one.
    OtherHead(u64),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: ")?,
            None => f.write_str("at the end: ")?,
        }
        match self.problem {
            Problem::Line(error) => write!(f, "{error}"),
            Problem::Missing(first, last) if first == last => {
                write!(f, "entry {first} is missing before it")
            }
            Problem::Missing(first, last) => {
                write!(f, "entries {first} to {last} are missing before it")
            }
            Problem::Lost(first, last) => write!(
                f,
                "entries {first} to {last} were lost before the server that started then"
            ),
            Problem::Moved(number) => write!(f, "entry {number} does not belong here"),
            Problem::Unchained(number) => write!(
                f,
                "entry {number} does not follow the one before it, which was changed"
            ),
            Problem::NoHead => f.write_str(
                "the file that tells which entry is the last can't be read, so entries may be missing",
            ),
            Problem::OtherHead(number) => {
                write!(f, "entry {number} is another one than the file beside the journal tells")
            }
        }
    }
}

/// Reads a whole journal and finds what is not as it was written.
///
/// # Errors
/// [`JournalError`] when it can't be read.
pub fn verify(path: &Path) -> Result<Verdict, JournalError> {
    let mut verdict = Verdict::default();
    let mut last = Last::none();
    // What stands before the next entry is known: a line that is none breaks the chain by itself.
    let mut chained = true;
    let head = read_head(path);
    let mut other_head = false;
    read_lines(path, |line| {
        let mut tell = |problem| {
            verdict.findings.push(Finding {
                line: Some(line.line),
                problem,
            });
        };
        let (entry, hash) = match line.entry {
            Ok(entry) => entry,
            Err(error) => {
                tell(Problem::Line(error));
                last.number += 1;
                chained = false;
                return true;
            }
        };
        let next = last.number + 1;
        verdict.entries += 1;
        if entry.number < next {
            tell(Problem::Moved(entry.number));
            return true;
        }
        if entry.number > next {
            let gap = (next, entry.number - 1);
            let known = matches!(&entry.event, Event::Start(start) if start.missing == Some(gap));
            tell(match known {
                true => Problem::Lost(gap.0, gap.1),
                false => Problem::Missing(gap.0, gap.1),
            });
        } else if chained && entry.previous != last.hash {
            tell(Problem::Unchained(entry.number));
        }
        chained = true;
        let told = head.as_ref().filter(|(number, _)| *number == entry.number);
        other_head |= told.is_some_and(|(_, told)| *told != hash);
        last = Last {
            number: entry.number,
            generation: entry.generation,
            hash,
        };
        true
    })?;
    let at_the_end = match head {
        // Nothing was ever written.
        None if last.number == 0 => None,
        None => Some(Problem::NoHead),
        Some((number, _)) if number > last.number => {
            Some(Problem::Missing(last.number + 1, number))
        }
        Some((number, _)) if other_head => Some(Problem::OtherHead(number)),
        // A power cut may have come between an entry and the telling of it.
        Some(_) => None,
    };
    verdict.findings.extend(at_the_end.map(|problem| Finding {
        line: None,
        problem,
    }));
    Ok(verdict)
}
