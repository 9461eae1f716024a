//! Upstreams that do not follow the protocol: their answers still reach the clients.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::{Name, RecordType};

use crate::support::client::{Port, addresses, ask, data, query, rcode, until};
use crate::support::server::{Server, list, preamble, text};
use crate::support::upstream::{Asked, address_of, answer, bytes, name};

const TRUE: [u8; 4] = [192, 0, 2, 1];

fn server(upstream: SocketAddr, more: &str) -> Server {
    let config = preamble(upstream) + more + &list("ads", "");
    Server::start(&config, &[("ads", "blocked.example\n")])
}

/// The behaviour of a test's upstream by TCP.
enum Tcp {
    /// The port is closed.
    Refused,
    /// Connections are accepted by the kernel and never served.
    Silent,
    /// Each connection is served by this function.
    Served(Box<dyn Fn(Connection) + Send + Sync>),
}

/// An upstream with one script for UDP and one for TCP.
struct Quirky {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<Mutex<usize>>,
}

impl Quirky {
    fn start(udp: impl Fn(&Asked) -> Vec<Vec<u8>> + Send + Sync + 'static, tcp: Tcp) -> Self {
        let (socket, listener) = loop {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            let address = socket.local_addr().expect("bound");
            if let Ok(listener) = TcpListener::bind(address) {
                break (socket, listener);
            }
        };
        let address = socket.local_addr().expect("bound");
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let connections = Arc::<Mutex<usize>>::default();
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut buffer = [0; 65_535];
            while let Ok((len, peer)) = socket.recv_from(&mut buffer) {
                let message = Message::from_vec(&buffer[..len]).expect("a query");
                let asked = Asked {
                    message,
                    tcp: false,
                    peer,
                };
                log.lock().expect("not poisoned").push(asked.clone());
                for answer in udp(&asked) {
                    socket.send_to(&answer, peer).expect("sent");
                }
            }
        });
        match tcp {
            Tcp::Refused => drop(listener),
            Tcp::Silent => {
                std::thread::spawn(move || {
                    let mut held = Vec::new();
                    held.extend(listener.incoming());
                });
            }
            Tcp::Served(serve) => {
                let (log, count) = (Arc::clone(&asked), Arc::clone(&connections));
                let serve = Arc::new(serve);
                std::thread::spawn(move || {
                    for stream in listener.incoming().map_while(Result::ok) {
                        *count.lock().expect("not poisoned") += 1;
                        let (serve, log) = (Arc::clone(&serve), Arc::clone(&log));
                        std::thread::spawn(move || serve(Connection { stream, log }));
                    }
                });
            }
        }
        Self {
            address,
            asked,
            connections,
        }
    }

    /// Truncates each answer by UDP, so that all queries are sent by TCP.
    fn by_tcp(serve: impl Fn(Connection) + Send + Sync + 'static) -> Self {
        Self::start(|asked| vec![cut(asked)], Tcp::Served(Box::new(serve)))
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("not poisoned").clone()
    }

    /// Whether the last query had EDNS.
    fn last_had_edns(&self) -> bool {
        self.asked().last().expect("a query").message.edns.is_some()
    }

    fn connections(&self) -> usize {
        *self.connections.lock().expect("not poisoned")
    }
}

/// A TCP connection to a test's upstream.
struct Connection {
    stream: TcpStream,
    log: Arc<Mutex<Vec<Asked>>>,
}

impl Connection {
    /// The next query; `None` when the connection has ended.
    fn next(&mut self) -> Option<Asked> {
        let mut len = [0; 2];
        self.stream.read_exact(&mut len).ok()?;
        let mut bytes = vec![0; usize::from(u16::from_be_bytes(len))];
        self.stream.read_exact(&mut bytes).ok()?;
        let asked = Asked {
            message: Message::from_vec(&bytes).expect("a query"),
            tcp: true,
            peer: self.stream.peer_addr().ok()?,
        };
        self.log.lock().expect("not poisoned").push(asked.clone());
        Some(asked)
    }

