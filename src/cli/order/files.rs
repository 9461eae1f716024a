//! Arguments and checks that several verbs of `tapis order` share.

use clap::Args;
use jiff::Timestamp;

use crate::cli::failure::Failure;
use crate::config::moment::{Moment, time_or_date};
use crate::control::sources::orders::registry::OrderRegistry;

/// The sections of the configuration that the verbs need.
pub(super) const SECTIONS: &[&str] = &["orders", "state", "journal"];

#[derive(Debug, Args)]
pub(super) struct AtArgs {
    /// Show the states at this time, as in 2017-07-20T00:00:00+07:00; a date alone means 00:00:00 UTC of that day. The
    /// default is now.
    #[arg(long, value_name = "TIME", value_parser = time_or_date)]
    at: Option<Moment>,
    /// Print JSON, for programs.
    #[arg(long)]
    pub(super) json: bool,
}

impl AtArgs {
    /// The time in the arguments.
    pub(super) fn named(&self) -> Option<Timestamp> {
        self.at.map(Moment::at)
    }

    /// The time in the arguments, or the present time.
    pub(super) fn instant(&self) -> Timestamp {
        self.named().unwrap_or_else(Timestamp::now)
    }
}

/// Fails with all problems of the files of orders and exceptions, if there are any.
pub(super) fn check_problems(registry: &OrderRegistry) -> Result<(), Failure> {
    let problems = registry.problems();
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Failure::Other(problems.join("\n").into())),
    }
}
