//! Owns answers that are given later than at once: to who waits, under the policy of then.
//! Refuses to ask for them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::deferred::Deferred;
use super::inflight::{Datagram, Landed, Waiter, Who};
use super::pace::Pace;
use super::respond::{Client, Resolution, Step, conclude};
use super::shared::Shared;
use crate::policy::snapshot::Snapshot;
use crate::stats::{Count, Counters};
use crate::sys::udp::Socket;

/// What came of a question, for one who may have an old answer at hand.
fn resolution(landed: &Landed, datagram: &Datagram) -> Resolution {
    match landed {
        Ok(entry) => Resolution::Answered(Arc::clone(entry)),
        Err(failure) => Resolution::Failed(Arc::clone(failure), datagram.stale.clone()),
    }
}

/// Tells one who waited what came of the question; `answer` is called for a datagram.
pub fn tell(waiter: Waiter, landed: &Landed, answer: impl FnOnce(&Datagram, &Resolution)) {
    match waiter.who {
        Who::Datagram(datagram) => answer(&datagram, &resolution(landed, &datagram)),
        // A task that no longer waits is none to mind.
        Who::Task(task) => drop(task.send(landed.clone())),
        Who::Nobody => {}
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
pub type Sockets = ArcSwap<Vec<Numbered>>;

/// A socket, and the number of its listen address.
pub type Numbered = (usize, Arc<Socket>);

/// The place of the socket with that number; `None` if its address is listened on no more.
pub fn place(sockets: &[Numbered], number: usize) -> Option<usize> {
    sockets
        .binary_search_by_key(&number, |(number, _)| *number)
        .ok()
}

/// Answers datagrams from wherever it is called.
pub struct Desk {
    /// When waiting queries are answered.
    pub pace: Arc<Pace>,
    /// Policy, cache and clock.
    pub shared: Shared,
    /// One for each listen address.
    pub sockets: Arc<Sockets>,
    /// Counters of the async side.
    pub counters: Arc<Counters>,
}

impl Desk {
    /// Delivers an outcome to all who waited for it, at once.
    pub fn tell(&self, waiters: impl IntoIterator<Item = Waiter>, landed: &Landed) {
        for waiter in waiters {
            tell(waiter, landed, |datagram, resolution| {
                self.answer(datagram, resolution);
            });
        }
    }

    /// Delivers an outcome to all who waited for it, as [`Pace`] allows.
    pub async fn deliver(&self, waiters: Vec<Waiter>, landed: &Landed) {
        let mut deferred = Deferred::new(Arc::clone(&self.pace));
        deferred.push_all(Some(waiters), landed);
        loop {
            let due = deferred.take(Instant::now(), usize::MAX, &self.counters);
            self.tell(due.into_iter().map(|(waiter, _)| waiter), landed);
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
        let socket = place(&sockets, datagram.listen).map(|place| &sockets[place].1);
        if !socket.is_some_and(|socket| socket.send(octets, &datagram.route)) {
            self.counters.bump(Count::SendErrors);
        }
    }
}
