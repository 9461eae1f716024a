//! Owns the slow road: questions that are asked again or elsewhere, until they are answered or time is up.
//! Refuses to wait longer than a client does.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

use super::admission::{Bounds, Full, Seats};
use super::cache::{Entry, Failure, Key};
use super::inflight::{Boarding, Datagram, Flights, Ticket, Waiter, Who};
use super::respond::{Client, Resolution, Step, Tally, respond};
use super::responder::Desk;
use super::shared::Shared;
use super::upstream::{Pool, Tried, Unanswered};
use crate::stats::Count;
use crate::wire::answer::Answer;
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
                self.wait(key, Datagram { stale, ..datagram }).await;
            }
            // `respond` waits for the cache.
            Step::Busy => {}
        }
    }
}

impl Resolver {
    /// Asks upstream for a datagram, or joins an equal question that is on its way.
    async fn wait(self: Arc<Self>, key: Key, datagram: Datagram) {
        let seat = match self.seats.take(datagram.route.peer.ip()) {
            Ok(seat) => seat,
            Err(full) => {
                self.desk.counters.bump(count(full));
                let resolution = Resolution::Overloaded(datagram.stale.clone());
                self.desk.answer(&datagram, &resolution);
                return;
            }
        };
        let who = Who::Datagram(datagram);
        match self.flights.board(&key, Waiter { who, seat }) {
            Boarding::First(ticket) => self.flight(ticket).fly(None).await,
            Boarding::Joined => self.desk.counters.bump(Count::Coalesced),
            Boarding::TooLate(waiter) => {
                self.desk.counters.bump(Count::Coalesced);
                let none = Err(Arc::new(unanswered()));
                self.desk.deliver(vec![waiter], &none).await;
            }
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
        let mut asking = std::pin::pin!(resolver.pool.ask(&ticket.key, ticket.client, tried));
        let early = timeout_at(start + resolver.stale_patience(), &mut asking);
        if let Ok(said) = early.await {
            return self.end(said).await;
        }
        // Clients with a stale answer at hand get it; the others wait on.
        let impatient = flights.take_stale(ticket);
        let none = Err(Arc::new(unanswered()));
        // That may take long: many are answered in bursts. The answer must not wait for it.
        let end = async { self.end(asking.await).await };
        tokio::join!(end, desk.deliver(impatient, &none));
    }

    /// Keeps what upstream said, and delivers it to those who wait.
    async fn end(&self, said: Result<Answer, Unanswered>) {
        let Self { resolver, ticket } = self;
        let (flights, desk) = (&resolver.flights, &resolver.desk);
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
pub(crate) mod tests;
