//! Authorities' orders and the operator's exceptions: reads their files, and determines the sources that are in force at
//! an instant.

mod blocked_paths;
pub(crate) mod directory;
pub mod edit;
mod file;
mod findings;
mod last_good;
pub(crate) mod problems;
pub(crate) mod reading;
pub mod registry;
mod rules;
pub mod schedule;

pub use file::text;
