//! The tools of these tests, and the tests of the ports.

mod ends;
mod pools;
mod replies;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::lanes::AT_ONCE;
use super::response::AttemptResult;
use super::*;
use crate::serve::admission::{Admission, Bounds};
use crate::serve::cache::Key;
use crate::serve::inflight::{InFlight, Join, Recipient, Waiter};
use crate::serve::upstream::Pool;
use crate::serve::upstream::connect::Network;
use crate::serve::upstream::reply::Again;
use crate::serve::upstream::server::{Server, Target};
use crate::sys::udp::Ports;
use crate::wire::answer::Intake;
use crate::wire::ask::{self, Dialect};
use crate::wire::name::Name;
use crate::wire::query::Query;

const TIMEOUT: Duration = Duration::from_secs(2);
const BASE: u64 = 7;
const INTAKE: Intake = Intake {
    min_ttl: 0,
    max_ttl: 60,
    max_negative_ttl: u32::MAX,
    additional: false,
};

/// A first attempt, and the upstream that it asks.
struct Fixture {
    first_attempt: FirstAttempt,
    waits: WaitSet,
    counters: Arc<Counters>,
    inflight: InFlight,
    admission: Arc<Admission>,
    upstream: UdpSocket,
    now: Instant,
}

impl Fixture {
    fn new(most: usize) -> Self {
        let upstream = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        upstream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a timeout");
        let address = upstream.local_addr().expect("bound");
        Self::with(upstream, address, most)
    }

    fn with(upstream: UdpSocket, address: SocketAddr, most: usize) -> Self {
        let counters = Arc::<Counters>::default();
        let ports = Arc::<Ports>::default();
        let network = Network::new(1, Arc::clone(&ports), Arc::clone(&counters));
        let servers = vec![Server::new(address, Dialect::FULL)];
        let network = Arc::new(network);
        let pool = Pool::new(
            servers,
            network,
            TIMEOUT,
            INTAKE,
            ports,
            Arc::clone(&counters),
        );
        let bounds = Bounds {
            all: 4096,
            per_client: 4096,
        };
        Self {
            first_attempt: FirstAttempt::new(
                Arc::new(Pools::new(Arc::new(pool))),
                Arc::clone(&counters),
                most,
                BASE,
            ),
            waits: WaitSet::new(64).expect("a wait set"),
            counters,
            inflight: InFlight::default(),
            admission: Arc::new(Admission::new(bounds)),
            upstream,
            now: Instant::now(),
        }
    }

    /// Asks for the name `n<number>.example`. False if that was not possible.
    fn ask(&mut self, number: usize) -> bool {
        self.ask_in("example", number)
    }

    /// Asks for the name `n<number>` in a zone.
    fn ask_in(&mut self, zone: &str, number: usize) -> bool {
        let name = Name::from_text(&format!("n{number}.{zone}")).expect("a name");
        let head = &b"\0\x01\x01\0\0\x01\0\0\0\0\0\0"[..];
        let packet = [head, name.wire(), b"\0\x01\0\x01"].concat();
        let key = Key::new(&Query::parse(&packet, &mut Name::default()).expect("a query"));
        let permit = self.admission.acquire(IpAddr::from([192, 0, 2, 9]));
        let waiter = Waiter {
            recipient: Recipient::CacheOnly,
            permit: permit.expect("a permit"),
        };
        let pool = self.first_attempt.pools.id_of(&key);
        let Join::First(query_id) = self.inflight.join(&key, pool, waiter) else {
            panic!("asked twice");
        };
        self.first_attempt.ask(&query_id, self.now, &mut self.waits)
    }

    /// The next query that upstream received, and its source port.
    fn next(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 512];
        let (len, peer) = self.upstream.recv_from(&mut buffer).expect("a query");
        (buffer[..len].to_vec(), peer)
    }

    fn send(&self, message: &[u8], peer: SocketAddr) {
        self.upstream.send_to(message, peer).expect("sent");
    }

    /// Waits until ports can be read, and receives from them.
    fn receive(&mut self) -> Vec<UpstreamEvent> {
        let mut ports = Vec::new();
        let first_attempt = &self.first_attempt;
        let patience = Some(Duration::from_secs(10));
        let ready = |token| ports.extend(first_attempt.port(token));
        self.waits.wait(patience, ready).expect("waited");
        assert!(!ports.is_empty(), "nothing came");
        let mut events = Vec::new();
        for port in ports {
            self.first_attempt
                .receive(port, self.now, &mut self.waits, &mut events);
        }
        events
    }

    fn expire(&mut self) -> Vec<UpstreamEvent> {
        let mut events = Vec::new();
        self.first_attempt
            .expire(self.now, &mut self.waits, &mut events);
        events
    }

    fn count(&self, count: Count) -> u64 {
        self.counters.read(count)
    }

    /// The queries in the outboxes of the default pool's lane.
    fn drafted(&self) -> usize {
        let lane = self.first_attempt.lanes.get(PoolId::DEFAULT);
        let active = lane.into_iter().flat_map(|lane| &lane.active);
        active.map(|slot| slot.drafts.len()).sum()
    }

    fn open_ports(&self) -> usize {
        self.first_attempt.ports.iter().flatten().count()
    }
}

/// The query as an answer without records.
fn answer(query: &[u8]) -> Vec<u8> {
    let mut message = query.to_vec();
    message[2] |= 0x80;
    message
}

