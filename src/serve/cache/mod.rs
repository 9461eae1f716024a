//! The cache of upstream's answers and recent failures, limited in bytes. It holds them unfiltered, so that a new or a
//! lifted block leaves nothing behind.

mod stale;

use std::convert::Infallible;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use quick_cache::{Equivalent, Weighter, sync};
use smallvec::SmallVec;

use crate::wire::answer::Answer;
use crate::wire::ask::Question;
use crate::wire::query::Query;
use crate::wire::{Rcode, rtype};

/// Seconds for which a failure is remembered (RFC 9520, section 3.2: 1 to 300).
const FAILURE_SECS: u32 = 5;
/// TTL of answers that are older than their own (RFC 8767, section 5).
pub const STALE_TTL: u32 = 30;
/// An answer is refreshed when so many queries hit it within the last tenth of its TTL, unless its TTL is so short that
/// it would be refreshed all the time.
const POPULAR: u8 = 2;
const LATE_SHARE: u64 = 10;
const LEAST_REFRESHED: u32 = 20;
/// Bytes that an entry costs besides its answer: key, slot, reference counts.
const ENTRY_OVERHEAD: usize = 160;
/// Bytes that a denial costs: key and slot, which have room for a name of 40 bytes; a longer name comes on top.
const DENIAL_OVERHEAD: usize = 112;
/// The share of the cache's bytes that failures may take, and denials.
const FAILURE_SHARE: u64 = 16;
const DENIAL_SHARE: u64 = 16;
/// Bytes of a small entry, from which the cache sizes its tables. They must not grow while it serves: that takes tens of
/// milliseconds, in which packets wait. Unused room costs next to no memory.
const SMALL_ENTRY: u64 = 320;

/// The key of an entry: name, type and flags. The class is always IN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Stored inline unless it is very long: on the heap it would be one more wait for memory.
    name: SmallVec<[u8; 40]>,
    rtype: u16,
    bits: u8,
}

/// A borrowed key, for lookups.
#[derive(Clone, Copy)]
pub(super) struct KeyRef<'k> {
    name: &'k [u8],
    rtype: u16,
    bits: u8,
}

const DO: u8 = 1;
const CD: u8 = 2;

impl<'k> KeyRef<'k> {
    pub(super) fn new(query: &'k Query<'_>) -> Self {
        let dnssec = if query.dnssec_ok() { DO } else { 0 };
        let checking = if query.checking_disabled() { CD } else { 0 };
        Self {
            name: query.name.wire(),
            rtype: query.rtype,
            bits: dnssec | checking,
        }
    }

    /// The flags DO and CD, which change the answer.
    pub(super) fn bits(&self) -> u8 {
        self.bits
    }

    /// The same key with all combinations of DO and CD.
    fn variants(self) -> impl Iterator<Item = Self> {
        (0..=(DO | CD)).map(move |bits| Self { bits, ..self })
    }
}

impl Key {
    /// The key of a query: its name, type, and the flags DO and CD, which change the answer.
    pub fn new(query: &Query<'_>) -> Self {
        let KeyRef { name, rtype, bits } = KeyRef::new(query);
        Self {
            name: name.into(),
            rtype,
            bits,
        }
    }

    /// The name servers of the root.
    pub(super) fn root_servers() -> Self {
        Self {
            name: SmallVec::from_slice(&[0]),
            rtype: rtype::NS,
            bits: 0,
        }
    }

    /// The key under which a denial of a name is kept, whatever type was queried.
    fn denial(name: SmallVec<[u8; 40]>, bits: u8) -> Self {
        let bits = bits & CD;
        Self {
            name,
            rtype: 0,
            bits,
        }
    }

    /// The name in lower case and wire format.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The type.
    pub fn rtype(&self) -> u16 {
        self.rtype
    }

    /// The query to upstream.
    pub fn question(&self) -> Question<'_> {
        Question {
            name: &self.name,
            rtype: self.rtype,
            dnssec_ok: self.bits & DO != 0,
            checking_disabled: self.bits & CD != 0,
        }
    }

    fn as_ref(&self) -> KeyRef<'_> {
        KeyRef {
            name: &self.name,
            rtype: self.rtype,
            bits: self.bits,
        }
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.name);
        state.write_u32(u32::from(self.rtype) << 8 | u32::from(self.bits));
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_ref().hash(state);
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.rtype == key.rtype && self.bits == key.bits && *self.name == *key.name
    }
}

