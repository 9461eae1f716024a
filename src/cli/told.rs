//! Owns how a list that was read is told.
//! Refuses to judge it.

use std::io::{self, Write};
use std::path::Path;

use crate::control::lists::Tally;

/// Tells what reading a list came to, and its first bad lines.
pub(super) fn list(
    name: &str,
    path: &Path,
    rules: u64,
    tally: &Tally,
    out: &mut impl Write,
) -> io::Result<()> {
    let (path, bad) = (path.display(), tally.bad_total());
    writeln!(
        out,
        "{name}: {rules} rules, {} skipped, {bad} bad lines ({path})",
        tally.skipped
    )?;
    for line in &tally.first {
        writeln!(
            out,
            "  {path}:{}: {}: {}",
            line.line, line.text, line.problem
        )?;
    }
    let shown = tally.first.len() as u32;
    if bad > shown {
        writeln!(out, "  and {} more:", bad - shown)?;
        for (problem, count) in &tally.bad {
            writeln!(out, "  {count} lines: {problem}")?;
        }
    }
    Ok(())
}
