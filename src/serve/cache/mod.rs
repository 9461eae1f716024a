//! The cache of upstream's answers and recent failures, with a maximum number of bytes. It holds answers as they are
//! before the policy is applied. So when a block is added or removed, this affects cached answers at once.

mod entry;
mod evictions;
mod flush;
mod flushes;
mod popular;
mod stale;

use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use quick_cache::{DefaultHashBuilder, Weighter, sync};

pub(super) use self::entry::KeyRef;
use self::entry::{Denial, DenialKey, DenialRef};
pub use self::entry::{Entry, Key};
use self::evictions::Evictions;
use self::flushes::Flush;
pub use self::flushes::{Names, TooManyFlushes};
use super::routes::{PoolId, Routes};
use crate::wire::query::Query;

/// Seconds for which a failure is remembered (RFC 9520, section 3.2: 1 to 300).
const FAILURE_SECS: u32 = 5;
/// The TTL with which stale answers are sent (RFC 8767, section 5).
pub const STALE_TTL: u32 = 30;
/// Bytes that an entry costs besides its answer: key, slot, reference counts.
const ENTRY_OVERHEAD: usize = 160;
/// Bytes that a denial costs: key and slot. The key has room for a name of 40 bytes; the bytes of a longer name are
/// added.
const DENIAL_OVERHEAD: usize = 112;
/// Of the cache's bytes, 1/`FAILURE_SHARE` are for failures, and 1/`DENIAL_SHARE` are for denials.
const FAILURE_SHARE: u64 = 16;
const DENIAL_SHARE: u64 = 16;
/// The size of a small entry, from which the table sizes are computed. The tables must not grow while the server runs:
/// growing takes tens of milliseconds, during which packets wait. Unused slots cost next to no memory.
const SMALL_ENTRY: u64 = 320;

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
    pool: PoolId,
}

/// The result of a lookup.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// An answer within its TTL.
    Fresh(Arc<Entry>),
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

impl Weighter<DenialKey, Denial> for Bytes {
    fn weight(&self, key: &DenialKey, _: &Denial) -> u64 {
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
    answers: sync::Cache<Key, Arc<Entry>, Bytes, DefaultHashBuilder, Evictions>,
    evictions: Evictions,
    denials: sync::Cache<DenialKey, Denial, Bytes>,
    failures: sync::Cache<Key, HeldFailure, Bytes>,
    stale_secs: AtomicU32,
    /// The pools that are asked. What other pools said about a name is not used.
    routes: ArcSwap<Routes>,
    /// Increases with each change of the routes, and with each flush. An entry that was checked in this epoch need not be checked again, so the
    /// routes cost nothing while they stay the same.
    epoch: AtomicU32,
    /// The flushes whose answers may still arrive, or be found.
    flushes: ArcSwap<Vec<Flush>>,
    /// The same, locked during a flush.
    flushing: Mutex<Vec<Flush>>,
}

impl Cache {
    /// A cache of at most `size` bytes that keeps answers for `stale_secs` past their TTL.
    pub fn new(size: u64, stale_secs: u32) -> Self {
        let Shares {
            answers,
            denials,
            failures,
        } = Shares::of(size);
        let evictions = Evictions::default();
        let hasher = DefaultHashBuilder::default();
        let (most, lifecycle) = (items(answers), evictions.clone());
        let cache = Self {
            answers: sync::Cache::with(most, answers, Bytes, hasher, lifecycle),
            evictions,
            denials: sync::Cache::with_weighter(denial_items(denials), denials, Bytes),
            failures: sync::Cache::with_weighter(items(failures), failures, Bytes),
            stale_secs: AtomicU32::new(stale_secs),
            routes: ArcSwap::default(),
            epoch: AtomicU32::new(1),
            flushes: ArcSwap::default(),
            flushing: Mutex::default(),
        };
        cache.answers.reserve(items(answers));
        cache.denials.reserve(denial_items(denials));
        cache.failures.reserve(items(failures));
        cache
    }

