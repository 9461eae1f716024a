//! The sources of an image's rules, as they were when it was compiled.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::ImageError;

/// The origin of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The version of the program that compiled it.
    pub made_by: String,
    /// When it was compiled.
    pub made_at: Timestamp,
    /// The sources. Rules refer to them by index.
    pub sources: Vec<ImageSource>,
}

/// A source as it was when the image was compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSource {
    /// Its configured name.
    pub name: String,
    /// The file that it was read from.
    pub path: PathBuf,
    /// When it was read.
    pub read_at: Timestamp,
    /// BLAKE3 digest of the file, in hexadecimal.
    pub digest: String,
    /// The number of distinct rules of the source, including those left out because others cover them. If the image amends
    /// the source, all its rules in force count, also those in the base.
    pub rules: u64,
    /// Whether the image is a delta that changes single rules of the source, and not all. On each changed name it has all
    /// rules of the source, and a mark that voids those of the base. It has all rules of the source with other triggers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub amends: bool,
    /// Whether a delta may amend the source. Rules that are covered by those on names above are then kept in the image,
    /// because they apply as soon as an amendment removes the others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub amendable: bool,
    /// Data of the source's reader, in a format of the reader's choice.
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
    /// The source with this name.
    pub fn source(&self, name: &str) -> Option<&ImageSource> {
        self.sources.iter().find(|source| source.name == name)
    }

    /// Whether the image amends some source.
    pub fn amends(&self) -> bool {
        self.sources.iter().any(|source| source.amends)
    }

    /// A provenance with this number of sources, named by their numbers.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_this_version_does_not_know_are_ignored() {
        let provenance = Provenance::numbered(2);
        let mut json: serde_json::Value =
            serde_json::from_slice(&provenance.to_json()).expect("JSON");
        json["sources"][1]["whole"] = true.into();
        let read = Provenance::from_json(json.to_string().as_bytes());
        assert_eq!(read, Ok(provenance));
    }
}
