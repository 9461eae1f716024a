//! The directory of the copies of all downloaded lists.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::copy;
use crate::config::Config;
use crate::config::download::DIRECTORY;
use crate::control::persist::durable::{self, DurableError};

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

/// The names of the files of the downloaded lists.
pub(super) fn names(config: &Config) -> HashSet<OsString> {
    let downloaded = config.lists.iter().filter(|list| list.download.is_some());
    let paths = downloaded.flat_map(|list| copy::files(&list.source.path));
    paths
        .filter_map(|path| path.file_name().map(ToOwned::to_owned))
        .collect()
}

/// Removes files other than these from the directory of copies; at the start also files that were being written when the
/// server was killed. Errors are only logged.
pub(super) fn remove_others(config: &Config, names: &Mutex<HashSet<OsString>>, is_start: bool) {
    if let Some(dir) = &config.state.dir
        && let Err(error) = remove_files(dir, names, is_start)
    {
        tracing::warn!(%error, "copies of lists that are not configured any more stay");
    }
}

fn remove_files(dir: &Path, names: &Mutex<HashSet<OsString>>, is_start: bool) -> io::Result<()> {
    let entries = match fs::read_dir(dir.join(DIRECTORY)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let (name, path) = entry.map(|entry| (entry.file_name(), entry.path()))?;
        let is_being_written = name.to_string_lossy().contains(durable::TEMPORARY);
        // The list may be configured again meanwhile, so the names do not change until the file is removed.
        let names = names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.contains(&name) || (is_being_written && !is_start) {
            continue;
        }
        match fs::remove_file(path) {
            // Another removal was faster.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_whose_list_is_configured_again_is_not_removed() {
        let folder = tempfile::tempdir().expect("a directory");
        let dir = folder.path().join(DIRECTORY);
        fs::create_dir(&dir).expect("created");
        let path = dir.join("ads.list");
        fs::write(&path, "").expect("written");
        let names = Mutex::new(HashSet::from(["ads.list".into()]));
        let remove = || remove_files(folder.path(), &names, false).expect("removed");
        remove();
        assert!(path.exists());
        names.lock().expect("not poisoned").clear();
        remove();
        assert!(!path.exists());
    }
}
