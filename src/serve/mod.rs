//! Owns the data plane: the packet's road from socket to socket.
//! Refuses to know where the policy comes from.

mod asker;
pub mod cache;
mod context;
mod deferred;
pub mod desk;
pub mod flights;
mod near;
mod own;
pub mod pace;
pub mod resolve;
pub mod respond;
pub mod seats;
pub mod shared;
pub mod streams;
pub mod udp;
pub mod upstream;
