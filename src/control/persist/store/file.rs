//! Reads an image's file into memory. The file itself is not mapped: if it were truncated, the next lookup would
//! kill the process.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;

use memmap2::{Advice, MmapMut};

use crate::config::regular;
use crate::config::regular::Unread;
use crate::config::shown::Show;
use crate::policy::image::layout::{HEADER, read_header};
use crate::policy::image::{Image, ImageBytes, ImageError};

/// Bytes of a huge page. Images that are smaller gain nothing from huge pages.
const HUGE: u64 = 2 << 20;
/// Bytes that may follow the last section, to fill up a page.
const PADDING: u64 = 4096;

/// Why an image can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ImageFileError {
    /// The system reports an error.
    #[error("{path}: {source}; the file must exist and be readable by the user that runs tapis", path = .path.shown())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It is a directory, a FIFO, a device or a socket.
    #[error("{path}: not a regular file; name the file of an image", path = .0.shown())]
    NotAFile(PathBuf),
    /// Memory for it can't be allocated.
    #[error("{path}: {bytes} bytes of memory can't be allocated for it: {source}; free some memory", path = .path.shown())]
    Memory {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The system's error.
        source: io::Error,
    },
    /// It is damaged, or no image of this version.
    #[error("{path}: {source}; compile it again from its lists", path = .path.shown())]
    Refused {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: ImageError,
    },
}

/// Reads an image and checks all of it. The file may change or be removed afterwards.
///
/// # Errors
/// [`ImageFileError`]. A file that does not begin as an image does is not read to its end.
pub fn read_image(path: &Path) -> Result<Image, ImageFileError> {
    let unreadable = |source| ImageFileError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let refused = |source| ImageFileError::Refused {
        path: path.to_owned(),
        source,
    };
    let (mut file, meta) = regular::open(path).map_err(|why| match why {
        Unread::NotRegular => ImageFileError::NotAFile(path.to_owned()),
        other => unreadable(other.into()),
    })?;
    let size = meta.len();
    let mut head = Vec::with_capacity(HEADER);
    let start = (&mut file).take(HEADER as u64).read_to_end(&mut head);
    start.map_err(unreadable)?;
    let (_, extents) = read_header(&head, size).map_err(refused)?;
    let ends = extents.iter().map(|extent| extent.offset + extent.len);
    // The header has a checksum, so a damaged one can't make this allocate more than an image needs.
    if size - ends.max().unwrap_or(HEADER) as u64 > PADDING {
        return Err(refused(ImageError::Damaged("length")));
    }
    let mut bytes = allocate(size).map_err(|source| ImageFileError::Memory {
        path: path.to_owned(),
        bytes: size,
        source,
    })?;
    let read = match &mut bytes {
        ImageBytes::Heap(heap) => file.read_exact_at(heap, 0),
        ImageBytes::Mapped(mapped) => read_by_two_threads(&file, mapped),
    };
    read.map_err(|error| match error.kind() {
        // It was truncated meanwhile.
        ErrorKind::UnexpectedEof => refused(ImageError::Truncated),
        _ => unreadable(error),
    })?;
    Image::open(bytes).map_err(refused)
}

/// Memory for `size` bytes, with huge pages if they are of use.
fn allocate(size: u64) -> io::Result<ImageBytes> {
    let size = usize::try_from(size).map_err(|_| ErrorKind::OutOfMemory)?;
    if (size as u64) < HUGE {
        return Ok(ImageBytes::Heap(vec![0; size]));
    }
    let map = MmapMut::map_anon(size)?;
    // Without huge pages, lookups are only slower.
    let _ = map.advise(Advice::HugePage);
    Ok(ImageBytes::Mapped(map))
}

/// Reads the start of a file with two threads, which share the work of providing new memory: it has to be zeroed, and a
/// virtual machine has to get it from its host first. This takes longer than the reading.
fn read_by_two_threads(file: &File, bytes: &mut [u8]) -> io::Result<()> {
    let half = bytes.len() / 2;
    let both = thread::scope(|scope| {
        let (first, second) = bytes.split_at_mut(half);
        let other = thread::Builder::new()
            .spawn_scoped(scope, move || file.read_exact_at(second, half as u64))
            .ok()?;
        let first = file.read_exact_at(first, 0);
        let second = other.join().unwrap_or(Err(ErrorKind::Other.into()));
        Some(first.and(second))
    });
    // No thread could be started.
    both.unwrap_or_else(|| file.read_exact_at(bytes, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_a_huge_page_or_more_is_mapped() {
        let small = allocate(HUGE - 1).expect("memory");
        assert!(matches!(&small, ImageBytes::Heap(_)) && small.len() as u64 == HUGE - 1);
        let large = allocate(HUGE).expect("memory");
        assert!(matches!(&large, ImageBytes::Mapped(_)) && large.len() as u64 == HUGE);
    }
}
