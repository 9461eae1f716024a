//! Resolves two kinds of queries: those of UDP clients that a worker's first attempt could not resolve, and those of
//! stream clients. It limits how long a client waits.

mod jobs;
pub mod traced;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::admission::{Admission, Bounds, Full};
use super::cache::{Entry, Failure, Key};
use super::dispatch::{Dispatcher, Exchange, Message};
use super::inflight::{Datagram, InFlight, Join, QueryId, Recipient, Waiter};
use super::observe::Observer;
use super::responder::Responder;
use super::shared::Shared;
use super::step::{Attempt, Resolution};
use super::upstream::pools::Pools;
use super::upstream::{Pool, PriorAttempt, Unanswered};
use crate::stats::Count;
use crate::wire::answer::Answer;
use crate::wire::edns::code;

/// How long a client waits if there is a stale answer (RFC 8767, section 5).
const STALE_PATIENCE: Duration = Duration::from_millis(1800);

/// Work that a worker hands over to the async side.
#[derive(Debug)]
pub enum Job {
    /// An in-flight query that it could not send, or to which it got no usable answer.
    Resolve(QueryId, Option<PriorAttempt>),
    /// A packet for which it would have had to wait for a lock.
    Respond(Datagram),
}

/// Resolves queries, each once for all clients that wait for it.
pub struct Resolver<O: Observer> {
    pools: Arc<Pools>,
    responder: Responder<O>,
    inflight: Arc<InFlight>,
    admission: Arc<Admission>,
}

impl<O: Observer> Resolver<O> {
    /// A resolver that asks `pools`, keeps its answers in the responder's cache, and has the responder deliver them.
    pub fn new(pools: Arc<Pools>, responder: Responder<O>, bounds: Bounds) -> Self {
        Self {
            pools,
            responder,
            inflight: Arc::default(),
            admission: Arc::new(Admission::new(bounds)),
        }
    }

    /// The upstream servers.
    pub fn pools(&self) -> &Arc<Pools> {
        &self.pools
    }

    /// The in-flight queries and their waiters.
    pub fn inflight(&self) -> &Arc<InFlight> {
        &self.inflight
    }

    /// The permits for waiting.
    pub fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// How many queries wait for upstream now.
    pub fn waiting(&self) -> usize {
        self.admission.in_use()
    }

    /// Asks upstream, or joins an equal query that is in flight. If there is a `stale` answer, the wait ends early;
    /// upstream's answer is still cached when it arrives.
    pub async fn resolve(
        self: &Arc<Self>,
        client: IpAddr,
        key: Key,
        stale: Option<Arc<Entry>>,
    ) -> Resolution {
        self.responder.counters.bump(Count::CacheMisses);
        self.resolve_uncounted(client, key, stale).await
    }

    /// Like [`resolve`](Self::resolve), for a query that is not counted as one that missed the cache.
    async fn resolve_uncounted(
        self: &Arc<Self>,
        client: IpAddr,
        key: Key,
        stale: Option<Arc<Entry>>,
    ) -> Resolution {
        let permit = match self.admission.acquire(client) {
            Ok(permit) => permit,
            Err(full) => {
                self.responder.counters.bump(rejection_count(full));
                return Resolution::Overloaded(stale);
            }
        };
        let (sender, received) = oneshot::channel();
        let recipient = Recipient::Task(sender);
        let pool = self.pools.of(&key);
        let waiter = Waiter { recipient, permit };
        match self.inflight.join(&key, pool.id(), waiter) {
            Join::First(query_id) => drop(tokio::spawn(self.start(query_id).run(None))),
            // An equal query is in flight. In both cases `patience` below limits the wait.
            Join::Joined | Join::StaleServed(_) => self.responder.counters.bump(Count::Coalesced),
        }
        let patience = match &stale {
            Some(_) => stale_patience(&pool),
            // The pool itself ends the query at its timeout. Twice that time is only a safeguard.
            None => pool.timeout() * 2,
        };
        match tokio::time::timeout(patience, received).await {
            Ok(Ok(Ok(entry))) => Resolution::Answered(entry),
            Ok(Ok(Err(failure))) => Resolution::Failed(failure, stale),
            // The query ended because of this, or will do so.
            Ok(Err(_)) | Err(_) if self.pools.id_of(&key) != pool.id() => Resolution::Outdated,
            // Too late, or the query ended without an outcome: its task panicked, or the server ends.
            Ok(Err(_)) | Err(_) => Resolution::Failed(Arc::new(no_answer()), stale),
        }
    }

    /// Ends all queries that still wait for upstream, without an answer: the server ends.
    pub fn abandon_all(&self) {
        for waiter in self.inflight.take_all() {
            // The task of a stream ends with its connection.
            if let Recipient::Datagram(datagram) = &waiter.recipient {
                self.responder.abandon(datagram, None);
            }
        }
    }

