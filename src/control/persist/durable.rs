//! Creates, replaces, renames and removes files that survive a power cut. No other module does this.
//!
//! A file has two parts on the disk: its contents, and its name in a directory. The system writes each of them to the
//! disk at any later time, unless it is synced. So a file is written under a temporary name beside its own, synced,
//! renamed, and then the directory is synced. Without the last step a power cut may undo the rename, seconds after it
//! was reported as done.
//!
//! | function | what is there if power fails after the function has returned | syncs |
//! |---|---|---|
//! | `replace`, `NewFile::commit` | the new file | file, directory |
//! | `replace_or_restore`, `replace_locked` | the new file; after an error, the old one if the disk allows it | file, directory |
//! | `replace_unsynced` | the old file or the new one, each whole | file |
//! | `install` | the file under its new name | file, directory |
//! | `rename` | the file under its new name | both directories |
//! | `link` | the file under both names | directory |
//! | `create_new` | the new file | file, directory |
//! | `open_or_create` | the file, maybe without contents | directory, if the file is new |
//! | `remove` | no file | directory |
//! | `remove_or_restore` | no file; after an error, the old one if the disk allows it | directory |
//!
//! A power cut before the return leaves the file whole, in its old or in its new state. A sync takes some milliseconds
//! on an SSD and up to seconds on a busy disk, so none of this is called by a thread that must not wait. A process that
//! is killed may leave a file with `TEMPORARY` in its name. In the state directory, the next start removes it; beside files that
//! an operator edits, too, the next `replace_locked` does.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::config::shown::Show;

/// The text between a file's own name and the random end of its temporary file's name.
pub(crate) const TEMPORARY: &str = ".tmp-";
/// The most characters of a file's own name in its temporary name: file systems limit names to 255 bytes.
const NAME_CHARS: usize = 50;

/// Why a file or directory was not written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: can't be {done}: {source}; {remedy}", remedy = remedy(.source), path = .path.shown())]
pub struct DurableError {
    /// The file or directory.
    pub path: PathBuf,
    /// The operation that failed, as a participle.
    pub done: &'static str,
    /// The system's error.
    pub source: io::Error,
    /// Whether the change is visible all the same. A power cut may undo it, as only the directory was not synced.
    pub is_in_place: bool,
}

impl DurableError {
    fn at(path: &Path, done: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self {
            path,
            done,
            source,
            is_in_place: false,
        }
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "free space on its disk"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "let this user write to it and its directory"
        }
        ErrorKind::NotFound => "create the directory that it is in",
        _ => "check its disk",
    }
}

/// The permissions of a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Only this user may read and write it.
    Private,
    /// Those that the umask permits.
    Umask,
    /// The owner, group and mode of the file that it replaces, which must exist.
    Inherit,
}

/// A file that gets its name when it is whole. If this is dropped before that, the file is removed.
#[derive(Debug)]
pub(crate) struct NewFile {
    file: NamedTempFile,
    path: PathBuf,
}

impl NewFile {
    /// Creates a temporary file beside `path`. [`NewFile::commit`] renames it to `path`.
    pub(crate) fn create(path: &Path, access: Access) -> Result<Self, DurableError> {
        Self::create_as(path, access, None)
    }

