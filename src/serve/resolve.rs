//! Owns the slow road: questions that are asked again or elsewhere, until they are answered or time is up.
//! Refuses to wait longer than a client does.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

use super::cache::{Entry, Failure, Key};
use super::desk::Desk;
use super::flights::{Boarding, Datagram, Flights, Ticket, Waiter, Who};
use super::respond::{Client, Resolution, Step, Tally, respond};
use super::seats::{Bounds, Full, Seats};
use super::shared::Shared;
use super::upstream::{Pool, Tried};
use crate::stats::Count;
use crate::wire::edns::code;

/// How long a client waits when an answer past its TTL is at hand (RFC 8767, section 5).
const STALE_PATIENCE: Duration = Duration::from_millis(1800);

/// What a worker leaves to the async side.
#[derive(Debug)]
pub enum Job {
    /// A question for which it has no port, or to which it got no good answer. Who waits is in the
    /// flights.
    Ask(Ticket, Option<Tried>),
    /// A packet that it would have had to wait for, or had no way to ask for.
    Whole(Datagram),
}

/// The questions on their way.
pub struct Resolver {
    pool: Arc<Pool>,
    desk: Desk,
    flights: Arc<Flights>,
    seats: Arc<Seats>,
}

impl Resolver {
    /// Asks `pool`; what it says is kept in the desk's cache, and told by the desk.
    pub fn new(pool: Arc<Pool>, desk: Desk, bounds: Bounds) -> Self {
        Self {
            pool,
            desk,
            flights: Arc::default(),
            seats: Arc::new(Seats::new(bounds)),
        }
    }

    /// The upstream servers.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The questions on their way, and who waits.
    pub fn flights(&self) -> &Arc<Flights> {
        &self.flights
    }

    /// The seats for those who wait.
    pub fn seats(&self) -> &Arc<Seats> {
        &self.seats
    }

    /// How many questions wait for upstream now.
    pub fn waiting(&self) -> usize {
        self.seats.taken()
    }

    /// Asks upstream, or joins an equal question that is on its way. With `stale` at hand the wait
    /// ends early; the question then still lands in the cache.
    pub async fn resolve(
        self: &Arc<Self>,
        client: IpAddr,
        key: Key,
        stale: Option<Arc<Entry>>,
    ) -> Resolution {
        let seat = match self.seats.take(client) {
            Ok(seat) => seat,
            Err(full) => {
                self.desk.counters.bump(count(full));
                return Resolution::Overloaded(stale);
            }
        };
        let (sender, landing) = oneshot::channel();
        let who = Who::Task(sender);
        match self.flights.board(&key, Waiter { who, seat }) {
            Boarding::First(ticket) => drop(tokio::spawn(self.flight(ticket).fly(None))),
            // Tasks have a patience of their own.
            Boarding::Joined | Boarding::TooLate(_) => self.desk.counters.bump(Count::Coalesced),
        }
        let patience = match &stale {
            Some(_) => self.stale_patience(),
            // The pool keeps its time; this is for the day that it does not.
            None => self.pool.timeout() * 2,
        };
        match tokio::time::timeout(patience, landing).await {
            Ok(Ok(Ok(entry))) => Resolution::Answered(entry),
            Ok(Ok(Err(failure))) => Resolution::Failed(failure, stale),
            // Too late, or the flight is gone: it panicked, or the server ends.
            Ok(Err(_)) | Err(_) => Resolution::Failed(Arc::new(unanswered()), stale),
        }
    }

    fn stale_patience(&self) -> Duration {
        STALE_PATIENCE.min(self.pool.timeout().mul_f64(0.9))
    }

    /// Asks for an answer that is about to be too old, if there is time for it.
    pub fn refresh(self: &Arc<Self>, key: &Key) {
        if let Some(seat) = self.seats.take_spare() {
            let who = Who::Nobody;
            if let Boarding::First(ticket) = self.flights.board(key, Waiter { who, seat }) {
                self.desk.counters.bump(Count::Prefetched);
                tokio::spawn(self.flight(ticket).fly(None));
            }
        }
    }

