//! DNS over TCP: pipelining, order, idleness, limits.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hickory_proto::rr::RecordType;

use crate::support::client::{PATIENCE, Stream, is_blocked, query, until};
use crate::support::server::{Server, list, preamble};
use crate::support::upstream::{Upstream, address_of, name};

fn server(upstream: &Upstream, more: &str) -> Server {
    let config = preamble(upstream.address).replace("workers = 2", more) + &list("ads", "");
    Server::start(&config, &[("ads", "blocked.example\n")])
}

#[test]
fn answers_overtake_each_other_on_one_connection() {
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
fn answers_under_way_are_given_when_the_client_closes_its_half() {
    let upstream = Upstream::plain();
    let server = server(&upstream, "");
    let mut stream = Stream::open(server.address);
    stream.send(&query("a.example", RecordType::A));
    stream
        .0
        .shutdown(std::net::Shutdown::Write)
        .expect("half closed");
    assert!(stream.receive().is_some());
    assert!(stream.receive().is_none(), "then it closes, too");
}

#[test]
fn an_idle_connection_is_closed_and_so_is_one_that_sends_octet_by_octet() {
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
fn above_the_limit_connections_are_closed_and_below_it_served() {
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
    assert!(is_blocked(server.address, "blocked.example"), "UDP goes on");
    drop(held);
    until("a free place", || {
        let mut stream = Stream::open(server.address);
        let octets = query("blocked.example", RecordType::A)
            .to_vec()
            .expect("a message");
        // The server may close it before or after this is written.
        let _ = stream.0.write_all(&(octets.len() as u16).to_be_bytes());
        let _ = stream.0.write_all(&octets);
        stream.receive().is_some()
    });
}
