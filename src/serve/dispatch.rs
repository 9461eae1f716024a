//! The dispatcher, through which every transport gets its messages answered.

use std::num::NonZeroU16;
use std::sync::Arc;

use arc_swap::Guard;
use arrayvec::ArrayVec;
use tokio::time::Instant;

use super::asked::{self, Asked};
use super::cache::{Cache, Entry, Key};
use super::client::Client;
use super::notify::Notifications;
use super::observe::{Finished, Observer};
use super::respond::{self, Known};
use super::shared::Shared;
use super::step::{Attempt, Ending, Resolution, Step, Tally};
use super::worker_cache::{Location, WorkerCache};
use super::zones::{self, SignatureLimits};
use crate::policy::ranking::{Hit, LookupResult};
use crate::policy::served_zones::{ServedZone, innermost};
use crate::policy::snapshot::Snapshot;
use crate::policy::view::LookupKey;
use crate::stats::Count;
use crate::wire::name::Name;
use crate::wire::query::Query;

/// The maximum number of messages that are dispatched together.
pub const BATCH: usize = 64;

/// A message, its sender, and when it was received.
#[derive(Clone, Copy)]
pub(super) struct Message<'m> {
    pub(super) client: &'m Client,
    pub(super) packet: &'m [u8],
    pub(super) received: Instant,
}

/// A message of a batch.
#[derive(Clone, Copy)]
pub(super) struct Received<'p, H> {
    /// Identifies the message to its transport.
    pub(super) handle: H,
    pub(super) packet: &'p [u8],
    /// The message was longer than `packet`.
    pub(super) is_cut: bool,
}

/// How a message that waited for upstream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conclusion {
    /// The answer is written.
    Reply,
    /// The message gets no answer.
    Nothing,
    /// The message must be dispatched again, as the next attempt. Never after the last one.
    Restart,
}

/// The operations by which a thread answers a message: it sends an answer, or resolves the query upstream. If it does
/// neither, the message is dropped.
pub(super) trait Exchange {
    /// Identifies a message to the thread.
    type Handle: Copy;

    /// The buffer for the next answer; its contents are overwritten.
    fn draft(&mut self) -> &mut Vec<u8>;

    /// Sends the draft as the answer to a message.
    fn send(&mut self, handle: Self::Handle);

    /// Asks upstream again for an answer that is popular and about to expire.
    fn refresh(&mut self, key: Key);

    /// Keeps a message until upstream has answered; then [`Dispatcher::conclude`] writes its answer. `stale` is
    /// an answer past its TTL, in case upstream fails.
    fn resolve(&mut self, handle: Self::Handle, key: Key, stale: Option<Arc<Entry>>);
}

/// An exchange of a thread that must not wait for a lock.
pub(super) trait BatchExchange: Exchange {
    /// The sender of a message.
    fn client(&self, handle: Self::Handle) -> Client;

    /// Passes a message to a thread that may wait for a lock, because another thread is writing to the part of the
    /// cache where the answer would be.
    fn hand_over(&mut self, handle: Self::Handle);
}

/// Answers messages under one snapshot and at one time.
pub(super) struct Dispatcher<'d, O> {
    snapshot: &'d Snapshot,
    cache: &'d Cache,
    notifications: &'d Notifications,
    /// The zones that the policy is published as.
    zones: Guard<Arc<Vec<Arc<ServedZone>>>>,
    signatures: &'d SignatureLimits,
    observer: &'d O,
    instant: Instant,
    /// The time in seconds of the server's clock.
    now: u32,
}

impl<'d, O: Observer> Dispatcher<'d, O> {
    pub(super) fn new(
        snapshot: &'d Snapshot,
        shared: &'d Shared,
        observer: &'d O,
        instant: Instant,
    ) -> Self {
        Self {
            snapshot,
            cache: &shared.cache,
            notifications: &shared.notifications,
            zones: shared.zones.load(),
            signatures: &shared.signatures,
            observer,
            instant,
            now: shared.clock.at(instant),
        }
    }

