//! Outcomes that are yet to be delivered to the clients waiting for them.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::flights::{Landed, Waiter, Who};
use super::pace::{Pace, Release, WINDOW};
use crate::stats::{Count, Counters};

/// Deliveries that wait: for a worker to have time, or as [`Pace`] says.
pub(super) struct Deferred {
    pace: Arc<Pace>,
    ready: VecDeque<(Waiter, Landed)>,
    held: VecDeque<(Waiter, Landed)>,
    held_until: Instant,
}

impl Deferred {
    pub(super) fn new(pace: Arc<Pace>) -> Self {
        Self {
            pace,
            ready: VecDeque::new(),
            held: VecDeque::new(),
            held_until: Instant::now(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.held.is_empty()
    }

    /// Whether something can be delivered at once.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When something that is held back is to be looked at again.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.held.is_empty()).then_some(self.held_until)
    }

    pub(super) fn push(&mut self, waiter: Waiter, landed: Landed) {
        self.ready.push_back((waiter, landed));
    }

    /// The same for all who waited for an outcome.
    pub(super) fn push_all(&mut self, waiters: Option<Vec<Waiter>>, landed: &Landed) {
        for waiter in waiters.into_iter().flatten() {
            self.push(waiter, landed.clone());
        }
    }

    /// What to deliver at `now`, of at most `most` deliveries that are looked at.
    pub(super) fn take(
        &mut self,
        now: Instant,
        most: usize,
        counters: &Counters,
    ) -> Vec<(Waiter, Landed)> {
        if now >= self.held_until {
            self.ready.append(&mut self.held);
        }
        let mut taken = Vec::new();
        for (waiter, landed) in self.ready.drain(..most.min(self.ready.len())) {
            match release(&self.pace, &waiter, &landed, now) {
                Release::Now => taken.push((waiter, landed)),
                Release::Later => {
                    counters.bump(Count::Paced);
                    if self.held.is_empty() {
                        self.held_until = now + WINDOW;
                    }
                    self.held.push_back((waiter, landed));
                }
                Release::Never => counters.bump(Count::Discarded),
            }
        }
        taken
    }

    /// All of them, at once.
    pub(super) fn take_all(&mut self) -> VecDeque<(Waiter, Landed)> {
        self.ready.append(&mut self.held);
        std::mem::take(&mut self.ready)
    }
}

/// When a waiter is to be answered.
fn release(pace: &Pace, waiter: &Waiter, landed: &Landed, now: Instant) -> Release {
    match &waiter.who {
        Who::Datagram(datagram) => {
            let client = datagram.route.peer.ip();
            pace.release(client, datagram.since, landed.is_err(), now)
        }
        Who::Task(_) | Who::Nobody => Release::Now,
    }
}
