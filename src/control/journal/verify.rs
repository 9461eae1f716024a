//! Finds entries that were changed, removed or moved. Repairs nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use jiff::Timestamp;

use super::chain::LineError;
use super::entry::Event;
use super::file::{Last, read_head};
use super::generations::Skipped;
use super::key::{Authenticity, Keys};
use super::lines::{JournalError, Line, read_lines};
use crate::config::shown::{entries, generations};

/// How often a journal is read at most, if it grows meanwhile.
const TRIES: u32 = 3;

/// The result of a verification.
#[derive(Debug, Default)]
pub struct Verification {
    /// The number of whole entries.
    pub entries: u64,
    /// Problems, in the order of the lines.
    pub findings: Vec<Finding>,
    /// Observations that may have a harmless cause, in the order of the lines.
    pub notes: Vec<Finding>,
    /// The ID of the key that authenticates the head.
    pub authenticated_by: Option<String>,
}

/// A difference from an intact journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The index of the file.
    pub file: usize,
    /// The line, counted from 1; `None` for the end of the file.
    pub line: Option<u64>,
    /// The problem.
    pub problem: Problem,
}

/// A problem of a line, or before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The line is not an entry.
    Line(LineError),
    /// Entries before it are missing: the first and the last of them.
    Missing(u64, u64),
    /// The entries up to this number are in the previous file.
    Before(u64),
    /// As `Missing`, but the next server recorded the loss when it started.
    Lost(u64, u64),
    /// This entry belongs before an earlier one.
    Moved(u64),
    /// The field `previous` of this entry is not the hash of the entry before it, which was changed.
    Unchained(u64),
    /// The head is missing or damaged.
    NoHead,
    /// The head has another hash for this entry.
    OtherHead(u64),
    /// The head does not cover these entries, from the first to the last.
    Uncovered(u64, u64),
    /// The head did not cover these entries when the next server started.
    WasUncovered(u64, u64),
    /// The head had another hash for this entry when a server started: the entries up to this one were replaced.
    WasOtherHead(u64),
    /// Earlier servers could not write the changes that they made from this time on.
    Unwritten(Timestamp),
    /// These generations, from the first to the last, are in no entry: earlier servers could not write the journal, or
    /// had none.
    Skipped(u64, u64),
    /// The head was not authenticated when a server with a key started.
    WasUnauthenticated,
    /// The head has no tag.
    Untagged,
    /// The head's key is not among the keys.
    UnknownKey,
    /// The head was not written by a holder of the key.
    Forged,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: ")?,
            None => f.write_str("at the end: ")?,
        }
        match self.problem {
            Problem::Line(error) => write!(f, "{error}"),
            Problem::Missing(first, last) => {
                write!(f, "{} missing before it", entries(first, last, ["is", "are"]))
            }
            Problem::Lost(first, last) => write!(
                f,
                "{} lost before this server started",
                entries(first, last, ["was", "were"])
            ),
            Problem::Before(number) => write!(
                f,
                "entries up to {number} are in the file before this one, which was moved away: to verify both, name them with --file, the older one first"
            ),
            Problem::Moved(number) => write!(f, "entry {number} does not belong here"),
            Problem::Unchained(number) => write!(
                f,
                "entry {number} does not follow the one before it, which was changed"
            ),
            Problem::NoHead => f.write_str(
                "the file that names the last entry can't be read, so entries may be missing",
            ),
            Problem::OtherHead(number) => {
                write!(f, "entry {number} differs from what the file beside the journal has")
            }
            Problem::Uncovered(first, last) => write!(
                f,
                "{} beyond the head: written just before a crash, or by another program",
                entries(first, last, ["is", "are"])
            ),
            Problem::WasUncovered(first, last) => write!(
                f,
                "{} beyond the head when this server started: written just before a crash, or by another program",
                entries(first, last, ["was", "were"])
            ),
            Problem::WasOtherHead(number) => write!(
                f,
                "entry {number} differed from what the file beside the journal had when this server started: the entries up to it were replaced"
            ),
            Problem::Unwritten(since) => write!(
                f,
                "changes from {since:.0} until this server started are not recorded: the journal could not be written"
            ),
            Problem::Skipped(first, last) => write!(
                f,
                "{} not recorded: a server could not write the journal then, or had none",
                generations(first, last)
            ),
            Problem::WasUnauthenticated => f.write_str(
                "the head was not authenticated when this server started: the key does not authenticate the entries before",
            ),
            Problem::Untagged => f.write_str(
                "the head is not authenticated: it has no tag, as a server without a key wrote it; if [journal] key is new, restart the server: it uses the key only after a restart",
            ),
            Problem::UnknownKey => {
                f.write_str("the head is authenticated by a key that is not in the key file")
            }
            Problem::Forged => f.write_str("the head was not written by a holder of the key"),
        }
    }
}

/// Verifies a whole journal, from its files, the oldest first. With `keys`, one of them must authenticate the head of the
/// last file.
///
/// # Errors
/// [`JournalError`] if a file can't be read.
pub fn verify(paths: &[&Path], keys: Option<&Keys>) -> Result<Verification, JournalError> {
    let mut tries = 0;
    loop {
        let (verification, grew) = verify_once(paths, keys)?;
        tries += 1;
        // If a server wrote meanwhile, the journal is read again, as the next head may cover the newest entries.
        if !grew || tries == TRIES {
            return Ok(verification);
        }
    }
}