/// An answer, and when it was received.
#[derive(Debug)]
pub struct Entry {
    /// Upstream's answer.
    pub answer: Answer,
    stored: u32,
    expires: u32,
    /// Hits shortly before it expires, up to [`POPULAR`].
    late_hits: AtomicU8,
}

impl Entry {
    /// An answer that was received at `now`, in seconds of the server's clock.
    pub fn new(answer: Answer, now: u32) -> Self {
        let expires = now.saturating_add(answer.ttl().unwrap_or(0));
        Self {
            answer,
            stored: now,
            expires,
            late_hits: AtomicU8::new(0),
        }
    }

    /// Its age in seconds.
    pub fn age(&self, now: u32) -> u32 {
        now.saturating_sub(self.stored)
    }

    /// Whether it may be used after the second in which it was received.
    fn is_kept(&self) -> bool {
        self.expires > self.stored
    }

    /// Whether it may be used as a stale answer.
    fn may_be_stale(&self, now: u32, stale_secs: u32) -> bool {
        self.is_kept() && now.saturating_sub(self.expires) < stale_secs
    }

    /// The name that does not exist, if this is an NXDOMAIN: the last one of its chain (RFC 2308, section 2.1).
    fn denied(&self, asked: &[u8]) -> Option<SmallVec<[u8; 40]>> {
        let is_denial = self.answer.rcode() == Rcode::NxDomain as u16;
        is_denial.then(|| {
            let last = self.answer.chain().last();
            last.map_or_else(|| asked.into(), |(name, _)| name.wire().into())
        })
    }

    /// Whether it is within its TTL.
    pub(super) fn is_fresh(&self, now: u32) -> bool {
        now < self.expires
    }

    /// Counts a hit. True once for an answer that is popular and about to expire: it should be refreshed before
    /// clients have to wait for it.
    pub(super) fn is_due(&self, now: u32) -> bool {
        let ttl = self.expires - self.stored;
        let left = self.expires.saturating_sub(now);
        if ttl < LEAST_REFRESHED || u64::from(left) * LATE_SHARE > u64::from(ttl) {
            return false;
        }
        let hits = self.late_hits.load(Ordering::Relaxed);
        // The hits of two threads may count as one, but only one thread makes the last hit.
        hits < POPULAR
            && self
                .late_hits
                .compare_exchange(hits, hits + 1, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok_and(|hits| hits + 1 == POPULAR)
    }
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The INFO-CODE of the Extended DNS Error (RFC 8914).
    pub code: u16,
    /// An answer with an error's response code, if a server sent one.
    pub said: Option<Arc<Entry>>,
}

#[derive(Clone, Debug)]
struct HeldFailure {
    failure: Arc<Failure>,
    until: u32,
}

/// The result of a lookup.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// An answer within its TTL, and whether it should be refreshed.
    Fresh(Arc<Entry>, bool),
    /// A recent failure, and perhaps a stale answer that may be used instead.
    Failed(Arc<Failure>, Option<Arc<Entry>>),
    /// Upstream must be asked; perhaps there is a stale answer that may be used if that fails.
    Miss(Option<Arc<Entry>>),
}

#[derive(Clone, Debug)]
struct Bytes;

impl Weighter<Key, Arc<Entry>> for Bytes {
    fn weight(&self, key: &Key, entry: &Arc<Entry>) -> u64 {
        (ENTRY_OVERHEAD + key.name.len() + entry.answer.footprint()) as u64
    }
}

/// When an NXDOMAIN was received for a name. It only withdraws older answers, so nothing else is kept of it, besides the
/// answer to its query.
#[derive(Clone, Copy, Debug)]
struct Denial {
    stored: u32,
}

impl Weighter<Key, Denial> for Bytes {
    fn weight(&self, key: &Key, _: &Denial) -> u64 {
        let on_heap = if key.name.spilled() {
            key.name.len()
        } else {
            0
        };
        (DENIAL_OVERHEAD + on_heap) as u64
    }
}

