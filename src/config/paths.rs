//! The paths of files as the journal and images record them.

use std::path::{Path, PathBuf};

use super::shown::{Counted, Show, counted};
use super::{Content, List};
use crate::wire::name::Name;

/// The beginning of the path of a feed's rules, which are in no file.
const ZONE: &str = "zone:";

/// The path of a feed's rules in messages, in images and in the journal. No file has it.
pub(super) fn of_feed(zone: &Name) -> PathBuf {
    PathBuf::from(format!("{ZONE}{zone}"))
}

/// The absolute path of a list's file as images record it: in JSON, so bytes that are not UTF-8 are replaced. The path
/// of a feed's rules is not changed.
pub(crate) fn recorded(path: &Path) -> PathBuf {
    match is_of_feed(path) {
        true => path.to_owned(),
        false => legible(&absolute(path)),
    }
}

/// Whether it is the path of a feed's rules, not of a file.
pub(crate) fn is_of_feed(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.starts_with(ZONE))
}

/// The section of the configuration that a source with this path comes from.
pub(crate) fn section(path: &Path) -> &'static str {
    match is_of_feed(path) {
        true => "feed",
        false => "list",
    }
}

/// The number of bad lines of a list, or of bad records of a feed, whose rules have this path.
pub(crate) fn bad(path: &Path, count: u32) -> Counted {
    match is_of_feed(path) {
        true => counted(count, "bad record", "bad records"),
        false => counted(count, "bad line", "bad lines"),
    }
}

/// A line of a list's file, or a record of a feed's zone: `/etc/ads:7`, `zone:rpz.example: record 7`.
pub(crate) fn at(path: &Path, number: u32) -> String {
    let between = match is_of_feed(path) {
        true => ": record ",
        false => ":",
    };
    format!("{}{between}{number}", path.shown())
}

/// The path of a list as the journal records it: absolute, if the list is a file.
pub(crate) fn place(list: &List) -> PathBuf {
    match list.content {
        Content::File => recorded(&list.source.path),
        Content::Embedded(_) | Content::Transferred => legible(&list.source.path),
    }
}

/// The path with bytes that are not UTF-8 replaced, as JSON can't represent them.
pub(crate) fn legible(path: &Path) -> PathBuf {
    path.to_string_lossy().into_owned().into()
}

/// The absolute path; unchanged if there is no working directory.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_recorded_with_absolute_paths_and_feeds_by_their_zones() {
        let here = std::env::current_dir().expect("a directory");
        assert_eq!(recorded(Path::new("a/b")), here.join("a/b"));
        assert_eq!(recorded(Path::new("/a/b")), Path::new("/a/b"));
        let feed = Path::new("zone:rpz.example");
        assert_eq!(recorded(feed), feed, "the same from every directory");
        assert!(is_of_feed(feed) && !is_of_feed(Path::new("/zone:rpz.example")));
    }
}
