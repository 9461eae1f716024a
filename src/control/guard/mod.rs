//! The guard rails: which updates of lists are rejected, and which rules are suppressed. An operator can release each
//! guard rail by name.

pub mod acceptance;
mod below;
mod names;
pub(crate) mod patterns;
pub mod policy;
pub mod protected;
pub mod reading;
pub mod release;
mod sample;
pub mod suppressed;
#[cfg(test)]
mod tests;
pub(crate) mod transferred;
