//! Owns the reading of an image's file into memory.
//! Refuses to map the file itself: were it cut, the next lookup would end the process.

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

/// Smaller images gain nothing from huge pages, which have this size.
const HUGE: u64 = 2 << 20;
/// Octets that may fill up the file behind its last section.
const PADDING: u64 = 4096;

/// Why a file is no image that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageFileError {
    /// The system does not let it be read.
    #[error("{path}: {source}; the file must exist and be readable by the user that runs tapis", path = .path.shown())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is no regular file.
    #[error("{path}: not a regular file; name the file of an image", path = .0.shown())]
    NotAFile(PathBuf),
    /// There is not enough memory for it.
    #[error("{path}: {bytes} bytes of memory can't be had for it: {source}; free some", path = .path.shown())]
    Memory {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// What the system says.
        source: io::Error,
    },
    /// What it holds is damaged, or no image of this version.
    #[error("{path}: {source}; compile it again from its lists", path = .path.shown())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ImageError,
    },
}

/// Reads an image and checks it whole. Its memory is its own: the file may change or go at once.
///
/// # Errors
/// [`ImageFileError`] when the file can't be read, or holds no image that can be used. What is no
/// image at all is not read to its end.
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
    // The header is sealed, so no more memory is asked for than an image of ours needs.
    if size - ends.max().unwrap_or(HEADER) as u64 > PADDING {
        return Err(refused(ImageError::Damaged("length")));
    }
    let mut octets = room(size).map_err(|source| ImageFileError::Memory {
        path: path.to_owned(),
        bytes: size,
        source,
    })?;
    let read = match &mut octets {
        ImageBytes::Heap(bytes) => file.read_exact_at(bytes, 0),
        ImageBytes::Mapped(bytes) => read_by_two(&file, bytes),
    };
    read.map_err(|error| match error.kind() {
        // It was cut since it was looked at.
        ErrorKind::UnexpectedEof => refused(ImageError::Truncated),
        _ => unreadable(error),
    })?;
    Image::open(octets).map_err(refused)
}

/// Memory for `size` octets.
fn room(size: u64) -> io::Result<ImageBytes> {
    let size = usize::try_from(size).map_err(|_| ErrorKind::OutOfMemory)?;
    if (size as u64) < HUGE {
        return Ok(ImageBytes::Heap(vec![0; size]));
    }
    let map = MmapMut::map_anon(size)?;
    // Without huge pages lookups are slower, and as right.
    let _ = map.advise(Advice::HugePage);
    Ok(ImageBytes::Mapped(map))
}

/// Fills `octets` from a file's start by two threads: fresh memory has to be zeroed, and on a
/// virtual machine to be fetched from its host, which takes longer than the reading.
fn read_by_two(file: &File, octets: &mut [u8]) -> io::Result<()> {
    let half = octets.len() / 2;
    let both = thread::scope(|scope| {
        let (first, second) = octets.split_at_mut(half);
        let other = thread::Builder::new()
            .spawn_scoped(scope, move || file.read_exact_at(second, half as u64))
            .ok()?;
        let first = file.read_exact_at(first, 0);
        let second = other.join().unwrap_or(Err(ErrorKind::Other.into()));
        Some(first.and(second))
    });
    // Without another thread by this one alone.
    both.unwrap_or_else(|| file.read_exact_at(octets, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fills_a_huge_page_has_a_mapping_of_its_own() {
        let small = room(HUGE - 1).expect("memory");
        assert!(matches!(&small, ImageBytes::Heap(_)) && small.len() as u64 == HUGE - 1);
        let large = room(HUGE).expect("memory");
        assert!(matches!(&large, ImageBytes::Mapped(_)) && large.len() as u64 == HUGE);
    }
}
