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
                    desk.deliver(impatient, &Err(Arc::new(unanswered()))).await;
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
                desk.deliver(waiters, &landed).await;
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
                desk.deliver(waiters, &landed).await;
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
pub(super) mod tests {
    use std::net::{SocketAddr, UdpSocket};

    use futures_util::future::BoxFuture;
    use hickory_proto::op::Message;
    use hickory_proto::rr::rdata::opt::EdnsOption;

    use super::*;
    use crate::policy::current::Publisher;
    use crate::policy::snapshot::Snapshot;
    use crate::serve::cache::Cache;
    use crate::serve::pace::Pace;
    use crate::serve::shared::Clock;
    use crate::serve::upstream::connect::{Connector, ExchangeError, Transport};
    use crate::stats::Counters;
    use crate::sys::udp::{Route, Socket};
    use crate::wire::answer::{Answer, Intake};
    use crate::wire::name::Name;
    use crate::wire::query::Query;

    /// A query for `a`, type A, with EDNS.
    pub(crate) const PACKET: &[u8] =
        b"\0\x01\x01\0\0\x01\0\0\0\0\0\x01\x01a\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0";
    const BOUNDS: Intake = Intake {
        min_ttl: 0,
        max_ttl: 86_400,
        additional: false,
    };

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

    /// An upstream that never answers.
    pub(crate) struct Silent;

