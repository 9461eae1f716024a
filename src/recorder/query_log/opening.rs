//! Opens the file of the query log. Neither a link nor a file of another user makes the server write elsewhere.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC, fstatfs, readlinkat};
use rustix::process::geteuid;

use crate::config::shown::Show;

/// The mode of a new file: its lines are personal data.
const MODE: u32 = 0o640;
/// The maximum number of links that lead to the file.
const MOST_LINKS: usize = 8;
/// The permission of all other users to write.
const OTHERS_WRITE: u32 = 0o002;

/// An open file.
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) meta: Metadata,
    /// Where it is: the end of the links.
    pub(super) path: PathBuf,
}

/// Opens a file for lines that are appended, or creates it. As with the setting `fs.protected_symlinks` of Linux, links are
/// followed only if they belong to the server's user or to root; but here that holds in every folder.
///
/// # Errors
/// If the file or a link belongs to another user, all users can write the file, or it is a folder or the like.
pub(super) fn open(path: &Path) -> io::Result<Opened> {
    let mut path = path.to_owned();
    for _ in 0..=MOST_LINKS {
        match append(&path, libc::O_NOFOLLOW) {
            Ok(file) => {
                let meta = file.metadata()?;
                check(&meta)?;
                return Ok(Opened { file, meta, path });
            }
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => match target(&path)? {
                Some(next) => path = next,
                None => {
                    let file = append(&path, 0)?;
                    let meta = file.metadata()?;
                    return Ok(Opened { file, meta, path });
                }
            },
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many symbolic links lead to it"))
}

fn append(path: &Path, flags: i32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Without blocking: a pipe that nobody reads must not stop the other sinks.
    let flags = libc::O_NONBLOCK | libc::O_CLOEXEC | flags;
    options.append(true).mode(MODE).custom_flags(flags);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let file = options.create_new(true).open(path)?;
            // The umask of a service may take the group's permission away.
            file.set_permissions(Permissions::from_mode(MODE))?;
            Ok(file)
        }
        opened => opened,
    }
}

/// Where a link leads. `None` if it stands for an open file of this process, as `/dev/stdout` does: its text is no path.
fn target(link: &Path) -> io::Result<Option<PathBuf>> {
    // The link itself is opened, so that no other one takes its place between the check and the reading.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = File::from(rustix::fs::open(link, flags, Mode::empty())?);
    let meta = open.metadata()?;
    if !meta.is_symlink() {
        return Ok(Some(link.to_owned()));
    }
    if !is_trusted(meta.uid()) {
        let (link, user) = (link.shown(), meta.uid());
        return Err(io::Error::other(format!(
            "{link} is a symbolic link of user {user}, who is neither the server's user nor root"
        )));
    }
    if fstatfs(&open)?.f_type == PROC_SUPER_MAGIC {
        return Ok(None);
    }
    let text = readlinkat(&open, "", Vec::new())?.into_bytes();
    let text = PathBuf::from(OsString::from_vec(text));
    Ok(Some(link.parent().unwrap_or(Path::new("")).join(text)))
}

/// Checks that no other user made the file, or can write it. Only an administrator makes devices.
fn check(meta: &Metadata) -> io::Result<()> {
    let kind = meta.file_type();
    if kind.is_char_device() {
        return Ok(());
    }
    if !kind.is_file() && !kind.is_fifo() {
        return Err(io::Error::other(
            "it is neither a regular file nor a pipe nor a character device",
        ));
    }
    if !is_trusted(meta.uid()) {
        let user = meta.uid();
        return Err(io::Error::other(format!(
            "it belongs to user {user}, who is neither the server's user nor root"
        )));
    }
    if meta.mode() & OTHERS_WRITE != 0 {
        return Err(io::Error::other("all users can write it"));
    }
    Ok(())
}

fn is_trusted(user: u32) -> bool {
    user == 0 || user == geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::{chown, lchown, symlink};

    use super::*;

    /// A user that is neither the one of the test nor root.
    const STRANGER: Option<u32> = Some(60_001);

    fn refusal(path: &Path) -> String {
        let opened = open(path).map(|opened| opened.path);
        opened.expect_err("it is refused").to_string()
    }

    #[test]
    fn links_of_the_server_are_followed_and_those_of_other_users_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let [log, hop, file] = ["log", "hop", "file"].map(|name| folder.path().join(name));
        symlink("hop", &log).expect("made");
        symlink(&file, &hop).expect("made");
        let mut opened = open(&log).expect("opened");
        assert_eq!(opened.path, file);
        opened.file.write_all(b"line\n").expect("written");
        assert_eq!(fs::read(&file).expect("readable"), b"line\n");
        if !geteuid().is_root() {
            return;
        }
        lchown(&hop, STRANGER, None).expect("permitted to root");
        let why = refusal(&log);
        assert!(
            why.contains("hop is a symbolic link of user 60001"),
            "{why}"
        );
        fs::remove_file(&file).expect("removed");
        refusal(&log);
        assert!(!file.exists(), "it is not created either");
    }

    #[test]
    fn a_file_of_another_user_or_one_that_all_users_can_write_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        fs::write(&log, "").expect("written");
        assert!(open(&log).is_ok());
        fs::set_permissions(&log, Permissions::from_mode(0o666)).expect("its owner may");
        assert_eq!(refusal(&log), "all users can write it");
        fs::set_permissions(&log, Permissions::from_mode(0o644)).expect("its owner may");
        if geteuid().is_root() {
            chown(&log, STRANGER, None).expect("permitted to root");
            let why = refusal(&log);
            assert!(why.starts_with("it belongs to user 60001"), "{why}");
        }
    }

    #[test]
    fn links_in_a_circle_are_refused_and_open_files_of_the_process_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        symlink("log", &log).expect("made");
        assert_eq!(refusal(&log), "too many symbolic links lead to it");
        let (_reader, writer) = io::pipe().expect("a pipe");
        let number = std::os::fd::AsRawFd::as_raw_fd(&writer);
        let opened = open(&PathBuf::from(format!("/proc/self/fd/{number}"))).expect("opened");
        assert!(opened.meta.file_type().is_fifo());
    }
}
