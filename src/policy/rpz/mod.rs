//! Response policy zones (draft-vixie-dnsop-dns-rpz-00): the rules that their records stand for.
//!
//! ```text
//!  record of the zone ------> owner.rs:  the trigger, from the owner name
//!                      \----> action.rs: the effect, from the type and the data
//!                                |
//!                                v
//!                             records.rs: the records of one owner are one rule
//!                             hidden.rs:  the owners with records that are ignored because of others
//!
//!  record of the zone <------ write.rs:  the reverse, for zones that are published
//! ```

mod action;
mod hidden;
mod overrides;
mod owner;
mod records;
pub mod settings;
mod write;

pub use action::UnusableData;
pub use hidden::HiddenRecords;
pub use owner::{UnusableOwner, ZoneTrigger, network_owner};
pub use records::{RecordProblem, ZoneReader, ZoneRecord, ZoneRule};
pub use write::{
    answer_records, is_no_name, is_reserved, passthru, rule_lines, rule_owners, wildcard_owner,
};
