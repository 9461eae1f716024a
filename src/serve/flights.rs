//! Owns the questions on their way to upstream, and the clients that wait for each.
//! Refuses to ask and to answer.

use std::collections::HashMap;
use std::collections::hash_map;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use foldhash::quality::RandomState;
use tokio::sync::oneshot;

use super::cache::{Entry, Failure, Key};
use super::seats::Seat;
use crate::sys::udp::Route;

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
