//! DNS over TCP: pipelining, order, idle connections, limits.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{RData, Record, RecordType};

use crate::support::client::{PATIENCE, Port, Stream, data, is_blocked, query, rcode, until};
use crate::support::server::{Server, list, preamble};
use crate::support::upstream::{Asked, Upstream, address_of, answer, name};

fn server(upstream: &Upstream, more: &str) -> Server {
    let config = preamble(upstream.address).replace("workers = 2", more) + &list("ads", "");
    Server::start(&config, &[("ads", "blocked.example\n")])
}

#[test]
fn answers_on_one_connection_can_arrive_out_of_order() {
    let gate = Arc::new(AtomicBool::new(false));
    let open = Arc::clone(&gate);
    let upstream = Upstream::start(move |asked| {
        while name(asked) == "slow.example" && !open.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        Some(address_of(asked, [192, 0, 2, 1]))
    });
    let server = server(&upstream, "");
    let mut stream = Stream::open(server.address);
    let slow = query("slow.example", RecordType::A);
    let fast = query("fast.example", RecordType::A);
    let blocked = query("blocked.example", RecordType::A);
    for message in [&slow, &fast, &blocked] {
        stream.send(message);
    }
    let mut order: Vec<_> = (0..2)
        .filter_map(|_| stream.receive())
        .map(|m| m.metadata.id)
        .collect();
    order.sort_unstable();
    let mut expected = [fast.metadata.id, blocked.metadata.id];
    expected.sort_unstable();
    assert_eq!(order, expected);
    gate.store(true, Ordering::Relaxed);
    assert_eq!(
        stream.receive().expect("an answer").metadata.id,
        slow.metadata.id
    );
}

#[test]
fn pending_answers_are_sent_when_the_client_closes_its_half() {
    let upstream = Upstream::plain();
    let server = server(&upstream, "");
    let mut stream = Stream::open(server.address);
    stream.send(&query("a.example", RecordType::A));
    stream
        .0
        .shutdown(std::net::Shutdown::Write)
        .expect("half closed");
    assert!(stream.receive().is_some());
    assert!(
        stream.receive().is_none(),
        "the server closes its half as well"
    );
}

#[test]
fn idle_connections_and_those_that_send_byte_by_byte_are_closed() {
    let upstream = Upstream::plain();
    let server = server(&upstream, "tcp-idle-secs = 1");
    let mut idle = Stream::open(server.address);
    let mut slow = TcpStream::connect(server.address).expect("connected");
    slow.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    slow.write_all(&[0]).expect("sent");
    assert!(idle.receive().is_none());
    assert!(matches!(slow.read(&mut [0]), Ok(0) | Err(_)));
}

#[test]
fn connections_above_the_limit_are_closed_and_the_others_served() {
    let upstream = Upstream::plain();
    let server = server(
        &upstream,
        "tcp-connections = 2\ntcp-connections-per-client = 2",
    );
    let mut held: Vec<_> = (0..2).map(|_| Stream::open(server.address)).collect();
    for stream in &mut held {
        stream.send(&query("blocked.example", RecordType::A));
        assert!(stream.receive().is_some());
    }
    let mut third = Stream::open(server.address);
    assert!(third.receive().is_none());
    assert!(server.count("tcp_connections_refused") >= 1);
    assert!(
        is_blocked(server.address, "blocked.example"),
        "UDP is still served"
    );
    drop(held);
    until("a free connection", || {
        let mut stream = Stream::open(server.address);
        let bytes = query("blocked.example", RecordType::A)
            .to_vec()
            .expect("a message");
        // The server may close the connection before or after this is written.
        let _ = stream.0.write_all(&(bytes.len() as u16).to_be_bytes());
        let _ = stream.0.write_all(&bytes);
        stream.receive().is_some()
    });
}

