//! The sources of rules: lists and their downloads, feeds, orders and exceptions, and the files that lists and orders are
//! read from.

pub(crate) mod deadline;
pub mod downloads;
pub mod feeds;
pub(crate) mod files;
pub(crate) mod links;
pub mod lists;
pub mod orders;
pub(crate) mod pauses;
pub(crate) mod pending;
pub(crate) mod scheduler;
pub(crate) mod settling;
pub mod wall_clock;
pub mod watch;
