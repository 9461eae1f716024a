//! Owns how a list that was read is told.
//! Refuses to judge it.

use std::io::{self, Write};
use std::path::Path;

use crate::control::guard::account::LeftOut;
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
    let left = match tally.guarded.total() {
        0 => String::new(),
        left => format!(", {left} left out"),
    };
    writeln!(
        out,
        "{name}: {rules} rules, {} skipped, {bad} bad lines{left} ({path})",
        tally.skipped
    )?;
    left_out(
        &path.to_string(),
        &tally.guarded.first,
        tally.guarded.total(),
        out,
    )?;
    let warnings = &tally.guarded.first_warned;
    warned(&path.to_string(), warnings, tally.guarded.warned, out)?;
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

/// Tells which rules were left out: the first ones of `all`, and how to let them count.
pub(super) fn left_out(
    path: &str,
    first: &[LeftOut],
    all: u32,
    out: &mut impl Write,
) -> io::Result<()> {
    for LeftOut {
        line, rule, why, ..
    } in first
    {
        writeln!(out, "  {path}:{line}: {rule}: left out, it {why}")?;
    }
    let more = all.saturating_sub(first.len() as u32);
    if more > 0 {
        writeln!(out, "  and {more} more left out")?;
    }
    Ok(())
}

/// Reports rules that count although they cover a public suffix: the first ones of `all`.
pub(super) fn warned(
    path: &str,
    first: &[LeftOut],
    all: u32,
    out: &mut impl Write,
) -> io::Result<()> {
    for LeftOut {
        line, rule, why, ..
    } in first
    {
        writeln!(out, "  {path}:{line}: {rule}: counts, but {why}")?;
    }
    let more = all.saturating_sub(first.len() as u32);
    if more > 0 {
        writeln!(out, "  and {more} more that cover public suffixes")?;
    }
    Ok(())
}
