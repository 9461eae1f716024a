//! Owns the slow road: questions on their way to upstream, asked once however many wait for them.
//! Refuses to wait longer than a client does, and to let more wait than it was told.

use std::collections::HashMap;
use std::collections::hash_map;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::cache::{Cache, Entry, Failure, Key};
use super::respond::Resolution;
use super::upstream::Pool;
use crate::stats::{Count, Counters};
use crate::wire::edns::code;

/// Most clients that wait for upstream at one time. Each costs about a kilobyte.
const MOST_WAITING: usize = 16_384;
/// How long a client waits when an answer past its TTL is at hand (RFC 8767, section 5).
const STALE_PATIENCE: Duration = Duration::from_millis(1800);

/// Seconds since the server started; the time of all TTLs.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Whole seconds since the start.
    pub fn now(self) -> u32 {
        u32::try_from(self.0.elapsed().as_secs()).unwrap_or(u32::MAX)
    }
}

/// The questions on their way.
pub struct Resolver {
    pool: Pool,
    cache: Arc<Cache>,
    clock: Clock,
    counters: Arc<Counters>,
    flights: Mutex<Flights>,
}

#[derive(Default)]
struct Flights {
    waiting: usize,
    by_question: HashMap<Key, Vec<oneshot::Sender<Landed>>>,
}

type Landed = Result<Arc<Entry>, Arc<Failure>>;

impl Resolver {
    /// Asks `pool`, and keeps what it says in `cache`.
    pub fn new(pool: Pool, cache: Arc<Cache>, clock: Clock, counters: Arc<Counters>) -> Self {
        Self {
            pool,
            cache,
            clock,
            counters,
            flights: Mutex::default(),
        }
    }

    /// The upstream servers.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// How many clients wait for upstream now.
    pub fn waiting(&self) -> usize {
        self.flights().waiting
    }

    /// Asks upstream, or joins an equal question that is on its way. With `stale` at hand the wait
    /// ends early; the question then still lands in the cache.
    pub async fn resolve(self: &Arc<Self>, key: Key, stale: Option<Arc<Entry>>) -> Resolution {
        let Some(landing) = self.board(key) else {
            return Resolution::Overloaded(stale);
        };
        let landed = match &stale {
            Some(_) => {
                let patience = STALE_PATIENCE.min(self.pool.timeout().mul_f64(0.9));
                tokio::time::timeout(patience, landing).await
            }
            None => Ok(landing.await),
        };
        match landed {
            Ok(Ok(Ok(entry))) => Resolution::Answered(entry),
            Ok(Ok(Err(failure))) => Resolution::Failed(failure, stale),
            // Too late, or the flight is gone because the server ends.
            Ok(Err(_)) | Err(_) => {
                let failure = Failure {
                    code: code::NO_REACHABLE_AUTHORITY,
                    said: None,
                };
                Resolution::Failed(Arc::new(failure), stale)
            }
        }
    }

    /// Joins the flight of `key`, or starts it. Nothing when too many wait already.
    fn board(self: &Arc<Self>, key: Key) -> Option<oneshot::Receiver<Landed>> {
        let (sender, landing) = oneshot::channel();
        let mut flights = self.flights();
        if flights.waiting >= MOST_WAITING {
            return None;
        }
        flights.waiting += 1;
        match flights.by_question.entry(key) {
            hash_map::Entry::Occupied(mut flight) => {
                flight.get_mut().push(sender);
                self.counters.bump(Count::Coalesced);
            }
            hash_map::Entry::Vacant(place) => {
                let key = place.key().clone();
                place.insert(vec![sender]);
                drop(flights);
                tokio::spawn(Arc::clone(self).fly(key));
            }
        }
        Some(landing)
    }

    async fn fly(self: Arc<Self>, key: Key) {
        let landed = match self.pool.ask(&key).await {
            Ok(answer) => {
                let entry = Arc::new(Entry::new(answer, self.clock.now()));
                self.cache.insert(key.clone(), Arc::clone(&entry));
                Ok(entry)
            }
            Err(none) => {
                self.counters.bump(Count::UpstreamFailures);
                let now = self.clock.now();
                let said = none.said.map(|answer| Arc::new(Entry::new(answer, now)));
                let failure = Arc::new(Failure {
                    code: none.code,
                    said,
                });
                self.cache
                    .insert_failure(key.clone(), Arc::clone(&failure), now);
                Err(failure)
            }
        };
        // The cache holds it by now: whoever comes after this does not fly again.
        let waiting = {
            let mut flights = self.flights();
            let waiting = flights.by_question.remove(&key).unwrap_or_default();
            flights.waiting -= waiting.len();
            waiting
        };
        for client in waiting {
            // A client that no longer waits is none to mind.
            let _ = client.send(landed.clone());
        }
    }

    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
