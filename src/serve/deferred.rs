//! Outcomes that are yet to be delivered to their waiters.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::inflight::{Datagram, Outcome, Recipient, Waiter};
use super::pace::{Pace, Release};
use crate::stats::{Count, Counters};

struct Delivery {
    waiter: Waiter,
    outcome: Outcome,
    /// Whether it was held back and counted before.
    was_held: bool,
}

/// Deliveries that wait until their thread has time, or until [`Pace`] permits them.
pub(super) struct Deferred {
    pace: Arc<Pace>,
    ready: VecDeque<Delivery>,
    held: VecDeque<Delivery>,
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

    /// When deliveries that are held back are due; `None` if there are none.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.held.is_empty()).then_some(self.held_until)
    }

    pub(super) fn push(&mut self, waiter: Waiter, outcome: Outcome) {
        self.ready.push_back(Delivery {
            waiter,
            outcome,
            was_held: false,
        });
    }

    /// Adds a delivery for each waiter of an outcome.
    pub(super) fn push_all(&mut self, waiters: Option<Vec<Waiter>>, outcome: &Outcome) {
        for waiter in waiters.into_iter().flatten() {
            self.push(waiter, outcome.clone());
        }
    }

    /// Considers up to `most` deliveries, returns those to send at `now`, and calls `discard` for those that are too
    /// old.
    pub(super) fn take(
        &mut self,
        now: Instant,
        most: usize,
        counters: &Counters,
        mut discard: impl FnMut(&Datagram),
    ) -> Vec<(Waiter, Outcome)> {
        if now >= self.held_until {
            self.release_held();
        }
        let mut taken = Vec::new();
        for delivery in self.ready.drain(..most.min(self.ready.len())) {
            let Delivery {
                waiter,
                outcome,
                was_held,
            } = delivery;
            match release(&self.pace, &waiter, &outcome, now) {
                Release::Now => taken.push((waiter, outcome)),
                Release::Later(window) => {
                    if !was_held {
                        counters.bump(Count::Paced);
                    }
                    self.held_until = window;
                    self.held.push_back(Delivery {
                        waiter,
                        outcome,
                        was_held: true,
                    });
                }
                Release::Never => {
                    if let Recipient::Datagram(datagram) = &waiter.recipient {
                        discard(datagram);
                    }
                }
            }
        }
        taken
    }

    /// Removes and returns all deliveries.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = (Waiter, Outcome)> + use<> {
        self.release_held();
        let all = std::mem::take(&mut self.ready);
        all.into_iter()
            .map(|delivery| (delivery.waiter, delivery.outcome))
    }

    /// Moves the deliveries that were held back to the front of `ready`, before later deliveries.
    fn release_held(&mut self) {
        self.held.append(&mut self.ready);
        std::mem::swap(&mut self.held, &mut self.ready);
    }
}

/// When a waiter may be answered.
fn release(pace: &Pace, waiter: &Waiter, outcome: &Outcome, now: Instant) -> Release {
    match &waiter.recipient {
        Recipient::Datagram(datagram) => {
            let client = datagram.route.peer.ip();
            pace.release(client, datagram.since, outcome.is_err(), now)
        }
        Recipient::Task(_) | Recipient::CacheOnly => Release::Now,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;
    use crate::serve::admission::{Admission, Bounds};
    use crate::serve::resolver::tests::entry;
    use crate::serve::step::Attempt;
    use crate::sys::udp::Route;

    /// Answers to one client that have waited long.
    struct Fixture {
        deferred: Deferred,
        counters: Counters,
        admission: Arc<Admission>,
        start: Instant,
    }

    impl Fixture {
        fn new() -> Self {
            let bounds = Bounds {
                all: 4096,
                per_client: 4096,
            };
            let pace = Arc::new(Pace::new(Duration::from_secs(1900)));
            Self {
                deferred: Deferred::new(pace),
                counters: Counters::default(),
                admission: Arc::new(Admission::new(bounds)),
                start: Instant::now(),
            }
        }

        fn at(&self, millis: u64) -> Instant {
            self.start + Duration::from_millis(millis)
        }

        /// Adds answers to `count` queries that were received on the listen address with the number `listen`.
        fn push(&mut self, count: usize, listen: usize) {
            for _ in 0..count {
                let datagram = Datagram {
                    packet: Box::default(),
                    route: Route {
                        peer: ([192, 0, 2, 1], 53).into(),
                        local: None,
                    },
                    listen,
                    since: self.start,
                    stale: None,
                    attempt: Attempt::First,
                };
                let recipient = Recipient::Datagram(datagram);
                let permit = self.admission.acquire(IpAddr::from([192, 0, 2, 1]));
                let permit = permit.expect("a permit");
                self.deferred
                    .push(Waiter { recipient, permit }, Ok(entry(60)));
            }
        }

        /// The numbers of the listen addresses of the answers that are delivered.
        fn take(&mut self, millis: u64) -> Vec<usize> {
            let now = self.at(millis);
            let taken = self.deferred.take(now, usize::MAX, &self.counters, |_| {});
            let listen = taken.iter().map(|(waiter, _)| match &waiter.recipient {
                Recipient::Datagram(datagram) => datagram.listen,
                other => panic!("{other:?}"),
            });
            listen.collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_are_held_back_are_sent_before_later_ones() {
        let mut fixture = Fixture::new();
        fixture.push(64, 0);
        fixture.push(1, 7);
        assert_eq!(fixture.take(1005), [0; 64]);
        fixture.push(64, 0);
        let taken = fixture.take(1010);
        assert_eq!(taken.first(), Some(&7), "{taken:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_empty_when_nothing_is_ready_and_nothing_is_held_back() {
        let mut fixture = Fixture::new();
        assert!(fixture.deferred.is_empty());
        fixture.push(65, 0);
        let deferred = &fixture.deferred;
        assert!(!deferred.is_empty() && deferred.is_ready() && deferred.due().is_none());
        assert_eq!(fixture.take(1000).len(), 64);
        let deferred = &fixture.deferred;
        assert!(!deferred.is_empty() && !deferred.is_ready());
        assert_eq!(deferred.due(), Some(fixture.at(1010)));
        assert_eq!(fixture.take(1010).len(), 1);
        let deferred = &fixture.deferred;
        assert!(deferred.is_empty() && deferred.due().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_held_back_for_long_is_counted_once() {
        let mut fixture = Fixture::new();
        fixture.push(300, 0);
        let mut taken = 0;
        for window in 0..5 {
            taken += fixture.take(1000 + 10 * window).len();
        }
        assert_eq!(taken, 300);
        assert_eq!(fixture.counters.read(Count::Paced), 300 - 64);
        fixture.push(65, 0);
        assert_eq!(fixture.take(2000).len(), 64);
        assert_eq!(fixture.counters.read(Count::Paced), 300 - 64 + 1);
    }
}
