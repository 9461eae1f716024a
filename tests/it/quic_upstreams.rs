//! Upstream servers that are asked by DNS over QUIC.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use serde_json::Value;

use crate::support::client::{Port, addresses, ask, query, rcode, until};
use crate::support::dot::answer;
use crate::support::quic::{Act, QuicUpstream, frame};
use crate::support::server::{Server, list, preamble, text};
use crate::support::tls::{Security, authority, web_authority};
use crate::support::upstream::Upstream;

const OTHER_PIN: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// A configuration with these servers, in the notation of the file, and `timeout-ms`.
fn config(servers: &str, timeout_ms: u32) -> String {
    let closed_port: SocketAddr = "127.0.0.1:9".parse().expect("an address");
    preamble(closed_port).replace("\"127.0.0.1:9\"", servers)
        + &format!("timeout-ms = {timeout_ms}\n")
        + &list("ads", "")
}

/// There is much time: a handshake is slow without optimization, while other tests run.
fn start(servers: &str) -> Server {
    Server::start(&config(servers, 20_000), &[("ads", "blocked.example\n")])
}

fn upstream(server: &Server, at: usize) -> Value {
    server.status()["upstream"][at].clone()
}

#[test]
fn queries_have_a_stream_each_on_one_connection_and_are_padded_and_without_an_id() {
    let of_quic = QuicUpstream::plain();
    let server = start(&of_quic.server());
    let names = [
        "a.example",
        "a-longer-name-than-the-first.example",
        "www.c.example",
    ];
    for name in names {
        assert_eq!(addresses(server.address, name), ["192.0.2.1"]);
    }
    let queries = of_quic.seen.queries();
    assert_eq!(of_quic.seen.connections(), 1);
    // A slow machine sends a query again that was not answered soon.
    let mut asked = BTreeSet::new();
    for bytes in &queries {
        assert_eq!(bytes.len(), 128, "a block");
        let message = Message::from_vec(bytes).expect("a query");
        assert_eq!(message.metadata.id, 0);
        asked.insert(message.queries[0].name().to_string());
    }
    let expected = names.map(|name| format!("{name}."));
    assert_eq!(asked, BTreeSet::from(expected), "in lower case");
    let upstream = upstream(&server, 0);
    assert_eq!(upstream["encrypted"], true);
    assert_eq!(upstream["transport"], "quic");
    assert!(upstream["latency_ms"].is_number(), "{upstream}");
    assert!(server.count("upstream_quic_queries") >= 3);
    assert_eq!(server.count("upstream_tls_handshakes"), 1);
    assert_eq!(server.count("upstream_queries"), 0);
    assert!(text(&server.verb(&["status"])).contains("over QUIC"));
}

#[test]
fn a_server_of_quic_that_can_not_prove_who_it_is_is_not_asked_and_status_says_why() {
    let ca = authority();
    let ca = ca.to_str().expect("UTF-8");
    let web_ca = web_authority();
    let web_ca = web_ca.to_str().expect("UTF-8");
    let valid = || Security::tls(b"doq");
    for (security, name, more, kind, said) in [
        (
            valid(),
            "#other.test",
            format!("ca-file = \"{ca}\""),
            "tls_name",
            "its certificate is not for other.test, but for",
        ),
        (
            valid(),
            "",
            format!("ca-file = \"{ca}\""),
            "tls_name",
            "its certificate is not for 127.0.0.1",
        ),
        (
            valid(),
            "#primary.test",
            format!("ca-file = \"{web_ca}\""),
            "tls_authority",
            "issued by an unknown authority",
        ),
        (
            Security::expired(b"doq"),
            "#lists.example",
            format!("ca-file = \"{web_ca}\""),
            "tls_dates",
            "its certificate has expired",
        ),
        (
            valid(),
            "",
            format!("pin = [\"{OTHER_PIN}\"]"),
            "tls_pin",
            "its key is none of `pin`",
        ),
        (
            Security::tls(b"h3"),
            "#primary.test",
            format!("ca-file = \"{ca}\""),
            "tls_protocol",
            "it does not offer DNS over QUIC at this port",
        ),
    ] {
        let of_quic = QuicUpstream::start(security, |_| Act::Wait);
        let address = of_quic.address;
        let server = start(&format!(
            "{{ address = \"quic://{address}{name}\", {more} }}"
        ));
        let failed = ask(server.address, "a.example", RecordType::A);
        assert_eq!(rcode(&failed), ResponseCode::ServFail, "{kind}");
        let state = upstream(&server, 0);
        let problem = state["problem"].as_str().expect("a problem");
        assert!(problem.contains(said), "{problem}");
        assert!(state["failures_total"][kind].as_u64() > Some(0), "{state}");
        assert!(server.count("upstream_tls_handshakes_failed") > 0);
        assert!(of_quic.seen.queries().is_empty(), "no name is sent");
    }
}