    /// `end` is that of the temporary name, which is random by default.
    fn create_as(path: &Path, access: Access, end: Option<&str>) -> Result<Self, DurableError> {
        let failed = |source| DurableError::at(path, "written")(source);
        let Some(name) = path.file_name().filter(|_| !path.is_dir()) else {
            return Err(failed(ErrorKind::IsADirectory.into()));
        };
        let name: String = name.to_string_lossy().chars().take(NAME_CHARS).collect();
        let mode = match access {
            Access::Umask => 0o666,
            Access::Private | Access::Inherit => 0o600,
        };
        let prefix = name + TEMPORARY;
        let mut builder = tempfile::Builder::new();
        builder
            .prefix(&prefix)
            .permissions(Permissions::from_mode(mode));
        if let Some(end) = end {
            builder.suffix(end).rand_bytes(0);
            match fs::remove_file(directory_of(path).join(format!("{prefix}{end}"))) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        let file = builder.tempfile_in(directory_of(path)).map_err(failed)?;
        if access == Access::Inherit {
            inherit(path, file.as_file()).map_err(failed)?;
        }
        let path = path.to_owned();
        Ok(Self { file, path })
    }

    /// The file, to be written to.
    pub(crate) fn file(&self) -> &File {
        self.file.as_file()
    }

    /// Gives the file its name, in place of any other one.
    pub(crate) fn commit(self) -> Result<(), DurableError> {
        let path = self.path.clone();
        self.commit_unsynced()?;
        sync_change(directory_of(&path), &path, "written")
    }

    fn commit_unsynced(self) -> Result<(), DurableError> {
        let failed = |source| DurableError::at(&self.path, "written")(source);
        self.file.as_file().sync_all().map_err(failed)?;
        let renamed = self.file.persist(&self.path);
        renamed.map(drop).map_err(|error| failed(error.error))
    }
}

/// Gives a file the owner, group and mode of another one. Only root can give a file to another user: for any other
/// user, this fails unless `from` belongs to that user. That is enough, as only root changes the orders of other users.
fn inherit(from: &Path, to: &File) -> io::Result<()> {
    let before = fs::metadata(from)?;
    fchown(to, Some(before.uid()), Some(before.gid()))?;
    to.set_permissions(before.permissions())
}

/// Writes a whole file, in place of any other one.
pub(crate) fn replace(path: &Path, contents: &[u8], access: Access) -> Result<(), DurableError> {
    written(path, contents, access)?.commit()
}

/// As [`replace`], but a power cut may bring the old file back: for files that are written again soon.
pub(crate) fn replace_unsynced(
    path: &Path,
    contents: &[u8],
    access: Access,
) -> Result<(), DurableError> {
    written(path, contents, access)?.commit_unsynced()
}

fn written(path: &Path, contents: &[u8], access: Access) -> Result<NewFile, DurableError> {
    filled(NewFile::create(path, access)?, contents)
}

fn filled(new: NewFile, contents: &[u8]) -> Result<NewFile, DurableError> {
    let written = new.file().write_all(contents);
    written.map_err(DurableError::at(&new.path, "written"))?;
    Ok(new)
}

/// As [`replace`], for a file that must not count if an error was reported: if the directory can't be synced, `before`
/// is written again. If `before` is `None`, the file is removed instead. If that fails as well,
/// [`DurableError::is_in_place`] is set.
pub(crate) fn replace_or_restore(
    path: &Path,
    contents: &[u8],
    before: Option<&[u8]>,
    access: Access,
) -> Result<(), DurableError> {
    replace(path, contents, access).map_err(|error| restored(error, path, before, access))
}

/// As [`replace_or_restore`], for files whose directory the caller has locked. The temporary name is always the same, so a
/// killed process leaves one file at most, which the next call replaces.
pub(crate) fn replace_locked(
    path: &Path,
    contents: &[u8],
    before: Option<&[u8]>,
    access: Access,
) -> Result<(), DurableError> {
    let replaced = NewFile::create_as(path, access, Some("new"))
        .and_then(|new| filled(new, contents)?.commit());
    replaced.map_err(|error| restored(error, path, before, access))
}

fn restored(
    mut error: DurableError,
    path: &Path,
    before: Option<&[u8]>,
    access: Access,
) -> DurableError {
    if error.is_in_place {
        let restored = match before {
            Some(before) => replace_unsynced(path, before, access).is_ok(),
            None => fs::remove_file(path).is_ok(),
        };
        error.is_in_place = !restored;
    }
    error
}

/// Syncs the file `from`, which another process may have written, and gives it the name `to`.
pub(crate) fn install(from: &Path, to: &Path) -> Result<(), DurableError> {
    let synced = File::open(from).and_then(|file| file.sync_all());
    synced.map_err(DurableError::at(from, "written"))?;
    rename(from, to)
}

/// Gives a file another name, in place of any other file.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), DurableError> {
    fs::rename(from, to).map_err(DurableError::at(to, "put in place"))?;
    let (left, entered) = (directory_of(from), directory_of(to));
    sync_change(entered, to, "put in place")?;
    match left == entered {
        true => Ok(()),
        false => sync_change(left, to, "put in place"),
    }
}