    /// Answers at most [`BATCH`] messages, received at this dispatcher's time. Each step towards an answer reads memory
    /// that may not be in the processor's cache. Therefore each step is made for all messages before the next step
    /// begins, so that these reads overlap. Never waits for another thread. `names` is room for the queried names; it
    /// need not be initialized for each batch.
    pub(super) fn batch<'p, E: BatchExchange>(
        &self,
        messages: impl Iterator<Item = Received<'p, E::Handle>>,
        names: &'p mut [Name; BATCH],
        worker_cache: &mut WorkerCache,
        exchange: &mut E,
    ) {
        let mut asked: ArrayVec<(Received<'p, E::Handle>, Asked<'p>), BATCH> = ArrayVec::new();
        let mut names = names.iter_mut();
        for message in messages {
            let name = names.next().expect("a batch is not larger");
            let Received { handle, packet, .. } = message;
            let client = exchange.client(handle);
            let out = exchange.draft();
            let read = match message.is_cut {
                true => Err(asked::oversized(&client, packet, self.snapshot, out)),
                false => {
                    let read = asked::read(&client, packet, name, self.snapshot, out);
                    self.separate(&client, packet, read, out)
                }
            };
            match read {
                Ok(query) => asked.push((message, query)),
                Err(ending) => {
                    let message = self.message(&client, packet);
                    self.act(ending.into(), message, None, handle, exchange);
                }
            }
        }
        let names: ArrayVec<&Name, BATCH> = asked.iter().map(|(_, a)| a.query.name).collect();
        let mut found = [LookupResult::default(); BATCH];
        let found = &mut found[..names.len()];
        let locate = |(_, asked): &(_, Asked<'_>)| worker_cache.locate(&asked.query);
        let locations: ArrayVec<Location, BATCH> = asked.iter().map(locate).collect();
        let keys: ArrayVec<LookupKey, BATCH> = asked.iter().map(|(_, a)| a.key()).collect();
        self.snapshot.lookup_in(&names, &keys, found);
        for location in &locations {
            worker_cache.prefetch_entry(*location);
        }
        for location in &locations {
            worker_cache.prefetch_bytes(*location);
        }
        for (((received, asked), found), location) in asked.iter().zip(found).zip(locations) {
            let Received { handle, packet, .. } = *received;
            let policy = asked.policy(self.snapshot);
            let decision = policy.decide_by(asked.query.name, found);
            let step = respond::try_answer(
                self.now,
                asked,
                policy,
                &decision,
                self.cache,
                (worker_cache, location),
                exchange.draft(),
            );
            match step {
                Some(step) => {
                    let client = exchange.client(handle);
                    let message = self.message(&client, packet);
                    self.act(step, message, Some(&asked.query), handle, exchange);
                }
                None => exchange.hand_over(handle),
            }
        }
    }

    /// Answers one message. May wait for another thread that writes to the cache. `attempt` says how often the message
    /// was dispatched before.
    pub(super) fn one<E: Exchange>(
        &self,
        message: Message<'_>,
        attempt: Attempt,
        handle: E::Handle,
        exchange: &mut E,
    ) {
        let (out, mut name) = (exchange.draft(), Name::default());
        let Message { client, packet, .. } = message;
        let read = asked::read_one(client, packet, &mut name, self.snapshot, out);
        let asked = match self.separate(client, packet, read, out) {
            Ok(asked) => asked,
            Err(ending) => return self.act(ending.into(), message, None, handle, exchange),
        };
        let policy = asked.policy(self.snapshot);
        let decision = policy.decide(asked.query.name);
        let known = (self.cache, attempt);
        let step = respond::answer(self.now, &asked, policy, &decision, known, out);
        self.act(step, message, Some(&asked.query), handle, exchange);
    }

    /// Writes the answer to a message after upstream was asked, or could not be asked. `attempt` says how often the
    /// message was dispatched before. Never waits for another thread.
    pub(super) fn conclude(
        &self,
        message: Message<'_>,
        resolution: &Resolution,
        attempt: Attempt,
        out: &mut Vec<u8>,
    ) -> Conclusion {
        let mut name = Name::default();
        let Message { client, packet, .. } = message;
        let read = asked::read_one(client, packet, &mut name, self.snapshot, out);
        let (step, query) = match &read {
            Ok(asked) => {
                let known = Known {
                    resolution,
                    cache: self.cache,
                    is_last: attempt == Attempt::Last,
                };
                let step = respond::conclude_read(self.now, asked, self.snapshot, known, out);
                (step, Some(&asked.query))
            }
            Err(ending) => (Some((*ending).into()), None),
        };
        let finish = |response, tally: Tally| {
            let upstream = resolution.server().filter(|_| tally.is_from_upstream());
            let rules = (tally.rule, tally.logged);
            self.observe(message, query, response, Some(tally.count), rules, upstream);
        };
        match step {
            Some(Step::Reply(tally) | Step::Refresh(_, tally)) => {
                finish(Some(out.as_slice()), tally);
                Conclusion::Reply
            }
            Some(Step::Drop(tally)) => {
                finish(None, tally);
                Conclusion::Nothing
            }
            Some(Step::Resolve(..)) | None => Conclusion::Restart,
        }
    }

    /// Ends a message that is dropped without being read.
    pub(super) fn reject(&self, message: Message<'_>, why: Count) {
        self.finish(message, None, None, why.into());
    }

    /// Ends a message that waited for upstream and gets no answer. `why` is `None` if its connection ended.
    pub(super) fn abandon(&self, message: Message<'_>, why: Option<Count>) {
        let mut name = Name::default();
        let query = Query::parse(message.packet, &mut name).ok();
        self.observe(message, query.as_ref(), None, why, (None, None), None);
    }

    /// Answers messages of other servers: NOTIFY for feeds, and queries for published zones. Those need not come from
    /// clients that may query. All other messages go on as they were read.
    #[inline(always)]
    fn separate<'p>(
        &self,
        client: &Client,
        packet: &[u8],
        read: Result<Asked<'p>, Ending>,
        out: &mut Vec<u8>,
    ) -> Result<Asked<'p>, Ending> {
        match read {
            Ok(asked) if self.zones.is_empty() => Ok(asked),
            Ok(asked) if innermost(&self.zones, asked.query.name).is_none() => Ok(asked),
            Ok(asked) => match self.of_zone(client, packet, out) {
                Some(ending) => Err(ending),
                None => Ok(asked),
            },
            Err(ending) => {
                let notified = self.notified(client, packet, out);
                let of_zone = || self.of_zone(client, packet, out);
                Err(notified.or_else(of_zone).unwrap_or(ending))
            }
        }
    }

    /// Answers a query for a published zone.
    #[cold]
    fn of_zone(&self, client: &Client, packet: &[u8], out: &mut Vec<u8>) -> Option<Ending> {
        zones::answer(
            &self.zones,
            client,
            packet,
            (self.signatures, self.instant),
            out,
        )
    }

    /// Reports the query of a transfer, whose messages the transport sends; or its answer, if there is no transfer.
    pub(super) fn transfer(
        &self,
        client: &Client,
        packet: &[u8],
        response: Option<&[u8]>,
        count: Count,
    ) {
        self.finish(self.message(client, packet), None, response, count.into());
    }

    /// Answers a message that is no query, if it is a NOTIFY for a feed.
    #[cold]
    fn notified(&self, client: &Client, packet: &[u8], out: &mut Vec<u8>) -> Option<Ending> {
        let is_client = self.snapshot.permits(client.address);
        self.notifications
            .answer(client, packet, is_client, self.instant, out)
    }

    /// Carries out the step that was decided for a message.
    #[inline(always)]
    fn act<E: Exchange>(
        &self,
        step: Step,
        message: Message<'_>,
        query: Option<&Query<'_>>,
        handle: E::Handle,
        exchange: &mut E,
    ) {
        match step {
            Step::Drop(tally) => self.finish(message, query, None, tally),
            Step::Reply(tally) => {
                self.finish(message, query, Some(exchange.draft().as_slice()), tally);
                exchange.send(handle);
            }
            Step::Refresh(key, tally) => {
                self.finish(message, query, Some(exchange.draft().as_slice()), tally);
                exchange.send(handle);
                exchange.refresh(key);
            }
            Step::Resolve(key, stale) => exchange.resolve(handle, key, stale),
        }
    }

    #[inline(always)]
    fn finish(
        &self,
        message: Message<'_>,
        query: Option<&Query<'_>>,
        response: Option<&[u8]>,
        tally: Tally,
    ) {
        self.observe(
            message,
            query,
            response,
            Some(tally.count),
            (tally.rule, tally.logged),
            None,
        );
    }

    #[inline(always)]
    fn observe(
        &self,
        message: Message<'_>,
        query: Option<&Query<'_>>,
        response: Option<&[u8]>,
        outcome: Option<Count>,
        (rule, logged): (Option<Hit>, Option<Hit>),
        upstream: Option<NonZeroU16>,
    ) {
        self.observer.finished(&Finished {
            client: message.client,
            packet: message.packet,
            response,
            outcome,
            upstream,
            snapshot: self.snapshot,
            received: message.received,
            ended: self.instant,
            rule,
            logged,
            query,
        });
    }

    /// A message that was received at this dispatcher's time.
    fn message<'m>(&self, client: &'m Client, packet: &'m [u8]) -> Message<'m> {
        Message {
            client,
            packet,
            received: self.instant,
        }
    }
}