#[test]
fn a_server_that_does_not_answer_at_its_port_is_reported() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = silent.local_addr().expect("bound");
    let config = config(&format!("\"quic://{address}#primary.test\""), 2000);
    let server = Server::start(&config, &[("ads", "blocked.example\n")]);
    let failed = ask(server.address, "a.example", RecordType::A);
    assert_eq!(rcode(&failed), ResponseCode::ServFail);
    until("the problem", || {
        let problem = &upstream(&server, 0)["problem"];
        let said = problem.as_str().unwrap_or_default().to_owned();
        said.contains("does not complete the QUIC handshake in time")
    });
    let counts = &upstream(&server, 0)["failures_total"];
    assert!(counts["tls_timeout"].as_u64() > Some(0), "{counts}");
}

/// Asks for many names at once; returns how many got the right answer.
fn ask_many(server: &Server, count: u16) -> usize {
    let port = Port::open(server.address);
    for id in 0..count {
        let mut asked = query(&format!("n{id}.example"), RecordType::A);
        asked.metadata.id = id;
        port.send(&asked);
    }
    let answers = (0..count).map(|_| port.receive());
    answers.filter(|answer| answer.answers.len() == 1).count()
}

#[test]
fn many_queries_in_flight_share_a_connection() {
    let of_quic = QuicUpstream::plain();
    let server = start(&of_quic.server());
    assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
    // More than the server permits streams at a time.
    assert_eq!(ask_many(&server, 400), 400);
    assert_eq!(of_quic.seen.connections(), 1);
}

#[test]
fn a_server_of_quic_that_closes_after_each_answer_loses_no_query_and_resumes_sessions() {
    let of_quic = QuicUpstream::start(Security::tls(b"doq"), |query| {
        Act::SendAndClose(frame(&answer(query)))
    });
    let server = start(&of_quic.server());
    for round in 0..4 {
        let name = format!("r{round}.example");
        assert_eq!(addresses(server.address, &name), ["192.0.2.1"]);
    }
    assert_eq!(ask_many(&server, 20), 20);
    assert!(of_quic.seen.connections() >= 4);
    assert!(of_quic.seen.resumed() > 0, "sessions are resumed");
    assert_eq!(upstream(&server, 0)["problem"], Value::Null);
}

#[test]
fn a_reset_stream_leads_to_the_next_server_and_status_has_its_code() {
    let of_quic = QuicUpstream::start(Security::tls(b"doq"), |_| Act::Reset(4));
    let plain = Upstream::plain();
    let server = start(&format!("{}, \"{}\"", of_quic.server(), plain.address));
    for name in ["a.example", "b.example", "c.example"] {
        assert_eq!(addresses(server.address, name), ["192.0.2.1"]);
    }
    assert!(!of_quic.seen.queries().is_empty());
    assert_eq!(of_quic.seen.connections(), 1, "the connection stays");
    let state = upstream(&server, 0);
    let problem = state["problem"].as_str().expect("a problem");
    assert!(
        problem.contains("resets streams (DOQ_EXCESSIVE_LOAD)"),
        "{problem}"
    );
    let counts = &state["failures_total"];
    assert!(counts["quic_protocol"].as_u64() > Some(0), "{counts}");
}

#[test]
fn a_breach_of_the_protocol_ends_the_connection_with_a_protocol_error() {
    type Break = fn(&[u8]) -> Vec<u8>;
    let breaches: [(Break, &str); 5] = [
        (
            |query| frame(&answer(query))[..9].to_vec(),
            "it ended a stream before the end of the response",
        ),
        (
            |query| {
                let mut frame = frame(&answer(query));
                frame[..2].copy_from_slice(&u16::MAX.to_be_bytes());
                frame
            },
            "it ended a stream before the end of the response",
        ),
        (
            |query| [frame(&answer(query)), frame(&answer(query))].concat(),
            "it sent more than one response to a query",
        ),
        (
            |query| {
                let mut message = answer(query);
                message[1] = 7;
                frame(&message)
            },
            "it sent a message whose ID is not 0",
        ),
        (
            |_| frame(&[0; 11]),
            "it sent a message that is shorter than a header",
        ),
    ];
    for (broken, said) in breaches {
        let of_quic = QuicUpstream::start(Security::tls(b"doq"), move |query| {
            Act::Send(vec![broken(query)])
        });
        let server = start(&of_quic.server());
        let failed = ask(server.address, "a.example", RecordType::A);
        assert_eq!(rcode(&failed), ResponseCode::ServFail, "{said}");
        let state = upstream(&server, 0);
        let problem = state["problem"].as_str().expect("a problem");
        assert!(problem.contains(said), "{problem}");
        assert_eq!(state["failures_total"]["quic_protocol"], 1, "{state}");
        until("the close", || of_quic.seen.closes() == [2]);
        assert_eq!(of_quic.seen.queries().len(), 1, "it is not asked again");
    }
}