    /// Sends a message. Errors are ignored, as the client may have closed the connection.
    fn send(&mut self, bytes: &[u8]) {
        let mut frame = (bytes.len() as u16).to_be_bytes().to_vec();
        frame.extend_from_slice(bytes);
        let _ = self.stream.write_all(&frame);
    }

    fn answer(&mut self, asked: &Asked) {
        self.send(&bytes(&address_of(asked, TRUE)));
    }

    /// Ends the connection with a reset.
    fn reset(self) {
        socket2::SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .expect("set");
    }
}

/// The answer to a query, truncated to its header and question.
fn cut(asked: &Asked) -> Vec<u8> {
    let mut message = answer(asked, ResponseCode::NoError);
    message.metadata.truncation = true;
    bytes(&message)
}

/// Sends `count` queries for different names at once; each must get the correct address.
fn all_are_answered(server: &Server, label: &str, count: usize) {
    let clients: Vec<_> = (0..count).map(|_| Port::open(server.address)).collect();
    for (n, client) in clients.iter().enumerate() {
        client.send(&query(&format!("{label}{n}.example"), RecordType::A));
    }
    let answered = clients.iter().map(|client| data(&client.receive()));
    let answered = answered.filter(|data| data == &["192.0.2.1"]).count();
    assert_eq!(answered, count, "{label}");
}

#[test]
fn an_upstream_that_closes_tcp_after_each_answer_loses_no_query() {
    let upstream = Quirky::by_tcp(|mut connection| {
        if let Some(asked) = connection.next() {
            connection.answer(&asked);
        }
    });
    let server = server(upstream.address, "");
    all_are_answered(&server, "first", 20);
    all_are_answered(&server, "second", 20);
}

#[test]
fn an_upstream_that_closes_tcp_after_every_second_answer_loses_no_query() {
    let upstream = Quirky::by_tcp(|mut connection| {
        for _ in 0..2 {
            if let Some(asked) = connection.next() {
                connection.answer(&asked);
            }
        }
    });
    let server = server(upstream.address, "");
    all_are_answered(&server, "first", 20);
    all_are_answered(&server, "second", 21);
}

#[test]
fn an_upstream_that_resets_tcp_after_each_answer_loses_no_query() {
    let upstream = Quirky::by_tcp(|mut connection| {
        if let Some(asked) = connection.next() {
            connection.answer(&asked);
            // The reset follows the next query. If the stream ends instead, the client has read the answer.
            if connection.next().is_some() {
                connection.reset();
            }
        }
    });
    let server = server(upstream.address, "");
    all_are_answered(&server, "first", 20);
    all_are_answered(&server, "second", 20);
}

#[test]
fn answers_by_tcp_may_come_in_any_order() {
    const TOGETHER: usize = 6;
    let upstream = Quirky::by_tcp(|mut connection| {
        loop {
            let asked: Vec<_> = (0..TOGETHER).map_while(|_| connection.next()).collect();
            if asked.is_empty() {
                return;
            }
            for asked in asked.iter().rev() {
                connection.answer(asked);
            }
        }
    });
    let server = server(upstream.address, "timeout-ms = 30000\n");
    all_are_answered(&server, "a", TOGETHER);
    assert_eq!(upstream.connections(), 1);
}

/// An answer with an HTTPS record whose `alpn` is not text.
fn odd(asked: &Asked) -> Vec<u8> {
    let mut wire = bytes(&answer(asked, ResponseCode::NoError));
    wire[7] = 1;
    wire.extend_from_slice(b"\xC0\x0C\x00\x41\x00\x01\x00\x00\x00\x3C\x00\x0A");
    wire.extend_from_slice(b"\x00\x01\x00\x00\x01\x00\x03\x02\xFF\xFE");
    wire
}

