//! Owns answers that are given later than at once: to who waits, under the policy of then.
//! Refuses to ask for them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::deferred::Deferred;
use super::inflight::{Datagram, Outcome, Recipient, Waiter};
use super::pace::Pace;
use super::respond::{Client, Resolution, Step, conclude};
use super::shared::Shared;
use crate::policy::snapshot::Snapshot;
use crate::stats::{Count, Counters};
use crate::sys::udp::Socket;

/// What came of a question, for one who may have an old answer at hand.
fn resolution(outcome: &Outcome, datagram: &Datagram) -> Resolution {
    match outcome {
        Ok(entry) => Resolution::Answered(Arc::clone(entry)),
        Err(failure) => Resolution::Failed(Arc::clone(failure), datagram.stale.clone()),
    }
}

/// Tells one who waited what came of the question; `answer` is called for a datagram.
pub fn deliver(waiter: Waiter, outcome: &Outcome, answer: impl FnOnce(&Datagram, &Resolution)) {
    match waiter.recipient {
        Recipient::Datagram(datagram) => answer(&datagram, &resolution(outcome, &datagram)),
        // A task that no longer waits is none to mind.
        Recipient::Task(task) => drop(task.send(outcome.clone())),
        Recipient::CacheOnly => {}
    }
}

/// Writes a datagram's answer to `out`, and counts it. False when none is to be sent.
pub fn write(
    now: u32,
    datagram: &Datagram,
    resolution: &Resolution,
    snapshot: &Snapshot,
    counters: &Counters,
    out: &mut Vec<u8>,
) -> bool {
    let client = Client {
        ip: datagram.route.peer.ip(),
        stream: false,
    };
    match conclude(now, client, &datagram.packet, snapshot, resolution, out) {
        Step::Reply(tally) => {
            tally.add_to(counters);
            true
        }
        Step::Drop(tally) => {
            tally.add_to(counters);
            false
        }
        // What upstream said is there, so nothing is looked up.
        Step::Resolve(..) | Step::Refresh(_) | Step::Busy => false,
    }
}

/// Sockets with the numbers of their listen addresses, in the order of these. A number is never given to another
/// address: queries that wait for upstream have it, and an answer from another address is none to its client.
pub type Sockets = ArcSwap<Vec<ListenSocket>>;

/// A socket, and the number of its listen address.
pub type ListenSocket = (usize, Arc<Socket>);

/// The place of the socket with that number; `None` if its address is listened on no more.
pub fn socket_index(sockets: &[ListenSocket], number: usize) -> Option<usize> {
    sockets
        .binary_search_by_key(&number, |(number, _)| *number)
        .ok()
}

/// Answers datagrams from wherever it is called.
pub struct Responder {
    /// When waiting queries are answered.
    pub pace: Arc<Pace>,
    /// Policy, cache and clock.
    pub shared: Shared,
    /// One for each listen address.
    pub sockets: Arc<Sockets>,
    /// Counters of the async side.
    pub counters: Arc<Counters>,
}

impl Responder {
    /// Delivers an outcome to all who waited for it, at once.
    pub fn deliver_now(&self, waiters: impl IntoIterator<Item = Waiter>, outcome: &Outcome) {
        for waiter in waiters {
            deliver(waiter, outcome, |datagram, resolution| {
                self.answer(datagram, resolution);
            });
        }
    }

    /// Delivers an outcome to all who waited for it, as [`Pace`] allows.
    pub async fn deliver_paced(&self, waiters: Vec<Waiter>, outcome: &Outcome) {
        let mut deferred = Deferred::new(Arc::clone(&self.pace));
        deferred.push_all(Some(waiters), outcome);
        loop {
            let due = deferred.take(Instant::now(), usize::MAX, &self.counters);
            self.deliver_now(due.into_iter().map(|(waiter, _)| waiter), outcome);
            let Some(next) = deferred.due() else {
                return;
            };
            tokio::time::sleep_until(next).await;
        }
    }

    /// Answers one datagram.
    pub fn answer(&self, datagram: &Datagram, resolution: &Resolution) {
        let mut out = Vec::with_capacity(512);
        let snapshot = self.shared.policy.load();
        let now = self.shared.clock.now();
        if write(
            now,
            datagram,
            resolution,
            &snapshot,
            &self.counters,
            &mut out,
        ) {
            self.send(&out, datagram);
        }
    }

    /// Sends a datagram's answer.
    pub fn send(&self, octets: &[u8], datagram: &Datagram) {
        let sockets = self.sockets.load();
        let socket = socket_index(&sockets, datagram.listen).map(|index| &sockets[index].1);
        if !socket.is_some_and(|socket| socket.send(octets, &datagram.route)) {
            self.counters.bump(Count::SendErrors);
        }
    }
}
