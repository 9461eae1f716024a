//! Shared by the tests: the server under test, an upstream and a primary with scripts, a client.

pub(crate) mod client;
pub(crate) mod clock;
pub(crate) mod data_plane;
pub(crate) mod doh;
pub(crate) mod dot;
pub(crate) mod local;
pub(crate) mod peers;
pub(crate) mod policy;
pub(crate) mod port;
pub(crate) mod primary;
pub(crate) mod quic;
pub(crate) mod random;
pub(crate) mod server;
pub(crate) mod signer;
pub(crate) mod tls;
pub(crate) mod upstream;
pub(crate) mod web;
