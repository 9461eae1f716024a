//! Lists that are downloaded: each has a task that asks its mirrors when that is due, checks what they send, and replaces
//! the file that the list is read from. From then on it is a list like any other.
//!
//! ```text
//!            refresh time, or request                     checks passed, bytes differ
//!   waiting ---------------------------> asking a mirror ------------------------------> file replaced --> list read
//!      ^  ^                                |         |                                                          |
//!      |  +--- 304, or the same bytes -----+         | fault: the next mirror; after the last one,              |
//!      |                                             | again later, the copy stays                              |
//!      +---------------------------------------------+----------------------------------------------------------+
//! ```

mod address;
mod client;
mod connect;
mod copy;
pub mod fault;
mod fetch;
mod pace;
mod proof;
pub mod report;
pub(crate) mod runner;
pub(crate) mod running;
pub(crate) mod start;
mod transfer;
mod unpack;
