//! Lists by URL, with a running server, a web server over TLS that has each fault, and an upstream that knows its name.

mod acceptance;
mod changes;
mod checks;
mod contents;
mod damage;
mod faults;
mod life;
mod limits;
mod mirrors;
mod network;
mod redirects;
pub(crate) mod scene;
