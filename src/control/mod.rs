//! Owns the control plane: lists, reloading, the control socket.
//! Refuses to touch a packet: it meets the data plane in `policy::current` alone.

pub mod admin;
pub mod compile;
mod configuration;
pub mod control_loop;
pub mod guard;
pub mod inspect;
pub mod journal;
pub mod persist;
pub mod publish;
pub mod sources;
pub mod start;
