//! A published zone: the entrance to its records.

use std::sync::Arc;

use super::changes::Changes;
use super::records::Records;
use super::selection::Selection;
use super::source::PublishedPolicy;
use crate::policy::snapshot::Snapshot;
use crate::wire::name::Name;

/// The policy of a snapshot as a policy zone. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PublishedZone(Arc<PublishedPolicy>);

impl PublishedZone {
    /// The zone at `apex` with the policy of the selected sources in the default view. Takes about as long as to make the
    /// snapshot.
    pub fn new(snapshot: &Snapshot, selection: &Selection, apex: &Name) -> Self {
        Self(Arc::new(PublishedPolicy::new(snapshot, selection, apex)))
    }

    /// The generation of the snapshot.
    pub fn generation(&self) -> u64 {
        self.0.snapshot.generation
    }

    /// A cursor before the first record. The apex has no records; its SOA and NS records are left to the caller.
    pub fn records(&self) -> Records {
        Records::new(&self.0)
    }

    /// A cursor over the differences from `old` to this version. If only the delta or the orders differ, it visits only the
    /// names concerned; otherwise all names of both.
    pub fn changes_from(&self, old: &Self) -> Changes {
        Changes::new(&old.0, &self.0)
    }
}
