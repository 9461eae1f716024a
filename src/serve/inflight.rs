//! In-flight upstream queries and the clients waiting for each, so that equal queries are sent once.

use std::collections::HashMap;
use std::collections::hash_map;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use foldhash::quality::RandomState;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::admission::Permit;
use super::cache::{Entry, Failure, Key};
use super::routes::PoolId;
use super::step::Attempt;
use crate::sys::udp::Route;

/// Parts of the table, each behind a separate lock: a power of two.
const SHARDS: usize = 64;

/// The outcome of an upstream query.
pub type Outcome = Result<Arc<Entry>, Arc<Failure>>;

/// A client's query by UDP.
#[derive(Debug)]
pub struct Datagram {
    /// The packet as it was received.
    pub packet: Box<[u8]>,
    /// Where its answer goes.
    pub route: Route,
    /// The number of the listen address that received it.
    pub listen: usize,
    /// When it was received.
    pub since: Instant,
    /// An answer past its TTL, for the case that upstream fails.
    pub stale: Option<Arc<Entry>>,
    /// How often it was dispatched before.
    pub attempt: Attempt,
}

/// Where an outcome is delivered.
#[derive(Debug)]
pub enum Recipient {
    /// A datagram's sender.
    Datagram(Datagram),
    /// A task.
    Task(oneshot::Sender<Outcome>),
    /// A refresh: only the cache wants the answer.
    CacheOnly,
}

/// A client, or a refresh, that waits for an outcome.
#[derive(Debug)]
pub struct Waiter {
    /// Where the outcome is delivered.
    pub recipient: Recipient,
    /// Released when the waiter is dropped.
    pub permit: Permit,
}

impl Waiter {
    /// Whether it is a refresh.
    pub fn is_refresh(&self) -> bool {
        matches!(self.recipient, Recipient::CacheOnly)
    }

    fn has_stale(&self) -> bool {
        matches!(&self.recipient, Recipient::Datagram(datagram) if datagram.stale.is_some())
    }
}

/// Identifies one in-flight query, even after another one for the same key has started.
#[derive(Clone, Debug)]
pub struct QueryId {
    /// The name, type and flags that it asks for.
    pub key: Key,
    /// The pool that it is sent to.
    pub pool: PoolId,
    /// The first client that it is sent for, as numbered by [`Permit::client`].
    pub client: Option<usize>,
    number: u64,
}

#[derive(Debug)]
struct Query {
    number: u64,
    waiters: Vec<Waiter>,
    /// Whether the waiters with a stale entry have been answered. Later waiters with a stale entry get it at once.
    stale_served: bool,
}

/// The result of joining.
#[derive(Debug)]
pub enum Join {
    /// The query is new: the caller must send it.
    First(QueryId),
    /// An equal query is in flight.
    Joined,
    /// An equal query is in flight, and takes so long that this waiter should get its stale entry.
    StaleServed(Waiter),
}

/// What a query asks for, and which pool: queries to different pools are not equal.
type Flight = (Key, PoolId);
type Shard = HashMap<Flight, Query, RandomState>;

impl QueryId {
    /// The position of the query among all queries since the start.
    pub fn number(&self) -> u64 {
        self.number
    }

    fn flight(&self) -> Flight {
        (self.key.clone(), self.pool)
    }
}

/// The in-flight queries of all threads.
#[derive(Debug)]
pub struct InFlight {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    started: AtomicU64,
}

impl Default for InFlight {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::default(),
            started: AtomicU64::new(0),
        }
    }
}

impl InFlight {
    /// How many queries were started. The number of each is lower, and those of later queries are not.
    pub fn started(&self) -> u64 {
        self.started.load(Ordering::SeqCst)
    }

    /// Adds a waiter for the outcome of a query to this pool for `key`.
    pub fn join(&self, key: &Key, pool: PoolId, waiter: Waiter) -> Join {
        self.insert(&mut self.lock(key), key, pool, waiter)
    }

    /// Like [`join`](Self::join), without waiting for another thread's lock.
    ///
    /// # Errors
    /// The waiter, if another thread holds the lock.
    pub fn try_join(&self, key: &Key, pool: PoolId, waiter: Waiter) -> Result<Join, Box<Waiter>> {
        match self.try_lock(key) {
            Some(mut shard) => Ok(self.insert(&mut shard, key, pool, waiter)),
            None => Err(Box::new(waiter)),
        }
    }

