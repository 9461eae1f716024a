//! The copy of a downloaded list in the state directory, the version before it, and what is known about both.
//!
//! A list is read from its copy, which has the newest version. Until that version is accepted, the last good one is kept
//! beside it:
//!
//! ```text
//!              another version arrives                 in force
//!   accepted -------------------------> not accepted ----------> accepted; the last good one is removed
//!                                          |     ^
//!   accepted <-----------------------------+     | another version arrives: the last good one stays
//!        a mirror says that the last good        |
//!        one is the newest; it is the copy again +
//! ```
//!
//! | file | content |
//! |---|---|
//! | `LIST-HASH.list` | the newest version |
//! | `LIST-HASH.good` | the last good version, while the newest one is not accepted |
//! | `LIST-HASH.json` | the facts about both |

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::client::Validators;
use crate::config::Config;
use crate::config::download::DIRECTORY;
use crate::config::web::WebUrl;
use crate::control::persist::durable::{self, Access, DurableError, NewFile};

/// The end of the name of the file with the facts about a copy.
const FACTS: &str = "json";
/// The end of the name of the file with the last good version.
const GOOD: &str = "good";

/// The facts about a version of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    /// The mirror that has sent it, as it is shown.
    pub(super) url: String,
    /// Distinguishes the mirror from others: URLs that differ in what is secret are shown alike.
    mirror: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_modified: Option<String>,
    /// When it was downloaded.
    pub(super) fetched: Timestamp,
    /// When a mirror last confirmed that it is the newest one, or sent it.
    pub(super) confirmed: Timestamp,
    /// The SHA-256 digest of the file as the publisher has it.
    pub(super) sha256: String,
    /// The file with it.
    file: Identity,
}

/// Identifies a file under any name. Facts are stored apart from the file, so they may be about another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    inode: u64,
    size: u64,
}

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|meta| Self::from(&meta))
    }
}

impl From<&Metadata> for Identity {
    fn from(meta: &Metadata) -> Self {
        Self {
            inode: meta.ino(),
            size: meta.size(),
        }
    }
}

/// The versions of a list that are here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Copies {
    /// That of the copy.
    pub(super) newest: Version,
    /// Whether the newest version was in force.
    pub(super) is_accepted: bool,
    /// The version that was in force before, if the newest one is not accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_good: Option<Version>,
}

impl Version {
    /// A version that a mirror has just sent. Its file is not known yet.
    pub(super) fn new(mirror: &WebUrl, validators: Validators, sha256: String) -> Self {
        let now = Timestamp::now();
        Self {
            url: mirror.to_string(),
            mirror: mirror.digest(),
            etag: validators.etag,
            last_modified: validators.last_modified,
            fetched: now,
            confirmed: now,
            sha256,
            file: Identity::default(),
        }
    }

    /// Whether this mirror has sent it.
    pub(super) fn is_from(&self, mirror: &WebUrl) -> bool {
        self.mirror == mirror.digest()
    }

    /// What the mirror needs to know to send only another version.
    fn validators(&self) -> Validators {
        Validators {
            etag: self.etag.clone(),
            last_modified: self.last_modified.clone(),
        }
    }

    /// The same version, which a mirror has sent again or confirmed now.
    fn confirmed_by(self, sent: Option<Version>) -> Self {
        Self {
            fetched: self.fetched,
            confirmed: Timestamp::now(),
            file: self.file,
            ..sent.unwrap_or(self)
        }
    }
}

/// A version that is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Newest,
    LastGood,
}

impl Copies {
    /// The version that is in force, as far as it is known.
    pub(super) fn accepted(&self) -> Option<&Version> {
        match self.is_accepted {
            true => Some(&self.newest),
            false => self.last_good.as_ref(),
        }
    }

    fn all(&self) -> impl Iterator<Item = (Which, &Version)> {
        let last_good = self.last_good.as_ref();
        let last_good = last_good.map(|version| (Which::LastGood, version));
        [(Which::Newest, &self.newest)].into_iter().chain(last_good)
    }

    /// The newest version that this mirror has sent, and what to send to the mirror about it.
    pub(super) fn sent_by(&self, mirror: &WebUrl) -> Option<(Which, Validators)> {
        let (which, version) = self.all().find(|(_, version)| version.is_from(mirror))?;
        Some((which, version.validators()))
    }

