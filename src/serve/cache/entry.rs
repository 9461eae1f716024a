//! Keys and answers of the cache.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use quick_cache::Equivalent;
use smallvec::SmallVec;

use crate::serve::routes::{PoolId, Routes};
use crate::wire::answer::Answer;
use crate::wire::ask::Question;
use crate::wire::name::Name;
use crate::wire::query::Query;
use crate::wire::{Rcode, rtype};

/// An entry is refreshed once this many queries hit it within the last tenth of its TTL. Entries with a very short TTL
/// are not refreshed, because they would be refreshed all the time.
const POPULAR: u8 = 2;
const LATE_SHARE: u64 = 10;
const LEAST_REFRESHED: u32 = 20;

/// Seconds for which a chain to a name of another pool is kept at least, whatever its TTL, because it is needed again when
/// that pool has answered. One second of the clock may end at once.
const HANDOFF_SECS: u32 = 2;

/// The key of an entry: name, type and flags. The class is always IN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Stored inline unless it is very long, because reading it from the heap would cost one more cache miss.
    pub(super) name: SmallVec<[u8; 40]>,
    pub(super) rtype: u16,
    pub(super) bits: u8,
}

/// A borrowed key, for lookups.
#[derive(Clone, Copy)]
pub(in crate::serve) struct KeyRef<'k> {
    pub(super) name: &'k [u8],
    pub(super) rtype: u16,
    pub(super) bits: u8,
}

pub(super) const DO: u8 = 1;
pub(super) const CD: u8 = 2;

impl<'k> KeyRef<'k> {
    pub(in crate::serve) fn new(query: &'k Query<'_>) -> Self {
        let dnssec = if query.dnssec_ok() { DO } else { 0 };
        let checking = if query.checking_disabled() { CD } else { 0 };
        Self {
            name: query.name.wire(),
            rtype: query.rtype,
            bits: dnssec | checking,
        }
    }

    /// The key of the query for the target of an alias. Signatures are not requested, because they don't cover the
    /// CNAME record of the rule.
    pub(in crate::serve) fn of_alias(query: &Query<'_>, target: &'k Name) -> Self {
        Self {
            name: target.wire(),
            rtype: query.rtype,
            bits: KeyRef::new(query).bits & CD,
        }
    }

    /// The key of the query for the name that a chain of upstream leads to.
    pub(in crate::serve) fn of_target(query: &'k Query<'_>, target: &'k Name) -> Self {
        Self {
            name: target.wire(),
            ..Self::new(query)
        }
    }

    /// Whether an entry answers a query with this name and type.
    pub(in crate::serve) fn is_of(&self, entry: &Entry) -> bool {
        entry.answer.is_about_wire(self.name, self.rtype)
    }

    /// An owned copy.
    pub(in crate::serve) fn to_key(self) -> Key {
        Key {
            name: self.name.into(),
            rtype: self.rtype,
            bits: self.bits,
        }
    }

    /// The flags DO and CD, on which the answer depends.
    pub(in crate::serve) fn bits(&self) -> u8 {
        self.bits
    }

    /// The same key with all combinations of DO and CD.
    pub(super) fn variants(self) -> impl Iterator<Item = Self> {
        (0..=(DO | CD)).map(move |bits| Self { bits, ..self })
    }
}

impl Key {
    /// The key of a query: its name, type, and the flags DO and CD, on which the answer depends.
    pub fn new(query: &Query<'_>) -> Self {
        KeyRef::new(query).to_key()
    }

    /// The key of a query for a name and a type, without DO and CD.
    pub fn of(name: &Name, rtype: u16) -> Self {
        Self {
            name: SmallVec::from_slice(name.wire()),
            rtype,
            bits: 0,
        }
    }