#[test]
fn one_connection_does_not_take_all_permits() {
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock().expect("not poisoned");
    let open = Arc::clone(&gate);
    let upstream = Upstream::start(move |asked| {
        drop(open.lock());
        Some(address_of(asked, [192, 0, 2, 1]))
    });
    // One client may use all 80 permits.
    let more = "timeout-ms = 30000\nwaiting = 80\nwaiting-per-client = 80\n";
    let server = Server::start(&(preamble(upstream.address) + more), &[]);
    let asked = || upstream.asked().iter().map(name).collect::<HashSet<_>>();
    let mut stream = Stream::open(server.address);
    for number in 0..100 {
        stream.send(&query(&format!("n{number}.example"), RecordType::A));
    }
    until("its share to be asked", || asked().len() >= 64);
    let other = Port::open(server.address);
    other.send(&query("other.example", RecordType::A));
    until("the other client's query", || {
        asked().contains("other.example")
    });
    drop(closed);
    assert_eq!(data(&other.receive()), ["192.0.2.1"]);
    // The other queries stayed in the socket, so none of the hundred was rejected.
    for _ in 0..100 {
        let answer = stream.receive().expect("an answer");
        assert_eq!(rcode(&answer), ResponseCode::NoError);
    }
    assert_eq!(server.count("overloaded"), 0);
}

#[test]
fn a_server_with_a_limit_of_one_to_three_connections_serves_them() {
    let upstream = Upstream::plain();
    for count in 1..=3 {
        let server = server(&upstream, &format!("tcp-connections = {count}"));
        let mut stream = Stream::open(server.address);
        for name in ["blocked.example", "a.example"] {
            stream.send(&query(name, RecordType::A));
            assert!(stream.receive().is_some(), "{count}: {name}");
        }
        // The default for one client is a quarter of all, but at least one.
        let mut second = Stream::open(server.address);
        assert!(second.receive().is_none(), "{count}");
    }
}

/// TXT records that fill most of a message: 60 KB.
fn long_answer(asked: &Asked, ttl: u32) -> Message {
    let mut message = answer(asked, ResponseCode::NoError);
    let owner = asked.message.queries[0].name().clone();
    match asked.tcp {
        true => message.answers.extend((0..240).map(|number| {
            let text = TXT::new(vec![format!("{number:0>250}")]);
            Record::from_rdata(owner.clone(), ttl, RData::TXT(text))
        })),
        false => message.metadata.truncation = true,
    }
    message
}

/// An upstream that sends long answers once the gate is open, and its gate.
fn long_upstream(ttl: u32) -> (Upstream, Arc<AtomicBool>) {
    let gate = Arc::new(AtomicBool::new(false));
    let open = Arc::clone(&gate);
    let upstream = Upstream::start(move |asked| {
        while !open.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        Some(long_answer(asked, ttl))
    });
    (upstream, gate)
}

#[test]
fn unread_long_answers_take_little_memory_and_none_is_lost() {
    const CONNECTIONS: u64 = 32;
    let (upstream, gate) = long_upstream(300);
    let server = Server::start(&(preamble(upstream.address) + "timeout-ms = 30000\n"), &[]);
    let mut streams: Vec<_> = (0..CONNECTIONS)
        .map(|_| Stream::open_small(server.address))
        .collect();
    let asked = query("long.example", RecordType::TXT);
    for stream in &mut streams {
        for _ in 0..64 {
            stream.send(&asked);
        }
    }
    let waiting = || server.status()["waiting"].as_u64();
    until("all queries to wait", || {
        waiting() == Some(64 * CONNECTIONS)
    });
    let before = server.peak_kib();
    gate.store(true, Ordering::Relaxed);
    until("their answer", || waiting() == Some(0));
    for _ in 0..64 {
        let answer = streams[0].receive().expect("an answer");
        assert_eq!(answer.answers.len(), 240);
    }
    // All answers together are 120 MB, of which the kernel may buffer half.
    let growth = server.peak_kib() - before;
    assert!(growth < 16 * 1024, "{growth} KiB");
}

#[test]
fn long_uncacheable_answers_are_fetched_twice_at_most() {
    let (upstream, gate) = long_upstream(0);
    let server = Server::start(&(preamble(upstream.address) + "timeout-ms = 30000\n"), &[]);
    let mut stream = Stream::open(server.address);
    for number in 0..20 {
        stream.send(&query(&format!("n{number}.example"), RecordType::TXT));
    }
    gate.store(true, Ordering::Relaxed);
    let by_tcp = || upstream.asked().iter().filter(|asked| asked.tcp).count();
    until("all to be asked for", || by_tcp() >= 20);
    let mut names = HashSet::new();
    for _ in 0..20 {
        let answer = stream.receive().expect("an answer");
        assert_eq!(answer.answers.len(), 240);
        names.insert(answer.queries[0].name().to_string());
    }
    assert_eq!(names.len(), 20);
    assert!(by_tcp() <= 40, "{}", by_tcp());
}
