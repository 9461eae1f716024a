//! The data plane: takes packets and answers them.

pub mod admission;
mod alias;
mod asked;
pub mod cache;
pub mod client;
mod context;
mod deferred;
pub mod dispatch;
pub mod inflight;
mod limit;
mod local;
mod local_alias;
pub mod notify;
pub mod observe;
pub mod pace;
pub mod pending;
pub mod resolver;
pub mod respond;
pub mod responder;
pub mod routes;
pub mod shared;
pub mod step;
mod synthesized;
pub mod transport;
pub mod upstream;
mod worker_cache;
pub mod zones;
