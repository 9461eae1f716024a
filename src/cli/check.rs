//! Owns `tapis check`: the configuration and every list, all problems at once.
//! Refuses to start anything.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::config::Config;
use crate::control::compose;
use crate::control::load::load;
use crate::daemon;

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Bad lines in lists are told, but are no reason for exit code 1. (A server skips them.)
    #[arg(long)]
    allow_bad_lines: bool,
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &CheckArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let (config, mistakes) = match config {
        Some(path) => Config::examine(path),
        None => (Some(Config::built_in()), None),
    };
    let mut good = mistakes.is_none();
    if let Some(mistakes) = mistakes {
        writeln!(out, "{mistakes}")?;
    }
    let Some(config) = config else {
        return Err(Failure::Told);
    };
    // With mistakes, defaults stand in for what these look at.
    if good {
        let mut problems = compose::problems(&config);
        if let Err(problem) = daemon::check_upstreams(&config) {
            problems.push(problem.to_string());
        }
        for problem in &problems {
            writeln!(out, "{problem}")?;
        }
        good = problems.is_empty();
    }
    for list in &config.lists {
        let (name, path) = (&list.source.name, list.source.path.display());
        let loaded = match load(list, None, false) {
            Ok(fresh) => fresh.loaded,
            Err(refusal) => {
                good = false;
                writeln!(out, "{name}: {refusal}")?;
                continue;
            }
        };
        let tally = &loaded.tally;
        let (rules, bad) = (loaded.rules, tally.bad_total());
        good &= bad == 0 || args.allow_bad_lines;
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
    }
    if good {
        writeln!(out, "good: {} lists", config.lists.len())?;
        return Ok(());
    }
    Err(Failure::Told)
}
