//! One worker's copy of entries that it found in the cache a moment ago: a hit takes no lock, and the memory of a whole
//! batch is prefetched together. An entry is looked up in the cache again every few seconds.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::cache::{Cache, Entry, KeyRef};
use crate::sys::prefetch::{prefetch, prefetch_value};
use crate::wire::query::Query;

/// Entries in a set: as many as fit a line of a processor's cache.
const WAYS: usize = 2;
/// The maximum number of sets. Together, this many sets take a megabyte.
const MOST_SETS: usize = 16_384;
/// The number of the cache's bytes per set: for a small cache, the worker cache has few sets and is small, too.
const BYTES_PER_SET: u64 = 4096;
/// The number of sets at the start, and by how much it is multiplied when they do not suffice. Most servers have few clients.
const FIRST_SETS: usize = 256;
const GROWTH: usize = 4;
/// Answers of more bytes are not copied. A copy stays in memory for a while after the cache has evicted the entry.
const MOST_BYTES: usize = 1024;

/// Seconds for which a copy is used. After that the entry is looked up in the cache again. Thus the cache registers
/// that the entry is popular, and the worker gets a newer entry if there is one.
const KEPT: u32 = 4;

/// The copied entries.
pub(super) struct WorkerCache {
    sets: Box<[Set]>,
    /// How many sets there may be.
    most: usize,
    /// How many copies were replaced while they could still be used, since there are this many sets.
    displaced: usize,
    hasher: RandomState,
    /// The epoch of the cache that the entries are from.
    epoch: u32,
}

#[derive(Clone, Default)]
#[repr(align(64))]
struct Set([Way; WAYS]);

#[derive(Clone, Default)]
struct Way {
    hash: u64,
    /// The second of the server's clock in which it was found.
    second: u32,
    /// The flags that the answer depends on, besides name and type.
    bits: u8,
    entry: Option<Arc<Entry>>,
}

/// Where an entry is, or would be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Location(u64);

impl WorkerCache {
    /// For a cache of that many bytes.
    pub(super) fn new(cache: u64) -> Self {
        let most = usize::try_from(cache / BYTES_PER_SET).unwrap_or(MOST_SETS);
        let most = most.clamp(1, MOST_SETS).next_power_of_two();
        Self {
            sets: empty(most.min(FIRST_SETS)),
            most,
            displaced: 0,
            hasher: RandomState::default(),
            epoch: 0,
        }
    }

    /// Drops all copies if the cache has removed entries that they may be of.
    pub(super) fn follow(&mut self, cache: &Cache) {
        let epoch = cache.epoch();
        if self.epoch != epoch {
            self.epoch = epoch;
            self.sets.fill(Set::default());
        }
    }

    /// Where the answer to a query would be. Prefetches that memory.
    pub(super) fn locate(&self, query: &Query<'_>) -> Location {
        let location = Location(self.hasher.hash_one(KeyRef::new(query)));
        prefetch_value(self.set(location));
        location
    }

    /// Prefetches the entry at a location, if there is one.
    pub(super) fn prefetch_entry(&self, location: Location) {
        if let Some(entry) = self.candidate(location) {
            prefetch_value(entry);
        }
    }

    /// Prefetches the first bytes of the entry's answer; to be called after the entry itself was prefetched.
    pub(super) fn prefetch_bytes(&self, location: Location) {
        if let Some(entry) = self.candidate(location) {
            let bytes = entry.answer.bytes();
            prefetch(bytes, 0);
            prefetch(bytes, 64);
        }
    }

    /// The entry for a query, if it was found a moment ago and is within its TTL.
    pub(super) fn get(&self, location: Location, query: &Query<'_>, now: u32) -> Option<&Entry> {
        let bits = KeyRef::new(query).bits();
        let ways = self.set(location).0.iter();
        let mut fits = ways.filter(|way| {
            way.hash == location.0 && now.wrapping_sub(way.second) < KEPT && way.bits == bits
        });
        let entry = fits.next()?.entry.as_deref()?;
        // An attacker who chooses names can make two hashes equal.
        let good = entry.is_fresh(now) && entry.answer.is_about(query.name, query.rtype);
        good.then_some(entry)
    }

