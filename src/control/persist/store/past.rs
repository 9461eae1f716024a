//! Owns reading what was in force in some generation.
//! Refuses to change anything: it also reads beside the server that has the directory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::names::Pair;
use crate::config::shown::{Show, counted};
use crate::control::admin::status::StoredLists;
use crate::control::journal::JournalError;
use crate::control::journal::past::{Moment, Past};
use crate::control::persist::store::file::{ImageFileError, read_image};
use crate::control::persist::store::manifest::{Manifest, ManifestError, Published};
use crate::policy::image::Image;
use crate::policy::image::provenance::ImageSource;
use crate::policy::images::Images;

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
    #[error("{dir}: the lists of generation {generation} are not kept; lists are kept of: {known}", dir = .dir.shown())]
    Unknown {
        /// The state directory.
        dir: PathBuf,
        /// What was asked for.
        generation: u64,
        /// What there is.
        known: String,
    },
    /// An image of it.
    #[error(transparent)]
    Image(#[from] ImageFileError),
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
    /// Lists of which these have rules that were not in force.
    pub gone: BTreeSet<String>,
}

/// Which lists the state directory `dir` keeps, the newest first.
///
/// # Errors
/// [`ManifestError`] when its record can't be read.
pub fn kept_lists(dir: &Path) -> Result<Vec<StoredLists>, ManifestError> {
    let kept = Manifest::read(dir)?.0.into_iter().map(|kept| {
        let mut generations = vec![(kept.generation, kept.generation)];
        for (first, last) in kept.again {
            match generations.last_mut() {
                Some(run) if run.1 + 1 == first => run.1 = last,
                _ => generations.push((first, last)),
            }
        }
        StoredLists {
            generations,
            at: kept.at,
            rules: kept.rules,
        }
    });
    Ok(kept.collect())
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
    let recorded = history.iter().find(|kept| kept.has(generation));
    if let Some(recorded) = recorded.filter(|kept| kept.gone.is_some()) {
        return read(dir, recorded);
    }
    let before = history.iter().filter(|kept| kept.generation <= generation);
    let before = before.max_by_key(|kept| kept.generation);
    let found = recorded.or(before).ok_or_else(unknown)?;
    let kept = read(dir, found)?;
    let past = match journal {
        Some(journal) => Past::read(journal, Moment::Generation(generation)),
        None => Ok(None),
    };
    match (past, recorded) {
        (Ok(Some(past)), _) if kept.has_lists_of(&past) => Ok(kept.with_lists_of(&past)),
        // An older version recorded it, which did not say which lists were in force.
        (_, Some(_)) => Ok(kept),
        (Err(error), None) => Err(error.into()),
        (Ok(_), None) => Err(unknown()),
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
        gone: found.gone.clone().unwrap_or_default(),
    })
}

impl Kept {
    /// The images.
    pub fn into_images(self) -> Images {
        Images {
            base: Some(Arc::new(self.base)),
            delta: self.delta.map(Arc::new),
            gone: Arc::new(self.gone),
            ..Images::default()
        }
    }

    /// What there is of each list; what the delta has of one stands before what the base has.
    fn sources(&self) -> impl Iterator<Item = &ImageSource> {
        let images = self.delta.iter().chain([&self.base]);
        images.flat_map(|image| &image.provenance().sources)
    }

    /// Whether it has all lists that were in force then, as they were.
    fn has_lists_of(&self, past: &Past) -> bool {
        past.lists.iter().all(|list| {
            let source = self.sources().find(|source| source.name == list.name);
            source.is_some_and(|source| source.digest == list.digest)
        })
    }

    /// The same, where those that were in force then are in force.
    fn with_lists_of(mut self, past: &Past) -> Self {
        let is_past = |name: &str| past.lists.iter().any(|list| list.name == name);
        let names = self.sources().map(|source| &source.name);
        self.gone = names.filter(|name| !is_past(name)).cloned().collect();
        self
    }
}