    fn insert(&self, shard: &mut Shard, key: &Key, pool: PoolId, waiter: Waiter) -> Join {
        match shard.entry((key.clone(), pool)) {
            hash_map::Entry::Occupied(query) if query.get().stale_served && waiter.has_stale() => {
                Join::StaleServed(waiter)
            }
            hash_map::Entry::Occupied(mut query) => {
                query.get_mut().waiters.push(waiter);
                Join::Joined
            }
            hash_map::Entry::Vacant(place) => {
                let number = self.started.fetch_add(1, Ordering::SeqCst);
                let (key, pool) = place.key().clone();
                let client = waiter.permit.client();
                place.insert(Query {
                    number,
                    waiters: vec![waiter],
                    stale_served: false,
                });
                Join::First(QueryId {
                    key,
                    pool,
                    client,
                    number,
                })
            }
        }
    }

    /// Ends a query and returns its waiters. The query may have ended before, and a later query for the same key may be
    /// in flight. An answer then ends the later query; a failure does not. `None` if no query was ended.
    pub fn complete(&self, query_id: &QueryId, outcome: &Outcome) -> Option<Vec<Waiter>> {
        remove(&mut self.lock(&query_id.key), query_id, outcome)
    }

    /// Like [`complete`](Self::complete), without waiting for another thread's lock.
    ///
    /// # Errors
    /// [`Locked`] if another thread holds the lock.
    pub fn try_complete(
        &self,
        query_id: &QueryId,
        outcome: &Outcome,
    ) -> Result<Option<Vec<Waiter>>, Locked> {
        let mut shard = self.try_lock(&query_id.key).ok_or(Locked)?;
        Ok(remove(&mut shard, query_id, outcome))
    }

    /// Removes and returns the waiters that have a stale entry. From then on, a waiter with a stale entry can no longer
    /// join. The query stays in flight.
    pub fn take_stale_waiters(&self, query_id: &QueryId) -> Vec<Waiter> {
        let mut shard = self.lock(&query_id.key);
        let query = shard.get_mut(&query_id.flight());
        let query = query.filter(|query| query.number == query_id.number);
        query.map_or_else(Vec::new, |query| {
            query.stale_served = true;
            let waiters = &mut query.waiters;
            waiters
                .extract_if(.., |waiter| waiter.has_stale())
                .collect()
        })
    }