    /// Keeps an entry that the cache returned.
    pub(super) fn insert(
        &mut self,
        location: Location,
        query: &Query<'_>,
        entry: &Arc<Entry>,
        now: u32,
    ) {
        if entry.answer.footprint() > MOST_BYTES {
            return;
        }
        self.grow_if_needed();
        let bits = KeyRef::new(query).bits();
        let index = self.index(location);
        let Set(ways) = &mut self.sets[index];
        // An entry that is renewed stays where it is.
        if !ways
            .iter()
            .any(|way| way.hash == location.0 && way.bits == bits)
        {
            ways.rotate_right(1);
            let [oldest, ..] = ways;
            let is_usable = oldest.entry.is_some() && now.wrapping_sub(oldest.second) < KEPT;
            self.displaced += usize::from(is_usable);
        }
        let at = ways
            .iter()
            .position(|way| way.hash == location.0 && way.bits == bits);
        ways[at.unwrap_or(0)] = Way {
            hash: location.0,
            second: now,
            bits,
            entry: Some(Arc::clone(entry)),
        };
    }

    /// Makes more sets if too many copies displaced others. The copies are dropped; the next queries find their entries in the
    /// cache.
    fn grow_if_needed(&mut self) {
        if self.displaced > self.sets.len() && self.sets.len() < self.most {
            self.sets = empty((self.sets.len() * GROWTH).min(self.most));
            self.displaced = 0;
        }
    }

    fn candidate(&self, location: Location) -> Option<&Entry> {
        let mut ways = self.set(location).0.iter();
        ways.find(|way| way.hash == location.0)?.entry.as_deref()
    }

    fn set(&self, location: Location) -> &Set {
        &self.sets[self.index(location)]
    }

    fn index(&self, location: Location) -> usize {
        location.0 as usize & (self.sets.len() - 1)
    }
}

