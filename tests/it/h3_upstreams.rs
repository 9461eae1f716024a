//! Upstream servers that are asked by DNS over HTTPS with HTTP/3.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use serde_json::Value;

use crate::support::client::{Port, addresses, ask, query, rcode, until};
use crate::support::dot::answer;
use crate::support::quic::{Http, QuicUpstream, ok};
use crate::support::server::{Server, list, preamble, text};
use crate::support::tls::Security;

const DNS_MESSAGE: Option<&str> = Some("application/dns-message");

fn start(servers: &str) -> Server {
    start_with(servers, 20_000)
}

fn start_with(servers: &str, timeout_ms: u32) -> Server {
    let closed_port: SocketAddr = "127.0.0.1:9".parse().expect("an address");
    let config = preamble(closed_port).replace("\"127.0.0.1:9\"", servers)
        + &format!("timeout-ms = {timeout_ms}\n")
        + &list("ads", "");
    Server::start(&config, &[("ads", "blocked.example\n")])
}

fn upstream(server: &Server) -> Value {
    server.status()["upstream"][0].clone()
}

#[test]
fn queries_by_http3_are_requests_on_one_connection_and_padded() {
    let of_http = QuicUpstream::http(ok);
    let server = start(&of_http.server_at("/resolve?a=b"));
    for name in ["a.example", "longer-name.example", "www.c.example"] {
        assert_eq!(addresses(server.address, name), ["192.0.2.1"]);
    }
    let queries = of_http.seen.queries();
    // A slow machine sends a query again that was not answered soon.
    assert!(queries.len() >= 3);
    assert_eq!(of_http.seen.connections(), 1);
    for bytes in &queries {
        assert_eq!(bytes.len(), 128, "a block");
        let message = Message::from_vec(bytes).expect("a query");
        assert_eq!(message.metadata.id, 0);
    }
    let head = &of_http.seen.heads()[0];
    assert_eq!(head.method(), "POST");
    let port = of_http.address.port();
    let url = format!("https://primary.test:{port}/resolve?a=b");
    assert_eq!(head.uri().to_string(), url);
    for name in ["content-type", "accept"] {
        assert_eq!(head.headers()[name], "application/dns-message");
    }
    assert_eq!(head.headers()["content-length"], "128");
    let upstream = upstream(&server);
    assert_eq!(upstream["encrypted"], true);
    assert_eq!(upstream["transport"], "h3");
    assert!(server.count("upstream_h3_queries") >= 3);
    assert!(text(&server.verb(&["status"])).contains("over H3"));
}

#[test]
fn the_usual_path_is_dns_query() {
    let of_http = QuicUpstream::http(ok);
    let server = start(&of_http.server());
    assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
    assert_eq!(of_http.seen.heads()[0].uri().path(), "/dns-query");
}

#[test]
fn responses_of_http3_without_a_dns_message_are_failures_whose_reason_is_shown() {
    type Respond = fn(&[u8]) -> Http;
    let faults: [(Respond, &str, &str); 5] = [
        (
            |query| Http::Respond(503, DNS_MESSAGE, answer(query), 100),
            "http_status",
            "HTTP status 503",
        ),
        (
            |query| Http::Respond(200, Some("text/html"), answer(query), 100),
            "http_content",
            "are of the type text/html",
        ),
        (
            |query| Http::Respond(200, None, answer(query), 100),
            "http_content",
            "have no type",
        ),
        (
            |_| Http::Respond(200, DNS_MESSAGE, vec![0; 65_536], 5000),
            "http_content",
            "longer than a DNS message",
        ),
        (|_| Http::Reset, "http_protocol", "HTTP with it fails"),
    ];
    for (respond, kind, said) in faults {
        let of_http = QuicUpstream::http(respond);
        let server = start(&of_http.server());
        let failed = ask(server.address, "a.example", RecordType::A);
        assert_eq!(rcode(&failed), ResponseCode::ServFail, "{said}");
        let state = upstream(&server);
        let problem = state["problem"].as_str().expect("a problem");
        assert!(problem.contains(said), "{problem}");
        assert_eq!(state["failures_total"][kind], 1, "{state}");
        assert_eq!(of_http.seen.queries().len(), 1, "it is not asked again");
    }
}

#[test]
fn the_ttls_of_a_response_by_http3_from_a_cache_are_lower_by_its_age() {
    let of_http = QuicUpstream::http(|query| match query[13] {
        b'o' => Http::Aged("100", answer(query)),
        _ => ok(query),
    });
    let server = start(&of_http.server());
    let ttl = |name: &str| ask(server.address, name, RecordType::A).answers[0].ttl;
    let (fresh, old) = (ttl("fresh.example"), ttl("old.example"));
    assert!(fresh > 200 && (1..=200).contains(&old), "{fresh} {old}");
}

