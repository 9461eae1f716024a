//! How queries and ports end without an answer, and when.

use super::*;

#[test]
fn after_an_icmp_error_nothing_is_open_and_all_queries_are_reported() {
    // The socket is connected to another sender, so the system rejects the queries with ICMP.
    let upstream = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = upstream.local_addr().expect("bound");
    upstream.connect(address).expect("connected");
    let mut fixture = Fixture::with(upstream, address, 1);
    for number in 0..3 {
        assert!(fixture.ask(number));
    }
    assert!(!fixture.first_attempt.is_idle());
    fixture.first_attempt.flush();
    let mut reported = 0;
    while fixture.first_attempt.unsent().is_some() {
        reported += 1;
    }
    while reported < 3 {
        let events = fixture.receive();
        assert_eq!(prior(&events), vec![(false, None); events.len()]);
        reported += events.len();
    }
    assert_eq!(reported, 3);
    assert!(
        fixture.first_attempt.is_idle(),
        "{} are open",
        fixture.first_attempt.open
    );
    // Queries that were still open would be reported by now.
    fixture.now += PORT_AGE + TIMEOUT;
    assert!(fixture.expire().is_empty());
    assert_eq!((fixture.first_attempt.open, fixture.open_ports()), (0, 0));
}

#[test]
fn a_silent_query_is_reported_once_and_its_late_answer_still_counts() {
    let mut fixture = Fixture::new(4);
    assert!(fixture.ask(0) && fixture.ask(1));
    fixture.first_attempt.flush();
    let queries = [fixture.next(), fixture.next()];
    fixture.now += TIMEOUT / 2;
    assert_eq!(prior(&fixture.expire()), [(false, None); 2]);
    assert!(fixture.expire().is_empty());
    assert_eq!(fixture.count(Count::UpstreamSlow), 2);
    let (query, peer) = &queries[0];
    fixture.send(&answer(query), *peer);
    let events = fixture.receive();
    assert!(matches!(events[0].result, AttemptResult::Answered(..)));
    // A late failure does not matter to the resolver, which repeats the query by now.
    let (query, peer) = &queries[1];
    let mut failed = answer(query);
    failed[3] |= 2;
    fixture.send(&failed, *peer);
    assert!(fixture.receive().is_empty());
    fixture.now += PORT_AGE + TIMEOUT;
    assert!(fixture.expire().is_empty());
    assert_eq!((fixture.first_attempt.open, fixture.open_ports()), (0, 0));
    assert_eq!(fixture.first_attempt.next_due(), None);
}

#[test]
fn open_queries_are_drained_at_the_end() {
    let mut fixture = Fixture::new(64);
    for number in 0..10 {
        assert!(fixture.ask(number));
    }
    fixture.first_attempt.flush();
    assert_eq!(fixture.first_attempt.drain().len(), 10);
}

/// The first label of the name that a query asks for.
fn label(query_id: &QueryId) -> String {
    let name = query_id.key.name();
    String::from_utf8_lossy(&name[1..=usize::from(name[0])]).into_owned()
}

#[test]
fn each_silent_query_is_reported_when_its_own_patience_ends_and_not_before() {
    let mut fixture = Fixture::new(1);
    assert_eq!(fixture.first_attempt.next_due(), None, "nothing is asked");
    let start = fixture.now;
    let pool = fixture.first_attempt.pools.default_pool();
    let (first, ()) = pool.try_first(start, |_| Some(())).expect("one");
    let patience = first.patience;
    assert!(fixture.ask(0));
    fixture.now += patience / 2;
    assert!(fixture.ask(1));
    fixture.first_attempt.flush();
    assert!(fixture.expire().is_empty(), "no timeout has passed");
    for number in 0..2 {
        let due = fixture.first_attempt.next_due().expect("it is open");
        assert_eq!(due, start + patience + patience / 2 * number);
        fixture.now = due - Duration::from_millis(1);
        assert!(fixture.expire().is_empty());
        fixture.now = due;
        let events = fixture.expire();
        let labels: Vec<_> = events.iter().map(|event| label(&event.query_id)).collect();
        assert_eq!(labels, [format!("n{number}")]);
    }
    assert!(!fixture.first_attempt.is_idle(), "late answers still count");
    fixture.now = fixture.first_attempt.next_due().expect("the port is open");
    assert_eq!(fixture.now, start + PORT_AGE + TIMEOUT);
    assert!(fixture.expire().is_empty(), "both were reported");
    assert!(
        fixture.first_attempt.is_idle(),
        "{} are open",
        fixture.first_attempt.open
    );
    assert_eq!(
        (fixture.open_ports(), fixture.first_attempt.next_due()),
        (0, None)
    );
}

