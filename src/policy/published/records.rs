//! All records of a published zone.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::contents::ContentId;
use super::covers::{Covers, NameContents};
use super::inexpressible::Inexpressible;
use super::source::PublishedPolicy;
use super::walk::{Region, Step, Walk};
use crate::policy::image::ImageError;
use crate::policy::image::walk::BATCH;
use crate::policy::ranking::LookupResult;
use crate::policy::rpz::{network_owner, wildcard_owner};
use crate::policy::view::LookupKey;
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

/// What [`Records::step`] leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordStep<'r> {
    /// The next record.
    Record(PublishedRecord<'r>),
    /// No record yet. A zone with few of the rules in force may have millions of such steps, of a millisecond or less each, so
    /// that a task that must not block its thread can yield.
    Pause,
    /// There are no more records.
    End,
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
    /// The current set, and the number of its records that were returned.
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
        loop {
            match self.advance() {
                Step::Name => return Some(self.current()),
                Step::Pause => {}
                Step::End => return None,
            }
        }
    }

    /// The same, but returns after a limited amount of work.
    pub fn step(&mut self) -> RecordStep<'_> {
        match self.advance() {
            Step::Name => RecordStep::Record(self.current()),
            Step::Pause => RecordStep::Pause,
            Step::End => RecordStep::End,
        }
    }

    /// The rules that could not be expressed so far. An owner is counted when its records would have been returned.
    pub fn inexpressible(&self) -> &Inexpressible {
        &self.inexpressible
    }

    /// The error that ended the iteration early.
    pub fn damage(&self) -> Option<ImageError> {
        self.walk.damage()
    }

    /// Goes on to the next record, if it is found soon.
    fn advance(&mut self) -> Step {
        loop {
            let (set, returned) = self.set;
            if returned < self.policy.contents.records(set).len() {
                self.set.1 += 1;
                return Step::Name;
            }
            if let Some((name, is_wildcard, content)) = self.sets.pop_front() {
                let name = &self.names[name];
                match is_wildcard {
                    true => {
                        wildcard_owner(name, &mut self.owner);
                    }
                    false => self.owner.clone_from(name),
                }
                self.set = (content, 0);
            } else if self.read_batch() {
                if self.sets.is_empty() {
                    return Step::Pause;
                }
            } else {
                let Some((prefix, content)) = self.policy.networks.0.get(self.network) else {
                    return Step::End;
                };
                self.network += 1;
                self.owner = network_owner(prefix);
                self.set = (*content, 0);
            }
        }
    }

    /// The record that [`advance`](Self::advance) has led to.
    fn current(&self) -> PublishedRecord<'_> {
        let (set, returned) = self.set;
        let record = &self.policy.contents.records(set)[returned - 1];
        PublishedRecord {
            owner: &self.owner,
            rtype: record.rtype,
            ttl_secs: record.ttl_secs.unwrap_or(0),
            data: &record.data,
        }
    }

    /// Looks up the next names. Returns false at the end.
    fn read_batch(&mut self) -> bool {
        let is_read = read_names(&mut self.walk, &mut self.names);
        let found = &mut self.found[..self.names.len()];
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
        is_read
    }
}

/// Reads up to [`BATCH`] names of a walk, in place of those read before; perhaps none, if they are far. Returns false at the
/// end.
pub(super) fn read_names(walk: &mut Walk, names: &mut Vec<Name>) -> bool {
    let (mut count, mut step) = (0, Step::Name);
    while count < BATCH && step == Step::Name {
        if names.len() == count {
            names.push(Name::ROOT);
        }
        step = walk.next(&mut names[count]);
        count += usize::from(step == Step::Name);
    }
    names.truncate(count);
    count > 0 || step == Step::Pause
}

/// Looks up at most [`BATCH`] names.
pub(super) fn lookup(policy: &PublishedPolicy, names: &[Name], found: &mut [LookupResult]) {
    let mut refs = [&Name::ROOT; BATCH];
    for (name, place) in names.iter().zip(&mut refs) {
        *place = name;
    }
    let keys = [LookupKey::UNCONDITIONAL; BATCH];
    let count = names.len();
    policy
        .snapshot
        .lookup_in(&refs[..count], &keys[..count], found);
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}
