//! Feeds: policy zones that arrive by zone transfer, with Tapis as a secondary. Transfers a zone into a [`sink::Sink`];
//! decides nothing about its rules.

mod announced;
pub mod arrival;
mod confirmed;
mod connection;
pub(crate) mod delivery;
mod demands;
pub mod fault;
pub mod fetch;
pub mod key;
pub mod limits;
mod local;
pub mod notified;
pub mod primary;
mod receive;
pub mod refresh;
pub(crate) mod repeats;
pub mod report;
pub(crate) mod runner;
pub(crate) mod running;
pub mod sink;
pub mod spool;
pub mod tls;
