//! Owns reading what was in force in some generation.
//! Refuses to change anything: it also reads beside the server that has the directory.

use std::path::{Path, PathBuf};

use super::file::{ImageFileError, read_image};
use super::manifest::{Manifest, ManifestError, Published};
use super::names::Pair;
use crate::config::shown::{Show, counted};
use crate::control::journal::JournalError;
use crate::control::journal::past::{Moment, Past};
use crate::policy::image::Image;

/// Why a generation can't be read.
#[derive(Debug, thiserror::Error)]
pub enum PastError {
    /// The record of what was in force.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// It is not kept any more, or never was.
    #[error("{dir}: {problem}; lists are kept of: {known}", problem = unknown(*.generation), dir = .dir.shown())]
    Unknown {
        /// The state directory.
        dir: PathBuf,
        /// What was asked for; 0, which no generation has, if nothing was.
        generation: u64,
        /// What there is.
        known: String,
    },
    /// An image of it.
    #[error(transparent)]
    Image(#[from] ImageFileError),
}

fn unknown(generation: u64) -> String {
    match generation {
        0 => "no generation is named".to_owned(),
        _ => format!("the lists of generation {generation} are not kept"),
    }
}

/// The lists of a generation, as images.
#[derive(Debug)]
pub struct Kept {
    /// The images' numbers.
    pub pair: Pair,
    /// The rules of all lists.
    pub base: Image,
    /// What changed since that was made.
    pub delta: Option<Image>,
}

/// The lists of a generation, from the state directory `dir`. Where the generation came by an order
/// alone, the lists are those of one before, as the `journal` tells.
///
/// # Errors
/// [`PastError`] when they can't be read.
pub fn read_generation(
    dir: &Path,
    journal: Option<&Path>,
    generation: u64,
) -> Result<Kept, PastError> {
    let history = Manifest::read(dir)?.0;
    let unknown = || {
        let known = history.iter().map(|kept| {
            let rules = kept
                .rules
                .map(|rules| format!("{}, ", counted(rules, "rule", "rules")));
            format!(
                "{} ({}{:.0})",
                kept.generation,
                rules.unwrap_or_default(),
                kept.at
            )
        });
        let known: Vec<_> = known.collect();
        PastError::Unknown {
            dir: dir.to_owned(),
            generation,
            known: match known.is_empty() {
                true => "none".to_owned(),
                false => known.join(", "),
            },
        }
    };
    let before = history.iter().filter(|kept| kept.generation <= generation);
    let found = before
        .max_by_key(|kept| kept.generation)
        .ok_or_else(unknown)?;
    let kept = read(dir, found)?;
    if found.generation == generation {
        return Ok(kept);
    }
    let past = match journal {
        Some(journal) => Past::read(journal, Moment::Generation(generation))?,
        None => None,
    };
    match past.is_some_and(|past| kept.has_lists_of(&past)) {
        true => Ok(kept),
        false => Err(unknown()),
    }
}

fn read(dir: &Path, found: &Published) -> Result<Kept, PastError> {
    let pair = found.pair;
    let base = read_image(&dir.join(pair.base.to_string()))?;
    let delta = pair
        .delta
        .map(|delta| read_image(&dir.join(delta.to_string())));
    Ok(Kept {
        pair,
        base,
        delta: delta.transpose()?,
    })
}

impl Kept {
    /// Whether its lists are those that were in force then.
    fn has_lists_of(&self, past: &Past) -> bool {
        let images = self.delta.iter().chain([&self.base]);
        let sources: Vec<_> = images
            .flat_map(|image| &image.provenance().sources)
            .collect();
        past.lists.iter().all(|list| {
            // What the delta has of a list stands before what the base has.
            let source = sources.iter().find(|source| source.name == list.name);
            source.is_some_and(|source| source.digest == list.digest)
        })
    }
}
