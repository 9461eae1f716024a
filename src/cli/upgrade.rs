//! `tapis upgrade`: replaces the running server by a new process of the program on the disk, without a lost query.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::configuration::read_config;
use super::failure::Failure;
use super::plain::Plain;
use super::server::{self, ControlArgs};
use crate::config::shown::{Show, counted};
use crate::control::admin::client::ClientError;
use crate::control::admin::status::Status;
use crate::control::admin::successor::{Replaced, UPGRADE_PATH, UpgradeReport};

/// The exit code if the running server can only be restarted.
const CANNOT: u8 = 3;
/// How long another process may take to serve, after the one that was asked has ended without a report.
const FOLLOWING: Duration = Duration::from_secs(10);
/// The pause between two requests for the status.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(super) struct UpgradeArgs {
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

impl UpgradeArgs {
    pub(super) fn control(&self) -> ControlArgs {
        self.control.clone()
    }
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &UpgradeArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    // The new process would refuse it, and only its log would say why.
    read_config(config)?;
    let sockets = args.control.sockets(config)?;
    // A server that does not answer this is asked nevertheless: only a report about its death needs it.
    let before = status(&sockets, FOLLOWING)?;
    let report: UpgradeReport = match server::post(&sockets, UPGRADE_PATH, &())? {
        Err(ClientError::Said { text, path }) if text.is_empty() => {
            let path = path.shown();
            writeln!(
                Plain(io::stderr()),
                "tapis: the server at {path} is too old for an upgrade without a restart; restart it"
            )?;
            return Err(Failure::Code(CANNOT));
        }
        // The server may be upgrading still, so a script must not take this for a server that can't be asked.
        Err(
            error @ (ClientError::Silent { .. }
            | ClientError::Broken { .. }
            | ClientError::Ending { .. }),
        ) => match replaced(&sockets, before)? {
            Some(replaced) => UpgradeReport::Replaced(replaced),
            None => {
                writeln!(
                    Plain(io::stderr()),
                    "tapis: it is not known whether the server was upgraded: {error}; see `tapis status` for its version"
                )?;
                return Err(Failure::Reported);
            }
        },
        report => report?,
    };
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        return match report {
            UpgradeReport::Upgraded(_) | UpgradeReport::Replaced(_) => Ok(()),
            UpgradeReport::Failed { .. } => Err(Failure::Reported),
        };
    }
    match report {
        UpgradeReport::Upgraded(it) => {
            writeln!(
                out,
                "process {} (version {}) has taken over from process {} (version {}), with {}",
                it.process,
                it.version,
                it.from_process,
                it.from,
                counted(it.connections, "open connection", "open connections"),
            )?;
            writeln!(
                out,
                "{} ms in all: {} ms until it had the sockets, {} ms until it answered, {} ms until the last query of the other one was answered",
                it.all_millis, it.prepared_millis, it.parked_millis, it.drained_millis
            )?;
            Ok(())
        }
        UpgradeReport::Replaced(it) => {
            writeln!(
                out,
                "process {} (version {}) serves in place of process {} (version {}), which ended during the upgrade: see the log",
                it.process, it.version, it.from_process, it.from,
            )?;
            Ok(())
        }
        UpgradeReport::Failed { reason } => {
            writeln!(
                Plain(io::stderr()),
                "tapis: not upgraded, and the running server goes on: {reason}"
            )?;
            Err(Failure::Reported)
        }
    }
}

/// The status of the server; `None` if it does not answer. The outer error is as for [`server::get`].
fn status(sockets: &[PathBuf], limit: Duration) -> io::Result<Option<Status>> {
    server::get_within(sockets, "/status", limit).map(Result::ok)
}

/// Waits until another process than the one `before` serves; `None` if none does.
fn replaced(sockets: &[PathBuf], before: Option<Status>) -> io::Result<Option<Replaced>> {
    let Some(before) = before else {
        return Ok(None);
    };
    let deadline = Instant::now() + FOLLOWING;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if let Some(now) = status(sockets, left)?
            && now.pid != before.pid
        {
            return Ok(Some(Replaced {
                from: before.version,
                from_process: before.pid,
                version: now.version,
                process: now.pid,
            }));
        }
        if left.is_zero() {
            return Ok(None);
        }
        std::thread::sleep(PAUSE);
    }
}
