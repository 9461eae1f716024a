//! Resolves symbolic links. Collects the paths on the way: if one of them is replaced, the path of a file may lead
//! elsewhere.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The most symbolic links on one path, as in Linux.
const LINKS_MAX: usize = 40;

/// Resolves the paths of files. Directories that they share are looked at only once.
#[derive(Debug, Default)]
pub(crate) struct PathResolver {
    /// All paths that were resolved, and those of every directory and link on the way to their targets.
    pub(crate) paths: HashSet<PathBuf>,
    /// The symbolic links among them.
    pub(crate) links: HashSet<PathBuf>,
    /// The target of each path that was looked at; `None` if it is no link.
    known: HashMap<PathBuf, Option<PathBuf>>,
}

impl PathResolver {
    /// Resolves an absolute path. Returns the path without links that it leads to; `None` if there is no file.
    pub(crate) fn resolve(&mut self, path: &Path) -> Option<PathBuf> {
        // All parts of the path as written: a missing part may be created later.
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
    fn each_link_is_collected_and_the_target_is_that_of_the_system() {
        let folder = tempfile::tempdir().expect("a directory");
        let folder = folder.path().canonicalize().expect("there");
        fs::create_dir(folder.join("..2024")).expect("made");
        fs::write(folder.join("..2024/list"), "a").expect("written");
        symlink("..2024", folder.join("..data")).expect("linked");
        symlink("..data/list", folder.join("list")).expect("linked");
        let mut resolver = PathResolver::default();
        let list = folder.join("list");
        assert_eq!(resolver.resolve(&list), list.canonicalize().ok());
        for part in ["list", "..data", "..data/list", "..2024", "..2024/list"] {
            assert!(resolver.paths.contains(&folder.join(part)), "{part}");
        }
        assert!(!resolver.paths.contains(&folder.join("other")));
        assert_eq!(
            resolver.links,
            [folder.join("list"), folder.join("..data")].into()
        );
    }

    #[test]
    fn a_path_that_leads_nowhere_is_collected_as_well() {
        let folder = tempfile::tempdir().expect("a directory");
        let folder = folder.path().canonicalize().expect("there");
        symlink("round", folder.join("round")).expect("linked");
        let mut resolver = PathResolver::default();
        assert_eq!(resolver.resolve(&folder.join("round")), None);
        let missing = folder.join("missing/list");
        assert_eq!(resolver.resolve(&missing), None);
        assert!(resolver.paths.contains(&missing));
        assert!(resolver.paths.contains(&folder.join("missing")));
    }
}