/// Gives a file a second name in its directory, in place of any other file. If the file system has no links, that is a
/// copy.
pub(crate) fn link(from: &Path, to: &Path) -> Result<(), DurableError> {
    let failed = |source| DurableError::at(to, "written")(source);
    match fs::remove_file(to) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    fs::hard_link(from, to)
        .or_else(|_| fs::copy(from, to).and_then(|_| File::open(to)?.sync_all()))
        .map_err(failed)?;
    sync_change(directory_of(to), to, "written")
}

/// Creates a private file that must not exist, and has `write` fill it. After an error there is none.
pub(crate) fn create_new(
    path: &Path,
    write: impl FnOnce(&File) -> io::Result<()>,
) -> Result<(), DurableError> {
    let failed = |source| DurableError::at(path, "written")(source);
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let file = file.map_err(failed)?;
    let written = write(&file).and_then(|()| file.sync_all()).map_err(failed);
    let synced = written.and_then(|()| sync_change(directory_of(path), path, "written"));
    synced.map_err(|error| restored(error, path, None, Access::Private))
}

/// Opens a file to read it and to write it in place; creates a private, empty one if there is none.
pub(crate) fn open_or_create(path: &Path) -> Result<File, DurableError> {
    let failed = |source| DurableError::at(path, "opened")(source);
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match options.clone().create_new(true).open(path) {
        Ok(file) => {
            let synced = sync_change(directory_of(path), path, "opened");
            synced.map_err(|error| restored(error, path, None, Access::Private))?;
            Ok(file)
        }
        // Uses `create`, as the file may have been removed meanwhile, or the path may be a symbolic link to a file that
        // does not exist yet. The directory of the link's target is not synced.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            options.create(true).open(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Removes a file, if there is one.
pub(crate) fn remove(path: &Path) -> Result<(), DurableError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(DurableError::at(path, "removed")(error)),
        Ok(()) => sync_change(directory_of(path), path, "removed"),
    }
}

/// As [`remove`], for a file that must still count if an error was reported: if the directory can't be synced, `before`
/// is written again. If that fails as well, [`DurableError::is_in_place`] is set: the file is gone.
pub(crate) fn remove_or_restore(
    path: &Path,
    before: &[u8],
    access: Access,
) -> Result<(), DurableError> {
    remove(path).map_err(|error| restored(error, path, Some(before), access))
}

/// Creates a directory for its owner only, unless it exists. Its parent must exist: if a disk is not mounted, writing
/// to the mount point would hide that.
pub(crate) fn create_directory(dir: &Path) -> Result<(), DurableError> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => {
            // If this fails, a power cut may remove an empty directory, which is created again.
            let _ = sync_directory(directory_of(dir));
            Ok(())
        }
        Err(_) if dir.is_dir() => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let source = ErrorKind::NotADirectory.into();
            Err(DurableError::at(dir, "used")(source))
        }
        Err(error) => Err(DurableError::at(dir, "made")(error)),
    }
}

/// The file that a path leads to through symbolic links, which need not exist: who replaces it keeps the links.
pub(crate) fn target_of(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_owned();
    loop {
        match fs::canonicalize(&target) {
            // A chain of links without an end is another error.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            found => return found,
        }
        match fs::read_link(&target) {
            Ok(next) => target = directory_of(&target).join(next),
            Err(_) => return Ok(target),
        }
    }
}

