//! Owns the tests of `serve::respond`: octets in, octets out, as strangers on the network see them.
//! Refuses sockets and clocks; every answer is read back by another implementation.

mod ask;
mod house;
mod seen;
mod truth;

mod allowed;
mod arbitrary;
mod blocked;
mod cached;
mod edges;
mod edns;
mod failures;
mod header;
mod local;
mod passed;
mod services;
mod size;
mod stale;
mod swaps;
mod targets;
