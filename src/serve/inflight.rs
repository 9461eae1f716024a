//! Owns the questions on their way to upstream, and the clients that wait for each.
//! Refuses to ask and to answer.

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
use crate::sys::udp::{Inbox, Route};

/// Parts of the table, each with a lock of its own: a power of two.
const SHARDS: usize = 64;

/// What came of a question: an answer, or why there is none.
pub type Outcome = Result<Arc<Entry>, Arc<Failure>>;

/// A client's question that came by UDP.
#[derive(Debug)]
pub struct Datagram {
    /// As it came.
    pub packet: Box<[u8]>,
    /// Where its answer goes.
    pub route: Route,
    /// To which of the listen addresses it came.
    pub listen: usize,
    /// When it came.
    pub since: Instant,
    /// An answer past its TTL, for when no other comes.
    pub stale: Option<Arc<Entry>>,
}

impl Datagram {
    /// A packet of the inbox, kept for later.
    pub fn of(
        inbox: &Inbox,
        slot: usize,
        listen: usize,
        stale: Option<Arc<Entry>>,
        since: Instant,
    ) -> Self {
        Self {
            packet: inbox.packet(slot).into(),
            route: inbox.route(slot),
            listen,
            since,
            stale,
        }
    }
}

/// Whom to tell what came of a question.
#[derive(Debug)]
pub enum Recipient {
    /// A datagram's sender.
    Datagram(Datagram),
    /// A task.
    Task(oneshot::Sender<Outcome>),
    /// A prefetch: only the cache wants the answer.
    CacheOnly,
}

/// One who waits.
#[derive(Debug)]
pub struct Waiter {
    /// Whom to tell.
    pub recipient: Recipient,
    /// Free again when this one is dropped.
    pub permit: Permit,
}

impl Waiter {
    fn has_stale(&self) -> bool {
        matches!(&self.recipient, Recipient::Datagram(datagram) if datagram.stale.is_some())
    }
}

/// Tells one query from all others of the same question, before and after.
#[derive(Clone, Debug)]
pub struct QueryId {
    /// The question.
    pub key: Key,
    /// The client that asked first, as [`Permit::client`] gives it.
    pub client: Option<usize>,
    number: u64,
}

#[derive(Debug)]
struct Query {
    number: u64,
    waiters: Vec<Waiter>,
    /// Who had an old answer at hand got that: there was no more time to wait.
    stale_served: bool,
}

/// What comes of boarding.
#[derive(Debug)]
pub enum Join {
    /// Nobody asks yet: the caller has to.
    First(QueryId),
    /// Others ask.
    Joined,
    /// Others ask, and it takes so long that this one is better off with its old answer.
    StaleServed(Waiter),
}

type Shard = HashMap<Key, Query, RandomState>;

