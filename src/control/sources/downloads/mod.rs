//! Lists that are downloaded: each has a task that asks its mirrors when that is due, checks what they send, and replaces
//! the file that the list is read from. From then on it is a list like any other.
//!
//! ```text
//!            refresh time, or request                     checks passed, bytes differ
//!   waiting ---------------------------> asking a mirror ------------------------------> file replaced --> list read
//!      ^  ^                                |    |    ^                                                       |   |
//!      |  +--- 304, or the same bytes -----+    |    |                rejected: the next mirror              |   |
//!      |                                        |    +-------------------------------------------------------+   |
//!      |       fault: the next mirror; after    |                                                      in force |
//!      +------ the last one, again later -------+                                                               |
//!      +--------------------------------------------------------------------------------------------------------+
//! ```
//!
//! A version that is not in force yet, or rejected, does not replace the last good one: `copy` has both.

mod address;
mod attempts;
mod client;
mod connect;
pub(crate) mod copy;
mod directory;
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
pub(crate) mod verdict;