    fn flight(self: &Arc<Self>, ticket: Ticket) -> Flight {
        Flight {
            resolver: Arc::clone(self),
            ticket,
        }
    }

    /// Takes the workers' jobs until the workers are gone. Answers under way are `tracker`'s to wait
    /// for.
    pub async fn take_jobs(self: Arc<Self>, mut jobs: mpsc::Receiver<Job>, tracker: TaskTracker) {
        while let Some(job) = jobs.recv().await {
            match job {
                Job::Ask(ticket, tried) => {
                    drop(tracker.spawn(self.flight(ticket).fly(tried)));
                }
                Job::Whole(datagram) => drop(tracker.spawn(Arc::clone(&self).whole(datagram))),
            }
        }
    }

    /// Answers a packet from its beginning.
    async fn whole(self: Arc<Self>, datagram: Datagram) {
        let shared = &self.desk.shared;
        let client = Client {
            ip: datagram.route.peer.ip(),
            stream: false,
        };
        let mut out = Vec::with_capacity(512);
        let now = shared.clock.now();
        let step = {
            let snapshot = shared.policy.load();
            respond(
                now,
                client,
                &datagram.packet,
                &snapshot,
                &shared.cache,
                &mut out,
            )
        };
        let reply = |tally: Tally| {
            tally.add_to(&self.desk.counters);
            self.desk.send(&out, &datagram);
        };
        match step {
            Step::Reply(tally) => reply(tally),
            Step::Drop(tally) => tally.add_to(&self.desk.counters),
            Step::Refresh(key) => {
                reply(Count::CacheHits.into());
                self.refresh(&key);
            }
            Step::Resolve(key, stale) => {
                let resolution = self.resolve(client.ip, key, stale).await;
                self.desk.answer(&datagram, &resolution);
            }
            // `respond` waits for the cache.
            Step::Busy => {}
        }
    }
}

/// How a question is counted that finds no seat.
pub fn count(full: Full) -> Count {
    match full {
        Full::All => Count::QueueFull,
        Full::Client => Count::ClientFull,
    }
}

/// That no upstream answers, and none said anything.
pub fn unanswered() -> Failure {
    Failure {
        code: code::NO_REACHABLE_AUTHORITY,
        said: None,
    }
}

/// One question on its way. However it ends, nobody waits for it afterwards.
struct Flight {
    resolver: Arc<Resolver>,
    ticket: Ticket,
}

impl Flight {
    async fn fly(self, tried: Option<Tried>) {
        let Self { resolver, ticket } = &self;
        let (flights, desk) = (&resolver.flights, &resolver.desk);
        let start = tried
            .as_ref()
            .map_or_else(Instant::now, |tried| tried.since);
        let said = {
            let mut asking = std::pin::pin!(resolver.pool.ask(&ticket.key, tried));
            let early = timeout_at(start + resolver.stale_patience(), &mut asking);
            match early.await {
                Ok(said) => said,
                Err(_) => {
                    // Who has an old answer gets it; who has none waits on.
                    let impatient = flights.take_stale(ticket);
                    desk.tell(impatient, &Err(Arc::new(unanswered())));
                    asking.await
                }
            }
        };
        let Shared { cache, clock, .. } = &desk.shared;
        let (key, now) = (&ticket.key, clock.now());
        match said {
            Ok(answer) => {
                let entry = Arc::new(Entry::new(answer, now));
                // Before those who wait are told: whoever comes after them does not fly again.
                cache.insert(key.clone(), Arc::clone(&entry));
                let landed = Ok(entry);
                let waiters = flights.land(ticket, &landed).unwrap_or_default();
                desk.tell(waiters, &landed);
            }
            Err(none) => {
                let said = none.said.map(|answer| Arc::new(Entry::new(answer, now)));
                let failure = Arc::new(Failure {
                    code: none.code,
                    said,
                });
                let landed = Err(Arc::clone(&failure));
                // A worker's late answer may have ended it: then it did not fail.
                let Some(waiters) = flights.land(ticket, &landed) else {
                    return;
                };
                desk.counters.bump(Count::UpstreamFailures);
                if !none.ours {
                    cache.insert_failure(key.clone(), failure, now);
                }
                desk.tell(waiters, &landed);
            }
        }
    }
}

