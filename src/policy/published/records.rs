//! All records of a published zone.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::contents::ContentId;
use super::covers::{Covers, NameContents};
use super::inexpressible::Inexpressible;
use super::source::PublishedPolicy;
use super::walk::{Region, Walk};
use crate::policy::image::ImageError;
use crate::policy::image::walk::BATCH;
use crate::policy::ranking::LookupResult;
use crate::policy::rpz::{network_owner, wildcard_owner};
use crate::wire::name::Name;

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

/// Iterates over the records of a published zone: the rules on names, then those on networks. It owns what it reads, and needs
/// about 100 kB, whatever the size of the zone.
pub struct Records {
    policy: Arc<PublishedPolicy>,
    walk: Walk,
    covers: Covers,
    /// Names that were looked up together.
    names: Vec<Name>,
    found: [LookupResult; BATCH],
    /// The record sets of these names: the number of the name, whether they are on its wildcard, and the set.
    sets: VecDeque<(usize, bool, ContentId)>,
    /// The next network.
    network: usize,
    owner: Name,
    /// The current set, and the next record in it.
    set: (ContentId, usize),
    inexpressible: Inexpressible,
}

impl Records {
    pub(super) fn new(policy: &Arc<PublishedPolicy>) -> Self {
        let trees = policy.trees().cloned().collect();
        Self {
            walk: Walk::new(trees, vec![Region::everything()]),
            covers: Covers::new(policy),
            names: Vec::with_capacity(BATCH),
            found: [LookupResult::default(); BATCH],
            sets: VecDeque::with_capacity(2 * BATCH),
            network: 0,
            owner: Name::ROOT,
            set: (ContentId::NOTHING, 0),
            inexpressible: policy.inexpressible,
            policy: policy.clone(),
        }
    }

    /// The next record. The records of one owner follow each other, and so do those of one type.
    #[expect(
        clippy::should_implement_trait,
        reason = "the record borrows from the cursor"
    )]
    pub fn next(&mut self) -> Option<PublishedRecord<'_>> {
        while self.set.1 >= self.policy.contents.records(self.set.0).len() {
            self.set = (self.next_set()?, 0);
        }
        let (set, place) = self.set;
        self.set.1 += 1;
        let record = &self.policy.contents.records(set)[place];
        Some(PublishedRecord {
            owner: &self.owner,
            rtype: record.rtype,
            ttl_secs: record.ttl_secs.unwrap_or(0),
            data: &record.data,
        })
    }

    /// The rules that could not be expressed so far. An owner is counted when its records would have been returned.
    pub fn inexpressible(&self) -> &Inexpressible {
        &self.inexpressible
    }

    /// The error that ended the iteration early.
    pub fn damage(&self) -> Option<ImageError> {
        self.walk.damage()
    }

    /// Finds the next record set and its owner.
    fn next_set(&mut self) -> Option<ContentId> {
        loop {
            if let Some((name, is_wildcard, content)) = self.sets.pop_front() {
                let name = &self.names[name];
                match is_wildcard {
                    true => {
                        wildcard_owner(name, &mut self.owner);
                    }
                    false => self.owner.clone_from(name),
                }
                return Some(content);
            }
            if !self.read_batch() {
                break;
            }
        }
        let (prefix, content) = self.policy.networks.0.get(self.network)?;
        self.network += 1;
        self.owner = network_owner(prefix);
        Some(*content)
    }

    /// Looks up the next names. Returns whether there are any.
    fn read_batch(&mut self) -> bool {
        let count = read_names(&mut self.walk, &mut self.names);
        let found = &mut self.found[..count];
        lookup(&self.policy, &self.names, found);
        for (number, (name, found)) in self.names.iter().zip(found).enumerate() {
            let inexpressible = &mut self.inexpressible;
            let NameContents { exact, below } =
                self.covers.contents(name, found, Some(true), inexpressible);
            let sets = [(number, false, exact), (number, true, below)];
            let some = sets
                .iter()
                .filter(|(.., content)| *content != ContentId::NOTHING);
            self.sets.extend(some);
        }
        count > 0
    }
}

/// Reads up to [`BATCH`] names of a walk, in place of those read before. Returns their number.
pub(super) fn read_names(walk: &mut Walk, names: &mut Vec<Name>) -> usize {
    let mut count = 0;
    while count < BATCH {
        if names.len() == count {
            names.push(Name::ROOT);
        }
        if !walk.next(&mut names[count]) {
            break;
        }
        count += 1;
    }
    names.truncate(count);
    count
}

/// Looks up at most [`BATCH`] names.
pub(super) fn lookup(policy: &PublishedPolicy, names: &[Name], found: &mut [LookupResult]) {
    let mut refs = [&Name::ROOT; BATCH];
    for (name, place) in names.iter().zip(&mut refs) {
        *place = name;
    }
    policy.snapshot.lookup(&refs[..names.len()], found);
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}
