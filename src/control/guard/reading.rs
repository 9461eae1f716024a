//! Reads a list and passes on the rules that the protected names permit.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::control::guard::patterns::GuardedPatterns;
use crate::control::guard::protected::{Guarded, ProtectedNames};
use crate::control::guard::suppressed::admits_rule;
use crate::control::list_file::file::{FileError, Pass, read_passes};
use crate::control::list_file::parse::{self, Notation, ParsedRule, ParsedTrigger, Tally};
use crate::control::list_file::signature::Signature;
use crate::control::list_file::suppressed::SuppressedRules;
use crate::wire::name::Name;

/// The result of reading a list to its end.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) tally: Tally,
    pub(crate) digest: blake3::Hash,
    /// `None` for built-in content.
    pub(crate) signature: Option<Signature>,
    pub(crate) at: Timestamp,
    pub(crate) took: Duration,
}

/// Reads the file at `path`, or `text` instead if there is one. Passes to `rule` each rule that the protected names
/// permit, and to `progress` the number of bytes read so far and the size of the file. If the list is refused in the end,
/// those rules must be dropped. `apex` is that of [`parse::read`].
pub(crate) fn read_list(
    path: &Path,
    text: Option<&str>,
    (notation, apex): (Notation, Option<&Name>),
    protected_names: Option<(&ProtectedNames, Guarded)>,
    mut rule: impl FnMut(ParsedRule<'_>),
    mut progress: impl FnMut(u64, u64),
) -> Result<Reading, FileError> {
    let start = Instant::now();
    let mut reader = parse::Reader::new(notation, apex);
    let mut hasher = blake3::Hasher::new();
    let mut suppressed = SuppressedRules::default();
    let mut patterns = GuardedPatterns::default();
    let mut admit = |open_line: Option<u32>, found: ParsedRule<'_>| {
        if let (ParsedTrigger::Pattern(pattern), Some(_)) = (found.trigger, protected_names) {
            patterns.add(pattern, found.effect, found.line);
            return;
        }
        let admits = |(protected_names, list)| {
            let cut = open_line == Some(found.line);
            let list = Guarded { cut, ..list };
            admits_rule(&mut suppressed, protected_names, list, found)
        };
        if protected_names.is_none_or(admits) {
            rule(found);
        }
    };
    let mut done = 0;
    let is_scanned = reader.is_scanning();
    let each = |pass, piece: &[u8], of| {
        if pass == Pass::Scan {
            reader.scan(piece);
            return;
        }
        hasher.update(piece);
        reader.feed(piece, &mut |found: ParsedRule<'_>| admit(None, found));
        done += piece.len() as u64;
        progress(done, of);
    };
    let signature = read_passes(path, text, is_scanned, each)?;
    let open_line = reader.open_line();
    let mut tally = reader.finish(&mut |found: ParsedRule<'_>| admit(open_line, found));
    if let Some(guard) = protected_names {
        patterns.finish(&mut suppressed, guard, open_line, &mut rule);
    }
    tally.rules = tally.rules.saturating_sub(suppressed.total());
    tally.guarded = suppressed;
    Ok(Reading {
        tally,
        digest: hasher.finalize(),
        signature,
        at: Timestamp::now(),
        took: start.elapsed(),
    })
}
