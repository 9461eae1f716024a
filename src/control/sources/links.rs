//! Follows paths through symbolic links, and collects every path whose replacement changes where they lead.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Symbolic links on one way, as in Linux.
const LINKS_MAX: usize = 40;

/// The ways to some files. Directories that several of them share are looked at once.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    /// Everything on the ways, with their ends.
    pub(crate) paths: HashSet<PathBuf>,
    /// The symbolic links among them.
    pub(crate) links: HashSet<PathBuf>,
    /// Where each path leads that was looked at, if it is a link.
    known: HashMap<PathBuf, Option<PathBuf>>,
}

impl Ways {
    /// Follows an absolute path. Returns the path without links that it leads to; `None` if it leads
    /// nowhere.
    pub(crate) fn follow(&mut self, path: &Path) -> Option<PathBuf> {
        // The way as it is written, also behind a part that is missing: that part may come.
        self.paths.extend(path.ancestors().map(Path::to_owned));
        let mut rest = names(path);
        let (mut at, mut links) = (PathBuf::from("/"), 0);
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                at.pop();
                continue;
            }
            at.push(name);
            self.paths.insert(at.clone());
            let Some(target) = self.link(&at) else {
                continue;
            };
            links += 1;
            if links > LINKS_MAX {
                return None;
            }
            at.pop();
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            for name in names(&target).into_iter().rev() {
                rest.push_front(name);
            }
            let end = rest.iter().fold(at.clone(), |end, name| end.join(name));
            self.paths.extend(end.ancestors().map(Path::to_owned));
        }
        at.symlink_metadata().is_ok().then_some(at)
    }

    fn link(&mut self, path: &Path) -> Option<PathBuf> {
        if let Some(known) = self.known.get(path) {
            return known.clone();
        }
        let target = fs::read_link(path).ok();
        self.known.insert(path.to_owned(), target.clone());
        if target.is_some() {
            self.links.insert(path.to_owned());
        }
        target
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_link_on_the_way_is_on_it_and_the_end_is_what_the_system_says() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().canonicalize().expect("there");
        fs::create_dir(folder.join("..2024")).expect("made");
        fs::write(folder.join("..2024/list"), "a").expect("written");
        symlink("..2024", folder.join("..data")).expect("linked");
        symlink("..data/list", folder.join("list")).expect("linked");
        let mut ways = Ways::default();
        let list = folder.join("list");
        assert_eq!(ways.follow(&list), list.canonicalize().ok());
        for part in ["list", "..data", "..data/list", "..2024", "..2024/list"] {
            assert!(ways.paths.contains(&folder.join(part)), "{part}");
        }
        assert!(!ways.paths.contains(&folder.join("other")));
        assert_eq!(
            ways.links,
            [folder.join("list"), folder.join("..data")].into()
        );
    }

    #[test]
    fn what_leads_nowhere_is_on_its_way_all_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().canonicalize().expect("there");
        symlink("round", folder.join("round")).expect("linked");
        let mut ways = Ways::default();
        assert_eq!(ways.follow(&folder.join("round")), None);
        let missing = folder.join("missing/list");
        assert_eq!(ways.follow(&missing), None);
        assert!(ways.paths.contains(&missing));
        assert!(ways.paths.contains(&folder.join("missing")));
    }
}