fn prior(events: &[UpstreamEvent]) -> Vec<(bool, Option<Again>)> {
    let prior = events.iter().filter_map(|event| match &event.result {
        AttemptResult::Unfinished(prior) => Some((prior.responded, prior.again)),
        AttemptResult::Answered(..) => None,
    });
    prior.collect()
}

#[test]
fn queries_leave_from_many_ports_at_once_and_neighbours_from_different_ones() {
    const COUNT: usize = 300;
    let mut fixture = Fixture::new(1024);
    let mut ports = Vec::new();
    for number in 0..COUNT {
        assert!(fixture.ask(number));
        fixture.first_attempt.flush();
        ports.push(fixture.next().1.port());
    }
    assert_eq!(
        fixture.open_ports(),
        ports.iter().collect::<BTreeSet<_>>().len()
    );
    let distinct = ports.iter().collect::<BTreeSet<_>>().len();
    // 300 queries need at least ten ports, and `AT_ONCE` ports send at one time.
    assert!(distinct >= AT_ONCE, "{distinct}");
    let same = ports.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert!(same < COUNT / AT_ONCE * 3, "{same} of {COUNT}: {ports:?}");
    assert!(ports.iter().all(|&port| port >= 1024));
    // The kernel's own range is 28,232 wide by default.
    let (low, high) = (ports.iter().min(), ports.iter().max());
    let width = high.expect("some") - low.expect("some");
    assert!(width > 28_232, "{width}");
}

#[test]
fn a_port_serves_a_limited_number_of_queries_and_for_a_limited_time() {
    let mut fixture = Fixture::new(1024);
    let mut served = std::collections::BTreeMap::<u16, usize>::new();
    for number in 0..2 * AT_ONCE * PER_PORT {
        assert!(fixture.ask(number));
        fixture.first_attempt.flush();
        *served.entry(fixture.next().1.port()).or_default() += 1;
    }
    assert!(
        served.values().all(|&count| count <= PER_PORT),
        "{served:?}"
    );
    fixture.now += PORT_AGE;
    for number in 0..100 {
        assert!(fixture.ask(10_000 + number));
        fixture.first_attempt.flush();
        let (_, peer) = fixture.next();
        assert!(!served.contains_key(&peer.port()), "a port is too old");
    }
}

#[test]
fn after_a_change_no_query_leaves_from_a_port_that_was_opened_before() {
    let mut fixture = Fixture::new(64);
    fixture
        .first_attempt
        .pools
        .default_pool()
        .ports()
        .replace(20_000..=29_999, Vec::new());
    let ask = |fixture: &mut Fixture, from| {
        assert!((from..from + 16).all(|number| fixture.ask(number)));
        fixture.first_attempt.flush();
    };
    ask(&mut fixture, 0);
    let before: Vec<_> = (0..16).map(|_| fixture.next()).collect();
    fixture
        .first_attempt
        .pools
        .default_pool()
        .ports()
        .replace(40_000..=49_999, Vec::new());
    fixture.first_attempt.pools.default_pool().renew();
    ask(&mut fixture, 16);
    for _ in 0..16 {
        let (_, peer) = fixture.next();
        assert!((40_000..=49_999).contains(&peer.port()), "{peer}");
    }
    // The same holds after the servers are replaced, and after the same server is asked in another way.
    let other = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let to = |socket: &UdpSocket| socket.local_addr().expect("bound");
    let plain = Dialect {
        edns: false,
        ..Dialect::FULL
    };
    for (round, dialect) in [(2, Dialect::FULL), (3, plain)] {
        fixture
            .first_attempt
            .pools
            .default_pool()
            .replace(&[Target::plain(to(&other), dialect)]);
        ask(&mut fixture, 16 * round);
        for _ in 0..16 {
            let mut query = [0; 512];
            other.recv_from(&mut query).expect("a query");
            assert_eq!(query[11] == 1, dialect.edns, "its additional section");
        }
    }
    // Queries that were under way may be answered.
    let (query, peer) = &before[0];
    fixture.send(&answer(query), *peer);
    assert_eq!(fixture.receive().len(), 1);
}

#[test]
fn queries_leave_from_the_open_ports_if_no_more_can_be_opened() {
    let mut fixture = Fixture::new(2);
    for number in 0..2 * PER_PORT {
        assert!(fixture.ask(number), "{number}");
    }
    assert!(!fixture.ask(1000), "both are used up, none may open");
    assert_eq!(fixture.open_ports(), 2);
}

#[test]
fn an_answer_ends_its_query_and_closes_a_port_that_is_used_up() {
    let mut fixture = Fixture::new(1);
    for number in 0..PER_PORT {
        assert!(fixture.ask(number));
    }
    fixture.first_attempt.flush();
    let queries: Vec<_> = (0..PER_PORT).map(|_| fixture.next()).collect();
    assert!(!fixture.ask(1000), "the one port is used up");
    for (query, peer) in queries {
        fixture.send(&answer(&query), peer);
        let events = fixture.receive();
        assert!(matches!(events[0].result, AttemptResult::Answered(..)));
    }
    assert!(fixture.first_attempt.is_idle());
    assert_eq!(fixture.open_ports(), 0);
    assert!(fixture.ask(1001));
}
