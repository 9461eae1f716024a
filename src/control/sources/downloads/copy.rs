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

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::client::Validators;
use crate::config::shown::Show;
use crate::config::web::WebUrl;
use crate::control::list_file::file;
use crate::control::list_file::signature::Signature;
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
    /// BLAKE3 of this file in hexadecimal, when it was written: a damaged disk or file system changes bytes silently.
    digest: String,
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

impl From<&Signature> for Identity {
    fn from(file: &Signature) -> Self {
        Self {
            inode: file.inode(),
            size: file.size(),
        }
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
            digest: String::new(),
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
            digest: self.digest.clone(),
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

    /// The versions whose files have other bytes than they were written with, or can't be read. Reads the files.
    pub(super) fn damaged(&self, path: &Path) -> Vec<Which> {
        let is_damaged = |(which, version): &(Which, &Version)| {
            let file = match which {
                Which::Newest => path.to_owned(),
                Which::LastGood => good(path),
            };
            match file::digest(&file, None) {
                Ok(digest) => digest != version.digest,
                Err(error) => is_of_file(&error),
            }
        };
        let damaged = self.all().filter(is_damaged);
        damaged.map(|(which, _)| which).collect()
    }

    /// Removes the files of damaged versions. If only the newest one is damaged, the last good one is the copy again.
    pub(super) fn without(
        mut self,
        path: &Path,
        damaged: &[Which],
    ) -> Result<Option<Self>, DurableError> {
        if damaged.contains(&Which::LastGood) {
            durable::remove(&good(path))?;
            self.last_good = None;
        }
        if damaged.contains(&Which::Newest) {
            durable::remove(path)?;
            return restore(path, self.last_good);
        }
        store(path, &self)?;
        Ok(Some(self))
    }

    /// Makes the last good version the copy again, as a mirror has it as the newest one.
    pub(super) fn withdraw(self, path: &Path, sent: Option<Version>) -> Result<Self, DurableError> {
        match restore(path, self.last_good.clone())? {
            Some(restored) => restored.confirm(path, sent),
            None => Ok(self),
        }
    }
}

/// The file of a version, before it is the copy.
pub(super) struct NewCopy {
    pub(super) file: NewFile,
    /// BLAKE3 of the file in hexadecimal.
    pub(super) digest: String,
}

/// Makes a file the copy, and keeps the last good version.
pub(super) fn install(
    NewCopy { file, digest }: NewCopy,
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
            digest,
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
    let copies = match stored(path) {
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

fn stored(path: &Path) -> io::Result<Copies> {
    fs::read(facts(path)).and_then(|text| Ok(serde_json::from_slice(&text)?))
}

/// Whether a copy that was read is damaged. `digest` is BLAKE3 of the bytes that were read. A file without facts was not
/// written here, and is not.
pub(crate) fn is_damaged(path: &Path, file: &Signature, digest: &str) -> bool {
    let file = Identity::from(file);
    stored(path).is_ok_and(|copies| {
        let mut all = copies.all();
        all.any(|(_, version)| version.file == file && version.digest != digest)
    })
}

/// Whether an error of reading a file is a fault of the file. It is none that the file is missing, or that the system lacks
/// what is needed to read any file.
fn is_of_file(error: &io::Error) -> bool {
    let of_system = [libc::ENOENT, libc::EMFILE, libc::ENFILE, libc::ENOMEM];
    let code = error.raw_os_error();
    code.is_none_or(|code| !of_system.contains(&code))
}

/// Logs that versions are damaged.
pub(super) fn log_damage(list: &str, path: &Path) {
    let path = path.shown();
    tracing::error!(
        list,
        %path,
        "a copy of the list is damaged: it can't be read, or has other bytes than were downloaded; it is removed, and \
         the list is downloaded again; check the disk"
    );
}

/// Removes damaged versions before a start.
pub(super) fn drop_damaged(list: &str, path: &Path) -> Result<(), DurableError> {
    let Some(copies) = read(list, path) else {
        return Ok(());
    };
    let damaged = copies.damaged(path);
    if damaged.is_empty() {
        return Ok(());
    }
    log_damage(list, path);
    copies.without(path, &damaged).map(drop)
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

/// The files that belong to a copy.
pub(super) fn files(path: &Path) -> [PathBuf; 3] {
    [path.to_owned(), good(path), facts(path)]
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

    fn new_copy(file: NewFile, text: &str) -> NewCopy {
        let digest = blake3::hash(text.as_bytes()).to_string();
        NewCopy { file, digest }
    }

    /// Installs a version with this digest and contents.
    fn installed(path: &Path, sha256: &str, before: Option<Copies>) -> Copies {
        let file = NewFile::create(path, Access::Private).expect("created");
        file.file().write_all(sha256.as_bytes()).expect("written");
        install(new_copy(file, sha256), path, version(sha256), before).expect("installed")
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
        let new = new_copy(file, sha256);
        install(new, path, version(sha256), before).expect_err("the file is gone");
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

    /// Changes the first byte of a file in place: its inode and size stay.
    fn damage(path: &Path) {
        let file = fs::OpenOptions::new().write(true).open(path);
        let written = std::os::unix::fs::FileExt::write_all_at(&file.expect("a file"), b"#", 0);
        written.expect("written");
    }

    #[test]
    fn a_damaged_version_is_removed_and_the_other_one_stays() {
        let (_folder, path, both) = two();
        assert_eq!(both.damaged(&path), []);
        let file = |path: &Path| Signature::of(path).expect("a file");
        let digest = |path: &Path| file::digest(path, None).expect("a file");
        let is_other = |found: &Path| is_damaged(&path, &file(found), &digest(found));
        assert!(!is_other(&path) && !is_other(&good(&path)));
        damage(&path);
        assert!(is_other(&path) && !is_other(&good(&path)));
        drop_damaged("ads", &path).expect("dropped");
        let left = read("ads", &path).expect("a copy");
        assert_eq!((&*left.newest.sha256, left.is_accepted), ("one", true));
        assert_eq!(
            (text(&path), good(&path).exists()),
            ("one".to_owned(), false)
        );
        damage(&path);
        drop_damaged("ads", &path).expect("dropped");
        assert!(files(&path).iter().all(|file| !file.exists()));
        let (_folder, path, both) = two();
        damage(&good(&path));
        let left = both.without(&path, &[Which::LastGood]).expect("dropped");
        assert_eq!(read("ads", &path), left);
        let left = left.expect("a copy");
        assert_eq!((&*left.newest.sha256, left.accepted()), ("two", None));
        assert!(!good(&path).exists());
    }

    #[test]
    fn a_version_that_can_not_be_read_is_damaged_but_a_missing_one_is_not() {
        let (_folder, path, both) = two();
        fs::remove_file(&path).expect("removed");
        assert_eq!(both.damaged(&path), []);
        fs::create_dir(&path).expect("created");
        assert_eq!(both.damaged(&path), [Which::Newest]);
        let error = io::Error::from_raw_os_error;
        assert!(is_of_file(&error(libc::EIO)) && !is_of_file(&error(libc::EMFILE)));
    }

    #[test]
    fn a_confirmed_version_has_the_digest_of_its_file() {
        let (_folder, path, two) = two();
        let confirmed = two.confirm(&path, Some(version("two"))).expect("stored");
        assert_eq!(confirmed.damaged(&path), []);
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
