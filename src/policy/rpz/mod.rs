//! Response policy zones (draft-vixie-dnsop-dns-rpz-00): the rules that their records stand for.
//!
//! ```text
//!  record of the zone ------> owner.rs:  the trigger, from the owner name
//!                      \----> action.rs: the effect, from the type and the data
//!                                |
//!                                v
//!                             records.rs: the records of one owner are one rule
//! ```

mod action;
mod overrides;
mod owner;
mod records;
pub mod settings;

pub use action::UnusableData;
pub use owner::{UnusableOwner, ZoneTrigger};
pub use records::{RecordProblem, ZoneReader, ZoneRecord, ZoneRule};
