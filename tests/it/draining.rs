//! The end of the server: queries in progress are answered within a bound, and new ones are refused.

use std::net::TcpStream;
use std::sync::atomic::Ordering;

use hickory_proto::rr::RecordType;

use crate::support::client::{Port, Stream, data, query, until};
use crate::support::server::{Server, preamble};
use crate::support::upstream::Upstream;

/// A configuration under which queries wait for upstream for longer than the end of the server may take.
fn patient(upstream: &Upstream) -> String {
    preamble(upstream.address) + "timeout-ms = 30000\n"
}

#[test]
fn an_answer_in_progress_is_sent_by_tcp_while_new_connections_are_refused() {
    let (upstream, gate) = Upstream::gated();
    let mut server = Server::start(&patient(&upstream), &[]);
    let mut stream = Stream::open(server.address);
    stream.send(&query("slow.example", RecordType::A));
    until("upstream is asked", || !upstream.asked().is_empty());
    server.signal("TERM");
    until("new connections are refused", || {
        TcpStream::connect(server.address).is_err()
    });
    gate.store(true, Ordering::Relaxed);
    let answer = stream.receive().expect("an answer");
    assert_eq!(data(&answer), ["192.0.2.1"]);
    assert!(stream.receive().is_none(), "the connection ends");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn the_server_does_not_wait_longer_than_its_bound_for_an_upstream_that_is_silent() {
    let (upstream, _gate) = Upstream::gated();
    let mut server = Server::start(&patient(&upstream), &[]);
    let port = Port::open(server.address);
    port.send(&query("slow.example", RecordType::A));
    until("upstream is asked", || !upstream.asked().is_empty());
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    server.logged("queries left unanswered");
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    for second in ["TERM", "INT"] {
        let (upstream, _gate) = Upstream::gated();
        let mut server = Server::start(&patient(&upstream), &[]);
        let port = Port::open(server.address);
        port.send(&query("slow.example", RecordType::A));
        until("upstream is asked", || !upstream.asked().is_empty());
        server.signal("TERM");
        server.logged("stopping signal=\"SIGTERM\"");
        server.signal(second);
        assert_eq!(server.wait(), Some(0));
        let log = server.logged(&format!("signal=\"SIG{second}\""));
        assert!(log.contains("ends at once"), "{log}");
        assert!(!log.contains("queries left unanswered"), "{log}");
        assert!(!server.path("control.sock").exists());
    }
}
