//! `tapis reload`: reloads the running server, and prints the result.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::server::{self, ControlArgs};
use crate::config::paths;
use crate::config::shown::counted;
use crate::control::admin::status::{ReloadReport, ReloadRequest, UnusedLines};

#[derive(Debug, Args)]
pub(super) struct ReloadArgs {
    #[command(flatten)]
    control: ControlArgs,
    /// Release a guard that rejects the newest state of a list, as in ads:shrunk; may be repeated. The
    /// guards are empty, bad, shrunk, grown and old.
    #[arg(long, value_name = "LIST:GUARD")]
    accept: Vec<String>,
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &ReloadArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let sockets = args.control.sockets(config)?;
    let request = ReloadRequest {
        accept: args.accept.clone(),
    };
    let report: ReloadReport = server::post(&sockets, "/reload", &request)??;
    print_report(&report, out)
}

/// Prints the keys that wait for a restart.
pub(super) fn print_restart_keys(keys: &[String], out: &mut impl Write) -> io::Result<()> {
    for key in keys {
        writeln!(out, "changed, but in force only after a restart: {key}")?;
    }
    Ok(())
}

/// Whether a problem already begins with words that report a rejection.
fn is_rejection(problem: &str) -> bool {
    [
        "configuration rejected",
        "lists of the configuration rejected",
    ]
    .iter()
    .any(|start| problem.starts_with(start))
}

/// Prints the result of a reload or a rollback.
pub(super) fn print_report(report: &ReloadReport, out: &mut impl Write) -> Result<(), Failure> {
    for problem in &report.problems {
        let start = match is_rejection(problem) {
            true => "",
            false => "rejected: ",
        };
        writeln!(out, "{start}{problem}")?;
    }
    if !report.changed.is_empty() {
        writeln!(out, "changed: {}", report.changed.join(", "))?;
    }
    print_restart_keys(&report.restart, out)?;
    for warning in &report.warnings {
        writeln!(out, "note: {warning}")?;
    }
    for UnusedLines {
        list,
        path,
        bad,
        skipped,
    } in &report.unused
    {
        let lines = paths::bad(path, *bad);
        let skipped = match skipped {
            0 => String::new(),
            count => format!(", {} left out on purpose", counted(*count, "name", "names")),
        };
        let remedy = match bad {
            0 => "",
            _ if paths::is_of_feed(path) => "; `tapis status --json` shows the first ones",
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
