//! Feeds: policy zones that arrive by zone transfer, with Tapis as a secondary. Transfers a zone into a [`fetch::Sink`];
//! decides nothing about its rules.

mod connection;
pub mod fault;
pub mod fetch;
pub mod key;
pub mod limits;
pub mod primary;
pub mod refresh;
pub mod sink;
pub mod tls;
