//! Owns the journal: every change of the policy, in a file that only grows and whose entries are chained by digests.
//! Refuses to hold the policy up: what can't be written in time goes in force all the same, and is told.
//!
//! One entry a line, as JSON. Its last field, `hash`, is the SHA-256 of all octets of the line before
//! `,"hash":"`; the field `previous` is the hash of the line before it, so no line can be changed,
//! removed or moved without the next one telling. That nothing is missing at the end is told by a
//! second file beside it, which holds the number and the hash of the last entry.

mod chain;
mod draft;
pub mod entry;
mod file;
pub mod generations;
mod handover;
mod heartbeat;
pub mod key;
mod lines;
mod losses;
pub mod past;
mod record;
pub mod settings;
mod thread;
mod unwritten;
pub mod verify;
mod waiting;
mod writer;

#[cfg(test)]
mod tests;

pub use chain::{Entry, LineError};
pub(super) use draft::{Draft, OrderRecord, OrderRecords};
#[cfg(test)]
pub(super) use lines::READS;
pub use lines::{JournalError, read, read_files};
pub(super) use record::{Record, turns};
pub(super) use settings::changes;
pub(super) use unwritten::read as unwritten_since;
pub(super) use writer::Journal;
