//! Owns the questions on their way to upstream, and the clients that wait for each.
//! Refuses to ask and to answer.

use std::collections::HashMap;
use std::collections::hash_map;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use foldhash::quality::RandomState;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::cache::{Entry, Failure, Key};
use super::seats::Seat;
use crate::sys::udp::{Inbox, Route};

/// Parts of the table, each with a lock of its own: a power of two.
const SHARDS: usize = 64;

/// What came of a question: an answer, or why there is none.
pub type Landed = Result<Arc<Entry>, Arc<Failure>>;

/// A client's question that came by UDP.
#[derive(Debug)]
pub struct Datagram {
    /// As it came.
    pub packet: Box<[u8]>,
    /// Where its answer goes.
    pub route: Route,
    /// To which of the listen addresses it came.
    pub listen: usize,
    /// When it came.
    pub since: Instant,
    /// An answer past its TTL, for when no other comes.
    pub stale: Option<Arc<Entry>>,
}

impl Datagram {
    /// A packet of the inbox, kept for later.
    pub fn of(
        inbox: &Inbox,
        slot: usize,
        listen: usize,
        stale: Option<Arc<Entry>>,
        since: Instant,
    ) -> Self {
        Self {
            packet: inbox.packet(slot).into(),
            route: inbox.route(slot),
            listen,
            since,
            stale,
        }
    }
}

/// Whom to tell what came of a question.
#[derive(Debug)]
pub enum Who {
    /// A datagram's sender.
    Datagram(Datagram),
    /// A task.
    Task(oneshot::Sender<Landed>),
    /// Nobody: the answer is for the cache.
    Nobody,
}

/// One who waits.
#[derive(Debug)]
pub struct Waiter {
    /// Whom to tell.
    pub who: Who,
    /// Free again when this one is dropped.
    pub seat: Seat,
}

impl Waiter {
    fn has_stale(&self) -> bool {
        matches!(&self.who, Who::Datagram(datagram) if datagram.stale.is_some())
    }
}

/// Tells one flight from all others of the same question, before and after.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// The question.
    pub key: Key,
    /// The client that asked first, as [`Seat::client`] gives it.
    pub client: Option<usize>,
    number: u64,
}

#[derive(Debug)]
struct Flight {
    number: u64,
    waiters: Vec<Waiter>,
    /// Who had an old answer at hand got that: there was no more time to wait.
    is_late: bool,
}

/// What comes of boarding.
#[derive(Debug)]
pub enum Boarding {
    /// Nobody asks yet: the caller has to.
    First(Ticket),
    /// Others ask.
    Joined,
    /// Others ask, and it takes so long that this one is better off with its old answer.
    TooLate(Waiter),
}

type Shard = HashMap<Key, Flight, RandomState>;

/// The questions on their way. All threads share it; a question is asked by who boards it first.
#[derive(Debug)]
pub struct Flights {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    started: AtomicU64,
}

impl Default for Flights {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::default(),
            started: AtomicU64::new(0),
        }
    }
}

impl Flights {
    /// Waits for what comes of `key`.
    pub fn board(&self, key: &Key, waiter: Waiter) -> Boarding {
        self.enter(&mut self.lock(key), key, waiter)
    }

    /// The same without waiting for another thread's lock.
    ///
    /// # Errors
    /// The waiter, when another thread has the lock.
    pub fn try_board(&self, key: &Key, waiter: Waiter) -> Result<Boarding, Box<Waiter>> {
        match self.try_lock(key) {
            Some(mut shard) => Ok(self.enter(&mut shard, key, waiter)),
            None => Err(Box::new(waiter)),
        }
    }

    fn enter(&self, shard: &mut Shard, key: &Key, waiter: Waiter) -> Boarding {
        match shard.entry(key.clone()) {
            hash_map::Entry::Occupied(flight) if flight.get().is_late && waiter.has_stale() => {
                Boarding::TooLate(waiter)
            }
            hash_map::Entry::Occupied(mut flight) => {
                flight.get_mut().waiters.push(waiter);
                Boarding::Joined
            }
            hash_map::Entry::Vacant(place) => {
                let number = self.started.fetch_add(1, Ordering::Relaxed);
                let key = place.key().clone();
                let client = waiter.seat.client();
                place.insert(Flight {
                    number,
                    waiters: vec![waiter],
                    is_late: false,
                });
                Boarding::First(Ticket {
                    key,
                    client,
                    number,
                })
            }
        }
    }

    /// Ends a flight; those who are to be told what came of it. An answer is good for all who ask the
    /// same, whichever flight they wait for; a failure is one flight's: nothing, when it has ended before.
    pub fn land(&self, ticket: &Ticket, landed: &Landed) -> Option<Vec<Waiter>> {
        remove(&mut self.lock(&ticket.key), ticket, landed)
    }

