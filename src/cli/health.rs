//! `tapis health`: prints one line about the running server, for monitoring plug-ins.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::failure::Failure;
use super::plain::print_json;
use super::server::{self, ControlArgs};
use crate::control::admin::client::ClientError;
use crate::control::admin::health::{Health, Level, Threshold, Thresholds, health};

#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    #[command(flatten)]
    control: ControlArgs,
    /// The seconds within which the server must answer, 1 to 300.
    #[arg(long, value_name = "SECS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=300))]
    timeout: u64,
    /// Alarms, as `tapis status` shows them.
    #[arg(long, value_name = "WARN[,CRIT]", default_value_t = Thresholds::default().alarms)]
    alarms: Threshold,
    /// Lists that are older than `max-age-hours` of their guard.
    #[arg(long, value_name = "WARN[,CRIT]", default_value_t = Thresholds::default().old_lists)]
    old_lists: Threshold,
    /// Orders in force whose review is overdue.
    #[arg(long, value_name = "WARN[,CRIT]", default_value_t = Thresholds::default().reviews)]
    reviews: Threshold,
    /// Upstream servers that are down. That all are down is CRITICAL in any case.
    #[arg(long, value_name = "WARN[,CRIT]", default_value_t = Thresholds::default().upstream_down)]
    upstream_down: Threshold,
    /// Packets that the kernel dropped within the last five minutes.
    #[arg(long, value_name = "WARN[,CRIT]", default_value_t = Thresholds::default().kernel_drops)]
    kernel_drops: Threshold,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &HealthArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let health = ask(config, args);
    match args.json {
        true => print_json(&health, out)?,
        false => writeln!(out, "{}", health.line())?,
    }
    match health.level {
        Level::Ok => Ok(()),
        level => Err(Failure::Code(level.exit_code())),
    }
}

/// The health of the server, also if it can't be asked: a monitoring system reads standard output only.
fn ask(config: Option<&PathBuf>, args: &HealthArgs) -> Health {
    let thresholds = Thresholds {
        alarms: args.alarms,
        old_lists: args.old_lists,
        reviews: args.reviews,
        upstream_down: args.upstream_down,
        kernel_drops: args.kernel_drops,
    };
    let sockets = match args.control.sockets(config) {
        Ok(sockets) => sockets,
        Err(failure) => return Health::unreachable(Level::Unknown, failure.to_string()),
    };
    let limit = Duration::from_secs(args.timeout);
    match server::get_within(&sockets, "/status", limit) {
        Ok(Ok(status)) => health(&status, &thresholds),
        Ok(Err(error)) => Health::unreachable(level(&error), error.to_string()),
        Err(error) => Health::unreachable(Level::Unknown, error.to_string()),
    }
}

/// Whether an error is one of the server, or of this user.
fn level(error: &ClientError) -> Level {
    match error {
        ClientError::Absent { .. }
        | ClientError::Silent { .. }
        | ClientError::Broken { .. }
        | ClientError::Ending { .. }
        | ClientError::Said { .. } => Level::Critical,
        ClientError::Denied { .. }
        | ClientError::Untrusted { .. }
        | ClientError::Foreign { .. }
        | ClientError::Written(_) => Level::Unknown,
    }
}
