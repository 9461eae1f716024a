//! Shared by the tests: the server under test, an upstream with a script, a client.

pub(crate) mod client;
pub(crate) mod data_plane;
pub(crate) mod policy;
pub(crate) mod server;
pub(crate) mod upstream;
