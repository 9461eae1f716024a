//! Publishes the policy in force as policy zones, with Tapis as their primary.
//!
//! ```text
//!   a snapshot is in force --> version: compared with the last one
//!                                |               |
//!                                | the same      | other records: next serial, stored in the state directory
//!                                v               v
//!                           serial stays     policy::served_zones --> the data plane serves it
//!                                                |
//!                                                +--> notifier: NOTIFY to each secondary until it answers
//!                                                +--> export: written to a file
//! ```
//!
//! Each zone has a task of its own, so that a large zone delays nothing else. Snapshots that come while a version is being
//! made are skipped, but for the newest one.

mod digest;
mod export;
mod notifier;
pub mod report;
pub(crate) mod running;
mod serial;
pub mod source;
mod task;
pub mod text;
mod version;
