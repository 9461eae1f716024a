//! Reads the lists of an earlier generation. Needs no lock, so verbs do it while a server uses the directory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::shown::{Show, counted};
use crate::control::journal::JournalError;
use crate::control::journal::past::{Moment, Past};
use crate::control::persist::store::Pair;
use crate::control::persist::store::{ImageFileError, read_image};
use crate::control::persist::store::{Manifest, ManifestError, Published};
use crate::policy::image::Image;
use crate::policy::image::provenance::ImageSource;
use crate::policy::images::Images;

/// Why a generation can't be read.
#[derive(Debug, thiserror::Error)]
pub enum PastError {
    /// The state directory's record of what was in force can't be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The journal can't be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Its lists are not kept any more, or never were.
    #[error("{dir}: there are no lists of generation {generation}: they are no longer kept, or there was no such generation; lists are kept of: {known}", dir = .dir.shown())]
    Unknown {
        /// The state directory.
        dir: PathBuf,
        /// The generation.
        generation: u64,
        /// The generations whose lists are kept, as text.
        known: String,
    },
    /// One of its images can't be read.
    #[error(transparent)]
    Image(#[from] ImageFileError),
}

/// The images of a generation.
#[derive(Debug)]
pub struct StoredImages {
    /// The images' numbers.
    pub pair: Pair,
    /// The rules of all lists.
    pub base: Image,
    /// Whole lists that replace those of the base.
    pub delta: Option<Image>,
    /// Lists that have rules in these images and were not in force.
    pub gone: BTreeSet<String>,
}

/// A version of all lists that a rollback can put in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredLists {
    /// The generations that had them, as the first and the last of each run.
    pub generations: Vec<(u64, u64)>,
    /// When they came into force first.
    pub at: Timestamp,
    /// The number of their rules; `None` if an older version of the program wrote them.
    pub rules: Option<u64>,
}

/// The generations whose lists are kept in the state directory `dir`, the newest first.
///
/// # Errors
/// [`ManifestError`] if its record can't be read.
pub fn stored_lists(dir: &Path) -> Result<Vec<StoredLists>, ManifestError> {
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

/// Reads the images of a generation from the state directory `dir`. If only an order changed in that generation, its
/// images are those of an earlier generation. If the record of the state directory does not have the generation, the
/// `journal` must confirm that the lists are the same.
///
/// # Errors
/// [`PastError`] if they can't be read, or are not kept.
pub fn read_generation(
    dir: &Path,
    journal: Option<&Path>,
    generation: u64,
) -> Result<StoredImages, PastError> {
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
        return read_images(dir, recorded);
    }
    let before = history.iter().filter(|kept| kept.generation <= generation);
    let before = before.max_by_key(|kept| kept.generation);
    let found = recorded.or(before).ok_or_else(unknown)?;
    let kept = read_images(dir, found)?;
    let past = match journal {
        Some(journal) => Past::read(journal, Moment::Generation(generation)),
        None => Ok(None),
    };
    match (past, recorded) {
        (Ok(Some(past)), _) if kept.has_lists_of(&past) => Ok(kept.with_lists_of(&past)),
        // An older version wrote the record, without the lists in force.
        (_, Some(_)) => Ok(kept),
        (Err(error), None) => Err(error.into()),
        (Ok(_), None) => Err(unknown()),
    }
}

fn read_images(dir: &Path, found: &Published) -> Result<StoredImages, PastError> {
    let pair = found.pair;
    let base = read_image(&dir.join(pair.base.to_string()))?;
    let delta = pair
        .delta
        .map(|delta| read_image(&dir.join(delta.to_string())));
    Ok(StoredImages {
        pair,
        base,
        delta: delta.transpose()?,
        gone: found.gone.clone().unwrap_or_default(),
    })
}

impl StoredImages {
    /// As images of a snapshot.
    pub fn into_images(self) -> Images {
        Images {
            base: Some(Arc::new(self.base)),
            delta: self.delta.map(Arc::new),
            gone: Arc::new(self.gone),
            ..Images::default()
        }
    }

    /// The records of all lists. If both images have one of a list, that of the delta comes first, as it replaces the
    /// other.
    fn sources(&self) -> impl Iterator<Item = &ImageSource> {
        let images = self.delta.iter().chain([&self.base]);
        images.flat_map(|image| &image.provenance().sources)
    }

    /// Whether they have all lists of `past`, as they were.
    fn has_lists_of(&self, past: &Past) -> bool {
        past.lists.iter().all(|list| {
            let source = self.sources().find(|source| source.name == list.name);
            source.is_some_and(|source| source.digest == list.digest)
        })
    }

    /// The same images, with the lists of `past` in force.
    fn with_lists_of(mut self, past: &Past) -> Self {
        let is_past = |name: &str| past.lists.iter().any(|list| list.name == name);
        let names = self.sources().map(|source| &source.name);
        self.gone = names.filter(|name| !is_past(name)).cloned().collect();
        self
    }
}