    /// Asks upstream again for an answer that is about to expire, if few queries wait.
    pub fn refresh(self: &Arc<Self>, key: &Key) {
        if let Some(permit) = self.admission.acquire_background() {
            let recipient = Recipient::CacheOnly;
            let (pool, waiter) = (self.pools.id_of(key), Waiter { recipient, permit });
            if let Join::First(query_id) = self.inflight.join(key, pool, waiter) {
                self.responder.counters.bump(Count::Prefetched);
                tokio::spawn(self.start(query_id).run(None));
            }
        }
    }

    fn start(self: &Arc<Self>, query_id: QueryId) -> ActiveQuery<O> {
        ActiveQuery {
            resolver: Arc::clone(self),
            query_id,
        }
    }

    /// Calls `dispatch` with a dispatcher for the current snapshot and time.
    pub(super) fn with_dispatcher<T>(&self, dispatch: impl FnOnce(&Dispatcher<'_, O>) -> T) -> T {
        self.responder.with_dispatcher(dispatch)
    }

    /// Dispatches a message: answers it at once, or returns the query for upstream.
    pub(super) fn begin(self: &Arc<Self>, message: Message<'_>, attempt: Attempt) -> Begun {
        self.with_dispatcher(|dispatcher| self.begin_by(dispatcher, message, attempt))
    }

    /// Like [`begin`](Self::begin), with a dispatcher that may have another observer.
    fn begin_by<P: Observer>(
        self: &Arc<Self>,
        dispatcher: &Dispatcher<'_, P>,
        message: Message<'_>,
        attempt: Attempt,
    ) -> Begun {
        let mut once = Once {
            resolver: self,
            draft: Vec::with_capacity(512),
            begun: Begun::Nothing,
        };
        dispatcher.one(message, attempt, (), &mut once);
        once.begun
    }

    /// Answers a packet that a worker handed over.
    async fn respond(self: Arc<Self>, datagram: Datagram) {
        let client = datagram.client();
        match self.begin(datagram.message(&client), datagram.attempt) {
            Begun::Reply(answer) => self.responder.send(&answer, &datagram),
            Begun::Nothing => {}
            Begun::Resolve(key, stale) => self.wait(key, Datagram { stale, ..datagram }).await,
        }
    }

    /// Asks upstream for the query of a datagram, or joins an equal query that is in flight.
    async fn wait(self: Arc<Self>, key: Key, datagram: Datagram) {
        let permit = match self.admission.acquire(datagram.route.peer.ip()) {
            Ok(permit) => permit,
            Err(full) => {
                self.responder.counters.bump(rejection_count(full));
                let resolution = Resolution::Overloaded(datagram.stale.clone());
                let attempt = Attempt::Last;
                self.responder.answer(
                    Datagram {
                        attempt,
                        ..datagram
                    },
                    &resolution,
                );
                return;
            }
        };
        let recipient = Recipient::Datagram(datagram);
        let (pool, waiter) = (self.pools.id_of(&key), Waiter { recipient, permit });
        match self.inflight.join(&key, pool, waiter) {
            Join::First(query_id) => self.start(query_id).run(None).await,
            Join::Joined => self.responder.counters.bump(Count::Coalesced),
            Join::StaleServed(waiter) => {
                self.responder.counters.bump(Count::Coalesced);
                let none = Err(Arc::new(no_answer()));
                let restart = |datagram| self.restart(datagram);
                self.responder
                    .deliver_paced(vec![waiter], &none, restart)
                    .await;
            }
        }
    }

    /// Dispatches a datagram again: another name must be resolved for its answer, or other servers must be asked.
    fn restart(self: &Arc<Self>, datagram: Datagram) {
        drop(tokio::spawn(Arc::clone(self).respond(datagram)));
    }
}

/// The decision of [`Resolver::begin`] about a message. `begin` runs on threads that may wait for locks.
pub(super) enum Begun {
    /// This answer is to be sent.
    Reply(Vec<u8>),
    /// The message gets no answer.
    Nothing,
    /// Upstream must be asked.
    Resolve(Key, Option<Arc<Entry>>),
}

/// The exchange for a single message. It stores the answer, or the query for upstream. Either is sent after the
/// snapshot is released; only a refresh starts at once.
struct Once<'r, O: Observer> {
    resolver: &'r Arc<Resolver<O>>,
    draft: Vec<u8>,
    begun: Begun,
}

impl<O: Observer> Exchange for Once<'_, O> {
    type Handle = ();

    fn draft(&mut self) -> &mut Vec<u8> {
        &mut self.draft
    }

    fn send(&mut self, (): ()) {
        self.begun = Begun::Reply(std::mem::take(&mut self.draft));
    }

    fn refresh(&mut self, key: Key) {
        self.resolver.refresh(&key);
    }

    fn resolve(&mut self, (): (), key: Key, stale: Option<Arc<Entry>>) {
        self.begun = Begun::Resolve(key, stale);
    }
}

