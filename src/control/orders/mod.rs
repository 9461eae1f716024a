//! Owns authorities' orders and the operator's exceptions, from their files to what is in force at an instant.
//! Refuses to publish: that is `reload`'s.

mod asked;
pub mod book;
pub mod edit;
mod file;
mod findings;
pub(in crate::control) mod folder;
mod last_good;
pub mod life;
pub(in crate::control) mod remarks;
mod rules;

pub use file::text;
