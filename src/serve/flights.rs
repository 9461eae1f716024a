//! Owns the questions on their way to upstream, and the clients that wait for each.
//! Refuses to ask and to answer; and more clients than there are seats, in all and for each client.

use std::collections::HashMap;
use std::collections::hash_map;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use foldhash::quality::RandomState;
use tokio::sync::oneshot;

use super::cache::{Entry, Failure, Key};
use crate::sys::udp::Route;

/// Parts of the table, each with a lock of its own: a power of two.
const SHARDS: usize = 64;
/// Places where clients' questions are counted: a power of two. Two clients may share one.
const CLIENTS: usize = 1 << 14;
/// A prefix of an IPv6 address is one client: a customer's network.
const V6_PREFIX: u32 = 56;

/// What came of a question: an answer, or why there is none.
pub type Landed = Result<Arc<Entry>, Arc<Failure>>;

/// How many may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Clients' questions in all.
    pub waiting: usize,
    /// Of them, those of one client: of an IPv4 address, or an IPv6 network of 56 bits.
    pub per_client: usize,
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Too many wait.
    Queue,
    /// Too many of this client's.
    Client,
}

/// The seats for those who wait.
#[derive(Debug)]
pub struct Seats {
    bounds: Bounds,
    waiting: AtomicUsize,
    clients: Box<[AtomicU32]>,
    hasher: RandomState,
}

/// A seat; it is free again when this is dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    client: Option<usize>,
}

impl Seats {
    /// Free seats.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            waiting: AtomicUsize::new(0),
            clients: (0..CLIENTS).map(|_| AtomicU32::new(0)).collect(),
            hasher: RandomState::default(),
        }
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes a seat for a client's question.
    ///
    /// # Errors
    /// [`Full`] when there is none.
    pub fn take(self: &Arc<Self>, client: IpAddr) -> Result<Seat, Full> {
        let mut seat = self.sit(self.bounds.waiting).ok_or(Full::Queue)?;
        let place = self.place(client);
        if self.clients[place].fetch_add(1, Ordering::Relaxed) >= self.bounds.per_client as u32 {
            self.clients[place].fetch_sub(1, Ordering::Relaxed);
            return Err(Full::Client);
        }
        seat.client = Some(place);
        Ok(seat)
    }

    /// Takes a seat for a question that nobody waits for, unless half of them are taken.
    pub fn take_spare(self: &Arc<Self>) -> Option<Seat> {
        self.sit(self.bounds.waiting / 2)
    }

    fn sit(self: &Arc<Self>, most: usize) -> Option<Seat> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= most {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Seat {
            seats: Arc::clone(self),
            client: None,
        })
    }

    fn place(&self, client: IpAddr) -> usize {
        let network = match client.to_canonical() {
            IpAddr::V4(v4) => u128::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits() >> (128 - V6_PREFIX) | 1 << 127,
        };
        self.hasher.hash_one(network) as usize % CLIENTS
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.waiting.fetch_sub(1, Ordering::Relaxed);
        if let Some(place) = self.client {
            self.seats.clients[place].fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A client's question that came by UDP.
#[derive(Debug)]
pub struct Datagram {
    /// As it came.
    pub packet: Box<[u8]>,
    /// Where its answer goes.
    pub route: Route,
    /// To which of the listen addresses it came.
    pub listen: usize,
    /// An answer past its TTL, for when no other comes.
    pub stale: Option<Arc<Entry>>,
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

type Shard = HashMap<Key, Vec<Waiter>, RandomState>;

/// The questions on their way. All threads share it; a question is asked by who boards it first.
#[derive(Debug)]
pub struct Flights {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

impl Default for Flights {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::default(),
        }
    }
}

impl Flights {
    /// Waits for what comes of `key`. True: nobody asks yet, the caller has to.
    pub fn board(&self, key: &Key, waiter: Waiter) -> bool {
        board(&mut self.lock(key), key, waiter)
    }

    /// The same without waiting for another thread's lock.
    ///
    /// # Errors
    /// The waiter, when another thread has the lock.
    pub fn try_board(&self, key: &Key, waiter: Waiter) -> Result<bool, Waiter> {
        match self.try_lock(key) {
            Some(mut shard) => Ok(board(&mut shard, key, waiter)),
            None => Err(waiter),
        }
    }

    /// Ends a flight; those who waited for it. None, if another one has ended it.
    pub fn land(&self, key: &Key) -> Vec<Waiter> {
        self.lock(key).remove(key).unwrap_or_default()
    }

    /// The same without waiting for another thread's lock: nothing, when one has it.
    pub fn try_land(&self, key: &Key) -> Option<Vec<Waiter>> {
        Some(self.try_lock(key)?.remove(key).unwrap_or_default())
    }

    /// Takes off those who wait with an old answer at hand. The flight goes on.
    pub fn take_stale(&self, key: &Key) -> Vec<Waiter> {
        let mut shard = self.lock(key);
        let waiting = shard.get_mut(key);
        waiting.map_or_else(Vec::new, |waiting| {
            waiting
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

fn board(shard: &mut Shard, key: &Key, waiter: Waiter) -> bool {
    match shard.entry(key.clone()) {
        hash_map::Entry::Occupied(mut flight) => {
            flight.get_mut().push(waiter);
            false
        }
        hash_map::Entry::Vacant(place) => {
            place.insert(vec![waiter]);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(waiting: usize, per_client: usize) -> Arc<Seats> {
        Arc::new(Seats::new(Bounds {
            waiting,
            per_client,
        }))
    }

    #[test]
    fn one_client_takes_no_more_than_its_share_and_gets_it_back() {
        let seats = seats(8, 2);
        let (greedy, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let held = [seats.take(greedy), seats.take(greedy)];
        assert_eq!(seats.take(greedy).err(), Some(Full::Client));
        assert!(seats.take(other).is_ok());
        drop(held);
        assert_eq!(seats.taken(), 0);
        assert!(seats.take(greedy).is_ok());
    }

    #[test]
    fn a_customers_ipv6_network_is_one_client() {
        let seats = seats(8, 1);
        let of = |text: &str| -> IpAddr { text.parse().expect("an address") };
        let _held = seats.take(of("2001:db8:1:ff00::1"));
        assert_eq!(
            seats.take(of("2001:db8:1:ff42::7")).err(),
            Some(Full::Client)
        );
        assert!(seats.take(of("2001:db8:1:fe00::1")).is_ok());
    }

    #[test]
    fn when_all_seats_are_taken_nobody_gets_one_and_refreshing_stops_at_half() {
        let seats = seats(4, 9);
        let client = |last| IpAddr::from([192, 0, 2, last]);
        let _two = [seats.take(client(1)), seats.take(client(2))];
        assert!(seats.take_spare().is_none());
        let _more = [seats.take(client(3)), seats.take(client(4))];
        assert_eq!(seats.take(client(5)).err(), Some(Full::Queue));
    }
}
