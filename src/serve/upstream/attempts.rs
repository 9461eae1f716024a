//! First attempts over connections that are open, without a task for each query.
//!
//! Like those of the workers, which send datagrams: only the first attempt is made here; retries, and queries for which a
//! connection must be opened, go to the resolver.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::pin::Pin;
use std::sync::Arc;

use foldhash::quality::RandomState;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Sleep, sleep_until};

use super::exchange::{ExchangeError, How, Transport};
use super::health::Health;
use super::pools::Pools;
use super::query::OutgoingQuery;
use super::reply::{Again, Evaluation, Received, Sent};
use super::server::Server;
use super::stream::placed::PlacedQuery;
use super::stream::waiter::{AttemptEnd, AttemptHandle, Fate, Outcome};
use super::{First, Pool, PriorAttempt};
use crate::serve::inflight::QueryId;
use crate::stats::{Count, Counters};
use crate::wire::answer::{Answer, is_cut};

/// The end of an attempt.
pub(in crate::serve) struct AttemptEvent {
    pub(in crate::serve) query_id: QueryId,
    pub(in crate::serve) pool: Arc<Pool>,
    pub(in crate::serve) result: Ending,
}

/// How an attempt ended.
pub(in crate::serve) enum Ending {
    /// With a usable answer.
    Answered(Answer),
    /// Without one: the pool has to be asked.
    Unfinished(PriorAttempt),
    /// With its connection: the pool has to be asked, as if there had been no attempt.
    Lost,
}

/// A query that was sent.
struct OpenAttempt {
    query_id: QueryId,
    pool: Arc<Pool>,
    server: Arc<Server>,
    how: How,
    at: Instant,
    until: Instant,
    placed: PlacedQuery,
    /// Where the resolver waits for the outcome, once the attempt is handed over.
    resolver: Option<oneshot::Sender<Outcome>>,
}

impl OpenAttempt {
    /// The event of a response that is not used at once.
    fn responded(&self, said: Option<Answer>, again: Option<Again>) -> AttemptEvent {
        self.ended(Ending::Unfinished(PriorAttempt {
            server: Arc::clone(&self.server),
            since: self.at,
            responded: true,
            said,
            again,
            open: None,
        }))
    }

    /// The event that makes the resolver wait for the outcome, and ask other servers meanwhile.
    fn hand_over(&mut self) -> AttemptEvent {
        let (outcome, open) = self.placed.hand_over(self.how, self.at);
        self.resolver = Some(outcome);
        self.ended(Ending::Unfinished(PriorAttempt {
            server: Arc::clone(&self.server),
            since: self.at,
            responded: false,
            said: None,
            again: None,
            open: Some(open),
        }))
    }

    fn ended(&self, result: Ending) -> AttemptEvent {
        AttemptEvent {
            query_id: self.query_id.clone(),
            pool: Arc::clone(&self.pool),
            result,
        }
    }
}

/// The first attempts that are open.
pub(in crate::serve) struct Attempts {
    pools: Arc<Pools>,
    counters: Arc<Counters>,
    ends: mpsc::UnboundedSender<AttemptEnd>,
    ended: mpsc::UnboundedReceiver<AttemptEnd>,
    open: HashMap<u64, OpenAttempt, RandomState>,
    last: u64,
    /// When the resolver takes over, the earliest first. Entries of attempts that have ended have no effect.
    dues: BinaryHeap<Reverse<(Instant, u64)>>,
    /// Elapses no later than the first attempt is due. Kept, because setting a timer for each query costs more.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Attempts {
    pub(in crate::serve) fn new(pools: Arc<Pools>, counters: Arc<Counters>) -> Self {
        let (ends, ended) = mpsc::unbounded_channel();
        Self {
            pools,
            counters,
            ends,
            ended,
            open: HashMap::default(),
            last: 0,
            dues: BinaryHeap::new(),
            alarm: None,
        }
    }

    /// Sends a query to the server that is to be asked first, if that server has an open connection with room for it.
    /// False, without an effect, otherwise.
    pub(in crate::serve) fn ask(&mut self, query_id: &QueryId) -> bool {
        let pool = self.pools.of(&query_id.key);
        if !pool.is_encrypted() || pool.id() != query_id.pool {
            return false;
        }
        let now = Instant::now();
        let room = |first: &Server| match first.transport() {
            over @ (Transport::Tls | Transport::Https) => Some((over, first.connections.room()?)),
            Transport::Udp | Transport::Tcp | Transport::Quic | Transport::H3 => None,
        };
        let Some((First { server, patience }, (over, room))) = pool.try_first(now, room) else {
            return false;
        };
        let dialect = server.dialect(now);
        let mut query = OutgoingQuery::new(&query_id.key, dialect);
        query.pad();
        self.last += 1;
        let (number, until) = (self.last, now + pool.timeout());
        let handle = AttemptHandle::new(number, until, self.ends.clone());
        let Some(placed) = room.send(query, handle) else {
            return false;
        };
        self.counters.bump(over.queries());
        server.traffic.sent(false, 1);
        let how = How {
            over,
            client: query_id.client,
            dialect,
        };
        self.dues.push(Reverse((now + patience, number)));
        self.open.insert(
            number,
            OpenAttempt {
                query_id: query_id.clone(),
                pool,
                server,
                how,
                at: now,
                until,
                placed,
                resolver: None,
            },
        );
        true
    }

    /// Waits for the end of an attempt, or for the time at which the resolver takes over. Can be cancelled without a loss.
    pub(in crate::serve) async fn next(&mut self) -> AttemptEvent {
        loop {
            let due = self.due();
            let event = tokio::select! {
                biased;
                // Before the ends, of which there may be more at any time.
                () = rung(&mut self.alarm, due) => self.expire(),
                // The sender of this end is never dropped.
                Some(end) = self.ended.recv() => self.end(end),
            };
            if let Some(event) = event {
                return event;
            }
        }
    }

