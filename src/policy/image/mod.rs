//! The compiled rules of some sources: an immutable trie, byte by byte the same in a file and in memory.

pub mod bits;
pub mod bucket;
pub mod clauses;
pub mod cursor;
pub mod directory;
mod edge;
mod error;
mod finished;
pub mod layout;
mod loaded;
mod open;
pub mod path;
pub mod provenance;
pub mod run;
mod step;
#[cfg(test)]
pub(crate) mod tests;
pub mod text;
mod tld_table;
pub mod triggers;
pub mod values;
pub mod walk;
pub mod writer;

pub use error::{ImageError, TooLarge, WriteError};
pub use loaded::{Image, ImageBytes};