    /// The version with this digest.
    pub(super) fn with_digest(&self, sha256: &str) -> Option<Which> {
        let mut all = self.all();
        Some(all.find(|(_, version)| version.sha256 == sha256)?.0)
    }

    /// Records that the newest version was sent again or confirmed. An error is about the record.
    pub(super) fn confirm(
        mut self,
        path: &Path,
        sent: Option<Version>,
    ) -> Result<Self, DurableError> {
        self.newest = self.newest.confirmed_by(sent);
        store(path, &self)?;
        Ok(self)
    }

    /// Records that the last good version was sent again or confirmed. The newest one stays the copy.
    pub(super) fn confirm_last_good(
        mut self,
        path: &Path,
        sent: Option<Version>,
    ) -> Result<Self, DurableError> {
        self.last_good = self.last_good.map(|version| version.confirmed_by(sent));
        store(path, &self)?;
        Ok(self)
    }

    /// Records that the newest version is in force. The one before is not needed any more.
    pub(super) fn accept(self, path: &Path) -> Result<Self, DurableError> {
        let accepted = Self {
            is_accepted: true,
            last_good: None,
            ..self
        };
        store(path, &accepted)?;
        durable::remove(&good(path))?;
        Ok(accepted)
    }

    /// Makes the last good version the copy again, as a mirror has it as the newest one.
    pub(super) fn withdraw(self, path: &Path, sent: Option<Version>) -> Result<Self, DurableError> {
        match restore(path, self.last_good.clone())? {
            Some(restored) => restored.confirm(path, sent),
            None => Ok(self),
        }
    }
}

/// Makes a file the copy, and keeps the last good version.
pub(super) fn install(
    file: NewFile,
    path: &Path,
    newest: Version,
    before: Option<Copies>,
) -> Result<Copies, DurableError> {
    let failed = |source| DurableError {
        path: path.to_owned(),
        done: "written",
        source,
        is_in_place: false,
    };
    let is_good = before.as_ref().is_none_or(|before| before.is_accepted);
    if is_good && path.exists() {
        durable::link(path, &good(path))?;
    }
    let mut last_good = before.and_then(|before| before.accepted().cloned());
    if let Some(last_good) = &mut last_good {
        // It may be a copy, if the file system has no links.
        last_good.file = Identity::of(&good(path)).map_err(failed)?;
    }
    let copies = Copies {
        newest: Version {
            file: Identity::from(&file.file().metadata().map_err(failed)?),
            ..newest
        },
        is_accepted: false,
        last_good,
    };
    // If the file does not get its name, `read` sees that the copy is another one.
    store(path, &copies)?;
    file.commit()?;
    Ok(copies)
}

/// Reads what is known about the copy of a list; `None` if there is no copy. Facts that can't be read are only logged: the
/// list is downloaded again. Mends what an interrupted change has left; if that fails, too, the list is downloaded again.
pub(super) fn read(list: &str, path: &Path) -> Option<Copies> {
    let newest = Identity::of(path).ok()?;
    let read = fs::read(facts(path)).and_then(|text| Ok(serde_json::from_slice(&text)?));
    let copies: Copies = match read {
        Ok(copies) => copies,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(list, %error, "it is not known which version of the list was downloaded");
            return None;
        }
    };
    let last_good = Identity::of(&good(path)).ok();
    if copies.newest.file != newest {
        // The newest version has not arrived, or the last good one is the copy again, or the facts are older than both.
        let left = last_good.unwrap_or(newest);
        let known = copies.all().find(|(_, version)| version.file == left);
        let known = known.map(|(_, version)| version.clone());
        return restore(path, known).ok()?;
    }
    match last_good {
        None => Some(Copies {
            last_good: None,
            ..copies
        }),
        Some(_) if copies.is_accepted => copies.accept(path).ok(),
        Some(_) => Some(copies),
    }
}

