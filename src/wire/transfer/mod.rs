//! Zone transfers from a secondary's side: queries, responses record by record, TSIG, and NOTIFY.
//!
//! Nothing here does I/O. [`Transfer`] takes the messages of a primary and returns [`Event`]s; it holds no record.

mod error;
mod newest;
pub mod notify;
mod owners;
pub mod query;
mod record;
mod response;
mod serial;
mod soa;
mod state;
#[cfg(test)]
mod tests;
pub mod tsig;

pub use self::error::TransferError;
pub use self::newest::newest;
pub use self::record::Record;
pub use self::response::{Records, Response};
pub use self::serial::Serial;
pub use self::soa::Soa;
pub use self::state::{Event, Events, Kind, Request, Transfer};
