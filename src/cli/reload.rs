//! Owns `tapis reload`.
//! Refuses to judge: the server says what it took.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::server::{self, ControlArgs};
use crate::config::shown::counted;
use crate::control::admin::status::{ReloadReport, ReloadRequest, UnusedLines};

#[derive(Debug, Args)]
pub(super) struct ReloadArgs {
    #[command(flatten)]
    control: ControlArgs,
    /// Release a guard that holds the newest state of a list, as in ads:shrunk; may be repeated. The
    /// guards are empty, bad, shrunk, grown and old.
    #[arg(long, value_name = "LIST:GUARD")]
    accept: Vec<String>,
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &ReloadArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let places = args.control.places(config)?;
    let wish = ReloadRequest {
        accept: args.accept.clone(),
    };
    let report: ReloadReport = server::post(&places, "/reload", &wish)??;
    tell(&report, out)
}

/// Prints which keys wait for a restart.
pub(super) fn restart(keys: &[String], out: &mut impl Write) -> io::Result<()> {
    for key in keys {
        writeln!(out, "changed, but in force only after a restart: {key}")?;
    }
    Ok(())
}

/// Prints how it ended.
pub(super) fn tell(report: &ReloadReport, out: &mut impl Write) -> Result<(), Failure> {
    for problem in &report.problems {
        let start = match problem.contains("not taken") {
            true => "",
            false => "not taken: ",
        };
        writeln!(out, "{start}{problem}")?;
    }
    if !report.changed.is_empty() {
        writeln!(out, "changed: {}", report.changed.join(", "))?;
    }
    restart(&report.restart, out)?;
    for warning in &report.warnings {
        writeln!(out, "note: {warning}")?;
    }
    for UnusedLines { list, bad, skipped } in &report.unused {
        let lines = counted(*bad, "bad line", "bad lines");
        let skipped = match skipped {
            0 => String::new(),
            count => format!(", {} left out on purpose", counted(*count, "name", "names")),
        };
        let remedy = match bad {
            0 => "",
            _ => "; `tapis check` shows the lines",
        };
        writeln!(out, "{list}: {lines}{skipped}{remedy}")?;
    }
    if !report.reading.is_empty() {
        writeln!(out, "still being read: {}", report.reading.join(", "))?;
    }
    let read = match report.loaded.as_slice() {
        [] => "no list read again".to_owned(),
        names => format!("read again: {}", names.join(", ")),
    };
    writeln!(out, "generation {} in force; {read}", report.generation)?;
    if report.problems.is_empty() {
        Ok(())
    } else {
        Err(Failure::Reported)
    }
}
