//! Reads the files of another program's configuration. Included files count only if they are in the directory of the
//! main file.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::rc::{Rc, Weak};

use super::super::shown::Show;
use super::error::ImportError;
use super::tool::Tool;

/// The maximum size of a file in bytes.
const FILE_MAX: u64 = 16 << 20;
/// The maximum number of files that one configuration may have.
const FILES_MAX: usize = 1000;
/// The maximum size of all files of a configuration together, in bytes. A file that is read again counts again.
const TOTAL_MAX: u64 = 64 << 20;

/// The directory of a configuration.
pub(super) struct Folder {
    root: PathBuf,
    /// The number of files that were read.
    count: Cell<usize>,
    /// Their bytes.
    bytes: Cell<u64>,
    /// Files that are being read, with their texts, which exist as long as they are.
    open: RefCell<Vec<(PathBuf, Weak<str>)>>,
}

/// A file that was read.
#[derive(Clone)]
pub(super) struct ReadFile {
    pub(super) path: Rc<Path>,
    pub(super) text: Rc<str>,
}

impl Folder {
    /// The directory of a file, or the given directory, and the main file in it.
    pub(super) fn open(tool: Tool, path: &Path) -> Result<(Self, PathBuf), ImportError> {
        let folder = |root: &Path| {
            let root = if root.as_os_str().is_empty() {
                Path::new(".")
            } else {
                root
            };
            Self {
                root: root.to_owned(),
                count: Cell::new(0),
                bytes: Cell::new(0),
                open: RefCell::default(),
            }
        };
        let metadata = fs::metadata(path);
        let metadata = metadata.map_err(|error| ImportError::Io {
            path: path.to_owned(),
            error,
        })?;
        if !metadata.is_dir() {
            let root = path.parent().unwrap_or(Path::new("."));
            return Ok((folder(root), path.to_owned()));
        }
        let names = tool.main_files();
        let main = names
            .iter()
            .map(|name| path.join(name))
            .find(|file| file.is_file());
        let main = main.ok_or_else(|| ImportError::NoMainFile {
            path: path.to_owned(),
            expected: names.join(", "),
        })?;
        Ok((folder(path), main))
    }

    /// Reads the main file.
    pub(super) fn read_main(&self, path: &Path) -> Result<ReadFile, ImportError> {
        let file = read(path)?;
        self.note(&file);
        Ok(file)
    }

    fn note(&self, file: &ReadFile) {
        self.bytes.set(self.bytes.get() + file.text.len() as u64);
        let mut open = self.open.borrow_mut();
        open.retain(|(_, text)| text.strong_count() > 0);
        // A path that can't be resolved any more is not read again either.
        open.extend(
            file.path
                .canonicalize()
                .ok()
                .map(|path| (path, Rc::downgrade(&file.text))),
        );
    }

    /// Whether a file is being read, so that one that it includes would include it again.
    pub(super) fn is_open(&self, path: &Path) -> bool {
        let path = path.canonicalize().ok();
        let open = self.open.borrow();
        let mut open = open.iter().filter(|(_, text)| text.strong_count() > 0);
        open.any(|(known, _)| Some(known) == path.as_ref())
    }

    /// Reads an included file.
    ///
    /// # Errors
    /// The reason, for the list of settings that did not carry over.
    pub(super) fn read(&self, path: &Path) -> Result<ReadFile, String> {
        self.count.set(self.count.get() + 1);
        if self.count.get() > FILES_MAX {
            return Err(format!("the configuration has more than {FILES_MAX} files"));
        }
        if self.is_open(path) {
            return Err("files include each other in a circle".to_owned());
        }
        let file = read(path).map_err(|error| error.to_string())?;
        self.note(&file);
        if self.bytes.get() > TOTAL_MAX {
            let mib = TOTAL_MAX >> 20;
            return Err(format!(
                "the files of the configuration have more than {mib} MiB together"
            ));
        }
        Ok(file)
    }

    /// The file or directory with a path of the configuration. A relative path is relative to `base`. An absolute one
    /// may also have been copied: then the end of the path is in the directory.
    ///
    /// # Errors
    /// The reason, if there is none in the directory.
    pub(super) fn find(&self, base: &Path, path: &str) -> Result<PathBuf, String> {
        let given = Path::new(path);
        if path.is_empty() {
            return Err("names no file".to_owned());
        }
        let joined = base.join(given);
        if joined.exists() && self.contains(&joined) {
            return Ok(joined);
        }
        let parts: Vec<_> = given
            .components()
            .filter(|part| matches!(part, Component::Normal(_)))
            .collect();
        let ends = (0..parts.len()).map(|start| parts[start..].iter().collect::<PathBuf>());
        let mut copies = ends.map(|end| self.root.join(end));
        copies
            .find(|copy| copy.exists() && self.contains(copy))
            .ok_or_else(|| {
                let root = self.root.shown();
                match joined.exists() {
                    true => format!(
                        "{path} is outside of {root}: copy it there, or import it by itself"
                    ),
                    false => format!("{path} does not exist in {root}"),
                }
            })
    }

