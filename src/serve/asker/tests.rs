use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use super::*;
use crate::serve::cache::Key;
use crate::serve::flights::{Boarding, Flights, Waiter, Who};
use crate::serve::seats::{Bounds, Seats};
use crate::serve::upstream::Again;
use crate::serve::upstream::connect::Network;
use crate::sys::udp::Ports;
use crate::wire::answer::Intake;
use crate::wire::query::Query;

const TIMEOUT: Duration = Duration::from_secs(2);
const BASE: u64 = 7;

/// A worker's asker, and the upstream that it asks.
struct Fixture {
    asker: Asker,
    waits: WaitSet,
    counters: Arc<Counters>,
    flights: Flights,
    seats: Arc<Seats>,
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
        let pool = Pool::new(
            vec![Server::new(address, Dialect::FULL)],
            Arc::new(network),
            TIMEOUT,
            Intake {
                min_ttl: 0,
                max_ttl: 60,
                additional: false,
            },
            ports,
            Arc::clone(&counters),
        );
        let bounds = Bounds {
            all: 4096,
            per_client: 4096,
        };
        Self {
            asker: Asker::new(Arc::new(pool), Arc::clone(&counters), most, BASE),
            waits: WaitSet::new(64).expect("a wait set"),
            counters,
            flights: Flights::default(),
            seats: Arc::new(Seats::new(bounds)),
            upstream,
            now: Instant::now(),
        }
    }

    /// Asks for the name `n<number>`; whether it could.
    fn ask(&mut self, number: usize) -> bool {
        let mut packet = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0".to_vec();
        let label = format!("n{number}");
        packet.push(label.len() as u8);
        packet.extend_from_slice(label.as_bytes());
        packet.extend_from_slice(b"\x07example\0\0\x01\0\x01");
        let key = Key::new(&Query::read(&packet).expect("a query"));
        let seat = self.seats.take(IpAddr::from([192, 0, 2, 9]));
        let waiter = Waiter {
            who: Who::Nobody,
            seat: seat.expect("a seat"),
        };
        let Boarding::First(ticket) = self.flights.board(&key, waiter) else {
            panic!("asked twice");
        };
        self.asker.ask(&ticket, self.now, &mut self.waits)
    }

    /// The next query that came to upstream, and from which port.
    fn next(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 512];
        let (len, peer) = self.upstream.recv_from(&mut buffer).expect("a query");
        (buffer[..len].to_vec(), peer)
    }

    fn send(&self, message: &[u8], peer: SocketAddr) {
        self.upstream.send_to(message, peer).expect("sent");
    }

    /// Waits until something comes to ports, and takes it.
    fn receive(&mut self) -> Vec<Heard> {
        let mut ports = Vec::new();
        let asker = &self.asker;
        let patience = Some(Duration::from_secs(10));
        let told = |token| ports.extend(asker.port(token));
        self.waits.wait(patience, told).expect("waited");
        assert!(!ports.is_empty(), "nothing came");
        let mut heard = Vec::new();
        for port in ports {
            self.asker
                .receive(port, self.now, &mut self.waits, &mut heard);
        }
        heard
    }

    fn expire(&mut self) -> Vec<Heard> {
        let mut heard = Vec::new();
        self.asker.expire(self.now, &mut self.waits, &mut heard);
        heard
    }

    fn count(&self, count: Count) -> u64 {
        self.counters.read(count)
    }

    fn open_ports(&self) -> usize {
        self.asker.ports.iter().flatten().count()
    }
}

/// Makes a reply of a query.
type Maker<'m> = &'m dyn Fn(&[u8]) -> Vec<u8>;

/// The query as an answer without records.
fn answer(query: &[u8]) -> Vec<u8> {
    let mut message = query.to_vec();
    message[2] |= 0x80;
    message
}

fn tried(heard: &[Heard]) -> Vec<(bool, Option<Again>)> {
    let tried = heard.iter().filter_map(|heard| match &heard.outcome {
        Outcome::Tried(tried) => Some((tried.heard, tried.again)),
        Outcome::Answered(_) => None,
    });
    tried.collect()
}

#[test]
fn queries_leave_from_many_ports_at_once_and_neighbours_from_different_ones() {
    const COUNT: usize = 300;
    let mut fixture = Fixture::new(1024);
    let mut ports = Vec::new();
    for number in 0..COUNT {
        assert!(fixture.ask(number));
        fixture.asker.flush();
        ports.push(fixture.next().1.port());
    }
    assert_eq!(
        fixture.open_ports(),
        ports.iter().collect::<BTreeSet<_>>().len()
    );
    let distinct = ports.iter().collect::<BTreeSet<_>>().len();
    // 300 queries need ten ports; that many are open from the start.
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
        fixture.asker.flush();
        *served.entry(fixture.next().1.port()).or_default() += 1;
    }
    assert!(
        served.values().all(|&count| count <= PER_PORT),
        "{served:?}"
    );
    fixture.now += PORT_AGE;
    for number in 0..100 {
        assert!(fixture.ask(10_000 + number));
        fixture.asker.flush();
        let (_, peer) = fixture.next();
        assert!(!served.contains_key(&peer.port()), "a port is too old");
    }
}

