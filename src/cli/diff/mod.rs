//! `tapis diff`: which names clients get different answers for in two generations, or which rules differ in two images.

mod answers;
mod images;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use clap::Args;

use super::configuration::{Choice, Need, read_config};
use super::failure::Failure;
use super::journal::PastArgs;
use super::server::ControlArgs;
use crate::config::Config;
use crate::control::guard::policy::Rails;
use crate::control::inspect::policy_at::{ListRules, PolicyAt};
use crate::control::persist::store::{read_generation, read_image};
use crate::policy::images::Images;

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// The old one: an image's file, or the number of a generation.
    old: String,
    /// The new one.
    new: String,
    /// Print how many names differ, not which.
    #[arg(long)]
    summary: bool,
    #[command(flatten)]
    past: PastArgs,
}

impl DiffArgs {
    /// Files need no configuration.
    pub(super) fn need(&self) -> Need {
        match [&self.old, &self.new].map(|which| Side::of(which)) {
            [Side::File(_), Side::File(_)] => Need::Nothing,
            _ => Need::Same,
        }
    }
}

/// How many names differ, by what decides on them.
#[derive(Default)]
struct Counts {
    added: usize,
    removed: usize,
    changed: usize,
}

/// What is compared.
enum Side<'a> {
    File(&'a Path),
    Generation(u64),
}

/// Exit code 0 when nothing differs, 1 when something does, 3 when that is not known.
pub(super) fn run(choice: &Choice, args: &DiffArgs, out: &mut impl Write) -> Result<(), Failure> {
    let (old, new) = (Side::of(&args.old), Side::of(&args.new));
    let files = args.past.files()?;
    let differs = match (&old, &new) {
        (Side::Generation(old), Side::Generation(new)) => {
            let config =
                choice.as_served(&ControlArgs::default(), read_config(choice.path.as_ref())?)?;
            let rails = Rails::read(&config);
            let replay = |generation| PolicyAt::generation(&config, &rails, files, generation);
            match (replay(*old)?, replay(*new)?) {
                (Some(was), Some(now)) => {
                    report_unknown(&[(*old, &was), (*new, &now)], out)?;
                    answers::compare(&was, &now, args.summary, out)?
                }
                _ => {
                    let (old, new) = (kept(&config, *old)?, kept(&config, *new)?);
                    writeln!(
                        out,
                        "answers, orders and exceptions are not compared, rules of lists are: the journal does not know \
                         both generations"
                    )?;
                    images::compare(old, new, args.summary, out)?
                }
            }
        }
        _ if !files.is_empty() => {
            let why =
                "--journal is for two generations: leave it out, as an image's file has no journal";
            return Err(Failure::Other(why.into()));
        }
        _ => {
            let (old, new) = (old.images(choice)?, new.images(choice)?);
            images::compare(old, new, args.summary, out)?
        }
    };
    if differs {
        return Err(Failure::Reported);
    }
    writeln!(out, "no difference")?;
    Ok(())
}

/// Ends here if the rules of a list are not known: then what differs is not known either.
fn report_unknown(sides: &[(u64, &PolicyAt); 2], out: &mut impl Write) -> Result<(), Failure> {
    let mut unknown = false;
    for (generation, replay) in sides {
        for note in &replay.notes {
            writeln!(out, "generation {generation}: {note}")?;
        }
        let mut lists = replay.lists.iter();
        unknown |= lists.any(|list| matches!(list.rules, ListRules::Unknown));
    }
    match unknown {
        true => Err(Failure::Unknown),
        false => Ok(()),
    }
}

/// The lists of a generation that the state directory keeps.
fn kept(config: &Config, generation: u64) -> Result<Images, Failure> {
    let Some(dir) = &config.state.dir else {
        return Err(Failure::Other(
            "there are no generations without a `dir` in [state]; name two files".into(),
        ));
    };
    let kept = read_generation(dir, config.journal.as_deref(), generation)?;
    Ok(kept.into_images())
}

impl<'a> Side<'a> {
    fn of(which: &'a str) -> Self {
        let file = Path::new(which);
        match which.parse() {
            Ok(generation) if !file.exists() => Self::Generation(generation),
            _ => Self::File(file),
        }
    }

    fn images(&self, choice: &Choice) -> Result<Images, Failure> {
        match self {
            Self::File(file) => Ok(Arc::new(read_image(file)?).into()),
            Self::Generation(generation) => {
                let config = choice
                    .as_served(&ControlArgs::default(), read_config(choice.path.as_ref())?)?;
                kept(&config, *generation)
            }
        }
    }
}

fn summarise(counts: &BTreeMap<String, Counts>, out: &mut impl Write) -> io::Result<()> {
    for (source, count) in counts {
        let Counts {
            added,
            removed,
            changed,
        } = count;
        writeln!(
            out,
            "{source}: {added} added, {removed} removed, {changed} changed"
        )?;
    }
    Ok(())
}
