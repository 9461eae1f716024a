//! `tapis log`: shows and changes the level of the running server's log.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::SignedDuration;

use super::failure::Failure;
use super::server::{self, ControlArgs};
use crate::config::log::LogFilter;
use crate::config::pause::{PauseError, length};
use crate::control::admin::logging::LogRequest;
use crate::control::gauges::{LogReport, LogSource};
use crate::sys::group::user_name;

#[derive(Debug, Args)]
pub(super) struct LogArgs {
    #[command(subcommand)]
    verb: LogVerb,
}

#[derive(Debug, Subcommand)]
enum LogVerb {
    /// Show the level of the running server's log, or change it.
    ///
    /// A change holds until the server restarts, also after a reload, or for the time of --for. It is logged with the user.
    Level(LevelArgs),
}

#[derive(Debug, Args)]
struct LevelArgs {
    #[command(flatten)]
    control: ControlArgs,
    /// The level: off, error, warn, info, debug or trace; or a filter with other levels for parts of the program, as in
    /// info,tapis::control=debug. Without it, the level is shown.
    level: Option<LogFilter>,
    /// For how long, as in 90s, 10m or 2h: at least 1 second, at most 7 days.
    #[arg(long = "for", value_name = "TIME", value_parser = time, requires = "level")]
    length: Option<SignedDuration>,
    /// Return to the level that the server had without this verb.
    #[arg(long, conflicts_with_all = ["level", "length"])]
    reset: bool,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &LogArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let LogVerb::Level(args) = &args.verb;
    let sockets = args.control.sockets(config)?;
    let report: LogReport = match (&args.level, args.reset) {
        (None, false) => server::get(&sockets, "/log")??,
        (level, _) => {
            let request = LogRequest {
                level: level.as_ref().map(ToString::to_string),
                secs: args.length.map(|length| length.as_secs().unsigned_abs()),
            };
            server::post_short(&sockets, "/log", &request)??
        }
    };
    match args.json {
        true => writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?,
        false => writeln!(out, "{}", shown(&report))?,
    }
    Ok(())
}

fn time(text: &str) -> Result<SignedDuration, String> {
    length(text).map_err(|error| match error {
        PauseError::Bounds => {
            "must be 1 second to 7 days; for longer, set `level` in [log]".to_owned()
        }
        error => error.to_string(),
    })
}

/// The level, and where it comes from.
pub(super) fn shown(report: &LogReport) -> String {
    let LogReport {
        level,
        source,
        user,
        until,
        configured,
    } = report;
    let source = match source {
        LogSource::Configuration => return format!("{level}, by [log] level"),
        LogSource::Variable => return format!("{level}, by RUST_LOG of the server"),
        LogSource::Argument => return format!("{level}, by --log-level of the server"),
        LogSource::Verb => user.map_or_else(String::new, |user| {
            let name = user_name(user).unwrap_or_else(|| user.to_string());
            format!(", set by {name}")
        }),
    };
    let end = until.map_or_else(
        || "until the server restarts".to_owned(),
        |until| format!("until {until:.0}"),
    );
    format!("{level}{source}, {end}; then {configured}")
}
