//! The journal: every change of the policy, in a file that only grows and whose entries are chained by digests.
//!
//! Each line is an entry, as JSON. Its last field, `hash`, is the SHA-256 of all bytes of the line before `,"hash":"`; its
//! field `previous` is the hash of the line before it. So a line that is changed, removed or moved breaks the chain. A
//! second file, the head, has the number and the hash of the last entry, and shows whether entries are missing at the
//! end.
//!
//! A generation comes into force once its entry is on the disk, but waits for that at most `PATIENCE`. If the journal
//! can't be written, the generation comes into force all the same, and that is an alarm.

mod chain;
mod download_settings;
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
pub mod pauses;
mod record;
pub mod settings;
mod thread;
mod unrecorded;
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
pub(super) use record::{Record, state_changes};
pub(super) use settings::setting_changes;
pub(super) use unwritten::read as unwritten_since;
pub(super) use writer::Journal;