    /// When the first of the open attempts is due.
    fn due(&mut self) -> Option<Instant> {
        loop {
            let Reverse((due, number)) = *self.dues.peek()?;
            if self.open.contains_key(&number) {
                return Some(due);
            }
            self.dues.pop();
        }
    }

    /// The queries that are still open, for the resolver.
    pub(in crate::serve) fn drain(&mut self) -> Vec<QueryId> {
        let open = self.open.drain();
        let open = open.filter(|(_, open)| open.resolver.is_none());
        open.map(|(_, open)| open.query_id).collect()
    }

    /// Hands over the attempt that is due, or ends it if it has been handed over; nothing if none is due.
    fn expire(&mut self) -> Option<AttemptEvent> {
        self.due().filter(|due| *due <= Instant::now())?;
        let Reverse((_, number)) = self.dues.pop()?;
        let late = self.open.get_mut(&number)?;
        if let Some(resolver) = late.resolver.take() {
            // The resolver may have ended the query.
            let _ = resolver.send(Err(ExchangeError::Timeout));
            self.open.remove(&number);
            return None;
        }
        self.dues.push(Reverse((late.until, number)));
        self.counters.bump(Count::UpstreamSlow);
        late.server.traffic.timed_out();
        Some(late.hand_over())
    }

    /// Records how long the server took to answer.
    fn measure(&self, open: &OpenAttempt, now: Instant) {
        let took = now.saturating_duration_since(open.at);
        self.counters.upstream_took(took);
        open.server.traffic.took(took);
        open.pool.try_answered(&open.server, took);
    }

    fn end(&mut self, AttemptEnd { number, outcome }: AttemptEnd) -> Option<AttemptEvent> {
        let mut open = self.open.remove(&number)?;
        if self.open.is_empty() {
            self.dues.clear();
        }
        if let Some(resolver) = open.resolver.take() {
            // If another server's answer has ended the query, it remains to be recorded how slow this one is.
            if let Err(Ok(Fate::Answered(_))) = resolver.send(outcome) {
                self.measure(&open, Instant::now());
            }
            return None;
        }
        let event = match outcome {
            Ok(Fate::Answered((bytes, fit))) => {
                let now = Instant::now();
                self.measure(&open, now);
                let sent = Sent {
                    server: &open.server,
                    how: open.how,
                    key: &open.query_id.key,
                    intake: &open.pool.intake,
                    counters: &self.counters,
                };
                let received = Received {
                    bytes: &bytes,
                    fit,
                    is_cut: is_cut(&bytes),
                    at: now,
                };
                match sent.evaluate(received) {
                    Evaluation::Answer(answer) if open.pool.intake.accepts(&answer) => {
                        return Some(open.ended(Ending::Answered(answer)));
                    }
                    Evaluation::Answer(answer) => open.responded(Some(answer), None),
                    Evaluation::Again(again) => open.responded(None, Some(again)),
                    Evaluation::Garbage => open.responded(None, None),
                }
            }
            Err(_) => {
                let failed = |health: &mut Health| health.failed(Instant::now());
                open.pool.update(&open.server, failed);
                // It would refuse the same query again.
                open.responded(None, None)
            }
            Ok(Fate::Unsent) => open.ended(Ending::Lost),
            Ok(Fate::Lost) => {
                self.counters.bump(Count::UpstreamResent);
                open.ended(Ending::Lost)
            }
        };
        Some(event)
    }
}

/// Waits until an alarm has rung, which it does at `due` or before; forever without one that is due.
async fn rung(alarm: &mut Option<Pin<Box<Sleep>>>, due: Option<Instant>) {
    let Some(due) = due else {
        return std::future::pending().await;
    };
    let alarm = alarm.get_or_insert_with(|| Box::pin(sleep_until(due)));
    if alarm.is_elapsed() || alarm.deadline() > due {
        alarm.as_mut().reset(due);
    }
    alarm.as_mut().await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[tokio::test(start_paused = true)]
    async fn the_alarm_rings_for_each_time_that_is_due_and_again_after_it_rang() {
        let (start, mut alarm) = (Instant::now(), None);
        for due in [10, 50, 51] {
            rung(&mut alarm, Some(start + ms(due))).await;
            assert_eq!(start.elapsed(), ms(due));
        }
        // It is past already.
        rung(&mut alarm, Some(start + ms(20))).await;
        assert_eq!(start.elapsed(), ms(51));
        timeout(ms(5000), rung(&mut alarm, None))
            .await
            .expect_err("nothing is due");
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_that_is_due_earlier_than_the_alarm_is_not_missed() {
        let (start, mut alarm) = (Instant::now(), None);
        let late = rung(&mut alarm, Some(start + ms(1000)));
        timeout(ms(5), late).await.expect_err("it is not due yet");
        rung(&mut alarm, Some(start + ms(100))).await;
        assert_eq!(start.elapsed(), ms(100));
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_for_an_attempt_that_has_ended_rings_early_and_then_in_time() {
        let (start, mut alarm) = (Instant::now(), None);
        let first = rung(&mut alarm, Some(start + ms(100)));
        timeout(ms(5), first).await.expect_err("it is not due yet");
        let next = Some(start + ms(400));
        rung(&mut alarm, next).await;
        assert_eq!(start.elapsed(), ms(100));
        rung(&mut alarm, next).await;
        assert_eq!(start.elapsed(), ms(400));
    }
}
