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

/// Most clients that wait for upstream at one time. Each may cost tens of kilobytes: a question of
/// its own, up to [`MOST_TRIES`](super::upstream) tries, each with a socket if there is one.
const MOST_WAITING: usize = 8192;
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
        let patience = match &stale {
            Some(_) => STALE_PATIENCE.min(self.pool.timeout().mul_f64(0.9)),
            // The pool keeps its time; this is for the day that it does not.
            None => self.pool.timeout() * 2,
        };
        match tokio::time::timeout(patience, landing).await {
            Ok(Ok(Ok(entry))) => Resolution::Answered(entry),
            Ok(Ok(Err(failure))) => Resolution::Failed(failure, stale),
            // Too late, or the flight is gone: it panicked, or the server ends.
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
                let flight = Flight {
                    resolver: Arc::clone(self),
                    key,
                    ended: false,
                };
                tokio::spawn(flight.fly());
            }
        }
        Some(landing)
    }

    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One question on its way. However it ends, nobody waits for it afterwards.
struct Flight {
    resolver: Arc<Resolver>,
    key: Key,
    /// Off the board: the next of its key is another flight.
    ended: bool,
}

impl Flight {
    async fn fly(mut self) {
        let Self { resolver, key, .. } = &self;
        let landed = match resolver.pool.ask(key).await {
            Ok(answer) => {
                let entry = Arc::new(Entry::new(answer, resolver.clock.now()));
                resolver.cache.insert(key.clone(), Arc::clone(&entry));
                Ok(entry)
            }
            Err(none) => {
                resolver.counters.bump(Count::UpstreamFailures);
                let now = resolver.clock.now();
                let said = none.said.map(|answer| Arc::new(Entry::new(answer, now)));
                let failure = Arc::new(Failure {
                    code: none.code,
                    said,
                });
                let held = Arc::clone(&failure);
                if !none.ours {
                    resolver.cache.insert_failure(key.clone(), held, now);
                }
                Err(failure)
            }
        };
        // The cache holds it by now: whoever comes after this does not fly again.
        for client in self.end() {
            // A client that no longer waits is none to mind.
            let _ = client.send(landed.clone());
        }
    }

    /// Takes the flight off the board; those who wait for it.
    fn end(&mut self) -> Vec<oneshot::Sender<Landed>> {
        self.ended = true;
        let mut flights = self.resolver.flights();
        let waiting = flights.by_question.remove(&self.key).unwrap_or_default();
        flights.waiting -= waiting.len();
        waiting
    }
}

impl Drop for Flight {
    /// After a panic the senders go, and so the clients hear that nothing comes.
    fn drop(&mut self) {
        if !self.ended {
            self.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::serve::upstream::connect::{Connector, ExchangeError, Transport};
    use crate::wire::answer::TtlBounds;
    use crate::wire::query::Query;

    struct Panics;

    impl Connector for Panics {
        fn exchange(
            &self,
            _: SocketAddr,
            _: Transport,
            _: &Key,
            _: Duration,
        ) -> BoxFuture<'static, Result<Vec<u8>, ExchangeError>> {
            Box::pin(async { panic!("as the test wants it") })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flight_that_panics_leaves_nobody_waiting() {
        let bounds = TtlBounds { min: 0, max: 60 };
        let timeout = Duration::from_secs(2);
        let counters = Arc::<Counters>::default();
        let servers = vec![([192, 0, 2, 1], 53).into()];
        let pool = Pool::new(servers, Arc::new(Panics), timeout, bounds, counters.clone());
        let cache = Arc::new(Cache::new(1 << 20, 0));
        let resolver = Arc::new(Resolver::new(pool, cache, Clock::start(), counters));
        let packet = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01";
        let key = Key::new(&Query::read(packet).expect("a query"));
        for _ in 0..2 {
            let start = Instant::now();
            let resolution = resolver.resolve(key.clone(), None).await;
            assert!(matches!(resolution, Resolution::Failed(_, None)));
            assert_eq!((start.elapsed(), resolver.waiting()), (Duration::ZERO, 0));
        }
    }
}
