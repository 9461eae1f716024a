//! Prints the result of reading a list: its rules, its bad lines, and the rules that guards leave out or warn of; and where
//! a list was downloaded from.

use std::io::{self, Write};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use crate::config::paths;
use crate::config::shown::{Show, counted};
use crate::control::list_file::parse::Tally;
use crate::control::list_file::suppressed::LeftOut;
use crate::control::sources::downloads::report::DownloadReport;

/// The maximum number of rules printed for each list. It applies separately to rules that guards left out, and to rules
/// that guards warn of.
pub(super) const SHOWN: usize = 10;

/// Prints the numbers of a list, its first bad lines, and the rules that guards left out or warn of, at most `most` of
/// each.
pub(super) fn print_list(
    name: &str,
    path: &Path,
    rules: u64,
    tally: &Tally,
    most: usize,
    out: &mut impl Write,
) -> io::Result<()> {
    let bad = tally.bad_total();
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
        "{name}: {}, {} skipped{skipped}, {}{left} ({})",
        counted(rules, "rule", "rules"),
        tally.skipped,
        counted(bad, "bad line", "bad lines"),
        path.shown()
    )?;
    if let Some(detected) = tally.detected {
        writeln!(out, "  format: {detected}")?;
    }
    print_ignored(path, tally, out)?;
    print_left_out(
        path,
        first(&tally.guarded.first, most),
        tally.guarded.total(),
        out,
    )?;
    let warnings = first(&tally.guarded.first_warned, most);
    print_warned(path, warnings, tally.guarded.warned, out)?;
    for line in &tally.first {
        writeln!(
            out,
            "  {}: {}: {}",
            paths::at(path, line.line),
            line.text,
            line.problem
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

/// Prints how many lines are ignored for each reason, with the first line.
fn print_ignored(path: &Path, tally: &Tally, out: &mut impl Write) -> io::Result<()> {
    for (reason, count) in &tally.ignored {
        let lines = counted(*count, "line", "lines");
        let mut first = tally.first_ignored.iter();
        let example = match first.find(|ignored| ignored.reason == *reason) {
            Some(first) => format!(", as {}: {}", paths::at(path, first.line), first.text),
            None => String::new(),
        };
        writeln!(out, "  {lines} ignored: {reason}{example}")?;
    }
    Ok(())
}

/// The first `most` rules.
pub(super) fn first(rules: &[LeftOut], most: usize) -> &[LeftOut] {
    &rules[..rules.len().min(most)]
}

/// Prints the first rules that guards left out, and how many of `all` are not printed.
pub(super) fn print_left_out(
    path: &Path,
    first: &[LeftOut],
    all: u32,
    out: &mut impl Write,
) -> io::Result<()> {
    print_rules(path, first, all, "left out, it", ["left out"; 2], out)
}

/// Prints the first rules that are in force but cover protected names, and how many of `all` are not printed.
pub(super) fn print_warned(
    path: &Path,
    first: &[LeftOut],
    all: u32,
    out: &mut impl Write,
) -> io::Result<()> {
    let rest = [
        "that counts, but may be a mistake",
        "that count, but may be mistakes",
    ];
    print_rules(path, first, all, "counts, but", rest, out)
}

/// The source of a list, and how old its copy is.
pub(super) fn download(download: &DownloadReport) -> String {
    let now = Timestamp::now();
    let ago = |what: &str, at: Timestamp| {
        let age = now.duration_since(at).as_secs().max(0);
        format!("{what} {:#} ago", SignedDuration::from_secs(age))
    };
    let url = download.mirrors.first().map(|mirror| mirror.url.clone());
    let url = download.source.clone().or(url).unwrap_or_default();
    let next = download.next.map(|at| {
        let wait = at.duration_since(now).as_secs().max(0);
        format!("next in {:#}", SignedDuration::from_secs(wait))
    });
    let facts = [Some(url), Some(download.state())].into_iter();
    let facts = facts
        .chain([
            download.fetched.map(|at| ago("downloaded", at)),
            download.confirmed.map(|at| ago("confirmed", at)),
            next,
        ])
        .flatten();
    facts.collect::<Vec<_>>().join(", ")
}

fn print_rules(
    path: &Path,
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
        writeln!(out, "  {}: {rule}: {each} {why}", paths::at(path, *line))?;
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
            print_warned(Path::new("ads"), &[], all, &mut out).expect("memory");
            assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
        }
    }
}
