//! Floods of queries that need upstream.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;

use super::{connect, server};
use crate::support::client::{
    PATIENCE, Port, Stream, addresses, ask, data, errors, exchange, is_blocked, query, rcode, until,
};
use crate::support::server::{Server, list, preamble};
use crate::support::upstream::{Upstream, address_of, bytes, name};

/// An upstream that answers at once. Only queries for names below `flood.example` wait while the gate
/// is locked for writing. The TTL of `old.example` is one second.
fn gated(gate: &Arc<RwLock<()>>) -> Upstream {
    let passage = Arc::clone(gate);
    Upstream::start(move |asked| {
        let name = name(asked);
        if name.ends_with("flood.example") {
            drop(passage.read());
        }
        let mut message = address_of(asked, [192, 0, 2, 1]);
        if name == "old.example" {
            message.answers[0].ttl = 1;
        }
        Some(message)
    })
}

/// Sends queries for `count` names that are not cached; `salt` distinguishes them from others.
fn flood(client: &Port, salt: usize, count: usize) {
    for n in 0..count {
        client.send(&query(&format!("x{salt}-{n}.flood.example"), RecordType::A));
    }
}

/// Asserts that queries that need no upstream are answered.
fn is_responsive(server: &Server) {
    assert!(is_blocked(server.address, "blocked.example"));
    assert_eq!(addresses(server.address, "localhost"), ["127.0.0.1"]);
    assert_eq!(addresses(server.address, "cached.example"), ["192.0.2.1"]);
}

#[test]
fn a_flood_of_names_takes_all_permits_and_all_else_is_answered() {
    let gate = Arc::default();
    let upstream = gated(&gate);
    let closed = gate.write().expect("not poisoned");
    let server = server(&upstream, "", "waiting = 16\nwaiting-per-client = 16");
    assert_eq!(addresses(server.address, "cached.example"), ["192.0.2.1"]);
    let clients: Vec<_> = (0..4).map(|_| Port::open(server.address)).collect();
    for (salt, client) in clients.iter().enumerate() {
        flood(client, salt, 100);
    }
    until("the rest to be refused", || {
        server.count("upstream_queue_full") == 384
    });
    assert_eq!(server.status()["waiting"], 16);
    is_responsive(&server);
    let more = ask(server.address, "x.flood.example", RecordType::A);
    assert_eq!(rcode(&more), ResponseCode::ServFail);
    drop(closed);
    let answers = clients
        .iter()
        .flat_map(|client| (0..100).map(|_| rcode(&client.receive())));
    let answers: Vec<_> = answers.collect();
    let count = |rcode| answers.iter().filter(|&&answer| answer == rcode).count();
    assert_eq!(count(ResponseCode::NoError), 16);
    assert_eq!(count(ResponseCode::ServFail), 384);
    let names: BTreeSet<_> = upstream.asked().iter().map(name).collect();
    assert_eq!(names.len(), 17, "upstream received no more: {names:?}");
    assert_eq!(addresses(server.address, "x.flood.example"), ["192.0.2.1"]);
    until("permits to be free", || server.status()["waiting"] == 0);
}

#[test]
fn a_greedy_client_takes_no_permit_from_others_by_any_transport() {
    let gate = Arc::default();
    let upstream = gated(&gate);
    let _closed = gate.write().expect("not poisoned");
    let server = server(&upstream, "", "waiting = 64\nwaiting-per-client = 8");
    let greedy = Port::open_at([127, 0, 0, 2], server.address);
    flood(&greedy, 0, 40);
    for _ in 0..32 {
        assert_eq!(rcode(&greedy.receive()), ResponseCode::ServFail);
    }
    let counters = ["upstream_client_full", "upstream_queue_full"];
    assert_eq!(counters.map(|name| server.count(name)), [32, 0]);
    assert_eq!(server.status()["waiting"], 8);
    let mut stream = Stream(connect([127, 0, 0, 2], server.address, None));
    stream.send(&query("free.example", RecordType::A));
    let by_tcp = stream.receive().expect("an answer");
    assert_eq!(rcode(&by_tcp), ResponseCode::ServFail);
    // By a hash collision, another client can share the counter. Three other clients cannot all share it.
    let is_served = |last| {
        let other = Port::open_at([127, 0, 0, last], server.address);
        other.send(&query("free.example", RecordType::A));
        data(&other.receive()) == ["192.0.2.1"]
    };
    assert!((3..6).any(is_served));
}