/// Drops a version that is not accepted, before a start without rules in force that it could be compared with: the last
/// good version is the copy again.
pub(super) fn drop_unaccepted(list: &str, path: &Path) -> Result<(), DurableError> {
    match read(list, path).filter(|copies| !copies.is_accepted) {
        None => Ok(()),
        Some(copies) if good(path).exists() => restore(path, copies.last_good).map(drop),
        Some(_) => {
            durable::remove(path)?;
            durable::remove(&facts(path))
        }
    }
}

/// Makes the last good version the copy again, unless it is. Returns what is known about it.
fn restore(path: &Path, last_good: Option<Version>) -> Result<Option<Copies>, DurableError> {
    if good(path).exists() {
        durable::rename(&good(path), path)?;
        // If both are names of one file, renaming does nothing.
        durable::remove(&good(path))?;
    }
    let Some(last_good) = last_good else {
        durable::remove(&facts(path))?;
        return Ok(None);
    };
    let restored = Copies {
        newest: last_good,
        is_accepted: true,
        last_good: None,
    };
    store(path, &restored)?;
    Ok(Some(restored))
}

/// Stores the facts about a copy. After a power cut, those before may be there.
fn store(path: &Path, copies: &Copies) -> Result<(), DurableError> {
    let text = serde_json::to_vec(copies).expect("strings and times");
    durable::replace_unsynced(&facts(path), &text, Access::Umask)
}

fn facts(path: &Path) -> PathBuf {
    path.with_extension(FACTS)
}