#[test]
fn where_no_more_ports_can_be_opened_queries_leave_from_those_there_are() {
    let mut fixture = Fixture::new(2);
    for number in 0..2 * PER_PORT {
        assert!(fixture.ask(number), "{number}");
    }
    assert!(!fixture.ask(1000), "both are used up, and all is open");
    assert_eq!(fixture.open_ports(), 2);
}

#[test]
fn an_answer_ends_its_query_and_closes_a_port_that_is_used_up() {
    let mut fixture = Fixture::new(1);
    for number in 0..PER_PORT {
        assert!(fixture.ask(number));
    }
    fixture.asker.flush();
    let queries: Vec<_> = (0..PER_PORT).map(|_| fixture.next()).collect();
    assert!(!fixture.ask(1000), "the one port is used up");
    for (query, peer) in queries {
        fixture.send(&answer(&query), peer);
        let heard = fixture.receive();
        assert!(matches!(heard[0].outcome, Outcome::Answered(_)));
    }
    assert!(fixture.asker.is_idle());
    assert_eq!(fixture.open_ports(), 0);
    assert!(fixture.ask(1001));
}

#[test]
fn only_the_answer_to_a_query_ends_it() {
    let mut fixture = Fixture::new(1);
    assert!(fixture.ask(0));
    fixture.asker.flush();
    let (query, peer) = fixture.next();
    let mut other_id = answer(&query);
    other_id[0] ^= 1;
    let mut other_name = answer(&query);
    other_name[14] ^= 1;
    for forged in [other_id, other_name, query.clone(), b"\0".to_vec()] {
        fixture.send(&forged, peer);
        assert!(fixture.receive().is_empty());
    }
    assert_eq!(fixture.count(Count::UpstreamStray), 2);
    assert_eq!(fixture.count(Count::UpstreamForeign), 2);
    fixture.send(&answer(&query), peer);
    assert_eq!(fixture.receive().len(), 1);
}

#[test]
fn after_an_icmp_error_nothing_is_open_and_all_queries_are_reported() {
    // The port is taken, but for one other sender only: the system answers with ICMP.
    let upstream = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = upstream.local_addr().expect("bound");
    upstream.connect(address).expect("connected");
    let mut fixture = Fixture::with(upstream, address, 1);
    for number in 0..3 {
        assert!(fixture.ask(number));
    }
    assert!(!fixture.asker.is_idle());
    fixture.asker.flush();
    let mut reported = 0;
    while fixture.asker.unsent().is_some() {
        reported += 1;
    }
    while reported < 3 {
        let heard = fixture.receive();
        assert_eq!(tried(&heard), vec![(false, None); heard.len()]);
        reported += heard.len();
    }
    assert_eq!(reported, 3);
    assert!(fixture.asker.is_idle(), "{} are open", fixture.asker.open);
    // It would wait for them until the port is closed.
    fixture.now += PORT_AGE + TIMEOUT;
    assert!(fixture.expire().is_empty());
    assert_eq!((fixture.asker.open, fixture.open_ports()), (0, 0));
}

#[test]
fn a_silent_query_is_reported_once_and_its_late_answer_still_counts() {
    let mut fixture = Fixture::new(4);
    assert!(fixture.ask(0) && fixture.ask(1));
    fixture.asker.flush();
    let queries = [fixture.next(), fixture.next()];
    fixture.now += TIMEOUT / 2;
    assert_eq!(tried(&fixture.expire()), [(false, None); 2]);
    assert!(fixture.expire().is_empty());
    assert_eq!(fixture.count(Count::UpstreamSlow), 2);
    let (query, peer) = &queries[0];
    fixture.send(&answer(query), *peer);
    let heard = fixture.receive();
    assert!(matches!(heard[0].outcome, Outcome::Answered(_)));
    // A late failure is no news to those who ask again by now.
    let (query, peer) = &queries[1];
    let mut failed = answer(query);
    failed[3] |= 2;
    fixture.send(&failed, *peer);
    assert!(fixture.receive().is_empty());
    fixture.now += PORT_AGE + TIMEOUT;
    assert!(fixture.expire().is_empty());
    assert_eq!((fixture.asker.open, fixture.open_ports()), (0, 0));
    assert_eq!(fixture.asker.next_due(), None);
}