/// The questions on their way. All threads share it; a question is asked by who boards it first.
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
    /// Waits for what comes of `key`.
    pub fn join(&self, key: &Key, waiter: Waiter) -> Join {
        self.enter(&mut self.lock(key), key, waiter)
    }

    /// The same without waiting for another thread's lock.
    ///
    /// # Errors
    /// The waiter, when another thread has the lock.
    pub fn try_join(&self, key: &Key, waiter: Waiter) -> Result<Join, Box<Waiter>> {
        match self.try_lock(key) {
            Some(mut shard) => Ok(self.enter(&mut shard, key, waiter)),
            None => Err(Box::new(waiter)),
        }
    }

    fn enter(&self, shard: &mut Shard, key: &Key, waiter: Waiter) -> Join {
        match shard.entry(key.clone()) {
            hash_map::Entry::Occupied(query) if query.get().stale_served && waiter.has_stale() => {
                Join::StaleServed(waiter)
            }
            hash_map::Entry::Occupied(mut query) => {
                query.get_mut().waiters.push(waiter);
                Join::Joined
            }
            hash_map::Entry::Vacant(place) => {
                let number = self.started.fetch_add(1, Ordering::Relaxed);
                let key = place.key().clone();
                let client = waiter.permit.client();
                place.insert(Query {
                    number,
                    waiters: vec![waiter],
                    stale_served: false,
                });
                Join::First(QueryId {
                    key,
                    client,
                    number,
                })
            }
        }
    }

    /// Ends a query; those who are to be told what came of it. An answer is good for all who ask the
    /// same, whichever query they wait for; a failure is one query's: nothing, when it has ended before.
    pub fn complete(&self, query_id: &QueryId, outcome: &Outcome) -> Option<Vec<Waiter>> {
        remove(&mut self.lock(&query_id.key), query_id, outcome)
    }

    /// The same without waiting for another thread's lock.
    ///
    /// # Errors
    /// [`Locked`] when another thread has the lock.
    pub fn try_complete(
        &self,
        query_id: &QueryId,
        outcome: &Outcome,
    ) -> Result<Option<Vec<Waiter>>, Locked> {
        let mut shard = self.try_lock(&query_id.key).ok_or(Locked)?;
        Ok(remove(&mut shard, query_id, outcome))
    }

    /// Takes off those who wait with an old answer at hand; who comes later with one is too late. The
    /// query goes on.
    pub fn take_stale_waiters(&self, query_id: &QueryId) -> Vec<Waiter> {
        let mut shard = self.lock(&query_id.key);
        let query = shard.get_mut(&query_id.key);
        let query = query.filter(|query| query.number == query_id.number);
        query.map_or_else(Vec::new, |query| {
            query.stale_served = true;
            let waiters = &mut query.waiters;
            waiters
                .extract_if(.., |waiter| waiter.has_stale())
                .collect()
        })
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

/// Another thread has the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locked;

fn remove(shard: &mut Shard, query_id: &QueryId, outcome: &Outcome) -> Option<Vec<Waiter>> {
    let query = shard.get(&query_id.key)?;
    if outcome.is_err() && query.number != query_id.number {
        return None;
    }
    Some(shard.remove(&query_id.key)?.waiters)
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
        Key::new(&WireQuery::read(&packet).expect("a query"))
    }

    fn failed() -> Outcome {
        Err(Arc::new(Failure {
            code: 22,
            said: None,
        }))
    }

    fn stale() -> Arc<Entry> {
        let octets = b"\0\0\x81\x80\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01";
        let bounds = Intake {
            min_ttl: 0,
            max_ttl: 9,
            max_negative_ttl: u32::MAX,
            additional: false,
        };
        let name = Name::from_text("a").expect("a name");
        let answer = Answer::read(octets, &name, 1, 1, bounds).expect("an answer");
        Arc::new(Entry::new(answer, 0))
    }

    fn waiter(admission: &Arc<Admission>) -> Waiter {
        Waiter {
            recipient: Recipient::CacheOnly,
            permit: admission
                .acquire(IpAddr::from([192, 0, 2, 1]))
                .expect("a seat"),
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
    fn who_comes_late_with_an_old_answer_at_hand_does_not_wait() {
        let admission = admission();
        let key = key();
        let with_stale = || datagram(&admission, Some(stale()));
        let inflight = InFlight::default();
        let query_id = query_id(inflight.join(&key, waiter(&admission)));
        assert!(matches!(inflight.join(&key, with_stale()), Join::Joined));
        assert_eq!(
            inflight.take_stale_waiters(&query_id).len(),
            1,
            "the other waits on"
        );
        let late = inflight.join(&key, with_stale());
        assert!(matches!(late, Join::StaleServed(_)), "{late:?}");
        assert!(matches!(
            inflight.join(&key, waiter(&admission)),
            Join::Joined
        ));
    }

    #[test]
    fn a_flight_that_has_ended_does_not_end_the_next_one_of_the_same_question() {
        let (admission, key) = (admission(), key());
        let waiter = || waiter(&admission);
        let inflight = InFlight::default();
        let first = query_id(inflight.join(&key, waiter()));
        assert!(matches!(inflight.join(&key, waiter()), Join::Joined));
        assert_eq!(
            inflight.complete(&first, &Ok(stale())).map(|w| w.len()),
            Some(2)
        );
        let second = query_id(inflight.join(&key, waiter()));
        assert!(inflight.complete(&first, &failed()).is_none());
        assert_eq!(
            inflight.complete(&second, &failed()).map(|w| w.len()),
            Some(1)
        );
        assert_eq!(admission.in_use(), 0);
    }

    #[test]
    fn a_late_answer_is_given_to_those_who_asked_again_after_the_failure() {
        let (admission, key) = (admission(), key());
        let inflight = InFlight::default();
        let first = query_id(inflight.join(&key, waiter(&admission)));
        assert_eq!(
            inflight.complete(&first, &failed()).map(|w| w.len()),
            Some(1)
        );
        let second = query_id(inflight.join(&key, waiter(&admission)));
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
    fn only_equal_questions_share_a_flight() {
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
            .map(|key| query_id(inflight.join(key, waiter(&admission))))
            .collect();
        let upper = inflight.join(&key_of(b'A', 1, false), waiter(&admission));
        assert!(matches!(upper, Join::Joined), "{upper:?}");
        let counts: Vec<_> = query_ids
            .iter()
            .map(|query_id| inflight.complete(query_id, &failed()).map(|w| w.len()))
            .collect();
        assert_eq!(counts, [Some(2), Some(1), Some(1), Some(1)]);
    }

    #[test]
    fn a_place_is_free_when_its_waiter_was_told_and_not_before() {
        let (admission, key) = (admission(), key());
        let inflight = InFlight::default();
        let query_id = query_id(inflight.join(&key, waiter(&admission)));
        inflight.join(&key, datagram(&admission, Some(stale())));
        let impatient = inflight.take_stale_waiters(&query_id);
        assert_eq!(admission.in_use(), 2, "nobody was told yet");
        drop(impatient);
        assert_eq!(admission.in_use(), 1);
        let waiters = inflight.complete(&query_id, &failed());
        assert_eq!(admission.in_use(), 1);
        drop(waiters);
        assert_eq!(admission.in_use(), 0);
    }

    #[test]
    fn only_those_with_an_old_answer_at_hand_stop_waiting() {
        let (admission, key) = (admission(), key());
        let inflight = InFlight::default();
        let query_id = query_id(inflight.join(&key, datagram(&admission, None)));
        for stale in [Some(stale()), None, Some(stale())] {
            inflight.join(&key, datagram(&admission, stale));
        }
        let impatient = inflight.take_stale_waiters(&query_id);
        assert!(impatient.iter().all(Waiter::has_stale));
        assert_eq!(impatient.len(), 2);
        assert!(
            inflight.take_stale_waiters(&query_id).is_empty(),
            "they are told once"
        );
        let patient = inflight
            .complete(&query_id, &failed())
            .expect("it was under way");
        assert!(!patient.iter().any(Waiter::has_stale));
        assert_eq!(patient.len(), 2);
    }

    #[test]
    fn a_flight_that_has_ended_does_not_make_the_next_one_late() {
        let (admission, key) = (admission(), key());
        let inflight = InFlight::default();
        let with_stale = || datagram(&admission, Some(stale()));
        let first = query_id(inflight.join(&key, with_stale()));
        assert_eq!(inflight.take_stale_waiters(&first).len(), 1);
        assert_eq!(
            inflight.complete(&first, &failed()).map(|w| w.len()),
            Some(0)
        );
        let _second = query_id(inflight.join(&key, with_stale()));
        assert!(
            inflight.take_stale_waiters(&first).is_empty(),
            "that one is over"
        );
        let next = inflight.join(&key, with_stale());
        assert!(matches!(next, Join::Joined), "{next:?}");
    }

    #[test]
    fn where_another_thread_has_the_lock_nothing_is_lost_and_nobody_waits() {
        let (admission, key) = (admission(), key());
        let inflight = InFlight::default();
        let query_id = query_id(inflight.join(&key, waiter(&admission)));
        let lock = inflight.lock(&key);
        let refused = inflight.try_join(&key, datagram(&admission, Some(stale())));
        let refused = refused.expect_err("the lock is held");
        assert!(refused.has_stale(), "it comes back as it was");
        let landing = inflight.try_complete(&query_id, &failed());
        assert_eq!(landing.err(), Some(Locked));
        drop(lock);
        let join = inflight.try_join(&key, *refused);
        assert!(matches!(join, Ok(Join::Joined)), "{join:?}");
        let landing = inflight.try_complete(&query_id, &failed());
        let waiters = landing.expect("no lock is held");
        assert_eq!(waiters.map(|w| w.len()), Some(2));
    }
}
