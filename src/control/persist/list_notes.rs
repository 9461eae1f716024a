//! The facts that an image records about each of its lists, and the key of a list's rules.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::Format;
use crate::config::comments::Comments;
use crate::control::guard::release::Guards;
use crate::control::list_file::parse::{Notation, Tally};
use crate::control::list_file::signature::Signature;
use crate::policy::image::provenance::ImageSource;
use crate::policy::rule::{Kind, Scope};

/// Length of the key of a list's rules, in hexadecimal digits.
const KEY: usize = 32;

/// The facts about the reading of a list that an image records, so that they can be reported after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListNotes {
    /// Its format.
    pub format: Format,
    /// The scope of a name without a prefix.
    pub scope: Scope,
    /// The characters that begin a comment line.
    #[serde(default)]
    pub comments: Comments,
    /// The column of a table that has the names, or the key of JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<Arc<str>>,
    /// The effect of its rules; `None` in images of older versions.
    #[serde(default)]
    pub kind: Option<Kind>,
    /// Counts of its lines.
    pub tally: Tally,
    /// The signature of the file; `None` for built-in content.
    pub signature: Option<Signature>,
    /// The duration of reading in milliseconds.
    pub took_ms: u64,
    /// Identifies the protected names that its rules were checked against; empty if there were none.
    #[serde(default, rename = "wards")]
    pub protected_names: String,
    /// Guards that were released for it.
    #[serde(default)]
    pub released: Guards,
}

impl ListNotes {
    /// The notes of a source; `None` if there are none, or a version with another format wrote them.
    pub fn of(source: &ImageSource) -> Option<Self> {
        serde_json::from_value(source.notes.clone()).ok()
    }

    /// The notation in which the list was read.
    pub(crate) fn notation(&self) -> Notation {
        Notation {
            format: self.format,
            bare: self.scope,
            comments: self.comments,
            column: self.column.clone(),
            allows: self.kind == Some(Kind::Allow),
        }
    }

    /// The notes in the form in which a source stores them.
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("strings and numbers have a JSON form")
    }
}

/// The key of the rules of a list in an image; `None` if the image does not record how the list was read.
pub(crate) fn content_of(source: &ImageSource) -> Option<String> {
    let notes = ListNotes::of(source)?;
    Some(key(
        &source.digest,
        &notes.notation(),
        &notes.protected_names,
    ))
}

/// A text that identifies the rules of a list in an image. Sources with equal texts have the same rules, even if they
/// were read at different times.
pub(crate) fn rules_of(source: &ImageSource) -> String {
    let ImageSource {
        name,
        path,
        digest,
        rules,
        notes,
        read_at: _,
        // Equal rules can be in one image or in two.
        amends: _,
        amendable: _,
    } = source;
    let all = match (ListNotes::of(source), content_of(source)) {
        (Some(of), Some(content)) => {
            serde_json::to_string(&(name, path, digest, rules, of.kind, of.released, content))
        }
        _ => serde_json::to_string(&(name, path, digest, rules, notes)),
    };
    all.expect("text, numbers and enums can be serialized to JSON")
}

/// The key of a list's rules: a hash of the file's digest, its notation, and the protected names.
pub(crate) fn key(digest: &str, notation: &Notation, protected_names: &str) -> String {
    let Notation {
        format,
        bare,
        comments,
        column,
        allows,
    } = notation;
    let read = (format, comments, bare);
    let allows = *allows && format.has_allow_rules();
    let all = match (column, allows) {
        // The form of older versions.
        (None, false) => serde_json::to_vec(&(digest, read, protected_names)),
        _ => serde_json::to_vec(&(digest, read, protected_names, column, allows)),
    };
    let all = all.expect("text and enums can be serialized to JSON");
    let mut key = blake3::hash(&all).to_hex().to_string();
    key.truncate(KEY);
    key
}
