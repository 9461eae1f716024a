//! Zone transfers: queries, responses record by record, TSIG, and NOTIFY, on the sides of secondary and primary.
//!
//! Nothing here does I/O. [`Transfer`] takes the messages of a primary and returns [`Event`]s; it holds no record.

pub mod announce;
mod error;
mod newest;
pub mod notify;
mod owners;
pub mod query;
mod record;
pub mod request;
mod response;
mod serial;
pub mod sign;
mod soa;
mod state;
#[cfg(test)]
mod tests;
pub mod tsig;
pub mod write;

pub use self::error::TransferError;
pub use self::newest::newest;
pub use self::record::Record;
pub use self::response::{Records, Response};
pub use self::serial::Serial;
pub use self::soa::Soa;
pub use self::state::{Event, Events, Kind, Request, Transfer};
