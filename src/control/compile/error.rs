//! Why a compilation failed.

use std::io;
use std::path::PathBuf;

use super::plan::ListOutcome;
use crate::config::shown::Show;
use crate::policy::image::values::SOURCES;
use crate::policy::image::{ImageError, TooLarge};

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// An image to carry rules over from can't be read.
    #[error("{path}: {source}; without it every list must be read", path = .path.shown())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// An image to carry rules over from is damaged.
    #[error("{path}: {source}; without it every list must be read", path = .path.shown())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ImageError,
    },
    /// A list is to be carried over, and there is nothing of it.
    #[error("{0}: no image holds its rules; it must be read")]
    NowhereElse(String),
    /// There is no room for what memory should not hold.
    #[error(
        "{path}: {source}; the folder must be writable, and have room for the text of all lists", path = .path.shown())]
    Sort {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The image can't be written.
    #[error("{path}: {source}; its folder must exist, be writable, and have room for it", path = .path.shown())]
    Write {
        /// The image.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is too much for an image.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// More lists than rules can name.
    #[error("{0} lists, more than the {SOURCES} that an image can hold; join some of them")]
    Lists(usize),
    /// Lists were refused, and the plan wants all or nothing.
    #[error("nothing is written, as some lists were refused")]
    Refused(Vec<ListOutcome>),
}