#[test]
fn when_no_permit_is_left_a_stale_answer_is_served() {
    let gate = Arc::default();
    let upstream = gated(&gate);
    let _closed = gate.write().expect("not poisoned");
    let server = server(&upstream, "", "waiting = 16\nwaiting-per-client = 16");
    assert_eq!(addresses(server.address, "old.example"), ["192.0.2.1"]);
    flood(&Port::open(server.address), 0, 16);
    until("permits to be used up", || server.status()["waiting"] == 16);
    let mut old = Message::query();
    until("the TTL's end", || {
        old = ask(server.address, "old.example", RecordType::A);
        !errors(&old).is_empty()
    });
    assert_eq!(errors(&old)[0].0, 3);
    assert_eq!(data(&old), ["192.0.2.1"]);
    let counters = ["upstream_queue_full", "stale", "overloaded"];
    assert_eq!(counters.map(|name| server.count(name)), [1, 1, 0]);
}

#[test]
fn a_flood_for_one_name_is_one_upstream_query() {
    let gate = Arc::default();
    let upstream = gated(&gate);
    let closed = gate.write().expect("not poisoned");
    let server = server(&upstream, "", "");
    let clients: Vec<_> = (0..200).map(|_| Port::open(server.address)).collect();
    for client in &clients {
        flood(client, 0, 1);
    }
    until("all to join", || server.count("coalesced") == 199);
    assert_eq!(server.status()["waiting"], 200);
    drop(closed);
    for client in &clients {
        assert_eq!(data(&client.receive()), ["192.0.2.1"]);
    }
    // The late query is retried, three times at most.
    assert!(upstream.asked().len() <= 4);
}

#[test]
fn a_flood_at_one_address_delays_neither_the_other_nor_the_shutdown() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address).replace("workers = 2", "workers = 1");
    let config = config.replace("\"127.0.0.1:0\"", "\"127.0.0.1:0\", \"127.0.0.2:0\"");
    let mut server = Server::start(
        &(config + &list("ads", "")),
        &[("ads", "blocked.example\n")],
    );
    let status = server.status();
    let address = |at: usize| -> SocketAddr {
        let text = status["listen"][at].as_str().expect("an address");
        text.parse().expect("an address")
    };
    let (flooded, other) = (address(0), address(1));
    let query = query("blocked.example", RecordType::A);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let port = Port::open(flooded);
                let bytes = bytes(&query);
                while !over.load(Ordering::Relaxed) {
                    // The server may have ended.
                    let _ = port.0.send(&bytes);
                }
            });
        }
        let test = catch_unwind(AssertUnwindSafe(|| {
            until("a flood", || server.count("kernel_drops") > 1000);
            until("an answer at the other address", || {
                exchange(other, &query, PATIENCE / 100).is_some()
            });
            server.signal("TERM");
            assert_eq!(server.wait(), Some(0));
        }));
        over.store(true, Ordering::Relaxed);
        test.expect("no panic");
    });
    assert!(!server.log().contains("unanswered"), "{}", server.log());
}

/// The DNSBomb attack: queries from one address for slow names, answered all at once.
fn bomb(server: &Server, gate: &Arc<RwLock<()>>, names: usize, waits: Duration) -> Port {
    let client = Port::open(server.address);
    let closed = gate.write().expect("not poisoned");
    for n in 0..400 {
        let name = format!("x{}.flood.example", n % names);
        client.send(&query(&name, RecordType::A));
    }
    until("all to wait", || server.status()["waiting"] == 400);
    let since = Instant::now();
    until("them to have waited", || since.elapsed() > waits);
    drop(closed);
    client
}

#[test]
fn delayed_answers_leave_in_bounded_bursts_for_each_client() {
    for names in [1, 400] {
        let gate = Arc::default();
        let upstream = gated(&gate);
        let server = server(&upstream, "", "");
        let victim = bomb(&server, &gate, names, Duration::from_millis(250));
        for _ in 0..400 {
            assert_eq!(data(&victim.receive()), ["192.0.2.1"]);
        }
        // Answers for many names arrive from upstream one by one. On a slow machine these answers need no pacing.
        let paced = server.count("paced");
        assert!(names > 1 || paced >= 256 - 64, "{paced} were paced");
        assert_eq!(server.count("discarded"), 0);
    }
}

#[test]
fn queries_that_are_too_old_are_not_answered_but_their_answers_are_cached() {
    let gate = Arc::default();
    let upstream = gated(&gate);
    let server = server(&upstream, "discard-ms = 100", "");
    let victim = bomb(&server, &gate, 4, Duration::from_millis(250));
    until("all to be dropped", || server.count("discarded") == 400);
    victim.send(&query("x1.flood.example", RecordType::A));
    assert_eq!(data(&victim.receive()), ["192.0.2.1"]);
    assert_eq!(
        server.count("cache_hits"),
        1,
        "only the query after the drops was answered from the cache"
    );
}
