//! The compiler: turns list files into one image file, by sorting in bounded memory and merging with an older image.
//!
//! It runs as a separate process, which [`child`] starts. Its memory is freed when it ends, and its failure does not
//! stop the server.

pub mod arrival;
mod batch;
mod carried;
pub mod child;
pub mod error;
pub(crate) mod job;
mod merge;
pub mod plan;
pub(crate) mod queue;
mod rss;
mod rules;
pub mod run;
mod sort;
mod state;
mod transferred;

#[cfg(test)]
mod tests;
