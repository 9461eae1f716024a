//! Owns seats: bounds of how many things clients may have at one time, in all and for each of them.
//! Refuses to know what the seats are for.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use foldhash::quality::RandomState;

/// Places where clients are counted: a power of two. Clients may share one: of a million customers, four.
const CLIENTS: usize = 1 << 18;
/// The share of all seats that is for clients who have few, and how many are few.
const RESERVED: usize = 8;
const FEW: usize = 8;
/// A prefix of an IPv6 address is one client: a customer's network.
const V6_PREFIX: u32 = 56;

/// How many seats there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// In all.
    pub all: usize,
    /// Of them, for one client: an IPv4 address, or an IPv6 network of 56 bits.
    pub per_client: usize,
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// All are taken.
    All,
    /// This client has its share.
    Client,
}

/// The seats.
#[derive(Debug)]
pub struct Seats {
    bounds: Bounds,
    taken: AtomicUsize,
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
            taken: AtomicUsize::new(0),
            clients: (0..CLIENTS).map(|_| AtomicU32::new(0)).collect(),
            hasher: RandomState::default(),
        }
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        // Who finds none counts for a moment, too.
        self.taken.load(Ordering::Relaxed).min(self.bounds.all)
    }

    /// Takes a seat for a client.
    ///
    /// # Errors
    /// [`Full`] when there is none.
    pub fn take(self: &Arc<Self>, client: IpAddr) -> Result<Seat, Full> {
        let mut seat = self.sit(self.bounds.all).ok_or(Full::All)?;
        let place = self.place(client);
        let Bounds { all, per_client } = self.bounds;
        // The last seats are for those who want few; unless one client may have all.
        let most = match per_client < all && all - self.taken() < all / RESERVED {
            true => per_client.min(FEW),
            false => per_client,
        };
        if self.clients[place].fetch_add(1, Ordering::Relaxed) as usize >= most {
            self.clients[place].fetch_sub(1, Ordering::Relaxed);
            return Err(Full::Client);
        }
        seat.client = Some(place);
        Ok(seat)
    }

    /// Takes a seat for what is no client's, unless half of them are taken.
    pub fn take_spare(self: &Arc<Self>) -> Option<Seat> {
        self.sit(self.bounds.all / 2)
    }

    fn sit(self: &Arc<Self>, most: usize) -> Option<Seat> {
        if self.taken.fetch_add(1, Ordering::Relaxed) >= most {
            self.taken.fetch_sub(1, Ordering::Relaxed);
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
        self.seats.taken.fetch_sub(1, Ordering::Relaxed);
        if let Some(place) = self.client {
            self.seats.clients[place].fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(all: usize, per_client: usize) -> Arc<Seats> {
        Arc::new(Seats::new(Bounds { all, per_client }))
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
    fn some_greedy_clients_leave_seats_for_those_who_want_few() {
        let seats = seats(256, 64);
        let client = |last| IpAddr::from([192, 0, 2, last]);
        let mut held = Vec::new();
        for greedy in 0..5 {
            while let Ok(seat) = seats.take(client(greedy)) {
                held.push(seat);
            }
        }
        for other in 16..32 {
            assert!(seats.take(client(other)).is_ok());
        }
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
        assert_eq!(seats.take(client(5)).err(), Some(Full::All));
    }
}
