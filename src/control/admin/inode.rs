//! A file that stays the same whatever happens to its path.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, chownat};

/// The file at a path; symbolic links are not followed.
#[derive(Debug)]
pub(super) struct Inode {
    path: PathBuf,
    /// Kept open, so that the system gives its inode number to no other file.
    file: File,
}

impl Inode {
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        let path = path.to_owned();
        Ok(Self { path, file })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn metadata(&self) -> io::Result<fs::Metadata> {
        self.file.metadata()
    }

    pub(super) fn is_socket(&self) -> io::Result<bool> {
        Ok(self.metadata()?.file_type().is_socket())
    }

    /// The folder at a path, which may be a symbolic link if `follow` is set.
    pub(super) fn of_folder(path: &Path, follow: bool) -> io::Result<Self> {
        let link = if follow { 0 } else { libc::O_NOFOLLOW };
        let flags = libc::O_PATH | libc::O_DIRECTORY | link;
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        let path = path.to_owned();
        Ok(Self { path, file })
    }

    /// Gives the file to a group, and sets its mode. Another file that has its path by now is left alone.
    pub(super) fn give(&self, group: u32, mode: u32) -> io::Result<()> {
        let group = Some(Gid::from_raw(group));
        chownat(&self.file, "", None, group, AtFlags::EMPTY_PATH)?;
        self.set_mode(mode)
    }

    /// Sets its mode.
    pub(super) fn set_mode(&self, mode: u32) -> io::Result<()> {
        // The system sets no mode by such a descriptor itself.
        let opened = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let mode = fs::Permissions::from_mode(mode);
        match fs::set_permissions(opened, mode.clone()) {
            // A container may be without /proc. Then the path is used, which only its folder's owner can change.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.check_path("another file has this path now, and its mode is not set")?;
                fs::set_permissions(&self.path, mode)
            }
            set => set,
        }
    }

    /// Removes the file, unless another file has its path by now.
    pub(super) fn remove(&self) -> io::Result<()> {
        self.check_path("another file has this path now, and is not removed")?;
        fs::remove_file(&self.path)
    }

    fn check_path(&self, otherwise: &'static str) -> io::Result<()> {
        let here = fs::symlink_metadata(&self.path)?;
        match identity(&here) == identity(&self.metadata()?) {
            true => Ok(()),
            false => Err(io::Error::other(otherwise)),
        }
    }
}

/// Identifies a file as long as it exists or is open.
fn identity(meta: &fs::Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}