#[test]
fn an_answer_byte_by_byte_or_in_a_stream_that_stays_open_is_read() {
    let of_quic = QuicUpstream::start(Security::tls(b"doq"), |query| {
        let bytes = frame(&answer(query));
        match bytes[14] {
            // The first label of the name is one byte long.
            1 => Act::Send(bytes.chunks(1).map(<[u8]>::to_vec).collect()),
            _ => Act::Leave(bytes),
        }
    });
    let server = start(&of_quic.server());
    assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
    assert_eq!(addresses(server.address, "open.example"), ["192.0.2.1"]);
    assert_eq!(
        upstream(&server, 0)["failures_total"],
        serde_json::json!({})
    );
}

#[test]
fn an_answer_to_another_query_is_not_used() {
    let of_quic = QuicUpstream::start(Security::tls(b"doq"), |query| {
        let mut other = answer(query);
        other[13] = b'x';
        Act::Send(vec![frame(&other)])
    });
    let server = start(&of_quic.server());
    let failed = ask(server.address, "a.example", RecordType::A);
    assert_eq!(rcode(&failed), ResponseCode::ServFail);
    let counts = &upstream(&server, 0)["failures_total"];
    assert_eq!(counts["unasked"], 1, "{counts}");
}

#[test]
fn a_server_whose_responses_answer_no_query_is_cut_off() {
    let of_quic = QuicUpstream::start(Security::tls(b"doq"), |query| {
        let mut other = answer(query);
        other[13] ^= 1;
        Act::Send(vec![frame(&other)])
    });
    let server = start(&of_quic.server());
    let mut round = 0;
    let mut fail = || {
        round += 1;
        let failed = ask(server.address, &format!("n{round}.example"), RecordType::A);
        assert_eq!(rcode(&failed), ResponseCode::ServFail);
    };
    (0..1000).for_each(|_| fail());
    until("another connection", || {
        fail();
        of_quic.seen.connections() > 1
    });
    let problem = upstream(&server, 0)["problem"].to_string();
    assert!(problem.contains("1000 messages in a row"), "{problem}");
}

#[test]
fn a_query_that_gives_up_is_cancelled_and_later_ones_are_answered() {
    let of_quic = QuicUpstream::start(Security::tls(b"doq"), |query| match query[13] {
        b's' => Act::Wait,
        _ => Act::Send(vec![frame(&answer(query))]),
    });
    let config = config(&of_quic.server(), 3000);
    let server = Server::start(&config, &[("ads", "blocked.example\n")]);
    // The handshake may take longer than the timeout.
    until("a connection", || {
        rcode(&ask(server.address, "a.example", RecordType::A)) == ResponseCode::NoError
    });
    let failed = ask(server.address, "slow.example", RecordType::A);
    assert_eq!(rcode(&failed), ResponseCode::ServFail);
    until("the cancelled stream", || {
        of_quic.seen.cancels().contains(&3)
    });
    until("an answer", || {
        rcode(&ask(server.address, "b.example", RecordType::A)) == ResponseCode::NoError
    });
}

#[test]
fn a_connection_of_quic_ends_without_an_error_when_its_server_is_removed() {
    let (old, new) = (QuicUpstream::plain(), QuicUpstream::plain());
    let server = start(&old.server());
    assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
    server.replace("tapis.toml", &config(&new.server(), 20_000));
    let report = text(&server.verb(&["reload"]));
    assert!(report.contains("upstream.servers"), "{report}");
    assert_eq!(addresses(server.address, "b.example"), ["192.0.2.1"]);
    until("the close", || old.seen.closes() == [0]);
    assert_eq!((old.seen.queries().len(), new.seen.queries().len()), (1, 1));
}