impl Weighter<Key, HeldFailure> for Bytes {
    fn weight(&self, key: &Key, held: &HeldFailure) -> u64 {
        let said = held.failure.said.as_ref();
        let said = said.map_or(0, |entry| entry.answer.footprint());
        (ENTRY_OVERHEAD + key.name.len() + said) as u64
    }
}

/// The cache, shared by all threads. A hit takes a shard's lock for a moment and never allocates.
#[derive(Debug)]
pub struct Cache {
    answers: sync::Cache<Key, Arc<Entry>, Bytes>,
    denials: sync::Cache<Key, Denial, Bytes>,
    failures: sync::Cache<Key, HeldFailure, Bytes>,
    stale_secs: AtomicU32,
}

impl Cache {
    /// A cache of at most `size` bytes that keeps answers for `stale_secs` past their TTL.
    pub fn new(size: u64, stale_secs: u32) -> Self {
        let Shares {
            answers,
            denials,
            failures,
        } = Shares::of(size);
        let cache = Self {
            answers: sync::Cache::with_weighter(items(answers), answers, Bytes),
            denials: sync::Cache::with_weighter(denial_items(denials), denials, Bytes),
            failures: sync::Cache::with_weighter(items(failures), failures, Bytes),
            stale_secs: AtomicU32::new(stale_secs),
        };
        cache.answers.reserve(items(answers));
        cache.denials.reserve(denial_items(denials));
        cache.failures.reserve(items(failures));
        cache
    }

    /// Changes how many bytes it holds at most. A smaller cache keeps what it has room for. Takes long for a large
    /// one: no thread that answers queries may call it.
    pub fn resize(&self, size: u64) {
        let Shares {
            answers,
            denials,
            failures,
        } = Shares::of(size);
        self.answers.set_capacity(answers);
        self.denials.set_capacity(denials);
        self.failures.set_capacity(failures);
        let more = |all: usize, held: usize| all.saturating_sub(held);
        self.answers
            .reserve(more(items(answers), self.answers.len()));
        self.denials
            .reserve(more(denial_items(denials), self.denials.len()));
        self.failures
            .reserve(more(items(failures), self.failures.len()));
    }

    /// Changes how many seconds past their TTL answers are kept.
    pub fn set_stale_secs(&self, stale_secs: u32) {
        self.stale_secs.store(stale_secs, Ordering::Relaxed);
    }

    /// Looks up a query at `now`. May wait a moment for another thread.
    pub fn lookup(&self, query: &Query<'_>, now: u32) -> Lookup {
        let key = KeyRef::new(query);
        let failure = || Ok::<_, Infallible>(self.failures.get(&key));
        let peeked = stale::Peek {
            answer: |key: &KeyRef<'_>| Ok(self.answers.peek(key)),
            denial: |key: &KeyRef<'_>| Ok(self.denials.peek(key)),
        };
        let Ok(known) = self.known(key, self.answers.get(&key), now, peeked, failure);
        known
    }

    /// The same without waiting: `None` if another thread is writing where the entry would be.
    pub fn try_lookup(&self, query: &Query<'_>, now: u32) -> Option<Lookup> {
        let key = KeyRef::new(query);
        let entry = self.answers.try_get(&key).ok()?;
        let peeked = stale::Peek {
            answer: |key: &KeyRef<'_>| self.answers.try_peek(key),
            denial: |key: &KeyRef<'_>| self.denials.try_peek(key),
        };
        let failure = || self.failures.try_get(&key);
        self.known(key, entry, now, peeked, failure).ok()
    }

