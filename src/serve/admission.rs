//! Limits on how many queries or connections clients may have at a time, in total and each.

use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use foldhash::quality::SeedableRandomState;

/// The number of client counters, a power of two. Clients may share a counter: with a million clients, a counter has
/// four clients on average.
const CLIENTS: usize = 1 << 18;
/// One in `RESERVED` permits is reserved for clients that hold fewer than `FEW`.
const RESERVED: usize = 8;
const FEW: usize = 8;
/// The length of the IPv6 prefix that counts as one client: a customer's network.
const V6_PREFIX: u32 = 56;
/// The well-known prefix of 96 bits (RFC 6052, section 2.1). The 32 bits after it are the address of an IPv4 client
/// whose packets were translated.
const TRANSLATED: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);

/// How many permits there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// In total.
    pub all: usize,
    /// For one client: an IPv4 address, a link-local IPv6 address, or an IPv6 /56 network.
    pub per_client: usize,
}

/// Why there is no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// All are in use.
    All,
    /// The client has as many as it may have.
    Client,
}

/// Issues permits.
#[derive(Debug)]
pub struct Admission {
    all: AtomicUsize,
    per_client: AtomicUsize,
    in_use: AtomicUsize,
    clients: Box<[AtomicU32]>,
    hasher: SeedableRandomState,
}

/// A permit, released when it is dropped.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    client: Option<usize>,
}

impl Admission {
    /// With all permits free.
    pub fn new(bounds: Bounds) -> Self {
        Self::with_counters(bounds, CLIENTS)
    }

    /// The same with another number of client counters, a power of two.
    pub(super) fn with_counters(bounds: Bounds, counters: usize) -> Self {
        Self {
            all: AtomicUsize::new(bounds.all),
            per_client: AtomicUsize::new(bounds.per_client),
            in_use: AtomicUsize::new(0),
            // Collected in place: zeros from the system take no memory before they are used.
            clients: vec![0; counters].into_iter().map(AtomicU32::new).collect(),
            hasher: SeedableRandomState::random(),
        }
    }

    /// Changes the number of permits. Permits in use stay valid, even if there are more of them than the new bound.
    pub fn set_bounds(&self, bounds: Bounds) {
        self.all.store(bounds.all, Ordering::Relaxed);
        self.per_client.store(bounds.per_client, Ordering::Relaxed);
    }

    /// How many permits there are.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            all: self.all.load(Ordering::Relaxed),
            per_client: self.per_client.load(Ordering::Relaxed),
        }
    }

    /// How many permits are in use.
    pub fn in_use(&self) -> usize {
        // A failing attempt increments the counter for a moment, so it may exceed the bound.
        self.in_use.load(Ordering::Relaxed).min(self.bounds().all)
    }

    /// Takes a permit for a client.
    ///
    /// # Errors
    /// [`Full`] if there is none.
    pub fn acquire(self: &Arc<Self>, client: IpAddr) -> Result<Permit, Full> {
        let Bounds { all, per_client } = self.bounds();
        let mut permit = self.try_permit(all).ok_or(Full::All)?;
        let slot = self.slot(client);
        // The last permits are for clients that hold few permits, unless the bounds let one client hold all permits.
        let most = match per_client < all && all.saturating_sub(self.in_use()) < all / RESERVED {
            true => per_client.min(FEW),
            false => per_client,
        };
        if self.clients[slot].fetch_add(1, Ordering::Relaxed) as usize >= most {
            self.clients[slot].fetch_sub(1, Ordering::Relaxed);
            return Err(Full::Client);
        }
        permit.client = Some(slot);
        Ok(permit)
    }

    /// Takes a permit for work that no client waits for, unless half of all are in use.
    pub fn acquire_background(self: &Arc<Self>) -> Option<Permit> {
        self.try_permit(self.bounds().all / 2)
    }

    fn try_permit(self: &Arc<Self>, most: usize) -> Option<Permit> {
        if self.in_use.fetch_add(1, Ordering::Relaxed) >= most {
            self.in_use.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Permit {
            admission: Arc::clone(self),
            client: None,
        })
    }

    fn slot(&self, client: IpAddr) -> usize {
        self.hasher.hash_one(network(client)) as usize % self.clients.len()
    }
}

/// The key that identifies one client: an IPv4 address, or a customer's IPv6 network. Link-local addresses each count
/// as a client, although they share a network.
pub(super) fn network(client: IpAddr) -> u128 {
    match client.to_canonical() {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => v6.to_bits(),
        IpAddr::V6(v6) if v6.to_bits() >> 32 == TRANSLATED.to_bits() >> 32 => {
            v6.to_bits() & u128::from(u32::MAX)
        }
        IpAddr::V6(v6) => v6.to_bits() >> (128 - V6_PREFIX) | 1 << 127,
    }
}

