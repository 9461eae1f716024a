//! The control plane as a whole, without the data plane.

mod feeds;
mod guard;
mod merging;
mod orders;
mod pending;
mod requests;
mod rollback;