    fn known<E>(
        &self,
        key: KeyRef<'_>,
        entry: Option<Arc<Entry>>,
        now: u32,
        peek: stale::Peek<
            impl Fn(&KeyRef<'_>) -> Result<Option<Arc<Entry>>, E>,
            impl Fn(&KeyRef<'_>) -> Result<Option<Denial>, E>,
        >,
        failure: impl FnOnce() -> Result<Option<HeldFailure>, E>,
    ) -> Result<Lookup, E> {
        let stale = match entry {
            Some(entry) if entry.is_fresh(now) => {
                let due = entry.is_due(now);
                return Ok(Lookup::Fresh(entry, due));
            }
            Some(entry) if entry.may_be_stale(now, self.stale_secs.load(Ordering::Relaxed)) => {
                let stale_secs = self.stale_secs.load(Ordering::Relaxed);
                stale::find(key, entry, now, stale_secs, &peek)?
            }
            _ => None,
        };
        Ok(match failure()? {
            Some(held) if now < held.until => Lookup::Failed(held.failure, stale),
            _ => Lookup::Miss(stale),
        })
    }

    /// Keeps an answer if its TTL allows that. Older answers that it contradicts are no longer used, whether it is
    /// kept or not (RFC 8767, section 4).
    pub fn insert(&self, key: Key, entry: Arc<Entry>) {
        if let Some(name) = entry.denied(&key.name) {
            let stored = entry.stored;
            let denial = Key::denial(name, key.bits);
            self.denials.insert(denial, Denial { stored });
        }
        let known = |key: &KeyRef<'_>| self.answers.contains_key(key);
        if entry.is_kept() || key.as_ref().variants().any(|key| known(&key)) {
            self.answers.insert(key, entry);
        }
    }

    /// The same without waiting; false if another thread holds the lock.
    pub fn try_insert(&self, key: Key, entry: Arc<Entry>) -> bool {
        if let Some(name) = entry.denied(&key.name) {
            let stored = entry.stored;
            let denial = Key::denial(name, key.bits);
            if self.denials.try_insert(denial, Denial { stored }).is_err() {
                return false;
            }
        }
        // An entry that can't be looked up now may be there.
        let known = |key: &KeyRef<'_>| self.answers.try_contains_key(key).unwrap_or(true);
        let counts = entry.is_kept() || key.as_ref().variants().any(|key| known(&key));
        !counts || self.answers.try_insert(key, entry).is_ok()
    }

    /// Remembers that a query failed at `now`; a stale answer stays.
    pub fn insert_failure(&self, key: Key, failure: Arc<Failure>, now: u32) {
        let until = now + FAILURE_SECS;
        self.failures.insert(key, HeldFailure { failure, until });
    }

    /// How many bytes of answers it may hold.
    pub fn capacity(&self) -> u64 {
        self.answers.capacity()
    }

    /// How many answers it holds, and how many bytes they take.
    pub fn size(&self) -> (usize, u64) {
        (self.answers.len(), self.answers.weight())
    }
}

/// How the bytes of a cache are divided.
struct Shares {
    answers: u64,
    denials: u64,
    failures: u64,
}

impl Shares {
    fn of(size: u64) -> Self {
        let (failures, denials) = (size / FAILURE_SHARE, size / DENIAL_SHARE);
        Self {
            answers: size - failures - denials,
            denials,
            failures,
        }
    }
}

/// How many small entries fit in that many bytes.
fn items(bytes: u64) -> usize {
    usize::try_from(bytes / SMALL_ENTRY).unwrap_or(usize::MAX)
}

/// How many denials fit in that many bytes.
fn denial_items(bytes: u64) -> usize {
    usize::try_from(bytes / DENIAL_OVERHEAD as u64).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::resolver::tests::entry_of;

    #[test]
    fn a_cache_that_is_made_smaller_keeps_what_it_has_room_for_and_a_larger_one_more() {
        const MIB: u64 = 1 << 20;
        let cache = Cache::new(8 * MIB, 0);
        let fill = |from: u32| {
            for number in from..from + 10_000 {
                let mut key = Key::root_servers();
                key.name = SmallVec::from_slice(&[4]);
                key.name.extend_from_slice(&number.to_be_bytes());
                key.name.push(0);
                cache.insert(key, entry_of(400));
            }
        };
        fill(0);
        let (many, bytes) = cache.size();
        assert!(bytes > 2 * MIB, "{many} in {bytes}");
        cache.resize(MIB);
        let (few, bytes) = cache.size();
        assert!(0 < few && few < many && bytes <= MIB, "{few} in {bytes}");
        fill(10_000);
        assert!(cache.size().1 <= MIB);
        cache.resize(8 * MIB);
        assert!(cache.size().0 > 0);
        fill(20_000);
        assert!(cache.size().1 > 2 * MIB);
    }
}