    /// The same without waiting for another thread's lock.
    ///
    /// # Errors
    /// [`Locked`] when another thread has the lock.
    pub fn try_land(
        &self,
        ticket: &Ticket,
        landed: &Landed,
    ) -> Result<Option<Vec<Waiter>>, Locked> {
        let mut shard = self.try_lock(&ticket.key).ok_or(Locked)?;
        Ok(remove(&mut shard, ticket, landed))
    }

    /// Takes off those who wait with an old answer at hand; who comes later with one is too late. The
    /// flight goes on.
    pub fn take_stale(&self, ticket: &Ticket) -> Vec<Waiter> {
        let mut shard = self.lock(&ticket.key);
        let flight = shard.get_mut(&ticket.key);
        let flight = flight.filter(|flight| flight.number == ticket.number);
        flight.map_or_else(Vec::new, |flight| {
            flight.is_late = true;
            let waiters = &mut flight.waiters;
            waiters
                .extract_if(.., |waiter| waiter.has_stale())
                .collect()
        })
    }

    fn shard(&self, key: &Key) -> &Mutex<Shard> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }

    fn lock(&self, key: &Key) -> MutexGuard<'_, Shard> {
        self.shard(key)
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn try_lock(&self, key: &Key) -> Option<MutexGuard<'_, Shard>> {
        match self.shard(key).try_lock() {
            Ok(shard) => Some(shard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// Another thread has the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locked;

fn remove(shard: &mut Shard, ticket: &Ticket, landed: &Landed) -> Option<Vec<Waiter>> {
    let flight = shard.get(&ticket.key)?;
    if landed.is_err() && flight.number != ticket.number {
        return None;
    }
    Some(shard.remove(&ticket.key)?.waiters)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::serve::seats::{Bounds, Seats};
    use crate::wire::answer::{Answer, Intake};
    use crate::wire::name::Name;
    use crate::wire::query::Query;

    fn seats() -> Arc<Seats> {
        Arc::new(Seats::new(Bounds {
            all: 8,
            per_client: 8,
        }))
    }

    fn key() -> Key {
        key_of(b'a', 1, false)
    }

    /// The key of a query for a name of one letter.
    fn key_of(letter: u8, rtype: u8, checking_disabled: bool) -> Key {
        let bits = if checking_disabled { 0x10 } else { 0 };
        let head = [0, 1, 1, bits, 0, 1, 0, 0, 0, 0, 0, 0];
        let packet = [&head[..], &[1, letter, 0, 0, rtype, 0, 1]].concat();
        Key::new(&Query::parse(&packet).expect("a query"))
    }

    fn failed() -> Landed {
        Err(Arc::new(Failure {
            code: 22,
            said: None,
        }))
    }

    fn stale() -> Arc<Entry> {
        let octets = b"\0\0\x81\x80\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01";
        let bounds = Intake {
            min_ttl: 0,
            max_ttl: 9,
            max_negative_ttl: u32::MAX,
            additional: false,
        };
        let name = Name::from_text("a").expect("a name");
        let answer = Answer::parse(octets, &name, 1, 1, bounds).expect("an answer");
        Arc::new(Entry::new(answer, 0))
    }

    fn waiter(seats: &Arc<Seats>) -> Waiter {
        Waiter {
            who: Who::Nobody,
            seat: seats.take(IpAddr::from([192, 0, 2, 1])).expect("a seat"),
        }
    }

    fn datagram(seats: &Arc<Seats>, stale: Option<Arc<Entry>>) -> Waiter {
        Waiter {
            who: Who::Datagram(Datagram {
                packet: Box::default(),
                route: Route {
                    peer: ([192, 0, 2, 1], 53).into(),
                    local: None,
                },
                listen: 0,
                since: Instant::now(),
                stale,
            }),
            ..waiter(seats)
        }
    }

    fn ticket(boarding: Boarding) -> Ticket {
        match boarding {
            Boarding::First(ticket) => ticket,
            other => panic!("not the first: {other:?}"),
        }
    }

    #[test]
    fn who_comes_late_with_an_old_answer_at_hand_does_not_wait() {
        let seats = seats();
        let key = key();
        let with_stale = || datagram(&seats, Some(stale()));
        let flights = Flights::default();
        let ticket = ticket(flights.board(&key, waiter(&seats)));
        assert!(matches!(
            flights.board(&key, with_stale()),
            Boarding::Joined
        ));
        assert_eq!(flights.take_stale(&ticket).len(), 1, "the other waits on");
        let late = flights.board(&key, with_stale());
        assert!(matches!(late, Boarding::TooLate(_)), "{late:?}");
        assert!(matches!(
            flights.board(&key, waiter(&seats)),
            Boarding::Joined
        ));
    }

    #[test]
    fn a_flight_that_has_ended_does_not_end_the_next_one_of_the_same_question() {
        let (seats, key) = (seats(), key());
        let waiter = || waiter(&seats);
        let flights = Flights::default();
        let first = ticket(flights.board(&key, waiter()));
        assert!(matches!(flights.board(&key, waiter()), Boarding::Joined));
        assert_eq!(flights.land(&first, &Ok(stale())).map(|w| w.len()), Some(2));
        let second = ticket(flights.board(&key, waiter()));
        assert!(flights.land(&first, &failed()).is_none());
        assert_eq!(flights.land(&second, &failed()).map(|w| w.len()), Some(1));
        assert_eq!(seats.taken(), 0);
    }

    #[test]
    fn a_late_answer_is_given_to_those_who_asked_again_after_the_failure() {
        let (seats, key) = (seats(), key());
        let flights = Flights::default();
        let first = ticket(flights.board(&key, waiter(&seats)));
        assert_eq!(flights.land(&first, &failed()).map(|w| w.len()), Some(1));
        let second = ticket(flights.board(&key, waiter(&seats)));
        assert_eq!(flights.land(&first, &Ok(stale())).map(|w| w.len()), Some(1));
        assert!(
            flights.land(&second, &Ok(stale())).is_none(),
            "it has ended"
        );
        assert!(flights.land(&second, &failed()).is_none());
    }

    #[test]
    fn only_equal_questions_share_a_flight() {
        let seats = seats();
        let flights = Flights::default();
        let keys = [
            key_of(b'a', 1, false),
            key_of(b'b', 1, false),
            key_of(b'a', 28, false),
            key_of(b'a', 1, true),
        ];
        let tickets: Vec<_> = keys
            .iter()
            .map(|key| ticket(flights.board(key, waiter(&seats))))
            .collect();
        let upper = flights.board(&key_of(b'A', 1, false), waiter(&seats));
        assert!(matches!(upper, Boarding::Joined), "{upper:?}");
        let counts: Vec<_> = tickets
            .iter()
            .map(|ticket| flights.land(ticket, &failed()).map(|w| w.len()))
            .collect();
        assert_eq!(counts, [Some(2), Some(1), Some(1), Some(1)]);
    }

    #[test]
    fn a_place_is_free_when_its_waiter_was_told_and_not_before() {
        let (seats, key) = (seats(), key());
        let flights = Flights::default();
        let ticket = ticket(flights.board(&key, waiter(&seats)));
        flights.board(&key, datagram(&seats, Some(stale())));
        let impatient = flights.take_stale(&ticket);
        assert_eq!(seats.taken(), 2, "nobody was told yet");
        drop(impatient);
        assert_eq!(seats.taken(), 1);
        let waiters = flights.land(&ticket, &failed());
        assert_eq!(seats.taken(), 1);
        drop(waiters);
        assert_eq!(seats.taken(), 0);
    }

    #[test]
    fn only_those_with_an_old_answer_at_hand_stop_waiting() {
        let (seats, key) = (seats(), key());
        let flights = Flights::default();
        let ticket = ticket(flights.board(&key, datagram(&seats, None)));
        for stale in [Some(stale()), None, Some(stale())] {
            flights.board(&key, datagram(&seats, stale));
        }
        let impatient = flights.take_stale(&ticket);
        assert!(impatient.iter().all(Waiter::has_stale));
        assert_eq!(impatient.len(), 2);
        assert!(flights.take_stale(&ticket).is_empty(), "they are told once");
        let patient = flights.land(&ticket, &failed()).expect("it was under way");
        assert!(!patient.iter().any(Waiter::has_stale));
        assert_eq!(patient.len(), 2);
    }

    #[test]
    fn a_flight_that_has_ended_does_not_make_the_next_one_late() {
        let (seats, key) = (seats(), key());
        let flights = Flights::default();
        let with_stale = || datagram(&seats, Some(stale()));
        let first = ticket(flights.board(&key, with_stale()));
        assert_eq!(flights.take_stale(&first).len(), 1);
        assert_eq!(flights.land(&first, &failed()).map(|w| w.len()), Some(0));
        let _second = ticket(flights.board(&key, with_stale()));
        assert!(flights.take_stale(&first).is_empty(), "that one is over");
        let next = flights.board(&key, with_stale());
        assert!(matches!(next, Boarding::Joined), "{next:?}");
    }

    #[test]
    fn where_another_thread_has_the_lock_nothing_is_lost_and_nobody_waits() {
        let (seats, key) = (seats(), key());
        let flights = Flights::default();
        let ticket = ticket(flights.board(&key, waiter(&seats)));
        let lock = flights.lock(&key);
        let refused = flights.try_board(&key, datagram(&seats, Some(stale())));
        let refused = refused.expect_err("the lock is held");
        assert!(refused.has_stale(), "it comes back as it was");
        let landing = flights.try_land(&ticket, &failed());
        assert_eq!(landing.err(), Some(Locked));
        drop(lock);
        let boarding = flights.try_board(&key, *refused);
        assert!(matches!(boarding, Ok(Boarding::Joined)), "{boarding:?}");
        let landing = flights.try_land(&ticket, &failed());
        let waiters = landing.expect("no lock is held");
        assert_eq!(waiters.map(|w| w.len()), Some(2));
    }
}
