//! `tapis pause` and `tapis resume`: pause lists of the running server for a while, and end pauses.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use jiff::SignedDuration;

use super::failure::Failure;
use super::server::{self, ControlArgs};
use crate::config::pause::{checked_reason, length};
use crate::control::admin::pausing::{PauseReport, PauseRequest, ResumeRequest};

#[derive(Debug, Args)]
pub(super) struct PauseArgs {
    #[command(flatten)]
    control: ControlArgs,
    /// The list or feed. Without it, all lists and feeds are paused; those that are already paused for longer stay so.
    /// A second pause of one list replaces its end and reason.
    list: Option<String>,
    /// How long, as in 90s, 5m, 1h30m or 2d: at least 1 second, at most 7 days.
    #[arg(long = "for", value_name = "TIME", value_parser = length)]
    length: SignedDuration,
    /// The reason, one line of at most 200 characters. It is written into the journal.
    #[arg(long, value_name = "TEXT", value_parser = checked_reason)]
    reason: String,
}

#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    control: ControlArgs,
    /// The list or feed, also if all were paused. Without it, all pauses end.
    list: Option<String>,
}

pub(super) fn pause(
    config: Option<&PathBuf>,
    args: &PauseArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let request = PauseRequest {
        list: args.list.clone(),
        secs: args.length.as_secs(),
        reason: args.reason.clone(),
    };
    let sockets = args.control.sockets(config)?;
    let report = checked(server::post(&sockets, "/pause", &request)??)?;
    for (source, pause) in report.sources.iter().zip(&report.pauses) {
        writeln!(out, "{source}: paused {pause}")?;
    }
    if report.until_restart {
        writeln!(
            out,
            "a restart of the server ends this, as there is no `dir` in [state]"
        )?;
    }
    end(&report, "a restart of the server ends this", out)
}

pub(super) fn resume(
    config: Option<&PathBuf>,
    args: &ResumeArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let request = ResumeRequest {
        list: args.list.clone(),
    };
    let sockets = args.control.sockets(config)?;
    let report = checked(server::post(&sockets, "/resume", &request)??)?;
    for source in &report.sources {
        writeln!(out, "{source}: in force again")?;
    }
    end(
        &report,
        "it is paused again after a restart of the server",
        out,
    )
}

/// The report of a request that was carried out.
fn checked(report: PauseReport) -> Result<PauseReport, Failure> {
    match report.refused {
        Some(why) => Err(Failure::Other(why.into())),
        None => Ok(report),
    }
}

/// Prints the generation; fails if the change is not stored, with its `consequence`.
fn end(report: &PauseReport, consequence: &str, out: &mut impl Write) -> Result<(), Failure> {
    writeln!(out, "generation {} in force", report.generation)?;
    match &report.unstored {
        None => Ok(()),
        Some(why) => Err(Failure::Other(
            format!("not stored, so {consequence}: {why}").into(),
        )),
    }
}