fn good(path: &Path) -> PathBuf {
    path.with_extension(GOOD)
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

/// The names of the files of the downloaded lists.
pub(super) fn names(config: &Config) -> HashSet<OsString> {
    let downloaded = config.lists.iter().filter(|list| list.download.is_some());
    let paths = downloaded.flat_map(|list| {
        let path = &list.source.path;
        [path.clone(), good(path), facts(path)]
    });
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
    use std::io::Write;

    use tempfile::TempDir;

    use super::*;

    fn version(sha256: &str) -> Version {
        let mirror = WebUrl::parse("https://lists.example/ads").expect("a URL");
        Version::new(&mirror, Validators::default(), sha256.to_owned())
    }

    /// Installs a version with this digest and contents.
    fn installed(path: &Path, sha256: &str, before: Option<Copies>) -> Copies {
        let file = NewFile::create(path, Access::Private).expect("created");
        file.file().write_all(sha256.as_bytes()).expect("written");
        install(file, path, version(sha256), before).expect("installed")
    }

    /// A directory with the path of a copy, whose version "one" is accepted, and "two" is not.
    fn two() -> (TempDir, PathBuf, Copies) {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("ads.list");
        let one = installed(&path, "one", None).accept(&path);
        let two = installed(&path, "two", Some(one.expect("accepted")));
        (folder, path, two)
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).expect("a file")
    }

    #[test]
    fn the_last_good_version_stays_until_a_newer_one_is_accepted() {
        let (_folder, path, two) = two();
        assert_eq!(read("ads", &path), Some(two.clone()));
        assert_eq!((&*text(&path), &*text(&good(&path))), ("two", "one"));
        assert_eq!(two.accepted().map(|it| &*it.sha256), Some("one"));
        let three = installed(&path, "three", Some(two));
        assert_eq!((&*text(&path), &*text(&good(&path))), ("three", "one"));
        let accepted = three.accept(&path).expect("accepted");
        assert_eq!(read("ads", &path), Some(accepted));
        assert!(!good(&path).exists());
    }

    #[test]
    fn a_version_that_is_withdrawn_or_dropped_leaves_the_last_good_one() {
        let (_folder, path, both) = two();
        let restored = both.withdraw(&path, None).expect("withdrawn");
        assert_eq!(
            (&*restored.newest.sha256, restored.is_accepted),
            ("one", true)
        );
        assert_eq!(
            (text(&path), good(&path).exists()),
            ("one".to_owned(), false)
        );
        installed(&path, "two", Some(restored));
        drop_unaccepted("ads", &path).expect("dropped");
        assert_eq!(text(&path), "one");
        assert!(read("ads", &path).is_some_and(|copies| copies.is_accepted));
        fs::remove_file(&path).expect("removed");
        installed(&path, "first", None);
        drop_unaccepted("ads", &path).expect("dropped");
        assert!(!path.exists() && read("ads", &path).is_none());
    }

    /// Tries to install a version with this digest, but its file does not arrive.
    fn fails_to_install(path: &Path, sha256: &str, before: Option<Copies>) {
        let file = NewFile::create(path, Access::Private).expect("created");
        let temporary = fs::read_dir(path.parent().expect("a directory"))
            .expect("a directory")
            .map(|entry| entry.expect("an entry").path())
            .find(|path| path.to_string_lossy().contains(durable::TEMPORARY));
        fs::remove_file(temporary.expect("a file")).expect("removed");
        install(file, path, version(sha256), before).expect_err("the file is gone");
    }

    #[test]
    fn a_version_whose_file_does_not_arrive_leaves_the_last_good_one_with_its_facts() {
        let (_folder, path, two) = two();
        fails_to_install(&path, "three", Some(two.clone()));
        let found = read("ads", &path).expect("a copy");
        assert_eq!((&*found.newest.sha256, found.is_accepted), ("one", true));
        assert_eq!(
            (text(&path), good(&path).exists()),
            ("one".to_owned(), false)
        );
        fails_to_install(&path, "three", Some(found));
        let found = read("ads", &path).expect("a copy");
        assert_eq!(
            (&*found.newest.sha256, text(&path)),
            ("one", "one".to_owned())
        );
        // No version was accepted before.
        let path = path.with_file_name("first.list");
        let first = installed(&path, "first", None);
        fails_to_install(&path, "second", Some(first));
        assert_eq!(read("ads", &path), None);
    }

    #[test]
    fn facts_about_another_file_are_not_used() {
        let (_folder, path, two) = two();
        let accepted = two.accept(&path).expect("accepted");
        assert_eq!(read("ads", &path), Some(accepted.clone()));
        let other = path.with_file_name("other");
        fs::write(&other, "one").expect("written");
        fs::rename(&other, &path).expect("renamed");
        assert_eq!(read("ads", &path), None);
        // After a power cut, the facts before the newest version may be there.
        let newest = installed(&path, "three", Some(accepted.clone()));
        assert!(newest.last_good.is_some());
        let before = newest.last_good.clone().expect("a version");
        store(
            &path,
            &Copies {
                newest: before,
                is_accepted: true,
                last_good: None,
            },
        )
        .expect("stored");
        let found = read("ads", &path).expect("a copy");
        assert_eq!(
            (&*found.newest.sha256, text(&path)),
            ("two", "one".to_owned())
        );
    }

    #[test]
    fn the_last_good_version_may_be_a_copy_as_on_file_systems_without_links() {
        let (_folder, path, mut two) = two();
        fs::remove_file(good(&path)).expect("removed");
        fs::write(good(&path), "one").expect("written");
        let file = Identity::of(&good(&path)).expect("a file");
        two.last_good.as_mut().expect("a version").file = file;
        store(&path, &two).expect("stored");
        assert_eq!(read("ads", &path), Some(two.clone()));
        fails_to_install(&path, "three", Some(two));
        let found = read("ads", &path).expect("a copy");
        assert_eq!(
            (&*found.newest.sha256, text(&path)),
            ("one", "one".to_owned())
        );
    }

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

    #[test]
    fn an_interrupted_change_does_not_make_a_version_pass_for_another_one() {
        // The facts about the version were stored, but it did not arrive.
        let (_folder, path, _) = two();
        fs::remove_file(&path).expect("removed");
        fs::hard_link(good(&path), &path).expect("linked");
        let found = read("ads", &path).expect("a copy");
        assert_eq!((&*found.newest.sha256, found.is_accepted), ("one", true));
        assert!(!good(&path).exists());
        // It was accepted, but the last good one was not removed.
        let (_folder, path, both) = two();
        store(
            &path,
            &Copies {
                is_accepted: true,
                last_good: None,
                ..both
            },
        )
        .expect("stored");
        let found = read("ads", &path).expect("a copy");
        assert_eq!((&*found.newest.sha256, found.is_accepted), ("two", true));
        assert!(!good(&path).exists());
        // The facts are lost.
        fs::write(facts(&path), "{").expect("written");
        assert_eq!(read("ads", &path), None);
    }
}