/// The directory that a file is in: the working directory for a bare file name.
pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

fn sync_change(dir: &Path, path: &Path, done: &'static str) -> Result<(), DurableError> {
    sync_directory(dir).map_err(|source| DurableError {
        path: path.to_owned(),
        done,
        source,
        is_in_place: true,
    })
}

/// Writes the names in a directory to the disk: files that were created, renamed or removed.
fn sync_directory(dir: &Path) -> io::Result<()> {
    #[cfg(test)]
    faults::fail(dir)?;
    // Two kinds of errors are ignored, as in PostgreSQL: some file systems don't sync directories, and a user may have
    // write access to a directory without read access. An error would make no file safer.
    let synced = match File::open(dir) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(()),
        opened => opened?.sync_all(),
    };
    match synced {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EBADF)) => Ok(()),
        synced => synced,
    }
}

/// Directories that can't be synced, for tests.
#[cfg(test)]
pub(crate) mod faults {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    static BROKEN: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

    /// A directory that can't be synced until this is dropped.
    pub(crate) struct Broken(PathBuf);

    pub(crate) fn broken(dir: &Path) -> Broken {
        let dir = fs::canonicalize(dir).expect("a directory");
        let mut all = BROKEN.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(dir.clone());
        Broken(dir)
    }

    impl Drop for Broken {
        fn drop(&mut self) {
            let mut all = BROKEN.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|dir| *dir != self.0);
        }
    }

    pub(super) fn fail(dir: &Path) -> io::Result<()> {
        let dir = fs::canonicalize(dir)?;
        let all = BROKEN.lock().unwrap_or_else(PoisonError::into_inner);
        match all.contains(&dir) {
            true => Err(io::Error::from_raw_os_error(libc::EIO)),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("readable").flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort_unstable();
        names
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).expect("readable")
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").mode() & 0o777
    }

    #[test]
    fn a_change_whose_directory_can_not_be_synced_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let other = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let (there, elsewhere) = (folder.path().join("there"), other.path().join("elsewhere"));
        let reset = || {
            fs::write(&path, "old").expect("written");
            fs::write(&there, "old").expect("written");
            fs::write(&elsewhere, "old").expect("written");
        };
        let new = folder.path().join("new");
        type Change<'c> = (&'static str, &'c dyn Fn() -> Result<(), DurableError>);
        let changes: [Change<'_>; 11] = [
            ("replace", &|| replace(&path, b"new", Access::Private)),
            ("replace_or_restore", &|| {
                replace_or_restore(&path, b"new", Some(b"old"), Access::Private)
            }),
            ("replace_locked, or restore", &|| {
                replace_locked(&path, b"new", Some(b"old"), Access::Private)
            }),
            ("install", &|| install(&there, &path)),
            ("rename", &|| rename(&there, &path)),
            ("rename from", &|| rename(&there, &elsewhere)),
            ("rename into", &|| rename(&elsewhere, &path)),
            ("create_new", &|| create_new(&new, |_| Ok(()))),
            ("link", &|| link(&path, &there)),
            ("remove", &|| remove(&path)),
            ("remove_or_restore", &|| {
                remove_or_restore(&path, b"old", Access::Private)
            }),
        ];
        for (name, change) in changes {
            reset();
            let broken = faults::broken(folder.path());
            let error = change().expect_err(name);
            assert_eq!(error.source.raw_os_error(), Some(libc::EIO), "{name}");
            let is_restored = name.contains("restore") || name == "create_new";
            assert_eq!(error.is_in_place, !is_restored, "{name}");
            if is_restored {
                assert_eq!(text(&path), "old", "{name}");
                assert_eq!(names(folder.path()), ["file", "there"], "{name}");
            }
            drop(broken);
            reset();
            change().expect(name);
            let _ = fs::remove_file(&new);
        }
        // This one does not wait for the directory.
        let _broken = faults::broken(folder.path());
        replace_unsynced(&path, b"new", Access::Private).expect("written");
        assert_eq!(text(&path), "new");
    }

    #[test]
    fn a_file_that_fails_leaves_the_old_one_and_no_temporary_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, "old").expect("written");
        let new = NewFile::create(&path, Access::Private).expect("created");
        new.file().write_all(b"half").expect("written");
        assert_eq!(names(folder.path()).len(), 2);
        assert!(names(folder.path())[1].starts_with("file.tmp-"));
        drop(new);
        assert_eq!(names(folder.path()), ["file"]);
        assert_eq!(text(&path), "old");
        let error = create_new(&path, |_| Ok(())).expect_err("it exists");
        assert_eq!(error.source.kind(), ErrorKind::AlreadyExists);
        assert_eq!(text(&path), "old");
        let missing = folder.path().join("missing/file");
        let error = replace(&missing, b"new", Access::Private).expect_err("no directory");
        let remedy = "create the directory that it is in";
        assert!(error.to_string().ends_with(remedy), "{error}");
        assert!(!error.is_in_place);
        let error = replace(folder.path(), b"new", Access::Private).expect_err("a directory");
        assert_eq!(error.source.kind(), ErrorKind::IsADirectory);
    }

    #[test]
    fn what_a_killed_process_has_left_of_a_locked_file_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, "old").expect("written");
        fs::write(folder.path().join("file.tmp-new"), "half").expect("written");
        replace_locked(&path, b"new", Some(b"old"), Access::Inherit).expect("replaced");
        assert_eq!(names(folder.path()), ["file"]);
        assert_eq!(text(&path), "new");
    }

    #[test]
    fn a_path_leads_through_links_to_a_file_that_need_not_exist() {
        let folder = tempfile::tempdir().expect("a folder");
        let link = |from: &str, to: &str| {
            let from = folder.path().join(from);
            std::os::unix::fs::symlink(to, &from).expect("linked");
            from
        };
        let real = fs::canonicalize(folder.path()).expect("a folder");
        link("second", "missing");
        let first = link("first", "second");
        let target = target_of(&first).expect("an end");
        assert_eq!(target.file_name(), Some("missing".as_ref()));
        fs::write(&target, "").expect("written");
        assert_eq!(target_of(&first).expect("there"), real.join("missing"));
        let plain = folder.path().join("plain");
        assert_eq!(target_of(&plain).expect("a path"), plain);
        link("one", "two");
        target_of(&link("two", "one")).expect_err("a circle");
    }

    #[test]
    fn a_new_file_has_the_access_that_was_asked_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        replace(&path, b"", Access::Private).expect("written");
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("changed");
        replace(&path, b"", Access::Inherit).expect("written");
        assert_eq!(mode(&path), 0o644);
        let (usual, ours) = (folder.path().join("usual"), folder.path().join("ours"));
        fs::write(&usual, "").expect("written");
        replace(&ours, b"", Access::Umask).expect("written");
        assert_eq!(mode(&ours), mode(&usual));
        let long = folder.path().join("x".repeat(255));
        replace(&long, b"long", Access::Private).expect("written");
        assert_eq!(text(&long), "long");
    }

    #[test]
    fn a_file_that_is_opened_or_created_is_not_emptied() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        {
            let _broken = faults::broken(folder.path());
            open_or_create(&path).expect_err("not synced");
            assert!(!path.exists());
        }
        open_or_create(&path).expect("created");
        assert_eq!(mode(&path), 0o600);
        fs::write(&path, "old").expect("written");
        let _broken = faults::broken(folder.path());
        open_or_create(&path).expect("nothing is to be synced");
        assert_eq!(text(&path), "old");
        // A dangling link is followed.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("target", &link).expect("linked");
        open_or_create(&link).expect("created");
        assert!(folder.path().join("target").exists());
    }
}