#[test]
fn an_interim_response_of_http3_is_passed_over() {
    let of_http = QuicUpstream::http(|query| Http::Early(answer(query)));
    let server = start(&of_http.server());
    assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
    assert_eq!(upstream(&server)["failures_total"], serde_json::json!({}));
}

#[test]
fn a_problem_of_http3_is_gone_with_the_next_answer() {
    let of_http = QuicUpstream::http(|query| match query[13] {
        b'b' => Http::Respond(500, DNS_MESSAGE, Vec::new(), 1),
        _ => ok(query),
    });
    let server = start(&of_http.server());
    let failed = ask(server.address, "bad.example", RecordType::A);
    assert_eq!(rcode(&failed), ResponseCode::ServFail);
    assert!(upstream(&server)["problem"].is_string());
    assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
    assert_eq!(upstream(&server)["problem"], Value::Null);
    assert_eq!(of_http.seen.connections(), 1);
}

#[test]
fn a_body_byte_by_byte_is_read_and_one_that_does_not_come_is_given_up() {
    let of_http = QuicUpstream::http(|query| match query[13] {
        b's' => Http::Stall,
        _ => Http::Respond(200, DNS_MESSAGE, answer(query), 1),
    });
    let server = start_with(&of_http.server(), 3000);
    // The handshake may take longer than the timeout.
    until("an answer", || {
        rcode(&ask(server.address, "a.example", RecordType::A)) == ResponseCode::NoError
    });
    let failed = ask(server.address, "stalled.example", RecordType::A);
    assert_eq!(rcode(&failed), ResponseCode::ServFail);
    until("an answer", || {
        rcode(&ask(server.address, "b.example", RecordType::A)) == ResponseCode::NoError
    });
}

#[test]
fn several_requests_that_are_given_up_at_once_leave_the_connection_usable() {
    let of_http = QuicUpstream::http(|query| match query[13] {
        b's' => Http::Stall,
        _ => ok(query),
    });
    let server = start_with(&of_http.server(), 3000);
    // The handshake may take longer than the timeout.
    until("an answer", || {
        rcode(&ask(server.address, "a.example", RecordType::A)) == ResponseCode::NoError
    });
    let port = Port::open(server.address);
    let names = ["s1.example", "s2.example", "s3.example"];
    for name in names {
        port.send(&query(name, RecordType::A));
    }
    for _ in names {
        assert_eq!(rcode(&port.receive()), ResponseCode::ServFail);
    }
    until("an answer", || {
        rcode(&ask(server.address, "b.example", RecordType::A)) == ResponseCode::NoError
    });
}

#[test]
fn a_server_of_http3_that_closes_while_several_requests_are_open_loses_none() {
    let count = AtomicUsize::new(0);
    let of_http = QuicUpstream::http(move |query| match count.fetch_add(1, Ordering::Relaxed) {
        0 => ok(query),
        1 | 2 => Http::Stall,
        3 => Http::Close,
        _ => ok(query),
    });
    let server = start(&of_http.server());
    assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
    let port = Port::open(server.address);
    for id in 0..3 {
        let mut asked = query(&format!("n{id}.example"), RecordType::A);
        asked.metadata.id = id;
        port.send(&asked);
    }
    for _ in 0..3 {
        assert_eq!(rcode(&port.receive()), ResponseCode::NoError);
    }
    assert!(of_http.seen.connections() > 1);
}

#[test]
fn a_server_of_http3_that_takes_two_queries_on_each_connection_loses_none() {
    let of_http = QuicUpstream::http_by(Security::tls(b"h3"), 2, ok);
    let server = start(&of_http.server());
    for round in 0..7 {
        let name = format!("r{round}.example");
        assert_eq!(addresses(server.address, &name), ["192.0.2.1"]);
    }
    assert!(of_http.seen.connections() >= 4);
    assert!(of_http.seen.resumed() > 0, "sessions are resumed");
    assert_eq!(upstream(&server)["problem"], Value::Null);
}

#[test]
fn a_server_without_http3_is_not_asked() {
    let of_http = QuicUpstream::http_by(Security::tls(b"doq"), usize::MAX, ok);
    let server = start(&of_http.server());
    let failed = ask(server.address, "a.example", RecordType::A);
    assert_eq!(rcode(&failed), ResponseCode::ServFail);
    let problem = upstream(&server)["problem"].to_string();
    assert!(problem.contains("does not offer HTTP/3"), "{problem}");
}
