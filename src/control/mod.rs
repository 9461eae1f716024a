//! Owns the control plane: lists, reloading, the control socket.
//! Refuses to touch a packet: it meets the data plane in `policy::current` alone.

pub mod api;
pub mod client;
mod compiling;
pub mod compose;
mod join;
mod keep;
pub mod lists;
pub mod load;
pub mod reload;
mod report;
pub mod socket;
mod stage;
pub mod start;
mod state;
pub mod status;
pub mod store;
pub mod watch;
