//! Owns what one worker found in the cache a moment ago: its own, so that a hit takes no lock, and
//! close, so that memory is waited for once for a whole batch.
//! Refuses to be more than a copy: the cache is asked again every few seconds.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::cache::{Entry, KeyRef};
use crate::sys::prefetch::{prefetch, prefetch_value};
use crate::wire::query::Query;

/// Answers in a set: what fits a line of a processor's cache.
const WAYS: usize = 2;
/// Most sets: a megabyte.
const MOST_SETS: usize = 16_384;
/// Octets of the cache for each set, so that a small cache has a small copy.
const OCTETS_A_SET: u64 = 4096;
/// Larger answers are left to the cache: what is evicted there may be held here for a while.
const MOST_OCTETS: usize = 1024;

/// Seconds for which an answer is given without asking the cache, which so learns what is popular, and
/// may have a newer one.
const KEPT: u32 = 4;

/// One worker's answers.
pub(super) struct Near {
    sets: Box<[Set]>,
    hasher: RandomState,
}

#[derive(Clone, Default)]
#[repr(align(64))]
struct Set([Way; WAYS]);

#[derive(Clone, Default)]
struct Way {
    hash: u64,
    /// In which second of the server's clock it was found.
    second: u32,
    /// What else than name and type the answer depends on.
    bits: u8,
    entry: Option<Arc<Entry>>,
}

/// Where an answer is, or would be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place(u64);

impl Near {
    /// For a cache of so many octets.
    pub(super) fn new(cache: u64) -> Self {
        let sets = usize::try_from(cache / OCTETS_A_SET).unwrap_or(MOST_SETS);
        let sets = sets.clamp(1, MOST_SETS).next_power_of_two();
        Self {
            sets: vec![Set::default(); sets].into(),
            hasher: RandomState::default(),
        }
    }

    /// Where the answer to a query would be; the memory there will be read soon.
    pub(super) fn place(&self, query: &Query<'_>) -> Place {
        let place = Place(self.hasher.hash_one(KeyRef::new(query)));
        prefetch_value(self.set(place));
        place
    }

    /// The answer that may be at a place will be read soon: first the entry, then its octets.
    pub(super) fn approach(&self, place: Place) {
        if let Some(entry) = self.candidate(place) {
            prefetch_value(entry);
        }
    }

    /// See [`approach`](Self::approach).
    pub(super) fn reach(&self, place: Place) {
        if let Some(entry) = self.candidate(place) {
            let bytes = entry.answer.bytes();
            prefetch(bytes, 0);
            prefetch(bytes, 64);
        }
    }

    /// The answer to a query, if it was found a moment ago and is within its TTL.
    pub(super) fn find(&self, place: Place, query: &Query<'_>, now: u32) -> Option<&Entry> {
        let bits = KeyRef::new(query).bits();
        let ways = self.set(place).0.iter();
        let mut fits = ways.filter(|way| {
            way.hash == place.0 && now.wrapping_sub(way.second) < KEPT && way.bits == bits
        });
        let entry = fits.next()?.entry.as_deref()?;
        // Who chooses names might make two hashes equal.
        let good = entry.is_fresh(now) && entry.answer.is_about(&query.name, query.rtype);
        good.then_some(entry)
    }

    /// Keeps what the cache said.
    pub(super) fn keep(&mut self, place: Place, query: &Query<'_>, entry: &Arc<Entry>, now: u32) {
        if entry.answer.footprint() > MOST_OCTETS {
            return;
        }
        let bits = KeyRef::new(query).bits();
        let index = self.index(place);
        let Set(ways) = &mut self.sets[index];
        // The same one, a second later, stays where it is.
        if !ways
            .iter()
            .any(|way| way.hash == place.0 && way.bits == bits)
        {
            ways.rotate_right(1);
        }
        let at = ways
            .iter()
            .position(|way| way.hash == place.0 && way.bits == bits);
        ways[at.unwrap_or(0)] = Way {
            hash: place.0,
            second: now,
            bits,
            entry: Some(Arc::clone(entry)),
        };
    }

    fn candidate(&self, place: Place) -> Option<&Entry> {
        let mut ways = self.set(place).0.iter();
        ways.find(|way| way.hash == place.0)?.entry.as_deref()
    }

    fn set(&self, place: Place) -> &Set {
        &self.sets[self.index(place)]
    }

    fn index(&self, place: Place) -> usize {
        place.0 as usize & (self.sets.len() - 1)
    }
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

    /// An answer that came in second 1 and lives for six, whose question has other letters than were
    /// asked.
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
    fn what_was_found_is_found_again_for_some_seconds_within_its_ttl() {
        let mut near = Near::new(1 << 20);
        let packet = packet("a.example", 1, RD);
        let query = Query::parse(&packet).expect("a query");
        let place = near.place(&query);
        assert!(near.find(place, &query, 1).is_none());
        let kept = entry("a.example", 1);
        near.keep(place, &query, &kept, 1);
        let found = near.find(place, &query, 1).expect("kept");
        assert!(std::ptr::eq(found, &*kept));
        assert!(near.find(place, &query, 4).is_some());
        assert!(
            near.find(place, &query, 5).is_none(),
            "the cache may know better"
        );
        near.keep(place, &query, &entry("a.example", 1), 5);
        let found = near.find(place, &query, 6).expect("kept");
        assert!(!std::ptr::eq(found, &*kept));
        assert!(near.find(place, &query, 7).is_none(), "its TTL is over");
    }

    #[test]
    fn equal_hashes_of_other_questions_find_nothing() {
        let mut near = Near::new(0);
        let asked = packet("a.example", 1, RD);
        let asked = Query::parse(&asked).expect("a query");
        let place = near.place(&asked);
        near.keep(place, &asked, &entry("a.example", 1), 1);
        for (name, rtype, flags) in [
            ("b.example", 1, RD),
            ("a.exampl", 1, RD),
            ("b.a.example", 1, RD),
            ("a.example", 28, RD),
            ("a.example", 1, RD | CD),
        ] {
            let other = packet(name, rtype, flags);
            let other = Query::parse(&other).expect("a query");
            assert!(near.find(place, &other, 1).is_none(), "{name} {rtype}");
        }
        assert!(near.find(place, &asked, 1).is_some());
    }

    #[test]
    fn a_set_holds_the_last_ones() {
        let mut near = Near::new(0);
        let packets =
            ["a.example", "b.example", "c.example"].map(|name| (name, packet(name, 1, RD)));
        for (name, packet) in &packets {
            let query = Query::parse(packet).expect("a query");
            let place = near.place(&query);
            near.keep(place, &query, &entry(name, 1), 1);
        }
        let found = packets.each_ref().map(|(_, packet)| {
            let query = Query::parse(packet).expect("a query");
            near.find(near.place(&query), &query, 1).is_some()
        });
        assert_eq!(found, [false, true, true]);
    }
}
