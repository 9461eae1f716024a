//! What the tests share: a server of ours, an upstream that follows a script, a client.

pub mod client;
pub mod server;
pub mod upstream;
