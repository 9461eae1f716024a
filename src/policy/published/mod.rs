//! The policy in force as a response policy zone, so that other servers that apply the zone decide as this one.
//!
//! The *tree* of a policy has all names with rules of the published sources, and all names above them. For a name that is not
//! in the tree, the policy decides as for any name below its closest ancestor in the tree. So the zone needs at most two
//! record sets for each name x of the tree: on x, for the decision about x; and on `*.x`, for the decision about a name
//! below it that is not in the tree.
//!
//! A zone is read by closest encloser (RFC 4592): its owners, and all names above them, hide wildcards above. Some
//! servers let those wildcards match anyway. So below a wildcard that is published,
//!
//! - each name of the tree has both record sets, with PASSTHRU where the policy decides nothing;
//! - but a name that has no names below it is left out if both would say what the wildcard says.
//!
//! ```text
//!  sources --> selection.rs: a snapshot of these sources alone
//!                  |
//!                  v
//!              source.rs:    the two record sets of a name, from lookups <---- contents.rs: the record sets of verdicts
//!                  ^                                                     <---- networks.rs: those of networks
//!                  |
//!              walk.rs:      the names of the tree, or some of them <--------- tree.rs, regions.rs
//!                  |
//!                  v
//!              records.rs:   all records               changes.rs: the differences between two versions
//! ```

mod changes;
mod contents;
mod covers;
mod inexpressible;
mod networks;
mod records;
mod regions;
mod selection;
mod source;
#[cfg(test)]
mod tests;

mod tree;
mod walk;
mod zone;

pub use changes::{Changes, RecordChange};
pub use inexpressible::Inexpressible;
pub use records::{PublishedRecord, RecordStep, Records};
pub use selection::Selection;
pub use zone::PublishedZone;