/// Reads the files once. Also returns whether the head moved beyond the entries that were read.
fn verify_once(paths: &[&Path], keys: Option<&Keys>) -> Result<(Verification, bool), JournalError> {
    let mut verification = Verification::default();
    let Some((path, earlier)) = paths.split_last() else {
        return Ok((verification, false));
    };
    let mut last = Last::none();
    let mut skipped = Skipped::default();
    // Whether the hash of the line before is known: after a line that is not an entry it is not.
    let mut chained = true;
    let before = read_head(path)?;
    let covered = before.as_ref().map_or(u64::MAX, |head| head.number);
    // The hashes of the head's entry and of those after it, as a server may write a new head meanwhile.
    let mut hashes = BTreeMap::new();
    let mut check = |file: usize, line: Line| {
        let add = |findings: &mut Vec<Finding>, problem| {
            findings.push(Finding {
                file,
                line: Some(line.line),
                problem,
            });
        };
        let (entry, hash) = match line.entry {
            Ok(entry) => entry,
            Err(error) => {
                add(&mut verification.findings, Problem::Line(error));
                last.number += 1;
                chained = false;
                // It may have been the entry of a generation, so a gap between its neighbours proves nothing.
                skipped = Skipped::default();
                return true;
            }
        };
        let next = last.number + 1;
        verification.entries += 1;
        if entry.number < next {
            add(&mut verification.findings, Problem::Moved(entry.number));
            return true;
        }
        if let Event::Start(start) = &entry.event {
            if let Some((first, last)) = start.uncovered {
                add(&mut verification.notes, Problem::WasUncovered(first, last));
            }
            if let Some(head) = &start.other_head {
                add(
                    &mut verification.findings,
                    Problem::WasOtherHead(head.number),
                );
            }
            if let Some(since) = start.unwritten_since {
                add(&mut verification.notes, Problem::Unwritten(since));
            }
            if start.unauthenticated {
                add(&mut verification.notes, Problem::WasUnauthenticated);
            }
        }
        let begun = match &entry.event {
            Event::Start(start) if last.number == 0 => start.continues,
            _ => None,
        };
        if entry.number > next && begun == Some(entry.number - 1) {
            add(&mut verification.notes, Problem::Before(entry.number - 1));
        } else if entry.number > next {
            let gap = (next, entry.number - 1);
            let known = matches!(&entry.event, Event::Start(start) if start.missing == Some(gap));
            let problem = match known {
                true => Problem::Lost(gap.0, gap.1),
                false => Problem::Missing(gap.0, gap.1),
            };
            add(&mut verification.findings, problem);
        } else if chained && entry.previous != last.hash {
            add(&mut verification.findings, Problem::Unchained(entry.number));
        }
        if let Some((first, last)) = skipped.add(&entry) {
            add(&mut verification.notes, Problem::Skipped(first, last));
        }
        chained = true;
        if entry.number >= covered {
            hashes.insert(entry.number, hash.clone());
        }
        last = Last {
            number: entry.number,
            generation: entry.generation,
            hash,
        };
        true
    };
    for (file, path) in earlier.iter().chain([path]).enumerate() {
        read_lines(path, |line| check(file, line))?;
    }
    let after = read_head(path)?;
    let grew = after != before && after.as_ref().is_some_and(|head| head.number > last.number);
    let newer = after.filter(|head| hashes.contains_key(&head.number));
    let head = newer.or(before);
    let mut add = |problem| {
        verification.findings.push(Finding {
            file: earlier.len(),
            line: None,
            problem,
        });
    };
    match &head {
        // An empty journal.
        None if last.number == 0 => {}
        None => add(Problem::NoHead),
        Some(head) => match (
            last.number.checked_sub(head.number),
            hashes.get(&head.number),
        ) {
            (None, _) => add(Problem::Missing(last.number + 1, head.number)),
            (Some(_), Some(hash)) if *hash != head.hash => add(Problem::OtherHead(head.number)),
            (Some(0), _) => {}
            (Some(_), _) => add(Problem::Uncovered(head.number + 1, last.number)),
        },
    }
    if let Some((head, keys)) = head.as_ref().zip(keys) {
        match head.authenticity(keys) {
            Authenticity::Authentic => {
                verification.authenticated_by = head.tag.as_ref().map(|tag| tag.key.clone());
            }
            Authenticity::Untagged => add(Problem::Untagged),
            Authenticity::UnknownKey => add(Problem::UnknownKey),
            Authenticity::Forged => add(Problem::Forged),
        }
    }
    Ok((verification, grew))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_without_a_tag_has_a_remedy() {
        let finding = Finding {
            file: 0,
            line: None,
            problem: Problem::Untagged,
        };
        let text = finding.to_string();
        assert!(
            text.contains("if [journal] key is new, restart the server"),
            "{text}"
        );
    }

    #[test]
    fn a_single_entry_is_no_range() {
        for (problem, one, more) in [
            (
                Problem::Missing as fn(u64, u64) -> Problem,
                "entry 5 is missing",
                "entries 5 to 7 are missing",
            ),
            (
                Problem::Lost,
                "entry 5 was lost before",
                "entries 5 to 7 were lost before",
            ),
            (
                Problem::Uncovered,
                "entry 5 is beyond",
                "entries 5 to 7 are beyond",
            ),
            (
                Problem::WasUncovered,
                "entry 5 was beyond",
                "entries 5 to 7 were beyond",
            ),
        ] {
            for (last, expected) in [(5, one), (7, more)] {
                let finding = Finding {
                    file: 0,
                    line: None,
                    problem: problem(5, last),
                };
                let text = finding.to_string();
                assert!(text.contains(expected), "{text}");
            }
        }
    }
}
