//! Owns authorities' orders and the operator's exceptions, from their files to what is in force at an instant.
//! Refuses to publish: that is `reload`'s.

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