    /// The key of the query for the name servers of the root.
    pub fn root_servers() -> Self {
        Self {
            name: SmallVec::from_slice(&[0]),
            rtype: rtype::NS,
            bits: 0,
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

    /// The key of a query with the same type and flags for another name.
    pub(in crate::serve) fn with_name(self, name: &Name) -> Self {
        Self {
            name: name.wire().into(),
            ..self
        }
    }

    pub(in crate::serve) fn as_ref(&self) -> KeyRef<'_> {
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

/// An answer, when it was received, and from which pool.
#[derive(Debug)]
pub struct Entry {
    /// Upstream's answer.
    pub answer: Answer,
    pub(super) stored: u32,
    pub(super) expires: u32,
    pub(super) pool: PoolId,
    /// See [`Routes::handoff`].
    pub(super) handoff: Option<u8>,
    /// The epoch of the cache whose routes were found to lead to `pool`, and to have this handoff.
    pub(super) checked: AtomicU32,
    /// The number of the in-flight query that it answers, by which a flush finds out whether the query was sent before.
    pub(super) number: u64,
    /// Hits shortly before it expires, up to [`POPULAR`].
    late_hits: AtomicU8,
    /// Whether it was hit. Another process that takes over gets such entries first.
    used: AtomicBool,
}

impl Entry {
    /// An answer of the default pool that was received at `now`, in seconds of the server's clock.
    pub fn new(answer: Answer, now: u32) -> Self {
        let expires = now.saturating_add(answer.ttl().unwrap_or(0));
        Self {
            answer,
            stored: now,
            expires,
            pool: PoolId::DEFAULT,
            handoff: None,
            checked: AtomicU32::new(0),
            number: 0,
            late_hits: AtomicU8::new(0),
            used: AtomicBool::new(false),
        }
    }

    /// An answer of any pool, by these routes.
    pub fn of_pool(mut answer: Answer, now: u32, pool: PoolId, routes: &Routes) -> Self {
        let (_, rtype) = answer.question();
        let handoff = routes.handoff(pool, &answer, rtype);
        if let Some(hops) = handoff {
            answer.keep_chain(hops.into());
        }
        let entry = Self::new(answer, now);
        let least = if handoff.is_some() { HANDOFF_SECS } else { 0 };
        Self {
            pool,
            handoff,
            expires: entry.expires.max(now.saturating_add(least)),
            ..entry
        }
    }

    /// The answer to the in-flight query with this number.
    pub(in crate::serve) fn numbered(self, number: u64) -> Self {
        Self { number, ..self }
    }

    /// The pool that it is from.
    pub fn pool(&self) -> PoolId {
        self.pool
    }

    /// Seconds of its TTL that are left.
    pub fn remaining(&self, now: u32) -> u32 {
        self.expires.saturating_sub(now)
    }

    /// Seconds since its TTL ended.
    pub fn past(&self, now: u32) -> u32 {
        now.saturating_sub(self.expires)
    }

    /// The number of hops of its chain that are used, if another pool is asked for the name that they lead to.
    #[inline]
    pub(in crate::serve) fn handoff(&self) -> Option<usize> {
        self.handoff.map(usize::from)
    }

    /// The name that another pool is asked for, if only the start of its chain is used.
    pub(in crate::serve) fn handed_off(&self) -> Option<Name> {
        let last = self.handoff()?.checked_sub(1)?;
        let (name, _) = self.answer.chain().nth(last)?;
        Some(name)
    }

    /// Whether its pool is asked for its name by these routes, and the same part of its chain is used.
    pub(super) fn follows(&self, routes: &Routes) -> bool {
        let (name, rtype) = self.answer.question();
        self.pool == routes.of(name, rtype)
            && self.handoff == routes.handoff(self.pool, &self.answer, rtype)
    }

    /// Its age in seconds.
    pub fn age(&self, now: u32) -> u32 {
        now.saturating_sub(self.stored)
    }

    /// Whether it may be cached, that is, still be used after the second in which it was received.
    pub(in crate::serve) fn is_kept(&self) -> bool {
        self.expires > self.stored
    }

    /// Whether it may be used as a stale answer.
    pub(super) fn may_be_stale(&self, now: u32, stale_secs: u32) -> bool {
        self.is_kept() && now.saturating_sub(self.expires) < stale_secs
    }

    /// Whether it says that the last name of its chain does not exist, and that counts.
    pub(super) fn is_denial(&self) -> bool {
        self.handoff.is_none() && self.answer.rcode() == Rcode::NxDomain as u16
    }

    /// The names of its chain, after the queried one, about which its pool is asked.
    pub(super) fn own_names(&self) -> impl Iterator<Item = Name> {
        let own = self
            .handoff()
            .map_or(usize::MAX, |hops| hops.saturating_sub(1));
        self.answer.chain().take(own).map(|(name, _)| name)
    }

    /// The name that does not exist, if this is an NXDOMAIN: the last one of its chain (RFC 2308, section 2.1). `None` if
    /// another pool is asked for that name.
    pub(super) fn denied(&self, asked: &[u8]) -> Option<SmallVec<[u8; 40]>> {
        self.is_denial().then(|| {
            let last = self.answer.chain().last();
            last.map_or_else(|| asked.into(), |(name, _)| name.wire().into())
        })
    }

    /// Whether it is within its TTL.
    pub(in crate::serve) fn is_fresh(&self, now: u32) -> bool {
        now < self.expires
    }

    /// Whether it is about to expire, and is not one with a very short TTL.
    pub(super) fn is_late(&self, now: u32) -> bool {
        let ttl = self.expires - self.stored;
        let left = self.expires.saturating_sub(now);
        ttl >= LEAST_REFRESHED && u64::from(left) * LATE_SHARE <= u64::from(ttl)
    }

    /// Whether it was hit so often shortly before its end that it is refreshed.
    pub fn is_popular(&self) -> bool {
        self.late_hits.load(Ordering::Relaxed) >= POPULAR
    }

    /// Whether it was hit.
    pub(super) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Notes a hit, and counts it if the answer is about to expire. True once, when such an answer is popular: it should be refreshed
    /// before clients have to wait for it.
    pub(in crate::serve) fn is_due(&self, now: u32) -> bool {
        // A popular entry is on many processors: it is written once, and then only read.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        if !self.is_late(now) {
            return false;
        }
        let hits = self.late_hits.load(Ordering::Relaxed);
        // Simultaneous hits of two threads may count as one. In any case only one thread gets `true`.
        hits < POPULAR
            && self
                .late_hits
                .compare_exchange(hits, hits + 1, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok_and(|hits| hits + 1 == POPULAR)
    }
}

/// The key of a denial: the name, whatever type was queried, and who denied it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DenialKey {
    pub(super) name: SmallVec<[u8; 40]>,
    /// Whether the answer was not validated (CD=1).
    is_unchecked: bool,
    pool: PoolId,
}

/// A borrowed key, for lookups.
pub(super) struct DenialRef<'k> {
    pub(super) name: &'k [u8],
    pub(super) is_unchecked: bool,
    pub(super) pool: PoolId,
}

impl DenialKey {
    /// The key of a denial by the pool of `entry`, which answers a query with these flags.
    pub(super) fn new(name: SmallVec<[u8; 40]>, bits: u8, entry: &Entry) -> Self {
        Self {
            name,
            is_unchecked: bits & CD != 0,
            pool: entry.pool,
        }
    }
}

impl Hash for DenialRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.name);
        state.write_u8(self.is_unchecked.into());
        self.pool.hash(state);
    }
}

impl Hash for DenialKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let key = DenialRef {
            name: &self.name,
            is_unchecked: self.is_unchecked,
            pool: self.pool,
        };
        key.hash(state);
    }
}

impl Equivalent<DenialKey> for DenialRef<'_> {
    fn equivalent(&self, key: &DenialKey) -> bool {
        self.pool == key.pool && self.is_unchecked == key.is_unchecked && *self.name == *key.name
    }
}

/// When an NXDOMAIN was received for a name. It only invalidates older answers, so it needs no other data; the NXDOMAIN
/// itself is a separate entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Denial {
    pub(super) stored: u32,
}

#[cfg(test)]
mod tests {
    use crate::serve::resolver::tests::entry;

    #[test]
    fn an_entry_is_popular_after_two_hits_in_the_last_tenth_of_its_ttl() {
        let entry = entry(60);
        let hit = |now| (entry.is_due(now), entry.is_popular());
        assert_eq!(hit(50), (false, false));
        assert_eq!(hit(51), (false, false));
        assert_eq!(hit(55), (false, false));
        assert_eq!(hit(55), (true, true));
        assert_eq!(hit(59), (false, true));
    }
}
