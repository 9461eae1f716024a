//! Owns the record of where an image's rules come from.
//! Refuses to follow it: nothing here opens a file.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::ImageError;

/// Where the rules of an image come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The version of the program that made it.
    pub made_by: String,
    /// When it was made.
    pub made_at: Timestamp,
    /// The sources; rules name them by their index.
    pub sources: Vec<ImageSource>,
}

/// A source as it was when an image was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSource {
    /// The name that the operator gave it.
    pub name: String,
    /// The file that it was read from.
    pub path: PathBuf,
    /// When that was.
    pub read_at: Timestamp,
    /// BLAKE3 of the file's bytes, in hexadecimal.
    pub digest: String,
    /// In a delta: these are all rules of the source, and those in the image beneath count no more.
    #[serde(default)]
    pub whole: bool,
    /// Different rules in it, with those that are not in the image because others cover them.
    pub rules: u64,
    /// What the reader of the source wants to know again, in its own form.
    #[serde(default)]
    pub notes: serde_json::Value,
}

impl ImageSource {
    /// A source of which only the name is known.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }
}

impl Provenance {
    /// Of sources of which only the names are known.
    #[cfg(test)]
    pub(crate) fn numbered(sources: usize) -> Self {
        let named = (0..sources).map(|number| ImageSource::named(&number.to_string()));
        Self {
            sources: named.collect(),
            ..Self::default()
        }
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and times have a JSON form")
    }

    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, ImageError> {
        serde_json::from_slice(bytes).map_err(|_| ImageError::Invalid("provenance"))
    }
}