/// How a query without a permit is counted.
pub fn rejection_count(full: Full) -> Count {
    match full {
        Full::All => Count::QueueFull,
        Full::Client => Count::ClientFull,
    }
}

/// How long a client waits for this pool if there is a stale answer.
fn stale_patience(pool: &Pool) -> Duration {
    STALE_PATIENCE.min(pool.timeout().mul_f64(0.9))
}

/// The failure of a query that no upstream server has answered.
pub fn no_answer() -> Failure {
    Failure {
        code: code::NO_REACHABLE_AUTHORITY,
        said: None,
    }
}

/// An in-flight query. However it ends, its waiters get an outcome.
struct ActiveQuery<O: Observer> {
    resolver: Arc<Resolver<O>>,
    query_id: QueryId,
}

impl<O: Observer> ActiveQuery<O> {
    async fn run(self, prior: Option<PriorAttempt>) {
        let Self { resolver, query_id } = &self;
        let (inflight, responder) = (&resolver.inflight, &resolver.responder);
        let start = prior
            .as_ref()
            .map_or_else(Instant::now, |prior| prior.since);
        let pool = resolver.pools.of(&query_id.key);
        if pool.id() != query_id.pool {
            return self.outdate();
        }
        let mut asking = std::pin::pin!(pool.ask(&query_id.key, query_id.client, prior));
        let early = timeout_at(start + stale_patience(&pool), &mut asking);
        if let Ok(said) = early.await {
            return self.end(&pool, said).await;
        }
        // Clients for which there is a stale answer get it; the others continue to wait.
        let impatient = inflight.take_stale_waiters(query_id);
        let none = Err(Arc::new(no_answer()));
        // The delivery of stale answers may take long, because many clients are answered in bursts. The handling of
        // upstream's answer must not wait until the delivery ends.
        let end = async { self.end(&pool, asking.await).await };
        let restart = |datagram| resolver.restart(datagram);
        tokio::join!(end, responder.deliver_paced(impatient, &none, restart));
    }

    /// Caches what `pool` said and delivers it to the waiters, unless another pool is the one to ask now.
    async fn end(&self, pool: &Arc<Pool>, said: Result<Answer, Unanswered>) {
        let Self { resolver, query_id } = self;
        let (inflight, responder) = (&resolver.inflight, &resolver.responder);
        if resolver.pools.id_of(&query_id.key) != pool.id() {
            return self.outdate();
        }
        let Shared { cache, clock, .. } = &responder.shared;
        let (key, now) = (&query_id.key, clock.now());
        let restart = |datagram| resolver.restart(datagram);
        match said {
            Ok(answer) => {
                let entry = resolver.pools.entry(answer, now, pool.id());
                let entry = Arc::new(entry.numbered(query_id.number()));
                // Cached before the waiters are answered, so that later queries find it.
                cache.insert(key.clone(), Arc::clone(&entry));
                let next = cache.next_due(key, &entry, now);
                let outcome = Ok(entry);
                let waiters = inflight.complete(query_id, &outcome).unwrap_or_default();
                if let Some(next) = next.filter(|_| waiters.iter().any(Waiter::is_refresh)) {
                    resolver.refresh(&next);
                }
                responder.deliver_paced(waiters, &outcome, restart).await;
            }
            Err(none) => {
                let said = none.said.map(|answer| Arc::new(Entry::new(answer, now)));
                let failure = Arc::new(Failure {
                    code: none.code,
                    said,
                });
                let outcome = Err(Arc::clone(&failure));
                // If a worker's late answer has already ended the query, the query did not fail.
                let Some(waiters) = inflight.complete(query_id, &outcome) else {
                    return;
                };
                responder.counters.bump(Count::UpstreamFailures);
                if !none.ours {
                    cache.insert_failure(key.clone(), failure, now, pool.id());
                }
                responder.deliver_paced(waiters, &outcome, restart).await;
            }
        }
    }

    /// Ends the query without an outcome, because another pool than its own is asked for its name now. Its waiters are
    /// dispatched again, so that the policy, the local names and the servers of the current configuration answer them.
    fn outdate(&self) {
        let Self { resolver, query_id } = self;
        let none = Err(Arc::new(no_answer()));
        let waiters = resolver.inflight.complete(query_id, &none);
        for waiter in waiters.into_iter().flatten() {
            // A task notices that its sender is dropped.
            if let Recipient::Datagram(datagram) = waiter.recipient {
                resolver.restart(datagram.again());
            }
        }
    }
}

impl<O: Observer> Drop for ActiveQuery<O> {
    /// After a panic the waiters get a failure.
    fn drop(&mut self) {
        let outcome = Err(Arc::new(no_answer()));
        if let Some(waiters) = self.resolver.inflight.complete(&self.query_id, &outcome) {
            let responder = &self.resolver.responder;
            for datagram in responder.deliver_now(waiters, &outcome) {
                responder.abandon(&datagram, Some(Count::Failed));
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
