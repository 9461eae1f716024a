//! Queries and connections that are in progress when another process takes over.

use std::io::{Read, Write};
use std::sync::atomic::Ordering;

use hickory_proto::rr::RecordType;

use super::{asked, asked_line, sections, server, take_over};
use crate::support::client::{Port, Stream, data, is_blocked, query, until};
use crate::support::server::{Server, folder, preamble};
use crate::support::upstream::Upstream;

#[test]
fn queries_that_wait_for_upstream_are_answered_by_the_process_that_read_them_before_it_ends() {
    let (upstream, gate) = Upstream::gated();
    let config = preamble(upstream.address) + "timeout-ms = 30000\n" + &sections();
    let mut old = Server::start_in(folder(&config, &[("l", "blocked.example\n")]));
    let folder = old.folder.path().to_owned();
    let (port, mut stream) = (Port::open(old.address), Stream::open(old.address));
    port.send(&query("datagram.example", RecordType::A));
    stream.send(&query("stream.example", RecordType::A));
    until("upstream is asked", || upstream.asked().len() >= 2);
    let new = std::thread::spawn(move || take_over(&folder));
    old.logged("answers its last ones");
    // The new process answers all others meanwhile.
    for _ in 0..20 {
        assert!(is_blocked(old.address, "blocked.example"));
    }
    let log = old.log();
    assert!(!log.contains("answered the last query"), "{log}");
    gate.store(true, Ordering::Relaxed);
    assert_eq!(data(&port.receive()), ["192.0.2.1"]);
    assert_eq!(data(&stream.receive().expect("an answer")), ["192.0.2.1"]);
    drop(new.join().expect("it serves"));
    assert_eq!(old.wait(), Some(0), "{}", old.log());
}

#[test]
fn a_query_of_which_a_part_was_sent_before_is_answered_by_the_new_process() {
    let upstream = Upstream::plain();
    let mut old = server(&upstream);
    let mut stream = Stream::open(old.address);
    let message = query("part.example", RecordType::A);
    let bytes = message.to_vec().expect("a message");
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    let length = u16::try_from(bytes.len()).expect("short").to_be_bytes();
    stream
        .0
        .write_all(&[&length, first].concat())
        .expect("sent");
    let new = take_over(old.folder.path());
    assert_eq!(old.wait(), Some(0), "{}", old.log());
    stream.0.write_all(rest).expect("sent");
    assert_eq!(data(&stream.receive().expect("an answer")), ["192.0.2.1"]);
    drop(new);
}

#[test]
fn a_running_process_that_is_stopped_while_it_parks_does_not_ask_the_new_one_to_end() {
    let (upstream, gate) = Upstream::gated();
    let config = preamble(upstream.address) + "timeout-ms = 30000\n" + &sections();
    let mut server = Server::start_in(folder(&config, &[("l", "blocked.example\n")]));
    // The stop lasts until this query is answered.
    let port = Port::open(server.address);
    port.send(&query("slow.example", RecordType::A));
    until("upstream is asked", || !upstream.asked().is_empty());
    let (_, mut link) = asked(server.folder.path(), "tapis-take-over/1");
    while !asked_line(&mut link).contains("offer") {}
    server.signal("TERM");
    server.logged("stopping signal=");
    // If the server has ended by now, it does not read this.
    _ = link.write_all(b"{\"prepared\":{\"version\":\"0\"}}\n");
    let mut rest = String::new();
    link.read_to_string(&mut rest).expect("text");
    gate.store(true, Ordering::Relaxed);
    assert!(!rest.contains("abort"), "{rest}");
    assert_eq!(server.wait(), Some(0), "{}", server.log());
}
