//! Why an image cannot be read or written.

use std::io;

/// Why bytes are not an image that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The first bytes are others.
    #[error("not an image of Tapis")]
    NotAnImage,
    /// Another version of the layout.
    #[error("an image of layout {found}, and this program reads layout {supported}")]
    Version {
        /// The version of the image.
        found: u32,
        /// The version that this program reads and writes.
        supported: u32,
    },
    /// It ends too early.
    #[error("cut short")]
    Truncated,
    /// A digest is not that of the bytes.
    #[error("damaged: its {0} is not what was written")]
    Damaged(&'static str),
    /// The digests are right, but what they vouch for can't be.
    #[error("invalid: its {0} is not what this program writes")]
    Invalid(&'static str),
}

/// What there is too much of for one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// More than two gigabytes of buckets.
    #[error("more names than fit into 2 GiB of image; leave out a list")]
    Buckets,
    /// More than 16,777,216 nodes with many children, or groups of their buckets.
    #[error("more names with many names below them than fit into one image; leave out a list")]
    Directory,
    /// More than 65,535 sources, or rules on a name.
    #[error("more than 65,535 lists, or rules of lists on one name; join some lists")]
    Sources,
    /// More than 8,388,608 different combinations of rules.
    #[error("more than 8,388,608 different combinations of lists on a name; leave out a list")]
    Values,
}

/// Why an image was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// There is too much of something.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The system's reason.
    #[error(transparent)]
    Io(#[from] io::Error),
}
