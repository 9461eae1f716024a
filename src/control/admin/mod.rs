//! The control socket, its HTTP API, and the requests that arrive through it.

pub mod api;
pub mod caching;
mod caller;
pub mod client;
mod export;
pub mod health;
pub(crate) mod hits;
mod inode;
pub mod logging;
mod overlap;
pub mod passing;
pub mod pausing;
pub(crate) mod preparing;
pub mod querying;
mod received;
mod recorded;
pub mod requests;
pub mod socket;
pub mod status;
pub mod successor;
pub(crate) mod trust;
pub mod verdict;
