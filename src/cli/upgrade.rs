//! `tapis upgrade`: replaces the running server by a new process of the program on the disk, without a lost query.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use super::configuration::read_config;
use super::failure::Failure;
use super::plain::Plain;
use super::server::{self, ControlArgs};
use crate::config::shown::{Show, counted};
use crate::control::admin::client::ClientError;
use crate::control::admin::successor::{UPGRADE_PATH, UpgradeReport};

/// The exit code if the running server can only be restarted.
const CANNOT: u8 = 3;

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
        Err(error @ (ClientError::Silent { .. } | ClientError::Broken { .. })) => {
            writeln!(
                Plain(io::stderr()),
                "tapis: it is not known whether the server was upgraded: {error}; see `tapis status` for its version"
            )?;
            return Err(Failure::Reported);
        }
        report => report?,
    };
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        return match report {
            UpgradeReport::Upgraded(_) => Ok(()),
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
        UpgradeReport::Failed { reason } => {
            writeln!(
                Plain(io::stderr()),
                "tapis: not upgraded, and the running server goes on: {reason}"
            )?;
            Err(Failure::Reported)
        }
    }
}