#[test]
fn an_answer_that_is_cut_or_longer_than_announced_is_asked_for_by_tcp() {
    let long = |query: &[u8], len: usize| {
        let mut message = answer(query);
        message.resize(len, 0);
        message
    };
    let cut = |query: &[u8]| {
        let mut message = answer(query);
        message[2] |= 0x02;
        message
    };
    let payload = usize::from(UDP_PAYLOAD);
    let makers: [Maker<'_>; 4] = [
        &cut,
        &|query| long(query, payload + 1),
        &|query| long(query, SLOT),
        &|query| long(query, 4096),
    ];
    let mut fixture = Fixture::new(64);
    for (number, make) in makers.iter().enumerate() {
        assert!(fixture.ask(number));
        fixture.asker.flush();
        let (query, peer) = fixture.next();
        fixture.send(&make(&query), peer);
        assert_eq!(tried(&fixture.receive()), [(true, Some(Again::Tcp))]);
    }
    assert!(fixture.ask(100));
    fixture.asker.flush();
    let (query, peer) = fixture.next();
    fixture.send(&long(&query, payload), peer);
    let heard = fixture.receive();
    assert!(matches!(heard[0].outcome, Outcome::Answered(_)), "it fits");
}

#[test]
fn an_answer_to_a_query_without_edns_may_have_512_bytes() {
    let mut fixture = Fixture::new(64);
    let first = fixture.asker.pool.try_first(fixture.now).expect("one");
    first.server.answered_without_edns(true, fixture.now);
    for (number, len) in [512, 513, 1232].into_iter().enumerate() {
        assert!(fixture.ask(number));
        fixture.asker.flush();
        let (query, peer) = fixture.next();
        let mut message = answer(&query);
        message.resize(len, 0);
        fixture.send(&message, peer);
        let heard = fixture.receive();
        match len {
            512 => assert!(matches!(heard[0].outcome, Outcome::Answered(_))),
            _ => assert_eq!(tried(&heard), [(true, Some(Again::Tcp))], "{len}"),
        }
    }
}

#[test]
fn a_long_answer_in_other_letters_is_treated_like_a_short_one() {
    let mut fixture = Fixture::new(64);
    for (number, len) in [100, 1233, SLOT, 4096].into_iter().enumerate() {
        assert!(fixture.ask(number));
        fixture.asker.flush();
        let (query, peer) = fixture.next();
        let mut message = answer(&query);
        message[13] ^= 0x20;
        message.resize(len, 0);
        fixture.send(&message, peer);
        let again = Some(Again::OtherCase);
        assert_eq!(tried(&fixture.receive()), [(true, again)], "{len}");
    }
    assert_eq!(fixture.count(Count::UpstreamCase), 4);
}

#[test]
fn replies_that_show_a_lack_say_how_to_ask_again() {
    let rcode = |query: &[u8], rcode: u8| {
        let mut message = answer(query);
        message[3] |= rcode;
        // Without the OPT record.
        message[11] = 0;
        message.truncate(message.len() - 11);
        message
    };
    let other_case = |query: &[u8]| {
        let mut message = answer(query);
        message[13] ^= 0x20;
        message
    };
    let certain = Again::WithoutEdns { is_certain: true };
    let doubtful = Again::WithoutEdns { is_certain: false };
    let cases: [(Maker<'_>, Again); 4] = [
        (&|query| rcode(query, 1), certain),
        (&|query| rcode(query, 4), certain),
        (&|query| rcode(query, 1)[..12].to_vec(), doubtful),
        (&other_case, Again::OtherCase),
    ];
    let mut fixture = Fixture::new(64);
    for (number, (make, again)) in cases.into_iter().enumerate() {
        assert!(fixture.ask(number));
        fixture.asker.flush();
        let (query, peer) = fixture.next();
        fixture.send(&make(&query), peer);
        assert_eq!(tried(&fixture.receive()), [(true, Some(again))]);
    }
}

#[test]
fn a_server_without_edns_and_random_case_is_asked_without_them_at_once() {
    let mut fixture = Fixture::new(64);
    assert!(fixture.ask(0));
    fixture.asker.flush();
    assert!(ask::has_edns(&fixture.next().0));
    let server = fixture
        .asker
        .pool
        .try_first(fixture.now)
        .expect("one")
        .server;
    server.answered_without_edns(true, fixture.now);
    for number in 1..20 {
        assert!(fixture.ask(number));
        fixture.asker.flush();
        assert!(!ask::has_edns(&fixture.next().0), "also from an open port");
    }
    // A bare error means nothing to a query without EDNS.
    assert!(fixture.ask(50));
    fixture.asker.flush();
    let (query, peer) = fixture.next();
    let mut bare = answer(&query)[..12].to_vec();
    bare[3] |= 1;
    fixture.send(&bare, peer);
    assert!(fixture.receive().is_empty());
    assert_eq!(fixture.count(Count::UpstreamForeign), 1);
}

#[test]
fn all_that_is_open_is_left_to_others_at_the_end() {
    let mut fixture = Fixture::new(64);
    for number in 0..10 {
        assert!(fixture.ask(number));
    }
    fixture.asker.flush();
    assert_eq!(fixture.asker.leave().len(), 10);
}