impl Drop for Flight {
    /// After a panic those who wait hear that nothing comes.
    fn drop(&mut self) {
        let landed = Err(Arc::new(unanswered()));
        if let Some(waiters) = self.resolver.flights.land(&self.ticket, &landed) {
            self.resolver.desk.tell(waiters, &landed);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::policy::current::Publisher;
    use crate::policy::snapshot::Snapshot;
    use crate::serve::cache::{Cache, Lookup};
    use crate::serve::shared::Clock;
    use crate::serve::upstream::connect::{Connector, ExchangeError, How, Reply};
    use crate::serve::upstream::server::Server;
    use crate::stats::Counters;
    use crate::wire::answer::TtlBounds;
    use crate::wire::ask::Dialect;
    use crate::wire::query::Query;

    /// What becomes of each query.
    enum Fate {
        Panics,
        Fails(ExchangeError),
    }

    impl Connector for Fate {
        fn exchange(
            &self,
            _: &Arc<Server>,
            _: How,
            _: &Key,
            _: Duration,
        ) -> BoxFuture<'static, Result<Reply, ExchangeError>> {
            match self {
                Self::Panics => Box::pin(async { panic!("as the test wants it") }),
                Self::Fails(error) => Box::pin(std::future::ready(Err(*error))),
            }
        }
    }

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9));
    const PACKET: &[u8] = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01";

    fn resolver(fate: Fate) -> Arc<Resolver> {
        let counters = Arc::<Counters>::default();
        let server = Server::new(([192, 0, 2, 1], 53).into(), Dialect::FULL);
        let pool = Pool::new(
            vec![server],
            Arc::new(fate),
            Duration::from_secs(2),
            TtlBounds { min: 0, max: 60 },
            Arc::default(),
            counters.clone(),
        );
        let shared = Shared {
            policy: Publisher::new(Snapshot::default()).reader(),
            cache: Arc::new(Cache::new(1 << 20, 0)),
            clock: Clock::start(),
        };
        let desk = Desk {
            shared,
            sockets: Vec::new(),
            counters,
        };
        let bounds = Bounds {
            all: 8,
            per_client: 8,
        };
        Arc::new(Resolver::new(Arc::new(pool), desk, bounds))
    }

    #[tokio::test(start_paused = true)]
    async fn a_flight_that_panics_leaves_nobody_waiting() {
        let resolver = resolver(Fate::Panics);
        let key = Key::new(&Query::read(PACKET).expect("a query"));
        for _ in 0..2 {
            let start = Instant::now();
            let resolution = resolver.resolve(CLIENT, key.clone(), None).await;
            assert!(matches!(resolution, Resolution::Failed(_, None)));
            assert_eq!((start.elapsed(), resolver.waiting()), (Duration::ZERO, 0));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn upstreams_failure_is_remembered_and_our_own_want_of_sockets_is_not() {
        for (error, is_remembered) in [
            (ExchangeError::Unreachable, true),
            (ExchangeError::Malformed, true),
            (ExchangeError::Busy, false),
        ] {
            let resolver = resolver(Fate::Fails(error));
            let query = Query::read(PACKET).expect("a query");
            let key = Key::new(&query);
            let resolution = resolver.resolve(CLIENT, key, None).await;
            assert!(matches!(resolution, Resolution::Failed(_, None)));
            let Shared { cache, clock, .. } = &resolver.desk.shared;
            let known = cache.lookup(&query, clock.now());
            let remembered = matches!(known, Lookup::Failed(..));
            assert_eq!(remembered, is_remembered, "{error:?}");
        }
    }
}