#[test]
fn records_that_a_strict_parser_rejects_pass_by_tcp_and_disturb_no_other_query() {
    const TOGETHER: usize = 4;
    let upstream = Quirky::by_tcp(|mut connection| {
        loop {
            let mut asked: Vec<_> = (0..TOGETHER).map_while(|_| connection.next()).collect();
            if asked.is_empty() {
                return;
            }
            // The odd query first, while the others wait.
            asked.sort_by_key(|asked| asked.message.queries[0].query_type() != RecordType::HTTPS);
            for asked in &asked {
                match asked.message.queries[0].query_type() {
                    RecordType::HTTPS => connection.send(&odd(asked)),
                    _ => connection.answer(asked),
                }
            }
        }
    });
    let server = server(upstream.address, "timeout-ms = 30000\n");
    let strange = Port::open(server.address);
    strange.send(&query("odd.example", RecordType::HTTPS));
    all_are_answered(&server, "a", TOGETHER - 1);
    let bytes = strange.bytes();
    assert!(bytes.windows(4).any(|part| part == b"\x03\x02\xFF\xFE"));
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn frames_that_answer_no_query_are_counted_and_the_connection_stays_open() {
    let upstream = Quirky::by_tcp(|mut connection| {
        while let Some(asked) = connection.next() {
            let mut stray = address_of(&asked, [203, 0, 113, 66]);
            stray.metadata.id ^= 1;
            connection.send(&bytes(&stray));
            stray.metadata.id ^= 1;
            stray.queries[0].set_query_type(RecordType::AAAA);
            connection.send(&bytes(&stray));
            connection.send(b"short");
            connection.send(b"");
            connection.answer(&asked);
        }
    });
    let server = server(upstream.address, "");
    for name in ["a.example", "b.example"] {
        assert_eq!(addresses(server.address, name), ["192.0.2.1"]);
    }
    assert_eq!(upstream.connections(), 1);
    let counters = [
        "upstream_stray",
        "upstream_foreign_question",
        "upstream_garbage",
    ];
    assert_eq!(counters.map(|name| server.count(name)), [2, 2, 4]);
}

#[test]
fn a_connection_that_dies_silently_is_replaced_in_time() {
    let is_first = AtomicBool::new(true);
    let upstream = Quirky::by_tcp(move |mut connection| {
        let dies = is_first.swap(false, Ordering::Relaxed);
        while let Some(asked) = connection.next() {
            // As if a firewall had lost its state: data is accepted, and nothing is sent back.
            if !dies || asked.message.queries[0].name().to_string().starts_with('a') {
                connection.answer(&asked);
            }
        }
    });
    let server = server(upstream.address, "");
    let lower = |name: &str| addresses(server.address, name);
    assert_eq!(lower("a.example"), ["192.0.2.1"]);
    assert_eq!(upstream.connections(), 1);
    assert_eq!(lower("b.example"), ["192.0.2.1"]);
    assert_eq!(lower("c.example"), ["192.0.2.1"]);
    assert_eq!(upstream.connections(), 2);
    assert_eq!(server.count("upstream_failures"), 0);
}

#[test]
fn a_query_that_is_slow_by_tcp_does_not_end_the_connection_for_others() {
    let upstream = Quirky::by_tcp(|mut connection| {
        let mut slow: Option<Asked> = None;
        while let Some(asked) = connection.next() {
            match asked.message.queries[0].name().to_string().starts_with('s') {
                true => slow = Some(asked),
                false => connection.answer(&asked),
            }
            if let Some(asked) =
                slow.take_if(|_| connection.log.lock().expect("not poisoned").len() > 8)
            {
                connection.answer(&asked);
            }
        }
    });
    let server = server(upstream.address, "timeout-ms = 30000\n");
    assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
    let client = Port::open(server.address);
    client.send(&query("slow.example", RecordType::A));
    for n in 0..6 {
        let name = format!("b{n}.example");
        assert_eq!(addresses(server.address, &name), ["192.0.2.1"]);
    }
    assert_eq!(data(&client.receive()), ["192.0.2.1"]);
    assert_eq!(upstream.connections(), 1);
}

/// The refusal of EDNS by a server that does not know it.
fn refusal(asked: &Asked, code: ResponseCode) -> Message {
    let mut message = answer(asked, code);
    message.metadata.recursion_available = false;
    message
}

/// Answers queries without EDNS, and others with the result of `refuse`.
fn without_edns(refuse: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Quirky {
    let udp = move |asked: &Asked| match asked.message.edns {
        Some(_) => vec![refuse(asked)],
        None => vec![bytes(&address_of(asked, TRUE))],
    };
    Quirky::start(udp, Tcp::Refused)
}

#[test]
fn an_upstream_without_edns_is_asked_without_it_and_that_is_remembered() {
    let header = |asked: &Asked, code| bytes(&refusal(asked, code))[..12].to_vec();
    let bad_version = |asked: &Asked| {
        let mut message = refusal(asked, ResponseCode::BADVERS);
        message.edns = Some(Edns::new());
        bytes(&message)
    };
    for (what, upstream) in [
        (
            "FORMERR",
            without_edns(|asked| bytes(&refusal(asked, ResponseCode::FormErr))),
        ),
        (
            "NOTIMP",
            without_edns(|asked| bytes(&refusal(asked, ResponseCode::NotImp))),
        ),
        (
            "FORMERR, the header alone",
            without_edns(move |asked| header(asked, ResponseCode::FormErr)),
        ),
        (
            "NOTIMP, the header alone",
            without_edns(move |asked| header(asked, ResponseCode::NotImp)),
        ),
        ("BADVERS", without_edns(bad_version)),
    ] {
        let server = server(upstream.address, "");
        for n in 0..4 {
            let name = format!("a{n}.example");
            assert_eq!(addresses(server.address, &name), ["192.0.2.1"], "{what}");
        }
        assert!(!upstream.last_had_edns(), "{what}");
        let before = upstream.asked().len();
        assert_eq!(addresses(server.address, "b.example"), ["192.0.2.1"]);
        assert_eq!(upstream.asked().len(), before + 1, "{what}: remembered");
        assert_eq!(server.status()["upstream"][0]["edns"], false, "{what}");
        assert!(text(&server.verb(&["status"])).contains(", no EDNS"));
        assert_eq!(server.count("upstream_failures"), 0);
    }
}

#[test]
fn an_upstream_that_answers_servfail_to_every_query_with_edns_is_used_without_it() {
    let upstream = without_edns(|asked| bytes(&refusal(asked, ResponseCode::ServFail)));
    let server = server(upstream.address, "");
    until("an answer", || {
        let names = (0..8).map(|n| format!("n{n}.example"));
        names
            .into_iter()
            .any(|name| addresses(server.address, &name) == ["192.0.2.1"])
    });
    assert_eq!(server.status()["upstream"][0]["edns"], false);
}

/// The query with QR and this response code, as sent by servers that echo queries they do not
/// understand.
fn echo(asked: &Asked, code: ResponseCode) -> Vec<u8> {
    let mut wire = bytes(&asked.message);
    wire[2] |= 0x80;
    wire[3] |= code.low();
    wire
}

/// A refusal with an OPT record whose option ends after the record does.
fn with_a_broken_opt(asked: &Asked, code: ResponseCode) -> Vec<u8> {
    let mut wire = bytes(&refusal(asked, code));
    wire[11] = 1;
    wire.extend_from_slice(b"\x00\x00\x29\x04\xD0\x00\x00\x00\x00\x00\x05\x00\x0A\x00\x09x");
    wire
}

#[test]
fn an_upstream_that_echoes_opt_or_garbles_it_is_used_without_edns() {
    use ResponseCode::{FormErr, NoError, NotImp, ServFail};
    let announced = |asked: &Asked| {
        // One additional record is announced and missing.
        let mut wire = bytes(&refusal(asked, FormErr));
        wire[11] = 1;
        wire
    };
    for (what, upstream) in [
        (
            "FORMERR, echoed",
            without_edns(|asked| echo(asked, FormErr)),
        ),
        ("NOTIMP, echoed", without_edns(|asked| echo(asked, NotImp))),
        (
            "FORMERR, broken OPT",
            without_edns(|asked| with_a_broken_opt(asked, FormErr)),
        ),
        (
            "SERVFAIL, broken OPT",
            without_edns(|asked| with_a_broken_opt(asked, ServFail)),
        ),
        (
            "NOERROR, broken OPT",
            without_edns(|asked| with_a_broken_opt(asked, NoError)),
        ),
        ("FORMERR, OPT announced", without_edns(announced)),
    ] {
        let server = server(upstream.address, "");
        let answered = (0..8).filter(|n| {
            let name = format!("n{n}.example");
            addresses(server.address, &name) == ["192.0.2.1"]
        });
        assert!(answered.count() >= 5, "{what}");
        assert!(!upstream.last_had_edns(), "{what}");
        assert_eq!(server.status()["upstream"][0]["edns"], false, "{what}");
    }
}

#[test]
fn a_zone_whose_servers_echo_opt_does_not_turn_edns_off_while_the_upstream_answers_with_it() {
    let upstream = Quirky::start(
        |asked| {
            let mut message = address_of(asked, TRUE);
            message.edns = asked.message.edns.clone();
            match name(asked).ends_with("broken.example") {
                true => vec![echo(asked, ResponseCode::FormErr)],
                false => vec![bytes(&message)],
            }
        },
        Tcp::Refused,
    );
    let server = server(upstream.address, "");
    assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
    for n in 0..6 {
        let name = format!("n{n}.broken.example");
        let failed = ask(server.address, &name, RecordType::A);
        assert_eq!(rcode(&failed), ResponseCode::FormErr);
    }
    assert_eq!(upstream.asked().len(), 7, "each is asked once");
    assert_eq!(server.status()["upstream"][0]["edns"], true);
}

/// An upstream with EDNS, except for names at or below `broken.example`. A query with EDNS for one of
/// these gets `error` without an OPT record, as from a resolver that passes on such an answer of the
/// zone's servers; a query without EDNS is answered.
fn with_a_broken_zone(error: ResponseCode) -> Quirky {
    Quirky::start(
        move |asked| {
            let name = asked.message.queries[0].name().to_lowercase().to_string();
            let is_broken = name.ends_with("broken.example.");
            let mut message = match (is_broken, &asked.message.edns) {
                (true, Some(_)) => refusal(asked, error),
                _ => address_of(asked, TRUE),
            };
            message.edns = asked.message.edns.clone().filter(|_| !is_broken);
            vec![bytes(&message)]
        },
        Tcp::Refused,
    )
}

#[test]
fn a_broken_zone_does_not_turn_edns_off_while_the_upstream_answers_with_it() {
    let upstream = with_a_broken_zone(ResponseCode::ServFail);
    let server = server(upstream.address, "");
    assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
    for n in 0..8 {
        let failed = ask(
            server.address,
            &format!("n{n}.broken.example"),
            RecordType::A,
        );
        assert_eq!(rcode(&failed), ResponseCode::ServFail);
        assert_eq!(server.status()["upstream"][0]["edns"], true, "{n}");
    }
    assert_eq!(upstream.asked().len(), 9, "each is asked once");
}

#[test]
fn a_zone_without_edns_does_not_turn_it_off_while_the_upstream_answers_with_it() {
    for error in [ResponseCode::FormErr, ResponseCode::NotImp] {
        let upstream = with_a_broken_zone(error);
        let server = server(upstream.address, "");
        assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
        for n in 0..8 {
            let name = format!("n{n}.broken.example");
            assert_eq!(addresses(server.address, &name), ["192.0.2.1"]);
            assert_eq!(server.status()["upstream"][0]["edns"], true, "{n}");
        }
        assert_eq!(
            upstream.asked().len(),
            17,
            "each name of the broken zone is asked twice"
        );
    }
}

#[test]
fn one_broken_name_does_not_turn_edns_off_however_often_it_is_asked_for() {
    let upstream = with_a_broken_zone(ResponseCode::ServFail);
    let server = server(upstream.address, "");
    let types = [
        RecordType::A,
        RecordType::AAAA,
        RecordType::MX,
        RecordType::TXT,
        RecordType::HTTPS,
    ];
    for rtype in types {
        let failed = ask(server.address, "broken.example", rtype);
        assert_eq!(rcode(&failed), ResponseCode::ServFail, "{rtype}");
    }
    assert_eq!(server.status()["upstream"][0]["edns"], true);
}

#[test]
fn an_error_with_edns_is_the_upstreams_answer() {
    let upstream = Quirky::start(
        |asked| {
            let mut message = refusal(asked, ResponseCode::FormErr);
            message.edns = Some(Edns::new());
            vec![bytes(&message)]
        },
        Tcp::Refused,
    );
    let server = server(upstream.address, "");
    let failed = ask(server.address, "a.example", RecordType::A);
    assert_eq!(rcode(&failed), ResponseCode::FormErr);
    assert_eq!(upstream.asked().len(), 1);
    assert_eq!(server.status()["upstream"][0]["edns"], true);
}

#[test]
fn a_forged_refusal_of_edns_does_not_turn_it_off() {
    let upstream = Quirky::start(
        |asked| {
            let refused = refusal(asked, ResponseCode::FormErr);
            let mut other_id = refused.clone();
            other_id.metadata.id ^= 1;
            let mut other_name = refused;
            let name = Name::from_ascii("b.example.").expect("a name");
            other_name.queries[0].set_name(name);
            vec![
                bytes(&other_id),
                bytes(&other_id)[..12].to_vec(),
                bytes(&other_name),
                bytes(&address_of(asked, TRUE)),
            ]
        },
        Tcp::Refused,
    );
    let server = server(upstream.address, "");
    for n in 0..5 {
        let name = format!("a{n}.example");
        assert_eq!(addresses(server.address, &name), ["192.0.2.1"]);
        assert!(upstream.last_had_edns());
    }
    assert_eq!(upstream.asked().len(), 5);
    assert_eq!(server.status()["upstream"][0]["edns"], true);
}

#[test]
fn one_bare_header_costs_one_query_and_does_not_turn_edns_off() {
    let first = AtomicBool::new(true);
    let upstream = Quirky::start(
        move |asked| match first.swap(false, Ordering::Relaxed) {
            true => vec![bytes(&refusal(asked, ResponseCode::FormErr))[..12].to_vec()],
            false => vec![bytes(&address_of(asked, TRUE))],
        },
        Tcp::Refused,
    );
    let server = server(upstream.address, "");
    assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
    assert_eq!(addresses(server.address, "b.example"), ["192.0.2.1"]);
    assert!(upstream.last_had_edns());
    assert_eq!(server.count("upstream_bare_errors"), 1);
    assert_eq!(server.status()["upstream"][0]["edns"], true);
}

/// Answers with the name as `change` spells it.
fn changes_case(change: fn(&str) -> String, tcp: Tcp) -> Quirky {
    let udp = move |asked: &Asked| {
        let mut message = address_of(asked, TRUE);
        let name = change(&message.queries[0].name().to_string());
        let name = Name::from_ascii(name).expect("a name");
        message.queries[0].set_name(name.clone());
        message.answers[0].name = name;
        vec![bytes(&message)]
    };
    Quirky::start(udp, tcp)
}

#[test]
fn an_upstream_that_changes_letter_case_and_has_no_tcp_is_used_and_that_is_remembered() {
    for (what, upstream) in [
        ("lower", changes_case(str::to_ascii_lowercase, Tcp::Refused)),
        ("upper", changes_case(str::to_ascii_uppercase, Tcp::Refused)),
        ("silent", changes_case(str::to_ascii_lowercase, Tcp::Silent)),
    ] {
        let server = server(upstream.address, "");
        for n in 0..3 {
            let name = format!("abcdefghijklmnop{n}.example");
            assert_eq!(addresses(server.address, &name), ["192.0.2.1"], "{what}");
        }
        let before = upstream.asked().len();
        let name = "qrstuvwxyzabcdef.example";
        assert_eq!(addresses(server.address, name), ["192.0.2.1"], "{what}");
        assert_eq!(upstream.asked().len(), before + 1, "{what}: remembered");
        let status = server.status();
        assert_eq!(status["upstream"][0]["random_case"], false, "{what}");
        assert!(text(&server.verb(&["status"])).contains(", no random case"));
        assert_eq!(server.count("upstream_failures"), 0, "{what}");
    }
}

#[test]
fn a_long_answer_in_another_letter_case_is_fetched_without_random_case_if_tcp_fails() {
    let udp = |asked: &Asked| {
        let mut message = address_of(asked, TRUE);
        let (name, lower) = (
            message.queries[0].name().clone(),
            message.queries[0].name().to_lowercase(),
        );
        if name.to_string() != lower.to_string() {
            message.queries[0].set_name(lower);
            let record = message.answers[0].clone();
            message.answers.extend(vec![record; 200]);
        }
        vec![bytes(&message)]
    };
    let upstream = Quirky::start(udp, Tcp::Refused);
    let server = server(upstream.address, "");
    for n in 0..3 {
        let name = format!("abcdefghijklmnop{n}.example");
        assert_eq!(addresses(server.address, &name), ["192.0.2.1"]);
    }
    let before = upstream.asked().len();
    assert_eq!(
        addresses(server.address, "qrstuvwxyzabcdef.example"),
        ["192.0.2.1"]
    );
    assert_eq!(upstream.asked().len(), before + 1, "it is remembered");
}

#[test]
fn an_upstream_with_neither_edns_nor_case_nor_tcp_is_used() {
    let udp = |asked: &Asked| {
        let mut message = match asked.message.edns {
            Some(_) => refusal(asked, ResponseCode::FormErr),
            None => address_of(asked, TRUE),
        };
        let name = message.queries[0].name().to_lowercase();
        message.queries[0].set_name(name);
        vec![bytes(&message)]
    };
    let upstream = Quirky::start(udp, Tcp::Refused);
    let server = server(upstream.address, "");
    for n in 0..3 {
        let name = format!("abcdefghijklmnop{n}.example");
        assert_eq!(addresses(server.address, &name), ["192.0.2.1"]);
    }
    let status = server.status();
    assert_eq!(status["upstream"][0]["edns"], false);
    assert_eq!(status["upstream"][0]["random_case"], false);
}

#[test]
fn settings_of_a_server_declare_its_features() {
    let upstream = changes_case(str::to_ascii_lowercase, Tcp::Refused);
    let given = format!("[\"{}\"]", upstream.address);
    let table = format!(
        "[{{ address = \"{}\", random-case = false, edns = false }}]",
        upstream.address
    );
    let config = preamble(upstream.address).replace(&given, &table) + &list("ads", "");
    let server = Server::start(&config, &[("ads", "blocked.example\n")]);
    assert_eq!(
        addresses(server.address, "abcdefghijkl.example"),
        ["192.0.2.1"]
    );
    assert_eq!(upstream.asked().len(), 1);
    assert!(!upstream.last_had_edns());
    let status = server.status();
    assert_eq!(status["upstream"][0]["random_case"], false);
    assert_eq!(status["upstream"][0]["edns"], false);
}

#[test]
fn with_one_connection_per_query_a_client_with_many_queries_delays_no_other() {
    const MANY: usize = 200;
    let connections = AtomicUsize::new(0);
    let upstream = Quirky::by_tcp(move |mut connection| {
        let Some(asked) = connection.next() else {
            return;
        };
        if connections.fetch_add(1, Ordering::Relaxed) < 3 {
            // The first three connections are closed with two queries on them. From now on each query has a separate
            // connection.
            connection.next();
            return;
        }
        let is_other = |asked: &Asked| name(asked) == "other.example";
        while !connection
            .log
            .lock()
            .expect("not poisoned")
            .iter()
            .any(is_other)
        {
            std::thread::yield_now();
        }
        connection.answer(&asked);
    });
    let server = server(upstream.address, "timeout-ms = 30000\n");
    let greedy = Port::open_at([127, 0, 0, 2], server.address);
    for number in 0..MANY {
        greedy.send(&query(&format!("n{number}.example"), RecordType::A));
    }
    until("all connections in use", || {
        let asked = upstream.asked().iter().map(name).collect::<HashSet<_>>();
        asked.len() == MANY && upstream.connections() > 16
    });
    let other = Port::open_at([127, 0, 0, 3], server.address);
    other.send(&query("other.example", RecordType::A));
    assert_eq!(data(&other.receive()), ["192.0.2.1"]);
    let asked = upstream.asked();
    let before = asked.iter().filter(|asked| asked.tcp);
    let before = before.take_while(|asked| name(asked) != "other.example");
    let before = before.count();
    assert!(before < MANY / 2, "{before}");
}