    /// The files of a path whose last part may have the wildcards `*` and `?`, in the order of their names.
    pub(super) fn glob(&self, base: &Path, path: &str) -> Result<Vec<PathBuf>, String> {
        let (parent, last) = path.rsplit_once('/').unwrap_or((".", path));
        if !last.contains(['*', '?']) {
            return self.find(base, path).map(|path| vec![path]);
        }
        let parent = if parent.is_empty() { "/" } else { parent };
        let directory = self.find(base, parent)?;
        self.entries(&directory, |name| {
            matches_glob(last.as_bytes(), name.as_bytes())
        })
    }

    /// The files of a directory whose names fit, in the order of their names. One that can't be examined counts as a file, so
    /// that reading it reports the reason.
    ///
    /// # Errors
    /// The reason, if the directory can't be read or has too many files.
    pub(super) fn entries(
        &self,
        directory: &Path,
        fits: impl Fn(&str) -> bool,
    ) -> Result<Vec<PathBuf>, String> {
        let failed = |error| format!("{}: {error}", directory.shown());
        let mut found = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let is_file = fs::metadata(&path).map_or(true, |metadata| metadata.is_file());
            if is_file && entry.file_name().to_str().is_some_and(&fits) {
                found.push(path);
            }
        }
        if found.len() > FILES_MAX {
            return Err(format!(
                "{}: has more than {FILES_MAX} files",
                directory.shown()
            ));
        }
        found.sort();
        Ok(found)
    }

    /// The file with a name beside the main file, if there is one.
    pub(super) fn beside(&self, name: &str) -> Option<PathBuf> {
        let path = self.root.join(name);
        path.is_file().then_some(path)
    }

    fn contains(&self, path: &Path) -> bool {
        match (path.canonicalize(), self.root.canonicalize()) {
            (Ok(path), Ok(root)) => path.starts_with(root),
            _ => false,
        }
    }
}

/// Reads a file as text.
fn read(path: &Path) -> Result<ReadFile, ImportError> {
    let io = |error| ImportError::Io {
        path: path.to_owned(),
        error,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io)?;
    file.take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if let Some(kind) = archive(&bytes) {
        return Err(ImportError::Archive {
            path: path.to_owned(),
            kind,
        });
    }
    if bytes.starts_with(b"SQLite format 3\0") {
        return Err(ImportError::Database {
            path: path.to_owned(),
        });
    }
    if bytes.len() as u64 > FILE_MAX {
        return Err(ImportError::TooLarge {
            path: path.to_owned(),
            max: FILE_MAX,
        });
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(ReadFile {
            path: path.into(),
            text: text.trim_start_matches('\u{feff}').into(),
        }),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let lines = error.as_bytes()[..valid]
                .iter()
                .filter(|byte| **byte == b'\n');
            let line = u32::try_from(lines.count() + 1).unwrap_or(u32::MAX);
            Err(ImportError::NotUtf8 {
                path: path.to_owned(),
                line,
            })
        }
    }
}

/// An absolute path in the configuration's text.
pub(super) fn absolute(path: &Path) -> String {
    let absolute = std::path::absolute(path);
    let path = absolute.as_deref().unwrap_or(path);
    path.to_string_lossy().into_owned()
}

/// The kind of an archive, by its first bytes.
fn archive(bytes: &[u8]) -> Option<&'static str> {
    let is_tar = bytes.get(257..262) == Some(b"ustar");
    match bytes {
        [0x1f, 0x8b, ..] => Some("gzip archive"),
        [b'P', b'K', 3, 4, ..] => Some("ZIP archive"),
        _ if is_tar => Some("tar archive"),
        _ => None,
    }
}

/// Whether a name matches a pattern with `*` and `?`.
fn matches_glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut tried) = (0, None);
    let mut next = 0;
    while at < name.len() {
        match pattern.get(next) {
            Some(b'*') => {
                tried = Some((next, at));
                next += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[at] => {
                next += 1;
                at += 1;
            }
            _ => {
                let Some((star, begun)) = tried else {
                    return false;
                };
                tried = Some((star, begun + 1));
                next = star + 1;
                at = begun + 1;
            }
        }
    }
    pattern[next..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_any_characters_and_a_question_mark_one() {
        for (pattern, name, matches) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("a*b?c", "axxbyc", true),
            ("a*b?c", "abc", false),
            ("*", "", true),
            ("a", "ab", false),
        ] {
            let found = matches_glob(pattern.as_bytes(), name.as_bytes());
            assert_eq!(found, matches, "{pattern} {name}");
        }
    }
}
