//! Tests of `serve::respond` without sockets and clocks: bytes in, bytes out. Another
//! implementation parses each answer.

mod ask;
mod decoded;
mod harness;
mod upstream_answer;

mod aliases;
mod allowed;
mod arbitrary;
mod blocked;
mod cached;
mod completed;
mod conditions;
mod edges;
mod edns;
mod failures;
mod forwarded;
mod header;
mod local;
mod pools;
mod records;
mod services;
mod signed;
mod size;
mod stale;
mod swaps;
mod targets;
mod triggers;