fn empty(sets: usize) -> Box<[Set]> {
    vec![Set::default(); sets].into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::answer::{Answer, Intake};
    use crate::wire::name::Name;

    fn packet(name: &str, rtype: u16, flags: u16) -> Vec<u8> {
        let mut packet = vec![0, 7];
        packet.extend_from_slice(&flags.to_be_bytes());
        packet.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        packet.extend_from_slice(Name::from_text(name).expect("a name").wire());
        packet.extend_from_slice(&rtype.to_be_bytes());
        packet.extend_from_slice(&[0, 1]);
        packet
    }

    /// An answer received in second 1 with a TTL of six; its question has another letter case than the query.
    fn entry(name: &str, rtype: u16) -> Arc<Entry> {
        let mut message = packet(name, rtype, 0x8180);
        message[12..].make_ascii_uppercase();
        message[7] = 1;
        message.extend_from_slice(b"\xC0\x0C");
        message.extend_from_slice(&rtype.to_be_bytes());
        message.extend_from_slice(&[0, 1, 0, 0, 0, 6, 0, 4, 192, 0, 2, 1]);
        let bounds = Intake {
            min_ttl: 0,
            max_ttl: 60,
            max_negative_ttl: u32::MAX,
            additional: false,
        };
        let asked = Name::from_text(name).expect("a name");
        let answer = Answer::parse(&message, &asked, rtype, 1, bounds).expect("an answer");
        Arc::new(Entry::new(answer, 1))
    }

    const RD: u16 = 0x0100;
    const CD: u16 = 0x0010;

    #[test]
    fn an_entry_is_found_again_for_some_seconds_within_its_ttl() {
        let mut worker_cache = WorkerCache::new(1 << 20);
        let packet = packet("a.example", 1, RD);
        let mut name = Name::default();
        let query = Query::parse(&packet, &mut name).expect("a query");
        let location = worker_cache.locate(&query);
        assert!(worker_cache.get(location, &query, 1).is_none());
        let kept = entry("a.example", 1);
        worker_cache.insert(location, &query, &kept, 1);
        let found = worker_cache.get(location, &query, 1).expect("kept");
        assert!(std::ptr::eq(found, &*kept));
        assert!(worker_cache.get(location, &query, 4).is_some());
        assert!(
            worker_cache.get(location, &query, 5).is_none(),
            "the cache may have a newer entry"
        );
        worker_cache.insert(location, &query, &entry("a.example", 1), 5);
        let found = worker_cache.get(location, &query, 6).expect("kept");
        assert!(!std::ptr::eq(found, &*kept));
        assert!(
            worker_cache.get(location, &query, 7).is_none(),
            "its TTL is over"
        );
    }

    #[test]
    fn equal_hashes_of_other_queries_find_nothing() {
        let mut worker_cache = WorkerCache::new(0);
        let asked = packet("a.example", 1, RD);
        let mut name = Name::default();
        let asked = Query::parse(&asked, &mut name).expect("a query");
        let location = worker_cache.locate(&asked);
        worker_cache.insert(location, &asked, &entry("a.example", 1), 1);
        for (name, rtype, flags) in [
            ("b.example", 1, RD),
            ("a.exampl", 1, RD),
            ("b.a.example", 1, RD),
            ("a.example", 28, RD),
            ("a.example", 1, RD | CD),
        ] {
            let other = packet(name, rtype, flags);
            let mut room = Name::default();
            let other = Query::parse(&other, &mut room).expect("a query");
            assert!(
                worker_cache.get(location, &other, 1).is_none(),
                "{name} {rtype}"
            );
        }
        assert!(worker_cache.get(location, &asked, 1).is_some());
    }

    /// Asks for that many names several times, and returns how many of them are found the last time.
    fn found_of(worker_cache: &mut WorkerCache, names: usize) -> usize {
        let names: Vec<_> = (0..names).map(|n| format!("n{n}.example")).collect();
        let mut found = 0;
        for _ in 0..9 {
            found = 0;
            for name in &names {
                let packet = packet(name, 1, RD);
                let mut room = Name::default();
                let query = Query::parse(&packet, &mut room).expect("a query");
                let location = worker_cache.locate(&query);
                if worker_cache.get(location, &query, 1).is_some() {
                    found += 1;
                } else {
                    worker_cache.insert(location, &query, &entry(name, 1), 1);
                }
            }
        }
        found
    }

    #[test]
    fn it_grows_when_copies_displace_others_and_no_larger_than_it_may() {
        let mut worker_cache = WorkerCache::new(1 << 30);
        assert!(found_of(&mut worker_cache, 20) > 18);
        assert_eq!(worker_cache.sets.len(), FIRST_SETS);
        assert!(found_of(&mut worker_cache, 4000) > 2600);
        let mut small = WorkerCache::new(1 << 22);
        assert!(found_of(&mut small, 4000) < 2000);
        assert_eq!(small.sets.len(), 1 << 10);
    }

    #[test]
    fn a_set_holds_the_last_entries() {
        let mut worker_cache = WorkerCache::new(0);
        let packets =
            ["a.example", "b.example", "c.example"].map(|name| (name, packet(name, 1, RD)));
        for (name, packet) in &packets {
            let mut room = Name::default();
            let query = Query::parse(packet, &mut room).expect("a query");
            let location = worker_cache.locate(&query);
            worker_cache.insert(location, &query, &entry(name, 1), 1);
        }
        let found = packets.each_ref().map(|(_, packet)| {
            let mut room = Name::default();
            let query = Query::parse(packet, &mut room).expect("a query");
            worker_cache
                .get(worker_cache.locate(&query), &query, 1)
                .is_some()
        });
        assert_eq!(found, [false, true, true]);
    }
}
