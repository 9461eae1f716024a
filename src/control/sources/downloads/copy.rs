//! The last good copy of a downloaded list in the state directory, and what is known about it.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::client::Validators;
use crate::config::Config;
use crate::config::download::DIRECTORY;
use crate::control::persist::durable::{self, Access, DurableError};

/// The end of the name of the file with the facts about a copy.
const FACTS: &str = "json";

/// The facts about a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Copied {
    /// The mirror that has sent it, without user and password.
    pub(super) url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_modified: Option<String>,
    /// When it was downloaded.
    pub(super) fetched: Timestamp,
    /// When a mirror last confirmed that it is the newest one, or sent it.
    pub(super) confirmed: Timestamp,
    /// The SHA-256 digest of the file as the publisher has it.
    pub(super) sha256: String,
}

impl Copied {
    /// What the mirror needs to know to send only a newer file.
    pub(super) fn validators(&self, url: &str) -> Validators {
        match self.url == url {
            true => Validators {
                etag: self.etag.clone(),
                last_modified: self.last_modified.clone(),
            },
            false => Validators::default(),
        }
    }
}

/// Reads the facts about a copy; `None` if there is no copy. Facts that can't be read are only logged: the list is
/// downloaded again.
pub(super) fn read(list: &str, path: &Path) -> Option<Copied> {
    if !path.exists() {
        return None;
    }
    let read = fs::read(facts(path)).and_then(|text| Ok(serde_json::from_slice(&text)?));
    match read {
        Ok(copied) => Some(copied),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(list, %error, "it is not known which version of the list was downloaded");
            None
        }
    }
}

/// Stores the facts about a copy. After a power cut, those before may be there.
pub(super) fn store(path: &Path, copied: &Copied) -> Result<(), DurableError> {
    let text = serde_json::to_vec(copied).expect("strings and times");
    durable::replace_unsynced(&facts(path), &text, Access::Umask)
}

fn facts(path: &Path) -> PathBuf {
    path.with_extension(FACTS)
}

/// Creates the directory of copies, if a list is downloaded.
pub(super) fn create_directory(config: &Config) -> Result<(), DurableError> {
    let is_downloaded = config.lists.iter().any(|list| list.download.is_some());
    match config.state.dir.as_deref().filter(|_| is_downloaded) {
        Some(dir) => {
            durable::create_directory(dir)?;
            durable::create_directory(&dir.join(DIRECTORY))
        }
        None => Ok(()),
    }
}

/// Removes the copies of lists that the configuration does not have; at the start also files that were being written when
/// the server was killed.
pub(super) fn remove_others(config: &Config, is_start: bool) -> io::Result<()> {
    let Some(dir) = &config.state.dir else {
        return Ok(());
    };
    let downloaded = config.lists.iter().filter(|list| list.download.is_some());
    let paths = downloaded.flat_map(|list| {
        let path = &list.source.path;
        [path.clone(), facts(path)]
    });
    let known: HashSet<OsString> = paths
        .filter_map(|path| path.file_name().map(ToOwned::to_owned))
        .collect();
    let entries = match fs::read_dir(dir.join(DIRECTORY)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let (name, path) = entry.map(|entry| (entry.file_name(), entry.path()))?;
        let is_being_written = name.to_string_lossy().contains(durable::TEMPORARY);
        if !known.contains(&name) && (is_start || !is_being_written) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
