//! The data plane: takes packets and answers them.

pub mod admission;
pub mod cache;
mod context;
mod deferred;
pub mod inflight;
pub mod pace;
pub mod resolver;
pub mod respond;
pub mod responder;
pub mod shared;
mod synthesized;
pub mod transport;
pub mod upstream;
mod worker_cache;
