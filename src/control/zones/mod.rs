//! Publishes the policy in force as policy zones, with Tapis as their primary.
//!
//! ```text
//!   a snapshot is in force --> version: compared with the last one
//!                                |               |
//!                                | the same      | other records: next serial, stored in the state directory
//!                                v               v
//!                           serial stays     policy::served_zones --> the data plane serves it
//!                                                |
//!                                                +--> notifier: NOTIFY to each secondary until it accepts it
//!                                                +--> export: written to a file
//! ```
//!
//! While a source of the zone has no version yet, there is no new version of the zone: secondaries would lose the rules of that
//! source. See `missing`.
//!
//! Each zone has its own task, so that a large zone delays nothing else. Snapshots that come while a version is being
//! made are skipped, but for the newest one.
//!
//! After a start, all records are read once, to find out whether they are those of the last version of the process before.
//! Meanwhile, secondaries get the SOA record of that version and the changes that lead to it, from `history`. If there was no
//! version, the first one is served before its records have been read, with a serial by the clock.

mod attempt;
mod digest;
mod export;
mod history;
pub(crate) mod leftovers;
pub(crate) mod missing;
mod notifier;
pub mod report;
pub(crate) mod running;
mod serial;
pub mod source;
mod task;
pub mod text;
mod version;
