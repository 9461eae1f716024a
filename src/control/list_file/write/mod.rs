//! Writes the rules of a list as text, in the formats that [`parse`](super::parse) reads. The text has only rules that the
//! format can express exactly: when it is read again, each line gives the rule that it was written for. The others are counted.
//!
//! ```text
//!  image --> list.rs: the rules of a list
//!        --> zone.rs: the rules of a policy zone
//!              |
//!              +--> frame.rs:   the comments before and after them
//!              +--> meaning.rs: what a rule does, whatever way its list said it
//!              +--> writer.rs:  the lines of a rule, read again if they are not of the most common form
//!              |       |         unwritten.rs, reason.rs: the rules without lines
//!                      |
//!                      +--> format.rs --> domains.rs, hosts.rs, dnsmasq.rs, unbound.rs, adblock.rs
//! ```

mod adblock;
mod dnsmasq;
mod domains;
mod format;
mod frame;
mod hosts;
mod list;
mod meaning;
mod names;
mod reason;
mod rule;
mod unbound;
mod unwritten;
mod writer;
mod zone;

#[cfg(test)]
mod tests;

pub use format::WrittenFormat;
pub use list::{WriteError, write_list};
pub use names::Absolute;
pub use reason::Reason;
pub use unwritten::{Unwritten, WrittenList};
pub use zone::write_zone;