    /// Removes all queries and returns their waiters.
    pub fn take_all(&self) -> Vec<Waiter> {
        let mut waiters = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            waiters.extend(shard.drain().flat_map(|(_, query)| query.waiters));
        }
        waiters
    }

    fn shard(&self, key: &Key) -> &Mutex<Shard> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }

    fn lock(&self, key: &Key) -> MutexGuard<'_, Shard> {
        self.shard(key)
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn try_lock(&self, key: &Key) -> Option<MutexGuard<'_, Shard>> {
        match self.shard(key).try_lock() {
            Ok(shard) => Some(shard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// Another thread holds the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locked;

fn remove(shard: &mut Shard, query_id: &QueryId, outcome: &Outcome) -> Option<Vec<Waiter>> {
    let flight = query_id.flight();
    let query = shard.get(&flight)?;
    if outcome.is_err() && query.number != query_id.number {
        return None;
    }
    Some(shard.remove(&flight)?.waiters)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::serve::admission::{Admission, Bounds};
    use crate::wire::answer::{Answer, Intake};
    use crate::wire::name::Name;
    use crate::wire::query::Query as WireQuery;

    fn admission() -> Arc<Admission> {
        Arc::new(Admission::new(Bounds {
            all: 8,
            per_client: 8,
        }))
    }

    fn key() -> Key {
        key_of(b'a', 1, false)
    }

    /// The key of a query for a name of one letter.
    fn key_of(letter: u8, rtype: u8, checking_disabled: bool) -> Key {
        let bits = if checking_disabled { 0x10 } else { 0 };
        let head = [0, 1, 1, bits, 0, 1, 0, 0, 0, 0, 0, 0];
        let packet = [&head[..], &[1, letter, 0, 0, rtype, 0, 1]].concat();
        Key::new(&WireQuery::parse(&packet, &mut Name::default()).expect("a query"))
    }

    fn failed() -> Outcome {
        Err(Arc::new(Failure {
            code: 22,
            said: None,
        }))
    }

    fn stale() -> Arc<Entry> {
        let message = b"\0\0\x81\x80\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01";
        let bounds = Intake {
            min_ttl: 0,
            max_ttl: 9,
            max_negative_ttl: u32::MAX,
            additional: false,
        };
        let name = Name::from_text("a").expect("a name");
        let answer = Answer::parse(message, &name, 1, 1, bounds).expect("an answer");
        Arc::new(Entry::new(answer, 0))
    }

    fn waiter(admission: &Arc<Admission>) -> Waiter {
        Waiter {
            recipient: Recipient::CacheOnly,
            permit: admission
                .acquire(IpAddr::from([192, 0, 2, 1]))
                .expect("a permit"),
        }
    }

    fn datagram(admission: &Arc<Admission>, stale: Option<Arc<Entry>>) -> Waiter {
        Waiter {
            recipient: Recipient::Datagram(Datagram {
                packet: Box::default(),
                route: Route {
                    peer: ([192, 0, 2, 1], 53).into(),
                    local: None,
                },
                listen: 0,
                since: Instant::now(),
                stale,
                attempt: Attempt::First,
            }),
            ..waiter(admission)
        }
    }

    fn query_id(join: Join) -> QueryId {
        match join {
            Join::First(query_id) => query_id,
            other => panic!("not the first: {other:?}"),
        }
    }

    #[test]
    fn a_late_waiter_with_a_stale_entry_does_not_wait() {
        let admission = admission();
        let key = key();
        let with_stale = || datagram(&admission, Some(stale()));
        let inflight = InFlight::default();
        let query_id = query_id(inflight.join(&key, PoolId::DEFAULT, waiter(&admission)));
        assert!(matches!(
            inflight.join(&key, PoolId::DEFAULT, with_stale()),
            Join::Joined
        ));
        assert_eq!(
            inflight.take_stale_waiters(&query_id).len(),
            1,
            "the other waits on"
        );
        let late = inflight.join(&key, PoolId::DEFAULT, with_stale());
        assert!(matches!(late, Join::StaleServed(_)), "{late:?}");
        assert!(matches!(
            inflight.join(&key, PoolId::DEFAULT, waiter(&admission)),
            Join::Joined
        ));
    }

    #[test]
    fn the_failure_of_an_ended_query_does_not_end_the_next_one_for_the_same_key() {
        let (admission, key) = (admission(), key());
        let waiter = || waiter(&admission);
        let inflight = InFlight::default();
        let first = query_id(inflight.join(&key, PoolId::DEFAULT, waiter()));
        assert!(matches!(
            inflight.join(&key, PoolId::DEFAULT, waiter()),
            Join::Joined
        ));
        assert_eq!(
            inflight.complete(&first, &Ok(stale())).map(|w| w.len()),
            Some(2)
        );
        let second = query_id(inflight.join(&key, PoolId::DEFAULT, waiter()));
        assert!(inflight.complete(&first, &failed()).is_none());
        assert_eq!(
            inflight.complete(&second, &failed()).map(|w| w.len()),
            Some(1)
        );
        assert_eq!(admission.in_use(), 0);
    }

    #[test]
    fn a_late_answer_ends_the_query_that_followed_the_failure() {
        let (admission, key) = (admission(), key());
        let inflight = InFlight::default();
        let first = query_id(inflight.join(&key, PoolId::DEFAULT, waiter(&admission)));
        assert_eq!(
            inflight.complete(&first, &failed()).map(|w| w.len()),
            Some(1)
        );
        let second = query_id(inflight.join(&key, PoolId::DEFAULT, waiter(&admission)));
        assert_eq!(
            inflight.complete(&first, &Ok(stale())).map(|w| w.len()),
            Some(1)
        );
        assert!(
            inflight.complete(&second, &Ok(stale())).is_none(),
            "it has ended"
        );
        assert!(inflight.complete(&second, &failed()).is_none());
    }

    #[test]
    fn only_equal_queries_are_joined() {
        let admission = admission();
        let inflight = InFlight::default();
        let keys = [
            key_of(b'a', 1, false),
            key_of(b'b', 1, false),
            key_of(b'a', 28, false),
            key_of(b'a', 1, true),
        ];
        let query_ids: Vec<_> = keys
            .iter()
            .map(|key| query_id(inflight.join(key, PoolId::DEFAULT, waiter(&admission))))
            .collect();
        let upper = inflight.join(&key_of(b'A', 1, false), PoolId::DEFAULT, waiter(&admission));
        assert!(matches!(upper, Join::Joined), "{upper:?}");
        let counts: Vec<_> = query_ids
            .iter()
            .map(|query_id| inflight.complete(query_id, &failed()).map(|w| w.len()))
            .collect();
        assert_eq!(counts, [Some(2), Some(1), Some(1), Some(1)]);
    }

    #[test]
    fn queries_to_different_pools_are_not_joined() {
        let (admission, key) = (admission(), key());
        let inflight = InFlight::default();
        let before = query_id(inflight.join(&key, PoolId::DEFAULT, waiter(&admission)));
        let now = query_id(inflight.join(&key, PoolId::unique(), waiter(&admission)));
        let late = inflight.complete(&before, &Ok(stale()));
        assert_eq!(late.map(|w| w.len()), Some(1), "the other waits on");
        let waiters = inflight.complete(&now, &failed());
        assert_eq!(waiters.map(|w| w.len()), Some(1));
    }

    #[test]
    fn a_permit_is_released_with_its_waiter() {
        let (admission, key) = (admission(), key());
        let inflight = InFlight::default();
        let query_id = query_id(inflight.join(&key, PoolId::DEFAULT, waiter(&admission)));
        inflight.join(&key, PoolId::DEFAULT, datagram(&admission, Some(stale())));
        let impatient = inflight.take_stale_waiters(&query_id);
        assert_eq!(admission.in_use(), 2, "neither was answered yet");
        drop(impatient);
        assert_eq!(admission.in_use(), 1);
        let waiters = inflight.complete(&query_id, &failed());
        assert_eq!(admission.in_use(), 1);
        drop(waiters);
        assert_eq!(admission.in_use(), 0);
    }

    #[test]
    fn only_waiters_with_a_stale_entry_stop_waiting() {
        let (admission, key) = (admission(), key());
        let inflight = InFlight::default();
        let query_id = query_id(inflight.join(&key, PoolId::DEFAULT, datagram(&admission, None)));
        for stale in [Some(stale()), None, Some(stale())] {
            inflight.join(&key, PoolId::DEFAULT, datagram(&admission, stale));
        }
        let impatient = inflight.take_stale_waiters(&query_id);
        assert!(impatient.iter().all(Waiter::has_stale));
        assert_eq!(impatient.len(), 2);
        assert!(
            inflight.take_stale_waiters(&query_id).is_empty(),
            "they are answered once"
        );
        let patient = inflight
            .complete(&query_id, &failed())
            .expect("it was under way");
        assert!(!patient.iter().any(Waiter::has_stale));
        assert_eq!(patient.len(), 2);
    }

    #[test]
    fn waiters_of_a_query_after_an_ended_one_are_not_answered_with_its_stale_entry() {
        let (admission, key) = (admission(), key());
        let inflight = InFlight::default();
        let with_stale = || datagram(&admission, Some(stale()));
        let first = query_id(inflight.join(&key, PoolId::DEFAULT, with_stale()));
        assert_eq!(inflight.take_stale_waiters(&first).len(), 1);
        assert_eq!(
            inflight.complete(&first, &failed()).map(|w| w.len()),
            Some(0)
        );
        let _second = query_id(inflight.join(&key, PoolId::DEFAULT, with_stale()));
        assert!(
            inflight.take_stale_waiters(&first).is_empty(),
            "the first query has ended"
        );
        let next = inflight.join(&key, PoolId::DEFAULT, with_stale());
        assert!(matches!(next, Join::Joined), "{next:?}");
    }

    #[test]
    fn if_the_lock_is_held_the_call_returns_at_once_and_keeps_the_waiter() {
        let (admission, key) = (admission(), key());
        let inflight = InFlight::default();
        let query_id = query_id(inflight.join(&key, PoolId::DEFAULT, waiter(&admission)));
        let lock = inflight.lock(&key);
        let refused = inflight.try_join(&key, PoolId::DEFAULT, datagram(&admission, Some(stale())));
        let refused = refused.expect_err("the lock is held");
        assert!(refused.has_stale(), "it comes back as it was");
        let completed = inflight.try_complete(&query_id, &failed());
        assert_eq!(completed.err(), Some(Locked));
        drop(lock);
        let join = inflight.try_join(&key, PoolId::DEFAULT, *refused);
        assert!(matches!(join, Ok(Join::Joined)), "{join:?}");
        let completed = inflight.try_complete(&query_id, &failed());
        let waiters = completed.expect("no lock is held");
        assert_eq!(waiters.map(|w| w.len()), Some(2));
    }
}
