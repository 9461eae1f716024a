//! Why a compilation failed.

use std::io;
use std::path::PathBuf;

use super::plan::ListOutcome;
use crate::config::shown::Show;
use crate::policy::image::values::SOURCES;
use crate::policy::image::{ImageError, TooLarge};

/// Why no image was written.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// An image to carry rules over from can't be read.
    #[error("{path}: {source}; without it every list must be read", path = .path.shown())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// An image to carry rules over from is damaged.
    #[error("{path}: {source}; without it every list must be read", path = .path.shown())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The damage.
        source: ImageError,
    },
    /// A list is to be carried over, and no image has it.
    #[error("{0}: no image holds its rules; it must be read")]
    NowhereElse(String),
    /// Rules can't be written to the file that sorting needs.
    #[error(
        "{path}: {source}; the folder must be writable, and have room for the text of all lists", path = .path.shown())]
    Sort {
        /// The folder.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The image can't be written.
    #[error("{path}: {source}; its folder must exist, be writable, and have room for it", path = .path.shown())]
    Write {
        /// The image.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// There are more rules or names than an image can hold.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// There are more lists than an image can hold.
    #[error("{0} lists, more than the {SOURCES} that an image can hold; join some of them")]
    Lists(usize),
    /// Lists were refused, and the plan is strict.
    #[error("nothing is written, as some lists were refused")]
    Refused(Vec<ListOutcome>),
}
