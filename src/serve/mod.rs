//! Owns the data plane: the packet's road from socket to socket.
//! Refuses to know where the policy comes from.

pub mod cache;
mod own;
pub mod resolve;
pub mod respond;
pub mod streams;
pub mod udp;
pub mod upstream;
