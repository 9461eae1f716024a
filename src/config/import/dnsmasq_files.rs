//! The files of directories that dnsmasq reads.

use std::path::PathBuf;

use super::folder::Folder;

/// A file, or those of a directory whose names fit.
pub(super) fn files(
    folder: &Folder,
    path: PathBuf,
    fits: impl Fn(&str) -> bool,
) -> Result<Vec<PathBuf>, String> {
    match path.is_dir() {
        true => folder.entries(&path, fits),
        false => Ok(vec![path]),
    }
}

/// Whether dnsmasq reads a file of a directory: all files but backups, those that end in a word of `filters`, or only those
/// that end in a word behind an asterisk.
pub(super) fn is_configuration(name: &str, filters: &str) -> bool {
    if name.starts_with(['.', '#']) || name.ends_with(['~', '#']) {
        return false;
    }
    let filters: Vec<_> = filters
        .split(',')
        .filter(|filter| !filter.is_empty())
        .collect();
    let mut only = filters
        .iter()
        .filter_map(|filter| filter.strip_prefix('*'))
        .peekable();
    let is_wanted = only.peek().is_none() || only.any(|end| name.ends_with(end));
    let mut without = filters.iter().filter(|filter| !filter.starts_with('*'));
    is_wanted && !without.any(|end| name.ends_with(end))
}
