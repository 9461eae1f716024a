//! Reads regular files up to a size. Other files are rejected: a FIFO without a writer would block a start, a reload or
//! a verb, and an endless device would fill the memory.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::shown::Show;

/// The reason why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// It is a directory, a FIFO, a device or a socket.
    #[error("not a regular file")]
    NotRegular,
    /// It is larger than this many bytes.
    #[error("larger than {}", size(*.0))]
    TooLarge(u64),
    /// The system reported an error.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A remedy for a file that can't be read. If access is denied, it names the permission that this user lacks.
pub fn remedy(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "name a file that exists".to_owned(),
        ErrorKind::PermissionDenied => denied(path),
        _ => "check the file and its disk".to_owned(),
    }
}

fn denied(path: &Path) -> String {
    let is_hidden = |at: &&Path| {
        let meta = at.metadata();
        meta.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    // The parent of the outermost path that can't be examined is the directory that denies access.
    let hidden = path.ancestors().filter(is_hidden).last();
    let right = match hidden.and_then(Path::parent) {
        Some(closed) => format!("may not search the directory {}", closed.shown()),
        None => "may not read this file".to_owned(),
    };
    format!("this user {right}: run this command as root or as the user that runs the server")
}

fn size(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{} KiB", bytes >> 10),
        mib => format!("{mib} MiB"),
    }
}

impl From<Unread> for io::Error {
    fn from(why: Unread) -> Self {
        match why {
            Unread::NotRegular => Self::new(ErrorKind::InvalidInput, why.to_string()),
            Unread::TooLarge(_) => Self::new(ErrorKind::FileTooLarge, why.to_string()),
            Unread::Io(error) => error,
        }
    }
}

/// Opens a regular file for reading, through symbolic links.
///
/// Where `/proc` is mounted, a device or FIFO is never opened, even if one replaces the file meanwhile. If another
/// process has a lease on the file, this function waits until the system has broken the lease.
///
/// # Errors
/// [`Unread`], except [`Unread::TooLarge`].
pub fn open(path: &Path) -> Result<(File, Metadata), Unread> {
    // O_PATH locates the file without opening it.
    let found = File::options()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path)?;
    if !found.metadata()?.is_file() {
        return Err(Unread::NotRegular);
    }
    let file = match File::open(format!("/proc/self/fd/{}", found.as_raw_fd())) {
        Err(error) if error.kind() == ErrorKind::NotFound => open_without_proc(path)?,
        opened => opened?,
    };
    let meta = file.metadata()?;
    Ok((file, meta))
}

/// Opens a file where `/proc` is not mounted; fails for files with a lease.
fn open_without_proc(path: &Path) -> Result<File, Unread> {
    // With O_NONBLOCK, opening a FIFO does not wait for a writer.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(Unread::NotRegular),
    }
}

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// [`Unread`].
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, Unread> {
    let (file, meta) = open(path)?;
    if meta.len() > most {
        return Err(Unread::TooLarge(most));
    }
    // It may grow while it is read.
    let bytes = first_bytes(file, &meta, most.saturating_add(1))?;
    match bytes.len() as u64 > most {
        true => Err(Unread::TooLarge(most)),
        false => Ok(bytes),
    }
}

/// Reads the first bytes of a regular file, at most `most`; also returns its metadata.
///
/// # Errors
/// [`Unread`], except [`Unread::TooLarge`].
pub fn read_start(path: &Path, most: u64) -> Result<(Vec<u8>, Metadata), Unread> {
    let (file, meta) = open(path)?;
    Ok((first_bytes(file, &meta, most)?, meta))
}

fn first_bytes(file: File, meta: &Metadata, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // A sparse file may claim more bytes than there is memory.
    let expected = usize::try_from(meta.len().min(most)).unwrap_or(usize::MAX);
    bytes.try_reserve_exact(expected)?;
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn fifo(dir: &tempfile::TempDir) -> PathBuf {
        let path = dir.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.expect("mkfifo runs").success());
        path
    }

    #[test]
    fn directories_devices_and_fifos_are_refused_without_waiting() {
        let dir = tempfile::tempdir().expect("a folder");
        let zero = PathBuf::from("/dev/zero");
        for path in [fifo(&dir), zero, dir.path().to_owned()] {
            assert!(matches!(open(&path), Err(Unread::NotRegular)), "{path:?}");
            let without = open_without_proc(&path);
            assert!(matches!(without, Err(Unread::NotRegular)), "{path:?}");
        }
    }

    #[test]
    fn a_regular_file_is_read_up_to_its_bound() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("file");
        fs::write(&path, "12345").expect("written");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("file", &link).expect("linked");
        assert_eq!(read(&link, 5).expect("read"), b"12345");
        assert!(matches!(read(&path, 4), Err(Unread::TooLarge(4))));
        let (start, meta) = read_start(&path, 2).expect("read");
        assert_eq!((&start[..], meta.len()), (&b"12"[..], 5));
        assert_eq!(read_start(&path, 9).expect("read").0, b"12345");
        let mut text = String::new();
        let mut file = open_without_proc(&path).expect("opened");
        file.read_to_string(&mut text).expect("read");
        assert_eq!(text, "12345");
        // Files of /proc claim to be empty.
        assert!(
            !read(Path::new("/proc/self/status"), 1 << 20)
                .expect("read")
                .is_empty()
        );
        let missing = read(&dir.path().join("missing"), 1).expect_err("missing");
        assert!(matches!(missing, Unread::Io(error) if error.kind() == ErrorKind::NotFound));
    }

    #[test]
    fn a_fifo_that_repeatedly_replaces_a_file_never_blocks_a_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let (file, fifo) = (dir.path().join("file"), fifo(&dir));
        let place = dir.path().join("place");
        fs::write(&file, "x").expect("written");
        let (new, target) = (dir.path().join("new"), place.clone());
        std::os::unix::fs::symlink(&file, &place).expect("linked");
        let swap = std::thread::spawn(move || {
            for turn in 0..4000 {
                let to = if turn % 2 == 0 { &fifo } else { &file };
                std::os::unix::fs::symlink(to, &new).expect("linked");
                fs::rename(&new, &target).expect("renamed");
            }
        });
        let mut read = 0;
        while !swap.is_finished() {
            match open(&place) {
                Ok((_, meta)) => {
                    assert!(meta.is_file());
                    read += 1;
                }
                Err(why) => assert!(matches!(why, Unread::NotRegular), "{why}"),
            }
        }
        swap.join().expect("swapped");
        assert!(read > 0 && open(&place).is_ok());
    }
}
