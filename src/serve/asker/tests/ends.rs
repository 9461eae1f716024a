//! How queries and ports end without an answer, and when.

use super::*;

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
fn all_that_is_open_is_left_to_others_at_the_end() {
    let mut fixture = Fixture::new(64);
    for number in 0..10 {
        assert!(fixture.ask(number));
    }
    fixture.asker.flush();
    assert_eq!(fixture.asker.leave().len(), 10);
}
