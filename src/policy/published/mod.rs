//! The policy in force as a response policy zone, so that other servers that apply the zone decide as this one.

use std::sync::Arc;

use super::image::ImageError;
use super::snapshot::Snapshot;
use crate::wire::name::Name;

/// The sources whose rules are published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// All sources.
    #[default]
    All,
    /// The sources with these names. `order:*` stands for all orders, and `exception:*` for all exceptions.
    Named(Vec<String>),
}

/// The policy of a snapshot as a policy zone. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PublishedZone {
    snapshot: Arc<Snapshot>,
}

/// A record of a published zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedRecord<'r> {
    /// Its owner without the labels of the apex.
    pub owner: &'r Name,
    /// TYPE.
    pub rtype: u16,
    /// TTL in seconds.
    pub ttl_secs: u32,
    /// RDATA without compressed names.
    pub data: &'r [u8],
}

/// How often the policy can't be expressed as a policy zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inexpressible {
    /// Rules with patterns. They are left out.
    pub patterns: u64,
    /// Records whose owner has more than 255 bytes. They are left out.
    pub long_owners: u64,
    /// Records whose owner has another meaning in a policy zone: the root, names that begin with the label `*`, and names
    /// below `rpz-ip` and the like. They are left out.
    pub reserved_owners: u64,
    /// Names and networks whose action has no counterpart. NODATA takes its place.
    pub actions: u64,
    /// Networks left out because rules on names precede theirs: in a policy zone it is the reverse.
    pub networks: u64,
    /// Networks that apply to more or fewer answers than here, because of exceptions, or because names that are allowed
    /// precede all networks of answers in a policy zone.
    pub inexact_networks: u64,
}

impl PublishedZone {
    /// The zone at `apex` with the policy of the default view.
    pub fn new(snapshot: &Arc<Snapshot>, selection: &Selection, apex: &Name) -> Self {
        let _ = (selection, apex);
        Self {
            snapshot: snapshot.clone(),
        }
    }

    /// The generation of the snapshot.
    pub fn generation(&self) -> u64 {
        self.snapshot.generation
    }

    /// A cursor before the first record. The records of one owner follow each other, those of one type together. The apex
    /// has no records: SOA and NS are the caller's.
    pub fn records(&self) -> Records {
        Records {
            inexpressible: Inexpressible::default(),
        }
    }

    /// A cursor over the records that `old` has and `self` does not, and the reverse. Owned, as [`Records`].
    pub fn changes_from(&self, old: &Self) -> Changes {
        let _ = old;
        Changes {}
    }
}

/// Iterates over the records of a published zone. It owns what it reads, and needs little memory whatever the size of the
/// zone.
#[derive(Debug)]
pub struct Records {
    inexpressible: Inexpressible,
}

impl Records {
    /// The next record.
    #[allow(
        clippy::should_implement_trait,
        reason = "the record borrows from the cursor"
    )]
    pub fn next(&mut self) -> Option<PublishedRecord<'_>> {
        None
    }

    /// What could not be expressed so far; complete after the last record.
    pub fn inexpressible(&self) -> &Inexpressible {
        &self.inexpressible
    }

    /// The error that ended the iteration early, if any.
    pub fn damage(&self) -> Option<ImageError> {
        None
    }
}

/// Whether a record is only in the new version of a zone, or only in the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordChange {
    /// Only in the old version.
    Deleted,
    /// Only in the new version.
    Added,
}

/// Iterates over the differences between two versions of a published zone, owner by owner: first the records deleted of an
/// owner, then those added.
#[derive(Debug)]
pub struct Changes {}

impl Changes {
    /// The next difference.
    #[allow(
        clippy::should_implement_trait,
        reason = "the record borrows from the cursor"
    )]
    pub fn next(&mut self) -> Option<(RecordChange, PublishedRecord<'_>)> {
        None
    }

    /// The error that ended the iteration early, if any.
    pub fn damage(&self) -> Option<ImageError> {
        None
    }
}
