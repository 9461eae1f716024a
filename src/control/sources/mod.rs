//! Everything that rules come from, and the files that they are read from.

pub(in crate::control) mod deadline;
pub(in crate::control) mod errands;
pub(in crate::control) mod files;
pub(in crate::control) mod links;
pub mod lists;
pub mod orders;
pub(in crate::control) mod scheduler;
pub mod wall_clock;
pub mod watch;
