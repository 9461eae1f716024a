//! The reasons why a configuration can't be imported at all.

use std::io;
use std::path::PathBuf;

use super::super::shown::Show;
use super::tool::Tool;

/// The reason why a configuration can't be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file can't be read.
    #[error("{}: {error}", path.shown())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// A directory has no file with one of the usual names.
    #[error("{}: has none of the files {expected}: name the file itself", path.shown())]
    NoMainFile {
        /// The directory.
        path: PathBuf,
        /// The usual names.
        expected: String,
    },
    /// A file is larger than any configuration.
    #[error("{}: has more than {} MiB, too many for a configuration", path.shown(), max >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        max: u64,
    },
    /// A file has bytes that are not UTF-8.
    #[error("{}:{line}: not UTF-8: convert the file, as with `iconv -f LATIN1 -t UTF-8`", path.shown())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The line of the first such byte.
        line: u32,
    },
    /// An archive.
    #[error("{}: is a {kind}: unpack it into an empty directory, and name that directory", path.shown())]
    Archive {
        /// The file.
        path: PathBuf,
        /// The kind of file.
        kind: &'static str,
    },
    /// The SQLite database of Pi-hole.
    #[error("{}: is an SQLite database: export its tables as docs/coming-from.md shows, and name the directory", path.shown())]
    Database {
        /// The file.
        path: PathBuf,
    },
    /// The file of another program.
    #[error("{}: looks like a configuration of {}, not of {}: use `tapis import {} FILE`", path.shown(), found.title(), wanted.title(), found.word())]
    OtherTool {
        /// The file.
        path: PathBuf,
        /// The program whose file was expected.
        wanted: Tool,
        /// The program whose file it looks like.
        found: Tool,
    },
    /// A file that has no setting of the program.
    #[error("{}: has no setting of {}: is it the right file?", path.shown(), wanted.title())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The program whose file was expected.
        wanted: Tool,
    },
    /// A syntax error that hides the rest of the file.
    #[error("{}:{line}: {message}", path.shown())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Its line.
        line: u32,
        /// The error.
        message: String,
    },
}
