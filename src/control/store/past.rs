//! Owns reading what was in force in some generation, beside the server that has the directory.
//! Refuses to change anything there.

use std::path::{Path, PathBuf};

use super::file::{ImageFileError, read_image};
use super::manifest::{Manifest, ManifestError};
use crate::policy::image::Image;

/// Why a generation can't be read.
#[derive(Debug, thiserror::Error)]
pub enum PastError {
    /// The record of what was in force.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// It is not kept any more, or never was.
    #[error("{dir}: generation {generation} is not kept; kept are: {known}")]
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

/// The base and the delta of a generation.
///
/// # Errors
/// [`PastError`] when they can't be read.
pub fn read_generation(dir: &Path, generation: u64) -> Result<(Image, Option<Image>), PastError> {
    let kept = Manifest::read(dir)?.0;
    let found = kept.iter().find(|kept| kept.generation == generation);
    let Some(found) = found else {
        let known: Vec<_> = kept
            .iter()
            .map(|kept| kept.generation.to_string())
            .collect();
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        let dir = dir.to_owned();
        return Err(PastError::Unknown {
            dir,
            generation,
            known,
        });
    };
    let base = read_image(&dir.join(found.pair.base.to_string()))?;
    let delta = found
        .pair
        .delta
        .map(|delta| read_image(&dir.join(delta.to_string())));
    Ok((base, delta.transpose()?))
}