#[test]
fn the_timeouts_of_a_closed_port_do_not_affect_the_port_that_reuses_its_index() {
    let mut fixture = Fixture::new(1);
    for number in 0..PER_PORT {
        assert!(fixture.ask(number));
    }
    fixture.first_attempt.flush();
    for _ in 0..PER_PORT {
        let (query, peer) = fixture.next();
        fixture.send(&answer(&query), peer);
        assert_eq!(fixture.receive().len(), 1);
    }
    let end = fixture.now + PORT_AGE + TIMEOUT;
    fixture.now = end - Duration::from_millis(1);
    assert!(fixture.expire().is_empty(), "all were answered");
    assert!(fixture.ask(1000), "the one port is used up and replaced");
    fixture.first_attempt.flush();
    let (query, peer) = fixture.next();
    fixture.now = end;
    assert!(fixture.expire().is_empty());
    assert_eq!(fixture.open_ports(), 1);
    fixture.send(&answer(&query), peer);
    let events = fixture.receive();
    assert!(matches!(events[0].result, AttemptResult::Answered(..)));
}

#[test]
fn a_port_stays_open_after_an_answer_while_it_may_send_more_queries() {
    let mut fixture = Fixture::new(1);
    let mut peers = BTreeSet::new();
    for number in 0..4 {
        assert!(fixture.ask(number));
        fixture.first_attempt.flush();
        let (query, peer) = fixture.next();
        peers.insert(peer);
        fixture.send(&answer(&query), peer);
        assert_eq!(fixture.receive().len(), 1);
        assert!(fixture.first_attempt.is_idle());
    }
    assert_eq!((peers.len(), fixture.open_ports()), (1, 1));
    fixture.now += PORT_AGE + TIMEOUT;
    assert!(fixture.expire().is_empty());
    assert_eq!(fixture.open_ports(), 0, "it is closed when it is old");
    assert!(fixture.ask(9), "another one is opened");
    fixture.first_attempt.flush();
    assert!(!peers.contains(&fixture.next().1));
}

#[test]
fn without_datagrams_nothing_is_reported() {
    let mut fixture = Fixture::new(1);
    assert!(fixture.ask(0));
    fixture.first_attempt.flush();
    let mut events = Vec::new();
    fixture
        .first_attempt
        .receive(0, fixture.now, &mut fixture.waits, &mut events);
    assert!(events.is_empty() && !fixture.first_attempt.is_idle());
    let (query, peer) = fixture.next();
    fixture.send(&answer(&query), peer);
    assert_eq!(fixture.receive().len(), 1);
}

#[test]
fn queries_that_the_system_does_not_take_are_given_back_and_others_stay_open() {
    let mut fixture = Fixture::new(1);
    assert!(fixture.ask(0));
    fixture.first_attempt.flush();
    let (query, peer) = fixture.next();
    let (_, port) = fixture.first_attempt.ports[0].as_ref().expect("a port");
    let socket = socket2::SockRef::from(&port.socket);
    socket
        .shutdown(std::net::Shutdown::Write)
        .expect("it is connected");
    for number in 1..4 {
        assert!(fixture.ask(number));
    }
    fixture.first_attempt.flush();
    let unsent: BTreeSet<_> = std::iter::from_fn(|| fixture.first_attempt.unsent())
        .map(|query_id| label(&query_id))
        .collect();
    assert_eq!(unsent, ["n1", "n2", "n3"].map(str::to_owned).into());
    assert_eq!(fixture.count(Count::UpstreamQueries), 1);
    assert_eq!((fixture.first_attempt.open, fixture.drafted()), (1, 0));
    // The resolver, which asks instead, needs no event for them.
    fixture.now += TIMEOUT / 2;
    assert_eq!(fixture.expire().len(), 1, "the one that was sent");
    fixture.send(&answer(&query), peer);
    let events = fixture.receive();
    assert_eq!(label(&events[0].query_id), "n0");
    assert!(fixture.first_attempt.is_idle());
}