impl Permit {
    /// The index of the client's counter, the same for all permits of that client. `None` for a refresh.
    pub fn client(&self) -> Option<usize> {
        self.client
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.in_use.fetch_sub(1, Ordering::Relaxed);
        if let Some(slot) = self.client {
            self.admission.clients[slot].fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// An admission with a fixed seed. With a random seed, in one of 3277 runs, a client of the test with greedy
    /// clients would share its counter with a greedy client.
    fn admission(all: usize, per_client: usize) -> Arc<Admission> {
        Arc::new(Admission {
            hasher: SeedableRandomState::fixed(),
            ..Admission::new(Bounds { all, per_client })
        })
    }

    fn client(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn of(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// Takes permits until that fails; returns them and the reason.
    fn take_all(admission: &Arc<Admission>, client: IpAddr) -> (Vec<Permit>, Full) {
        let mut held = Vec::new();
        loop {
            match admission.acquire(client) {
                Ok(permit) => held.push(permit),
                Err(full) => return (held, full),
            }
        }
    }

    #[test]
    fn one_client_takes_no_more_than_its_share_and_gets_it_back() {
        let admission = admission(8, 2);
        let (mut held, full) = take_all(&admission, client(1));
        assert_eq!((held.len(), full), (2, Full::Client));
        assert!(admission.acquire(client(2)).is_ok());
        // After one of two is given back, exactly one can be taken.
        held.pop();
        let (again, full) = take_all(&admission, client(1));
        assert_eq!((again.len(), full), (1, Full::Client));
        drop((held, again));
        assert_eq!(admission.in_use(), 0);
        assert_eq!(take_all(&admission, client(1)).0.len(), 2);
    }

    #[test]
    fn a_client_that_is_refused_at_its_limit_takes_no_permit() {
        let admission = admission(8, 2);
        let (held, _) = take_all(&admission, client(1));
        for _ in 0..20 {
            assert_eq!(admission.acquire(client(1)).err(), Some(Full::Client));
            assert_eq!(admission.in_use(), 2);
        }
        drop(held);
        assert_eq!(take_all(&admission, client(1)).0.len(), 2);
        assert_eq!(admission.in_use(), 0);
    }

    #[test]
    fn a_refusal_when_all_are_taken_takes_no_permit() {
        let admission = admission(4, 4);
        let (held, full) = take_all(&admission, client(1));
        assert_eq!((held.len(), full), (4, Full::All));
        for _ in 0..20 {
            assert_eq!(admission.acquire(client(2)).err(), Some(Full::All));
            assert!(admission.acquire_background().is_none());
            assert_eq!(admission.in_use(), 4);
        }
        drop(held);
        assert_eq!(take_all(&admission, client(2)).0.len(), 4);
        let (one, two) = (
            admission.acquire_background(),
            admission.acquire_background(),
        );
        assert!(one.is_some() && two.is_some());
    }

    #[test]
    fn a_refusal_of_the_last_permits_takes_no_permit() {
        let admission = admission(64, 16);
        let held: Vec<_> = (1..=4).map(|n| take_all(&admission, client(n)).0).collect();
        for _ in 0..20 {
            assert_eq!(admission.acquire(client(4)).err(), Some(Full::Client));
        }
        drop(held);
        assert_eq!(take_all(&admission, client(4)).0.len(), 16);
    }

    #[test]
    fn greedy_clients_leave_permits_for_clients_with_few() {
        let admission = admission(256, 64);
        let greedy: Vec<_> = (0..5).map(|n| take_all(&admission, client(n)).0).collect();
        let counts: Vec<_> = greedy.iter().map(Vec::len).collect();
        assert_eq!(counts, [64, 64, 64, 32, 8], "the last 32 are reserved");
        let others: Vec<_> = (16..32)
            .map(|other| admission.acquire(client(other)))
            .collect();
        assert!(others.iter().all(Result::is_ok), "{others:?}");
    }

    #[test]
    fn the_last_permits_are_limited_by_the_share_as_well() {
        let admission = admission(64, 4);
        let _held: Vec<_> = (0..14).map(|n| take_all(&admission, client(n)).0).collect();
        assert_eq!(admission.in_use(), 56);
        let (last, full) = take_all(&admission, client(14));
        assert_eq!((last.len(), full), (4, Full::Client));
    }

    #[test]
    fn one_client_that_may_have_all_permits_gets_all() {
        let admission = admission(64, 64);
        let (held, full) = take_all(&admission, client(1));
        assert_eq!((held.len(), full), (64, Full::All));
    }

    #[test]
    fn an_ipv6_network_and_an_ipv4_address_of_equal_bits_are_two_clients() {
        let admission = admission(8, 1);
        let _held = admission.acquire(of("192.0.2.1"));
        assert!(admission.acquire(of("0:c0:2:100::1")).is_ok());
    }

    #[test]
    fn permits_of_one_client_have_its_number_and_others_have_another() {
        let admission = admission(8, 4);
        let number = |text: &str| admission.acquire(of(text)).expect("a permit").client();
        assert!(number("192.0.2.1").is_some());
        assert_eq!(number("192.0.2.1"), number("::ffff:192.0.2.1"));
        assert_ne!(number("192.0.2.1"), number("192.0.2.2"));
        assert_eq!(
            admission.acquire_background().expect("a permit").client(),
            None
        );
    }

    #[test]
    fn changed_bounds_apply_at_once_and_permits_in_use_stay_valid() {
        let admission = admission(8, 2);
        let (two, full) = take_all(&admission, client(1));
        assert_eq!((two.len(), full), (2, Full::Client));
        admission.set_bounds(Bounds {
            all: 16,
            per_client: 6,
        });
        let (four, full) = take_all(&admission, client(1));
        assert_eq!((four.len(), full), (4, Full::Client));
        admission.set_bounds(Bounds {
            all: 4,
            per_client: 1,
        });
        assert_eq!(take_all(&admission, client(2)).1, Full::All);
        drop((two, four));
        let (one, full) = take_all(&admission, client(1));
        assert_eq!((one.len(), full), (1, Full::Client));
        drop(one);
        assert_eq!(admission.in_use(), 0);
    }

    #[test]
    fn a_customers_ipv6_network_is_one_client() {
        let admission = admission(8, 1);
        let _held = admission.acquire(of("2001:db8:1:ff00::1"));
        assert_eq!(
            admission.acquire(of("2001:db8:1:ff42::7")).err(),
            Some(Full::Client)
        );
        assert!(admission.acquire(of("2001:db8:1:fe00::1")).is_ok());
    }

    #[test]
    fn each_link_local_address_is_a_client() {
        let admission = admission(8, 1);
        let _held = admission.acquire(of("fe80::1"));
        assert_eq!(admission.acquire(of("fe80::1")).err(), Some(Full::Client));
        for other in ["fe80::2", "fe80:0:0:42::1", "febf::1"] {
            assert!(admission.acquire(of(other)).is_ok(), "{other}");
        }
    }

    #[test]
    fn each_ipv4_address_behind_a_translator_is_a_client() {
        let admission = admission(8, 1);
        let _held = admission.acquire(of("64:ff9b::192.0.2.1"));
        assert_eq!(admission.acquire(of("192.0.2.1")).err(), Some(Full::Client));
        assert!(admission.acquire(of("64:ff9b::192.0.2.2")).is_ok());
    }

    #[test]
    fn an_ipv4_mapped_address_is_the_same_client() {
        let admission = admission(8, 1);
        let _held = admission.acquire(of("192.0.2.1"));
        assert_eq!(
            admission.acquire(of("::ffff:192.0.2.1")).err(),
            Some(Full::Client)
        );
        assert!(admission.acquire(of("::ffff:192.0.2.2")).is_ok());
    }

    #[test]
    fn addresses_of_a_provider_rarely_share_a_counter() {
        // With a random seed, as in a server. The 65,536 addresses are expected to use 57,986 of the 262,144 counters;
        // a hash that clusters neighbours would use far fewer.
        let bounds = Bounds {
            all: 8,
            per_client: 1,
        };
        let admission = Admission::new(bounds);
        let mut places: Vec<_> = (0..=u16::MAX)
            .map(|low| {
                admission.slot(IpAddr::from(
                    0x0A00_0000_u32.wrapping_add(low.into()).to_be_bytes(),
                ))
            })
            .collect();
        places.sort_unstable();
        places.dedup();
        assert!(places.len() > 57_000, "{}", places.len());
    }

    #[test]
    fn when_all_permits_are_taken_no_client_gets_one_and_refreshing_stops_at_half() {
        let admission = admission(4, 9);
        let one = admission.acquire(client(1));
        let spare = admission.acquire_background();
        assert!(one.is_ok() && spare.is_some());
        assert!(admission.acquire_background().is_none());
        drop(spare);
        let spare = admission.acquire_background();
        assert!(spare.is_some(), "it is free again");
        let _more = [admission.acquire(client(3)), admission.acquire(client(4))];
        assert_eq!(admission.acquire(client(5)).err(), Some(Full::All));
        assert_eq!(admission.in_use(), 4);
    }

    #[test]
    fn concurrent_threads_never_exceed_a_bound_and_release_all_permits() {
        // There are fewer permits than the threads together try to take.
        let admission = admission(6, 4);
        thread::scope(|scope| {
            for number in 0..4 {
                let admission = &admission;
                scope.spawn(move || {
                    for round in 0..2000_u32 {
                        let (held, _) = take_all(admission, client(((number + round) % 3) as u8));
                        assert!(held.len() <= 4 && admission.in_use() <= 6);
                    }
                });
            }
        });
        assert_eq!(admission.in_use(), 0);
        for n in 0..3 {
            assert_eq!(take_all(&admission, client(n)).0.len(), 4);
        }
    }
}
