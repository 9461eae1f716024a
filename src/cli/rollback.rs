//! Owns `tapis rollback`.
//! Refuses to judge: the server says what it took.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::{ControlArgs, Failure, reload, runtime};
use crate::control::client::call;
use crate::control::status::{ReloadReport, RollbackRequest};
use crate::sys::process::user_id;

#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    control: ControlArgs,
    /// The generation to go back to. Without it, those that are kept are listed, as an error.
    generation: Option<u64>,
    /// Let lists that are held follow their files again.
    #[arg(long, conflicts_with = "generation")]
    release: bool,
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &RollbackArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let places = args.control.places(config)?;
    let wish = RollbackRequest {
        // No generation is number 0: the server answers with those that it keeps.
        generation: (!args.release).then_some(args.generation.unwrap_or(0)),
    };
    let report: ReloadReport =
        runtime()?.block_on(call(&places, user_id(), "/rollback", Some(&wish)))?;
    if let (None, false, [problem]) = (args.generation, args.release, &*report.problems) {
        return Err(Failure::Other(problem.clone().into()));
    }
    let told = reload::tell(&report, out);
    if let (Some(generation), true) = (report.held_as, args.generation == report.held_as) {
        let but = match told {
            Ok(()) => "",
            Err(_) => " but for what is named above,",
        };
        writeln!(
            out,
            "lists are held as they were in generation {generation},{but} until: tapis rollback --release"
        )?;
    }
    told
}
