//! The pools of forwarded zones: their ports and their timeouts.

use super::*;
use crate::serve::upstream::pools::{ForwardPool, Forwarding};

/// A pool for the names of one zone, whose only server is that of the fixture.
fn pool(fixture: &Fixture, zone: &str, timeout: Duration) -> ForwardPool {
    let counters = Arc::clone(&fixture.counters);
    let ports = Arc::<Ports>::default();
    let network = Network::new(1, Arc::clone(&ports), Arc::clone(&counters));
    let address = fixture.upstream.local_addr().expect("bound");
    let servers = vec![Server::new(address, Dialect::FULL)];
    let pool = Pool::new(servers, Arc::new(network), timeout, INTAKE, ports, counters);
    ForwardPool {
        zones: vec![Name::from_text(zone).expect("a name")],
        pool: Arc::new(pool.of_zones()),
    }
}

fn forward(fixture: &Fixture, pools: &[(&str, Duration)]) {
    let pools = pools
        .iter()
        .map(|(zone, timeout)| pool(fixture, zone, *timeout));
    let next = Forwarding::new(pools.collect());
    fixture.first_attempt.pools.replace(next);
}

/// The zones of the queries that were not answered.
fn zones(events: &[UpstreamEvent]) -> Vec<String> {
    let keys = events.iter().map(|event| event.query_id.key.name());
    let zone = |name: &[u8]| String::from_utf8_lossy(&name[4..name.len() - 1]).into_owned();
    keys.map(zone).collect()
}

#[test]
fn a_query_with_a_short_timeout_does_not_wait_for_one_with_a_long_timeout() {
    let mut fixture = Fixture::new(8);
    let (long, short) = (Duration::from_secs(60), Duration::from_millis(20));
    forward(&fixture, &[("slow", long), ("fast", short)]);
    let start = fixture.now;
    assert!(fixture.ask_in("slow", 1) && fixture.ask_in("fast", 2));
    fixture.first_attempt.flush();
    assert_eq!(fixture.first_attempt.next_due(), Some(start + short / 2));
    fixture.now = start + short / 2;
    assert_eq!(zones(&fixture.expire()), ["fast"]);
    // The port of the short timeout is closed when that is over, before that of the long one.
    fixture.now = start + PORT_AGE + short;
    zones(&fixture.expire());
    assert_eq!(fixture.open_ports(), 1);
    fixture.now = start + PORT_AGE + long;
    assert_eq!(
        zones(&fixture.expire()),
        ["slow"; 0],
        "it was reported before"
    );
    assert_eq!(fixture.open_ports(), 0);
}

#[test]
fn pools_without_ports_in_use_take_no_memory() {
    const ZONES: usize = 40;
    let mut fixture = Fixture::new(4 * ZONES);
    let names: Vec<_> = (0..ZONES).map(|number| format!("z{number}")).collect();
    let all: Vec<_> = names.iter().map(|name| (name.as_str(), TIMEOUT)).collect();
    forward(&fixture, &all);
    for name in &names {
        assert!(fixture.ask_in(name, 1));
    }
    assert_eq!(fixture.first_attempt.lanes.count(), 1 + ZONES);
    fixture.first_attempt.flush();
    for _ in 0..ZONES {
        let (query, peer) = fixture.next();
        fixture.send(&answer(&query), peer);
    }
    while !fixture.first_attempt.is_idle() {
        fixture.receive();
    }
    fixture.now += PORT_AGE + TIMEOUT;
    assert!(fixture.expire().is_empty());
    assert_eq!(fixture.first_attempt.lanes.count(), 1);
}

#[test]
fn only_lanes_with_queries_to_send_are_flushed() {
    let mut fixture = Fixture::new(64);
    forward(
        &fixture,
        &[("one", TIMEOUT), ("two", TIMEOUT), ("three", TIMEOUT)],
    );
    for zone in ["one", "two", "three"] {
        assert!(fixture.ask_in(zone, 1));
    }
    fixture.first_attempt.flush();
    assert!(fixture.ask_in("two", 2) && fixture.ask_in("two", 3));
    let listed = std::iter::from_fn(|| fixture.first_attempt.lanes.take_listed());
    assert_eq!(listed.count(), 1);
}

#[test]
fn after_the_servers_of_a_zone_are_replaced_its_queries_leave_from_other_ports() {
    let mut fixture = Fixture::new(64);
    forward(&fixture, &[("corp", TIMEOUT)]);
    assert!(fixture.ask_in("corp", 1));
    fixture.first_attempt.flush();
    let (_, before) = fixture.next();
    forward(&fixture, &[("corp", TIMEOUT)]);
    for number in 2..2 + AT_ONCE {
        assert!(fixture.ask_in("corp", number));
        fixture.first_attempt.flush();
        assert_ne!(fixture.next().1, before);
    }
}