    impl Connector for Silent {
        fn exchange(
            &self,
            _: SocketAddr,
            _: Transport,
            _: &Key,
            patience: Duration,
        ) -> BoxFuture<'static, Result<Vec<u8>, ExchangeError>> {
            Box::pin(async move {
                tokio::time::sleep(patience).await;
                Err(ExchangeError::Timeout)
            })
        }
    }

    /// A resolver with this upstream timeout; clients on loopback may ask.
    pub(crate) fn resolver(
        connector: impl Connector,
        timeout: Duration,
        sockets: Vec<Arc<Socket>>,
    ) -> Arc<Resolver> {
        let counters = Arc::<Counters>::default();
        let servers = vec![([192, 0, 2, 1], 53).into()];
        let connector = Arc::new(connector);
        let pool = Pool::new(servers, connector, timeout, BOUNDS, counters.clone());
        let mut snapshot = Snapshot::default();
        let loopback = "127.0.0.0/8".parse().expect("a network");
        snapshot.clients = [loopback].iter().collect();
        let shared = Shared {
            policy: Publisher::new(snapshot).reader(),
            cache: Arc::new(Cache::new(1 << 20, 86_400)),
            clock: Clock::start(),
        };
        let desk = Desk {
            pace: Arc::new(Pace::new(timeout)),
            shared,
            sockets,
            counters,
        };
        let bounds = Bounds {
            all: 8,
            per_client: 8,
        };
        Arc::new(Resolver::new(Arc::new(pool), desk, bounds))
    }

    impl Resolver {
        /// Writes its answers.
        pub(crate) fn desk(&self) -> &Desk {
            &self.desk
        }
    }

    pub(crate) fn key() -> Key {
        Key::new(&Query::read(PACKET).expect("a query"))
    }

    /// An answer to [`PACKET`] with one address, received at second 0.
    pub(crate) fn entry(ttl: u8) -> Arc<Entry> {
        let head = b"\0\0\x81\x80\0\x01\0\x01\0\0\0\0\x01a\0\0\x01\0\x01";
        let record = b"\xC0\x0C\0\x01\0\x01\0\0\0";
        let octets = [&head[..], record, &[ttl, 0, 4, 192, 0, 2, 7]].concat();
        let name = Name::from_text("a").expect("a name");
        let answer = Answer::read(&octets, &name, 1, 1, BOUNDS).expect("an answer");
        Arc::new(Entry::new(answer, 0))
    }

    #[tokio::test(start_paused = true)]
    async fn a_flight_that_panics_leaves_nobody_waiting() {
        let resolver = resolver(Panics, Duration::from_secs(2), Vec::new());
        for _ in 0..2 {
            let start = Instant::now();
            let client = IpAddr::from([192, 0, 2, 9]);
            let resolution = resolver.resolve(client, key(), None).await;
            assert!(matches!(resolution, Resolution::Failed(_, None)));
            assert_eq!((start.elapsed(), resolver.waiting()), (Duration::ZERO, 0));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn with_an_old_answer_at_hand_a_task_waits_no_longer_than_1800_milliseconds() {
        // With a short timeout it is 90 % of that, so that the stale answer arrives before the client gives up.
        for (timeout, patience) in [(30_000, 1800), (2000, 1800), (1000, 900), (100, 90)] {
            let resolver = resolver(Silent, Duration::from_millis(timeout), Vec::new());
            let client = IpAddr::from([127, 0, 0, 1]);
            let start = Instant::now();
            let first = resolver.resolve(client, key(), Some(entry(1))).await;
            assert!(matches!(first, Resolution::Failed(_, Some(_))), "{first:?}");
            let waited = start.elapsed().as_millis();
            // Timers have a resolution of one millisecond.
            assert!((patience..=patience + 2).contains(&waited), "{waited}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_old_answer_a_task_waits_as_long_as_the_timeout_says() {
        let resolver = resolver(Silent, Duration::from_secs(10), Vec::new());
        let start = Instant::now();
        let client = IpAddr::from([127, 0, 0, 1]);
        let none = resolver.resolve(client, key(), None).await;
        assert!(matches!(none, Resolution::Failed(_, None)), "{none:?}");
        let waited = start.elapsed().as_secs_f64();
        assert!((9.9..10.1).contains(&waited), "{waited}");
        assert_eq!(resolver.waiting(), 0);
    }

    /// The answer that a client received: its TTL and the code of its Extended DNS Error.
    fn received(client: &UdpSocket) -> Option<(u32, u16)> {
        let mut buffer = [0; 512];
        let len = client.recv(&mut buffer).ok()?;
        let answer = Message::from_vec(&buffer[..len]).expect("an answer that can be read");
        let options = answer.edns.as_ref().expect("EDNS").options();
        let reason = options
            .as_ref()
            .iter()
            .find_map(|(_, option)| match option {
                EdnsOption::Unknown(15, octets) => Some(u16::from_be_bytes([octets[0], octets[1]])),
                _ => None,
            });
        Some((answer.answers[0].ttl, reason.expect("a reason")))
    }

    #[tokio::test(start_paused = true)]
    async fn with_an_old_answer_at_hand_a_datagram_is_answered_after_1800_milliseconds() {
        // Milliseconds since a worker made the first attempt; they count, too.
        for ago in [0, 700] {
            let listen = Socket::bind(([127, 0, 0, 1], 0).into(), false).expect("bound");
            let client = UdpSocket::bind("127.0.0.1:0").expect("bound");
            client.set_nonblocking(true).expect("set");
            let peer = client.local_addr().expect("bound");
            let resolver = resolver(Silent, Duration::from_secs(30), vec![Arc::new(listen)]);
            let datagram = Datagram {
                packet: PACKET.into(),
                route: Route { peer, local: None },
                listen: 0,
                since: Instant::now(),
                stale: Some(entry(1)),
            };
            let who = Who::Datagram(datagram);
            let seat = resolver.seats().take(peer.ip()).expect("a seat");
            let boarding = resolver.flights().board(&key(), Waiter { who, seat });
            let Boarding::First(ticket) = boarding else {
                panic!("not the first: {boarding:?}");
            };
            let since = Instant::now();
            tokio::time::advance(Duration::from_millis(ago)).await;
            let tried = Tried {
                server: 0,
                since,
                heard: false,
                said: None,
                by_tcp: false,
            };
            let (jobs, queue) = mpsc::channel(1);
            let taken = Arc::clone(&resolver).take_jobs(queue, TaskTracker::new());
            let taken = tokio::spawn(taken);
            let job = Job::Ask(ticket, (ago > 0).then_some(tried));
            jobs.send(job).await.expect("it is taken");
            tokio::time::sleep(Duration::from_millis(1790 - ago)).await;
            assert_eq!((received(&client), resolver.waiting()), (None, 1));
            tokio::time::sleep(Duration::from_millis(20)).await;
            // Code 3 is Stale Answer (RFC 8914); the TTL is that of RFC 8767, section 5.
            assert_eq!(received(&client), Some((30, 3)), "{ago} ms ago");
            assert_eq!(resolver.waiting(), 0);
            taken.abort();
        }
    }
}
