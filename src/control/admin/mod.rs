//! The control socket, its HTTP API, and the requests that arrive by it.

pub mod api;
pub mod client;
pub(in crate::control) mod hits;
pub(in crate::control) mod preparing;
pub(in crate::control) mod report;
pub mod requests;
pub mod socket;
pub mod status;
pub mod verdict;
