//! TCP connections that cost the server more than the client.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{RData, Record, RecordType};
use socket2::{Domain, Socket, Type};

use super::{connect, server};
use crate::support::client::{PATIENCE, Stream, is_blocked, query, until};
use crate::support::server::Server;
use crate::support::upstream::{Upstream, answer};

/// Resident memory of the server, in KiB.
fn resident(server: &Server) -> u64 {
    let path = format!("/proc/{}/status", server.status()["pid"]);
    let text = std::fs::read_to_string(path).expect("readable");
    let line = text.lines().find(|line| line.starts_with("VmRSS:"));
    let figure = line.and_then(|line| line.split_whitespace().nth(1));
    figure.and_then(|text| text.parse().ok()).expect("a figure")
}

#[test]
fn a_client_that_reads_no_answers_is_closed_and_holds_little_memory() {
    let upstream = Upstream::start(|asked| {
        let mut message = answer(asked, ResponseCode::NoError);
        message.metadata.truncation = !asked.tcp;
        let owner = asked.message.queries[0].name();
        for n in 0..if asked.tcp { 240_u8 } else { 0 } {
            let data = RData::TXT(TXT::new(vec![format!("{n:03}{}", "x".repeat(240))]));
            message
                .answers
                .push(Record::from_rdata(owner.clone(), 60, data));
        }
        Some(message)
    });
    let server = server(&upstream, "tcp-idle-secs = 1", "");
    let long = query("long.example", RecordType::TXT);
    let other = |query: &Message| {
        let mut stream = Stream::open(server.address);
        stream.send(query);
        stream
            .receive()
            .expect("other clients are served")
            .answers
            .len()
    };
    assert_eq!(other(&long), 240);
    let before = resident(&server);
    // The answers are longer than this client's receive buffer, so that unread ones would fill the server's memory.
    let mut stream = connect([127, 0, 0, 1], server.address, Some(4096));
    stream.set_nonblocking(true).expect("set");
    let mut padded = long;
    let edns = padded.edns.as_mut().expect("EDNS");
    let padding = EdnsOption::Unknown(12, vec![0; 2000]);
    edns.options_mut().insert(padding);
    let message = padded.to_vec().expect("a message");
    let mut frame = (message.len() as u16).to_be_bytes().to_vec();
    frame.extend(message);
    let (mut sent, mut seen) = (0, 0);
    until("its connection to be closed", || {
        loop {
            match stream.write(&frame[sent % frame.len()..]) {
                Ok(len) => sent += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return true,
            }
            assert!(sent < 64 << 20, "it never stops reading");
        }
        assert_eq!(other(&query("blocked.example", RecordType::A)), 1);
        let grown = resident(&server).saturating_sub(before);
        assert!(grown < 16 * 1024, "by {grown} KiB");
        seen += 1;
        false
    });
    assert!(seen > 0, "it was closed before it stopped reading");
    assert_eq!(server.count("tcp_connections_unread"), 1);
}

#[test]
fn hundreds_of_connections_leave_the_first_ones_and_udp_alone() {
    let upstream = Upstream::plain();
    let limits = "tcp-connections = 20\ntcp-connections-per-client = 20";
    let server = server(&upstream, limits, "");
    let mut held: Vec<_> = (0..200).map(|_| Stream::open(server.address)).collect();
    until("the rest to be closed", || {
        server.count("tcp_connections_refused") == 180
    });
    assert_eq!(server.count("tcp_connections"), 20);
    assert!(is_blocked(server.address, "blocked.example"));
    for stream in &mut held[..20] {
        stream.send(&query("free.example", RecordType::A));
        assert!(stream.receive().is_some());
    }
    assert!(
        held[20..]
            .iter_mut()
            .all(|stream| stream.receive().is_none())
    );
}

/// A connection from `source`.
fn open_from(source: [u8; 4], server: SocketAddr) -> Stream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let source = SocketAddr::from((source, 0));
    socket.bind(&source.into()).expect("bound");
    socket.connect(&server.into()).expect("connected");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    Stream(stream)
}

#[test]
fn one_client_leaves_connections_for_others() {
    let upstream = Upstream::plain();
    let server = server(&upstream, "tcp-connections = 20", "");
    let _held: Vec<_> = (0..50).map(|_| Stream::open(server.address)).collect();
    until("the rest to be closed", || {
        server.count("tcp_connections_refused_client") == 45
    });
    let mut other = open_from([127, 0, 0, 2], server.address);
    other.send(&query("free.example", RecordType::A));
    assert!(other.receive().is_some());
}

#[test]
fn a_client_that_never_completes_its_query_is_closed_however_busy_it_is() {
    let upstream = Upstream::plain();
    let server = server(&upstream, "tcp-idle-secs = 1", "");
    let mut slow = TcpStream::connect(server.address).expect("connected");
    slow.set_nonblocking(true).expect("set");
    slow.write_all(&[0xFF, 0xFF]).expect("sent");
    let mut sent = 0;
    until("its connection to be closed", || {
        assert!(is_blocked(server.address, "blocked.example"));
        if slow.write_all(&[0]).is_ok() {
            sent += 1;
        }
        !matches!(slow.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
    });
    assert!((1..0xFFFF).contains(&sent), "{sent} bytes");
    assert_eq!(server.count("tcp_connections_idle"), 1);
    assert_eq!(server.count("tcp_queries"), 0);
}

#[test]
fn clients_without_permission_take_no_connections_from_permitted_ones() {
    let upstream = Upstream::plain();
    let only = "allow = [\"127.0.0.2\"]\ntcp-connections = 4\ntcp-connections-per-client = 2";
    let server = server(&upstream, only, "");
    let mut strangers: Vec<_> = (3..43)
        .map(|last| connect([127, 0, 0, last], server.address, None))
        .collect();
    until("all to be closed", || {
        server.count("tcp_connections_denied") == 40
    });
    for stranger in &mut strangers {
        let closed = stranger.read(&mut [0]);
        assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    }
    let friends = [(); 2].map(|()| connect([127, 0, 0, 2], server.address, None));
    for friend in friends {
        let mut friend = Stream(friend);
        friend.send(&query("blocked.example", RecordType::A));
        let answer = friend.receive().expect("an answer");
        assert_eq!(answer.answers.len(), 1);
    }
    assert_eq!(server.count("tcp_connections"), 2);
}
