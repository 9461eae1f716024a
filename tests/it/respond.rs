//! Owns the tests of `serve::respond`: octets in, octets out, as strangers on the network see them.
//! Refuses sockets and clocks; every answer is read back by another implementation.

mod ask;
mod decoded;
mod harness;
mod upstream_answer;

mod allowed;
mod arbitrary;
mod blocked;
mod cached;
mod edges;
mod edns;
mod failures;
mod forwarded;
mod header;
mod local;
mod services;
mod size;
mod stale;
mod swaps;
mod targets;
