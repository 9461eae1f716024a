//! Owns the way from list files to one image file: reading, sorting in bounded memory, merging with
//! what an older image holds, writing.
//! Refuses to publish: the file is there or it is not.
//!
//! It is made to run as a process of its own ([`child`] starts one): what it takes of memory goes
//! back with it, and the service outlives whatever happens to it.

mod batch;
mod carried;
pub mod child;
pub mod error;
pub(crate) mod job;
mod merge;
pub mod plan;
mod rss;
pub mod run;
mod sort;
mod target;

#[cfg(test)]
mod tests;
