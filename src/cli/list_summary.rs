//! Owns how a list that was read is told.
//! Refuses to judge it.

use std::io::{self, Write};
use std::path::Path;

use crate::config::shown::{Show, counted};
use crate::control::guard::suppressed::LeftOut;
use crate::control::sources::lists::parse::Tally;

/// Rules that guards left out, or warn of, which are shown of each list.
pub(super) const SHOWN: usize = 10;

/// Reports what reading a list came to, its first bad lines, and the first `most` rules of those that were left out and of
/// those that are warned of.
pub(super) fn list(
    name: &str,
    path: &Path,
    rules: u64,
    tally: &Tally,
    most: usize,
    out: &mut impl Write,
) -> io::Result<()> {
    let (path, bad) = (path.shown(), tally.bad_total());
    let skipped = match tally.skipped {
        0 => String::new(),
        _ => " (localhost and the like, or addresses)".to_owned(),
    };
    let left = match tally.guarded.total() {
        0 => String::new(),
        left => format!(", {left} left out"),
    };
    writeln!(
        out,
        "{name}: {}, {} skipped{skipped}, {}{left} ({path})",
        counted(rules, "rule", "rules"),
        tally.skipped,
        counted(bad, "bad line", "bad lines")
    )?;
    left_out(
        &path.to_string(),
        first(&tally.guarded.first, most),
        tally.guarded.total(),
        out,
    )?;
    let warnings = first(&tally.guarded.first_warned, most);
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
        writeln!(out, "  and {} more; all of them:", bad - shown)?;
        for (problem, count) in &tally.bad {
            writeln!(out, "  {}: {problem}", counted(*count, "line", "lines"))?;
        }
    }
    Ok(())
}

/// The first `most` of them.
pub(super) fn first(rules: &[LeftOut], most: usize) -> &[LeftOut] {
    &rules[..rules.len().min(most)]
}

/// Reports which rules were left out: the first ones of `all`.
pub(super) fn left_out(
    path: &str,
    first: &[LeftOut],
    all: u32,
    out: &mut impl Write,
) -> io::Result<()> {
    remarked(path, first, all, "left out, it", ["left out"; 2], out)
}

/// Reports rules that count although they cover what they should not: the first ones of `all`.
pub(super) fn warned(
    path: &str,
    first: &[LeftOut],
    all: u32,
    out: &mut impl Write,
) -> io::Result<()> {
    let rest = [
        "that counts, but may be a mistake",
        "that count, but may be mistakes",
    ];
    remarked(path, first, all, "counts, but", rest, out)
}

fn remarked(
    path: &str,
    first: &[LeftOut],
    all: u32,
    each: &str,
    [one, rest]: [&'static str; 2],
    out: &mut impl Write,
) -> io::Result<()> {
    for LeftOut {
        line, rule, why, ..
    } in first
    {
        writeln!(out, "  {path}:{line}: {rule}: {each} {why}")?;
    }
    let more = all.saturating_sub(first.len() as u32);
    if more > 0 {
        let rest = match more {
            1 => one,
            _ => rest,
        };
        writeln!(out, "  and {more} more {rest}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_rule_is_singular() {
        for (all, expected) in [
            (1, "  and 1 more that counts, but may be a mistake\n"),
            (2, "  and 2 more that count, but may be mistakes\n"),
        ] {
            let mut out = Vec::new();
            warned("ads", &[], all, &mut out).expect("memory");
            assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
        }
    }
}
