//! Sends deferred responses to UDP clients. Each response is evaluated under the current snapshot.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::client::Client;
use super::deferred::Deferred;
use super::dispatch::{Conclusion, Dispatcher, Message};
use super::inflight::{Datagram, Outcome, Recipient, Waiter};
use super::observe::Observer;
use super::pace::Pace;
use super::shared::Shared;
use super::step::Resolution;
use crate::stats::{Count, Counters};
use crate::sys::udp::Socket;

/// Sockets with the numbers of their listen addresses, sorted by number. A number is never given to another address:
/// waiting queries refer to it, and clients ignore an answer that comes from another address.
pub type Sockets = ArcSwap<Vec<ListenSocket>>;

/// A socket, and the number of its listen address.
pub type ListenSocket = (usize, Arc<Socket>);

/// The index of the socket with that number; `None` if its address is no longer listened on.
pub(super) fn socket_index(sockets: &[ListenSocket], number: usize) -> Option<usize> {
    sockets
        .binary_search_by_key(&number, |(number, _)| *number)
        .ok()
}

/// The outcome of a query for one datagram, with the datagram's stale answer if there is one.
fn resolution(outcome: &Outcome, datagram: &Datagram) -> Resolution {
    match outcome {
        Ok(entry) => Resolution::Answered(Arc::clone(entry)),
        Err(failure) => Resolution::Failed(Arc::clone(failure), datagram.stale.clone()),
    }
}

/// Delivers an outcome to one waiter; `answer` is called for a datagram.
pub(super) fn deliver(
    waiter: Waiter,
    outcome: &Outcome,
    answer: impl FnOnce(Datagram, &Resolution),
) {
    match waiter.recipient {
        Recipient::Datagram(datagram) => {
            let resolution = resolution(outcome, &datagram);
            answer(datagram, &resolution);
        }
        // The task may have stopped waiting.
        Recipient::Task(task) => drop(task.send(outcome.clone())),
        Recipient::CacheOnly => {}
    }
}

impl Datagram {
    /// Its sender.
    pub(super) fn client(&self) -> Client {
        Client::of_datagram(&self.route)
    }

    /// This datagram for its next attempt, without its stale answer.
    pub(super) fn again(self) -> Self {
        Self {
            stale: None,
            attempt: self.attempt.next(),
            ..self
        }
    }

    /// The message for the dispatcher.
    pub(super) fn message<'m>(&'m self, client: &'m Client) -> Message<'m> {
        Message {
            client,
            packet: &self.packet,
            received: self.since,
        }
    }
}

/// Answers datagrams. Any thread may use it.
pub struct Responder<O: Observer> {
    /// When deferred responses are sent.
    pub pace: Arc<Pace>,
    /// Policy, cache and clock.
    pub shared: Shared,
    /// One for each listen address.
    pub sockets: Arc<Sockets>,
    /// Counters of the async side.
    pub counters: Arc<Counters>,
    /// Observes the queries that are finished here.
    pub observer: O,
}

impl<O: Observer> Responder<O> {
    /// Calls `dispatch` with a dispatcher for the current snapshot and time.
    pub(super) fn with_dispatcher<T>(&self, dispatch: impl FnOnce(&Dispatcher<'_, O>) -> T) -> T {
        let snapshot = self.shared.policy.load();
        let now = Instant::now();
        dispatch(&Dispatcher::new(
            &snapshot,
            &self.shared,
            &self.observer,
            now,
        ))
    }

    /// Delivers an outcome to all waiters immediately. Returns the datagrams that must be dispatched again.
    pub(super) fn deliver_now(
        &self,
        waiters: impl IntoIterator<Item = Waiter>,
        outcome: &Outcome,
    ) -> Vec<Datagram> {
        let mut restarts = Vec::new();
        for waiter in waiters {
            deliver(waiter, outcome, |datagram, resolution| {
                restarts.extend(self.answer(datagram, resolution));
            });
        }
        restarts
    }

    /// Delivers an outcome to all waiters, at the rate that [`Pace`] permits. Calls `restart` with the datagrams that
    /// must be dispatched again.
    pub(super) async fn deliver_paced(
        &self,
        waiters: Vec<Waiter>,
        outcome: &Outcome,
        restart: impl Fn(Datagram),
    ) {
        let mut deferred = Deferred::new(Arc::clone(&self.pace));
        deferred.push_all(Some(waiters), outcome);
        loop {
            let discard = |datagram: &Datagram| self.abandon(datagram, Some(Count::Discarded));
            let due = deferred.take(Instant::now(), usize::MAX, &self.counters, discard);
            let due = due.into_iter().map(|(waiter, _)| waiter);
            self.deliver_now(due, outcome)
                .into_iter()
                .for_each(&restart);
            let Some(next) = deferred.due() else {
                return;
            };
            tokio::time::sleep_until(next).await;
        }
    }

    /// Answers one datagram. Returns it if it must be dispatched again.
    pub(super) fn answer(&self, datagram: Datagram, resolution: &Resolution) -> Option<Datagram> {
        let sockets = self.sockets.load();
        let Some(index) = socket_index(&sockets, datagram.listen) else {
            self.abandon(&datagram, Some(Count::SendErrors));
            return None;
        };
        let mut out = Vec::with_capacity(512);
        let client = datagram.client();
        let message = datagram.message(&client);
        let attempt = datagram.attempt;
        let conclude = |dispatcher: &Dispatcher<'_, O>| {
            dispatcher.conclude(message, resolution, attempt, &mut out)
        };
        match self.with_dispatcher(conclude) {
            Conclusion::Reply => {
                if !sockets[index].1.send(&out, &datagram.route) {
                    self.counters.bump(Count::SendErrors);
                }
                None
            }
            Conclusion::Nothing => None,
            Conclusion::Restart => Some(datagram.again()),
        }
    }

    /// Sends a datagram's answer.
    pub(super) fn send(&self, answer: &[u8], datagram: &Datagram) {
        let sockets = self.sockets.load();
        let socket = socket_index(&sockets, datagram.listen).map(|index| &sockets[index].1);
        if !socket.is_some_and(|socket| socket.send(answer, &datagram.route)) {
            self.counters.bump(Count::SendErrors);
        }
    }

    /// Ends a datagram's query without an answer; `why` is `None` at the end of the server.
    pub(super) fn abandon(&self, datagram: &Datagram, why: Option<Count>) {
        let client = datagram.client();
        let message = datagram.message(&client);
        self.with_dispatcher(|dispatcher| dispatcher.abandon(message, why));
    }
}
