//! Parses the `adblock` format: DNS filters in the syntax of ad blockers, with lines of hosts files and names mixed in.
//!
//! ```text
//!  line --> line.rs: comment, rule for browsers, hosts line, name, or pattern and modifiers
//!             |
//!             +--> mask.rs:      the pattern as a name with a scope, or as a regular expression
//!             +--> modifiers.rs: the modifiers; rewrite.rs: the value of `$dnsrewrite`
//!             |
//!             +--> taken_back.rs: whether another line of the file takes the rule back; parts.rs: or a part of it
//! ```

mod file;
pub(super) mod line;
mod mask;
mod modifiers;
mod parts;
mod rewrite;
mod taken_back;

pub(super) use file::AdblockFile;
