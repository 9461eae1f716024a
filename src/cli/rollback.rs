//! `tapis rollback`: rolls back the lists of the running server, releases them, or prints the kept generations.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::reload;
use super::server::{self, ControlArgs};
use crate::config::shown::counted;
use crate::control::admin::status::{ReloadReport, RollbackRequest};
use crate::control::rollback::stored::StoredLists;

#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    control: ControlArgs,
    /// The generation to roll back to. Without it, the generations whose lists are kept are printed, the newest first.
    /// Generations that differ only in orders or exceptions have the same lists; each of them can be given.
    generation: Option<u64>,
    /// Release held lists, so that they follow their files again.
    #[arg(long, conflicts_with = "generation")]
    release: bool,
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &RollbackArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let sockets = args.control.sockets(config)?;
    if args.generation.is_none() && !args.release {
        let kept: Vec<StoredLists> = server::get(&sockets, "/generations")??;
        return Ok(print_generations(&kept, out)?);
    }
    let request = RollbackRequest {
        generation: args.generation,
    };
    let report: ReloadReport = server::post(&sockets, "/rollback", &request)??;
    let result = reload::print_report(&report, out);
    if let (Some(generation), true) = (report.held_as, args.generation == report.held_as) {
        let but = match result {
            Ok(()) => "",
            Err(_) => " except for the problems above,",
        };
        writeln!(
            out,
            "lists are held as they were in generation {generation},{but} until: tapis rollback --release"
        )?;
    }
    result
}

fn print_generations(kept: &[StoredLists], out: &mut impl Write) -> io::Result<()> {
    if kept.is_empty() {
        writeln!(out, "no lists are kept yet")?;
    }
    for lists in kept {
        let runs = lists
            .generations
            .iter()
            .map(|(first, last)| match first == last {
                true => first.to_string(),
                false => format!("{first} to {last}"),
            });
        let runs: Vec<_> = runs.collect();
        let rules = lists.rules.map_or(String::new(), |rules| {
            format!(", {}", counted(rules, "rule", "rules"))
        });
        writeln!(
            out,
            "{}: in force from {:.0}{rules}",
            runs.join(", "),
            lists.at
        )?;
    }
    Ok(())
}