    /// Changes the maximum number of bytes in the cache. If it becomes smaller, it keeps the entries that it has room
    /// for. For a large cache this takes long: no thread that answers queries may call this function.
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

    /// Changes the routes. From now on, what the cache holds about a name is used only if it is from the pool that is asked
    /// for that name by these routes. Nothing is removed: all else is evicted as time passes.
    pub fn set_routes(&self, routes: Arc<Routes>) {
        // In this order: who sees the new epoch sees the new routes.
        self.routes.store(routes);
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// Increases when entries, of which other threads may hold copies, can't be used any more.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether an entry is from the pool that is asked for its name now, and was not flushed.
    #[inline]
    pub(super) fn is_current(&self, entry: &Entry) -> bool {
        entry.checked.load(Ordering::Relaxed) == self.epoch() || self.check(entry)
    }

    #[cold]
    fn check(&self, entry: &Entry) -> bool {
        let epoch = self.epoch();
        let is_flushed = self.flushes.load().iter().any(|flush| flush.covers(entry));
        let is_current = !is_flushed && entry.follows(&self.routes.load());
        if is_current {
            entry.checked.store(epoch, Ordering::Relaxed);
        }
        is_current
    }

    /// Looks up a query at `now`. May wait a moment for another thread.
    pub fn lookup(&self, query: &Query<'_>, now: u32) -> Lookup {
        self.lookup_key(KeyRef::new(query), now)
    }

    /// Like [`lookup`](Self::lookup), for any key.
    pub(super) fn lookup_key(&self, key: KeyRef<'_>, now: u32) -> Lookup {
        let failure = || Ok::<_, Infallible>(self.failures.get(&key));
        let peeked = stale::Peek {
            answer: |key: &KeyRef<'_>| Ok(self.of_pool(self.answers.peek(key))),
            denial: |key: &DenialRef<'_>| Ok(self.denials.peek(key)),
        };
        let Ok(known) = self.known(key, self.answers.get(&key), now, peeked, failure);
        known
    }

    /// Like [`lookup`](Self::lookup), without waiting: `None` if another thread is writing where the entry would be.
    pub fn try_lookup(&self, query: &Query<'_>, now: u32) -> Option<Lookup> {
        self.try_lookup_key(KeyRef::new(query), now)
    }

    /// Like [`try_lookup`](Self::try_lookup), for any key.
    pub(super) fn try_lookup_key(&self, key: KeyRef<'_>, now: u32) -> Option<Lookup> {
        let entry = self.answers.try_get(&key).ok()?;
        let peeked = stale::Peek {
            answer: |key: &KeyRef<'_>| Ok(self.of_pool(self.answers.try_peek(key)?)),
            denial: |key: &DenialRef<'_>| self.denials.try_peek(key),
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
            impl Fn(&DenialRef<'_>) -> Result<Option<Denial>, E>,
        >,
        failure: impl FnOnce() -> Result<Option<HeldFailure>, E>,
    ) -> Result<Lookup, E> {
        let stale = match self.of_pool(entry) {
            Some(entry) if entry.is_fresh(now) => return Ok(Lookup::Fresh(entry)),
            Some(entry) if entry.may_be_stale(now, self.stale_secs.load(Ordering::Relaxed)) => {
                let stale_secs = self.stale_secs.load(Ordering::Relaxed);
                stale::find(key, entry, now, stale_secs, &peek)?
            }
            _ => None,
        };
        Ok(match failure()? {
            Some(held) if now < held.until && self.pool_of(key) == held.pool => {
                Lookup::Failed(held.failure, stale)
            }
            _ => Lookup::Miss(stale),
        })
    }

    /// The entry, if it is from the pool that is asked for its name now.
    #[inline]
    fn of_pool(&self, entry: Option<Arc<Entry>>) -> Option<Arc<Entry>> {
        entry.filter(|entry| self.is_current(entry))
    }

    fn pool_of(&self, key: KeyRef<'_>) -> PoolId {
        self.routes.load().of(key.name, key.rtype)
    }

    /// The key of the name that another pool is asked for to complete a new answer, if the cached answer about that name is
    /// about to expire. A hit refreshes one part of a chain. If the next part has about the same age and TTL, it is then
    /// refreshed without waiting for another hit. All other parts are refreshed by later hits. `None` if another thread is
    /// writing where that answer would be.
    pub(super) fn next_due(&self, key: &Key, entry: &Entry, now: u32) -> Option<Key> {
        let next = key.clone().with_name(&entry.handed_off()?);
        let held = self.answers.try_peek(&next.as_ref()).ok()??;
        let is_due = held.is_fresh(now) && held.is_late(now) && self.is_current(&held);
        is_due.then_some(next)
    }

    /// Keeps an answer if its TTL allows that. Older answers that it contradicts are no longer used, whether it is
    /// kept or not (RFC 8767, section 4). A late answer of a pool that is no longer asked for its name has no effect.
    pub fn insert(&self, key: Key, entry: Arc<Entry>) {
        if !self.is_current(&entry) {
            return;
        }
        if let Some(name) = entry.denied(&key.name) {
            let stored = entry.stored;
            let denial = DenialKey::new(name, key.bits, &entry);
            self.denials.insert(denial, Denial { stored });
        }
        let known = |key: &KeyRef<'_>| self.answers.contains_key(key);
        if entry.is_kept() || key.as_ref().variants().any(|key| known(&key)) {
            self.answers.insert(key, entry);
        }
    }

    /// Like [`insert`](Self::insert), without waiting; false if another thread holds the lock.
    pub fn try_insert(&self, key: Key, entry: Arc<Entry>) -> bool {
        if !self.is_current(&entry) {
            return true;
        }
        if let Some(name) = entry.denied(&key.name) {
            let stored = entry.stored;
            let denial = DenialKey::new(name, key.bits, &entry);
            if self.denials.try_insert(denial, Denial { stored }).is_err() {
                return false;
            }
        }
        // If another thread holds the lock, this assumes that the cache has an answer that the new one replaces.
        let known = |key: &KeyRef<'_>| self.answers.try_contains_key(key).unwrap_or(true);
        let counts = entry.is_kept() || key.as_ref().variants().any(|key| known(&key));
        !counts || self.answers.try_insert(key, entry).is_ok()
    }

    /// Remembers that a query to this pool failed at `now`; a stale answer stays.
    pub fn insert_failure(&self, key: Key, failure: Arc<Failure>, now: u32, pool: PoolId) {
        let held = HeldFailure {
            failure,
            until: now + FAILURE_SECS,
            pool,
        };
        self.failures.insert(key, held);
    }

    /// How many bytes of answers it may hold.
    pub fn capacity(&self) -> u64 {
        self.answers.capacity()
    }

    /// How many answers were evicted to make room.
    pub fn evictions(&self) -> u64 {
        self.evictions.read()
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
    use smallvec::SmallVec;

    use super::*;
    use crate::serve::resolver::tests::entry_of;

    #[test]
    fn a_smaller_cache_evicts_entries_and_a_larger_one_keeps_more() {
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
        assert_eq!(cache.evictions(), 0);
        let (many, bytes) = cache.size();
        assert!(bytes > 2 * MIB, "{many} in {bytes}");
        cache.resize(MIB);
        let (few, bytes) = cache.size();
        assert!(0 < few && few < many && bytes <= MIB, "{few} in {bytes}");
        fill(10_000);
        assert!(cache.size().1 <= MIB);
        assert!(cache.evictions() > 10_000, "{}", cache.evictions());
        cache.resize(8 * MIB);
        assert!(cache.size().0 > 0);
        fill(20_000);
        assert!(cache.size().1 > 2 * MIB);
    }
}
