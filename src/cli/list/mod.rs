//! `tapis list`: asks the servers of downloaded lists. One file for each verb.

mod refresh;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};

pub(super) use self::refresh::summary;
use super::failure::Failure;
use super::server::ControlArgs;
use crate::control::admin::status::DownloadRequest;

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(subcommand)]
    verb: ListVerb,
}

#[derive(Debug, Subcommand)]
enum ListVerb {
    /// Ask the servers of a list, or of all lists with a URL, for a newer version now, and wait for the result.
    ///
    /// The exit code is 1 if the newest version of a list is not in force in the end.
    Refresh {
        #[command(flatten)]
        control: ControlArgs,
        /// The name of the list. The default is all lists with a URL.
        list: Option<String>,
    },
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &ListArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    match &args.verb {
        ListVerb::Refresh { control, list } => {
            let request = DownloadRequest { list: list.clone() };
            refresh::refresh(&control.sockets(config)?, &request, out)
        }
    }
}
