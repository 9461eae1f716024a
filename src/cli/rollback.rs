//! Owns `tapis rollback`.
//! Refuses to judge: the server says what it took.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::reload;
use super::server::{self, ControlArgs};
use crate::config::shown::counted;
use crate::control::admin::status::{KeptLists, ReloadReport, RollbackRequest};

#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    control: ControlArgs,
    /// The generation to go back to. Without it, those whose lists are kept are listed, the newest first. A later one
    /// that only orders or exceptions made has the same lists, and can be named as well.
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
    if args.generation.is_none() && !args.release {
        let kept: Vec<KeptLists> = server::get(&places, "/generations")??;
        return Ok(list(&kept, out)?);
    }
    let wish = RollbackRequest {
        generation: args.generation,
    };
    let report: ReloadReport = server::post(&places, "/rollback", &wish)??;
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

fn list(kept: &[KeptLists], out: &mut impl Write) -> io::Result<()> {
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
