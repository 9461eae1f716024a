//! Writes the rules of a list as text, in the formats that [`parse`](super::parse) reads. The text has only rules that the
//! format can say exactly: when it is read again, each line gives the rule that it was written for. The others are counted.
//!
//! ```text
//!  image --> list.rs: the rules of a list, the header and the end of the text
//!              |
//!              +--> meaning.rs: what a rule does, whatever way its list said it
//!              +--> writer.rs:  the lines of a rule, read again if they are not of the most common form
//!                      |
//!                      +--> format.rs --> domains.rs, hosts.rs, dnsmasq.rs, unbound.rs, adblock.rs
//! ```

mod adblock;
mod dnsmasq;
mod domains;
mod format;
mod hosts;
mod list;
mod meaning;
mod names;
mod rdata;
mod rule;
mod unbound;
mod unwritten;
mod writer;

#[cfg(test)]
mod tests;

pub use format::WrittenFormat;
pub use list::{WriteError, WrittenList, write_list};
pub use meaning::ListSettings;
pub use names::Absolute;
pub use rdata::Rdata;
pub use unwritten::{Reason, Unwritten};
