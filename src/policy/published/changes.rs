//! The differences between two versions of a published zone.

use std::fmt;
use std::sync::Arc;

use super::contents::ContentId;
use super::covers::{Covers, NameContents};
use super::inexpressible::Inexpressible;
use super::records::{PublishedRecord, lookup, read_names};
use super::regions;
use super::source::PublishedPolicy;
use super::walk::Walk;
use crate::policy::image::ImageError;
use crate::policy::image::walk::BATCH;
use crate::policy::prefix::Prefix;
use crate::policy::ranking::LookupResult;
use crate::policy::record::LocalRecord;
use crate::policy::rpz::{network_owner, wildcard_owner};
use crate::wire::name::Name;

/// Whether a record is only in the old version of a zone, or only in the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordChange {
    /// Only in the old version.
    Deleted,
    /// Only in the new version.
    Added,
}

/// Iterates over the differences between two versions of a published zone, owner by owner: first the records deleted of an
/// owner, then those added. It owns what it reads.
pub struct Changes {
    old: Version,
    new: Version,
    /// The number in the new version of each record set of the old one.
    numbers: Vec<Option<ContentId>>,
    walk: Walk,
    names: Vec<Name>,
    /// The owners that differ, the last one first: the number of the name, and whether it is on its wildcard.
    differing: Vec<(usize, bool, Sets)>,
    /// The next network of each version.
    networks: [usize; 2],
    owner: Name,
    /// The record sets of the owner, and the next record of both.
    sets: Sets,
    place: usize,
}

/// The record sets of an owner in both versions.
#[derive(Clone, Copy)]
struct Sets {
    old: ContentId,
    new: ContentId,
}

/// A version of the zone at the current names.
struct Version {
    policy: Arc<PublishedPolicy>,
    covers: Covers,
    found: [LookupResult; BATCH],
}

impl Version {
    fn new(policy: &Arc<PublishedPolicy>) -> Self {
        Self {
            covers: Covers::new(policy),
            found: [LookupResult::default(); BATCH],
            policy: policy.clone(),
        }
    }

    /// The record sets of the name with this number.
    fn contents(&mut self, number: usize, name: &Name) -> NameContents {
        let mut uncounted = Inexpressible::default();
        let found = &self.found[number];
        self.covers.contents(name, found, None, &mut uncounted)
    }

    fn records(&self, content: ContentId) -> &[LocalRecord] {
        self.policy.contents.records(content)
    }

    fn network(&self, place: usize) -> Option<(Prefix, ContentId)> {
        self.policy.networks.0.get(place).copied()
    }
}

impl Changes {
    pub(super) fn new(old: &Arc<PublishedPolicy>, new: &Arc<PublishedPolicy>) -> Self {
        let mut trees = Vec::new();
        for tree in old.trees().chain(new.trees()) {
            if !trees.iter().any(|known| tree.is_same(known)) {
                trees.push(tree.clone());
            }
        }
        let nothing = ContentId::NOTHING;
        Self {
            numbers: old.contents.numbers_in(&new.contents),
            walk: Walk::new(trees, regions::differing(old, new)),
            old: Version::new(old),
            new: Version::new(new),
            names: Vec::with_capacity(BATCH),
            differing: Vec::with_capacity(2 * BATCH),
            networks: [0; 2],
            owner: Name::ROOT,
            sets: Sets {
                old: nothing,
                new: nothing,
            },
            place: 0,
        }
    }

    /// The next difference.
    #[expect(
        clippy::should_implement_trait,
        reason = "the record borrows from the cursor"
    )]
    pub fn next(&mut self) -> Option<(RecordChange, PublishedRecord<'_>)> {
        let (change, place) = loop {
            if let Some(found) = self.next_in_sets() {
                break found;
            }
            self.sets = self.next_sets()?;
            self.place = 0;
        };
        let record = match change {
            RecordChange::Deleted => &self.old.records(self.sets.old)[place],
            RecordChange::Added => &self.new.records(self.sets.new)[place],
        };
        let record = PublishedRecord {
            owner: &self.owner,
            rtype: record.rtype,
            ttl_secs: record.ttl_secs.unwrap_or(0),
            data: &record.data,
        };
        Some((change, record))
    }

    /// The error that ended the iteration early.
    pub fn damage(&self) -> Option<ImageError> {
        self.walk.damage()
    }

    /// The next record that only one of the sets has: its place in this set.
    fn next_in_sets(&mut self) -> Option<(RecordChange, usize)> {
        let old = self.old.records(self.sets.old);
        let new = self.new.records(self.sets.new);
        while self.place < old.len() + new.len() {
            let place = self.place;
            self.place += 1;
            match place.checked_sub(old.len()) {
                None if !new.contains(&old[place]) => return Some((RecordChange::Deleted, place)),
                Some(place) if !old.contains(&new[place]) => {
                    return Some((RecordChange::Added, place));
                }
                _ => {}
            }
        }
        None
    }

    /// Finds the next owner whose record sets differ.
    fn next_sets(&mut self) -> Option<Sets> {
        loop {
            if let Some((name, is_wildcard, sets)) = self.differing.pop() {
                let name = &self.names[name];
                match is_wildcard {
                    true => {
                        wildcard_owner(name, &mut self.owner);
                    }
                    false => self.owner.clone_from(name),
                }
                return Some(sets);
            }
            if !self.read_batch() {
                break;
            }
        }
        loop {
            let (prefix, sets) = self.next_network()?;
            if self.differ(sets) {
                self.owner = network_owner(&prefix);
                return Some(sets);
            }
        }
    }

    /// The next network of both versions.
    fn next_network(&mut self) -> Option<(Prefix, Sets)> {
        let old = self.old.network(self.networks[0]);
        let new = self.new.network(self.networks[1]);
        let prefixes = [old, new].into_iter().flatten();
        let prefix = prefixes.map(|(prefix, _)| prefix).min()?;
        let mut take = |which: usize, next: Option<(Prefix, ContentId)>| match next {
            Some((of, content)) if of == prefix => {
                self.networks[which] += 1;
                content
            }
            _ => ContentId::NOTHING,
        };
        let sets = Sets {
            old: take(0, old),
            new: take(1, new),
        };
        Some((prefix, sets))
    }

    fn differ(&self, sets: Sets) -> bool {
        self.numbers[usize::from(sets.old)] != Some(sets.new)
    }

    /// Looks up the next names. Returns false at the end.
    fn read_batch(&mut self) -> bool {
        let is_read = read_names(&mut self.walk, &mut self.names);
        let count = self.names.len();
        for version in [&mut self.old, &mut self.new] {
            lookup(&version.policy, &self.names, &mut version.found[..count]);
        }
        for number in 0..count {
            let name = &self.names[number];
            let old = self.old.contents(number, name);
            let new = self.new.contents(number, name);
            for (is_wildcard, old, new) in
                [(false, old.exact, new.exact), (true, old.below, new.below)]
            {
                let sets = Sets { old, new };
                if self.differ(sets) {
                    self.differing.push((number, is_wildcard, sets));
                }
            }
        }
        self.differing.reverse();
        is_read
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes")
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}
