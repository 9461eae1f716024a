//! What the tests share: a server of ours, an upstream that follows a script, a client.

pub(crate) mod client;
pub(crate) mod server;
pub(crate) mod upstream;
