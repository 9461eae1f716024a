//! Upstream servers that are asked by DNS over HTTPS.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use h2::Reason;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use serde_json::Value;

use crate::support::client::{Port, addresses, ask, data, query, rcode, until};
use crate::support::doh::{HttpsUpstream, Limits, Reaction};
use crate::support::dot::answer;
use crate::support::server::{Server, folder, list, preamble, text, verb};
use crate::support::upstream::Upstream;

fn impatient(servers: &str) -> String {
    let closed_port: SocketAddr = "127.0.0.1:9".parse().expect("an address");
    preamble(closed_port).replace("\"127.0.0.1:9\"", servers) + &list("ads", "")
}

/// There is much time: a handshake is slow without optimization, while other tests run.
fn patient(servers: &str) -> String {
    impatient(servers)
        .replace("[server]\n", "[server]\ndiscard-ms = 60000\n")
        .replace("[[list]]", "timeout-ms = 20000\n[[list]]")
}

fn start(servers: &str) -> Server {
    Server::start(&patient(servers), &[("ads", "blocked.example\n")])
}

fn start_impatient(servers: &str) -> Server {
    Server::start(&impatient(servers), &[("ads", "blocked.example\n")])
}

fn upstream(server: &Server) -> Value {
    server.status()["upstream"][0].clone()
}

fn problem(server: &Server) -> String {
    upstream(server)["problem"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
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
fn queries_are_posted_padded_and_without_an_id_over_one_connection() {
    let https = HttpsUpstream::plain();
    let server = start(&https.server());
    let names = [
        "a.example",
        "a-longer-name-than-the-first.example",
        "www.c.example",
    ];
    for name in names {
        assert_eq!(addresses(server.address, name), ["192.0.2.1"]);
    }
    let calls = https.calls.all();
    assert_eq!(https.calls.connections(), 1);
    // A slow machine sends a query again that was not answered soon.
    let mut asked = BTreeSet::new();
    for call in &calls {
        let port = https.address.port();
        assert_eq!(
            call.head,
            format!("POST https://primary.test:{port}/dns-query")
        );
        assert_eq!(call.headers["content-type"], "application/dns-message");
        assert_eq!(call.headers["accept"], "application/dns-message");
        assert_eq!(call.headers["content-length"], "128");
        assert_eq!(call.headers["cache-control"], "no-cache");
        assert_eq!(call.query.len(), 128, "a block");
        let message = Message::from_vec(&call.query).expect("a query");
        assert_eq!(message.metadata.id, 0);
        asked.insert(message.queries[0].name().to_string());
    }
    let expected = names.map(|name| format!("{name}."));
    assert_eq!(asked, BTreeSet::from(expected), "in lower case");
    let state = upstream(&server);
    assert_eq!(
        (&state["encrypted"], &state["transport"]),
        (&true.into(), &"https".into())
    );
    assert!(state["latency_ms"].is_number(), "{state}");
    assert!(server.count("upstream_https_queries") >= 3);
    assert_eq!(
        (
            server.count("upstream_queries"),
            server.count("upstream_tls_queries")
        ),
        (0, 0)
    );
    assert!(text(&server.verb(&["status"])).contains("over HTTPS"));
}

#[test]
fn responses_without_a_dns_message_are_failures_and_status_says_why() {
    type Case = (fn() -> Reaction, &'static str, &'static str);
    let cases: [Case; 6] = [
        (
            || Reaction::Respond(502, "text/html", b"bad".to_vec(), 9),
            "http_status",
            "502 Bad Gateway",
        ),
        (
            || Reaction::Respond(404, "text/html", b"no".to_vec(), 9),
            "http_status",
            "404 Not Found: is the path",
        ),
        (
            || Reaction::Respond(200, "text/html", b"<html>".to_vec(), 9),
            "http_content",
            "of the type text/html",
        ),
        (
            || Reaction::message(vec![0; 65_536]),
            "http_content",
            "longer than a DNS message",
        ),
        (
            || Reaction::Reset(Reason::INTERNAL_ERROR),
            "http_protocol",
            "internal error",
        ),
        (
            || Reaction::Reset(Reason::CANCEL),
            "http_protocol",
            "no longer needed",
        ),
    ];
    for (reaction, kind, said) in cases {
        let https = HttpsUpstream::start(Limits::default(), move |_| reaction());
        let server = start(&https.server());
        let failed = ask(server.address, "a.example", RecordType::A);
        assert_eq!(rcode(&failed), ResponseCode::ServFail, "{kind}");
        assert_eq!(https.calls.all().len(), 1, "it is asked once");
        let state = upstream(&server);
        assert_eq!(state["failures_total"][kind], 1, "{state}");
        assert!(problem(&server).contains(said), "{state}");
        assert!(text(&server.verb(&["status"])).contains(said));
        assert_eq!(server.count("upstream_resent"), 0);
    }
}

#[test]
fn after_a_response_without_a_dns_message_the_next_server_is_asked() {
    let https = HttpsUpstream::start(Limits::default(), |_| Reaction::Reset(Reason::CANCEL));
    let plain = Upstream::plain();
    let servers = format!("{}, \"{}\"", https.server(), plain.address);
    let config = patient(&servers).replace("[[list]]", "strategy = \"strict\"\n[[list]]");
    let server = Server::start(&config, &[("ads", "blocked.example\n")]);
    assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
}

#[test]
fn a_query_on_an_open_connection_that_is_refused_is_not_repeated() {
    let https = HttpsUpstream::start(Limits::default(), |query| match query[13] {
        b'b' => Reaction::Reset(Reason::CANCEL),
        _ => Reaction::answer(query),
    });
    let server = start(&https.server());
    let mut round = 0;
    // On a slow machine the query may be repeated because the response is late.
    until("a query that is sent once", || {
        round += 1;
        let good = format!("good{round}.example");
        assert_eq!(addresses(server.address, &good), ["192.0.2.1"]);
        let before = https.calls.all().len();
        let bad = format!("bad{round}.example");
        let failed = ask(server.address, &bad, RecordType::A);
        assert_eq!(rcode(&failed), ResponseCode::ServFail);
        https.calls.all().len() == before + 1
    });
}

#[test]
fn a_fault_is_shown_until_the_server_answers_again() {
    let count = AtomicUsize::new(0);
    let https = HttpsUpstream::start(Limits::default(), move |query| {
        match count.fetch_add(1, Ordering::Relaxed) {
            0 => Reaction::Respond(503, "text/plain", Vec::new(), 1),
            _ => Reaction::answer(query),
        }
    });
    let server = start(&https.server());
    let failed = ask(server.address, "a.example", RecordType::A);
    assert_eq!(rcode(&failed), ResponseCode::ServFail);
    assert!(problem(&server).contains("503 Service Unavailable"));
    assert_eq!(addresses(server.address, "b.example"), ["192.0.2.1"]);
    assert_eq!(problem(&server), "");
    assert_eq!(https.calls.connections(), 1);
}

#[test]
fn a_server_without_http_2_is_reported() {
    let limits = Limits {
        alpn: b"http/1.1",
        ..Limits::default()
    };
    let https = HttpsUpstream::start(limits, Reaction::answer);
    let server = start(&https.server());
    let failed = ask(server.address, "a.example", RecordType::A);
    assert_eq!(rcode(&failed), ResponseCode::ServFail);
    assert!(
        problem(&server).contains("does not offer HTTP/2"),
        "{}",
        problem(&server)
    );
    let state = upstream(&server);
    assert!(
        state["failures_total"]["tls_protocol"].as_u64() > Some(0),
        "{state}"
    );
}

#[test]
fn a_server_that_agrees_to_no_protocol_is_sent_no_query() {
    // A TLS server that ignores the names of protocols.
    let of_tls = crate::support::dot::TlsUpstream::start(
        crate::support::tls::Security::without_protocol(),
        |client, seen| {
            seen.next(client);
        },
    );
    let server = of_tls
        .server()
        .replace("tls://", "https://")
        .replace("#primary", "/dns-query#primary");
    let server = start(&server);
    let failed = ask(server.address, "a.example", RecordType::A);
    assert_eq!(rcode(&failed), ResponseCode::ServFail);
    assert!(
        problem(&server).contains("does not offer HTTP/2"),
        "{}",
        problem(&server)
    );
    assert!(of_tls.seen.queries().is_empty(), "no name is sent");
}

#[test]
fn connections_that_end_after_each_answer_or_are_cut_lose_no_query() {
    let ends = |requests| Limits {
        requests,
        ..Limits::default()
    };
    let cut = Limits {
        cut: 40,
        ..Limits::default()
    };
    // At an announced end, all queries beyond it may have been unsent still.
    for (limits, is_cut) in [(ends(1), false), (ends(40), false), (cut, true)] {
        let https = HttpsUpstream::start(limits, Reaction::answer);
        let server = start(&https.server());
        assert_eq!(ask_many(&server, 150), 150);
        assert!(https.calls.connections() > 1);
        assert!(!is_cut || server.count("upstream_resent") > 0);
    }
}

#[test]
fn requests_that_the_server_refuses_to_process_are_sent_again() {
    let count = AtomicUsize::new(0);
    let https = HttpsUpstream::start(Limits::default(), move |query| {
        match count.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => Reaction::Reset(Reason::REFUSED_STREAM),
            _ => Reaction::answer(query),
        }
    });
    let server = start(&https.server());
    assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
    assert_eq!(server.count("upstream_resent"), 1);
    assert_eq!(https.calls.connections(), 1);
    assert_eq!(problem(&server), "");
}

#[test]
fn the_servers_limit_of_requests_at_a_time_is_kept() {
    let limits = Limits {
        at_once: 3,
        ..Limits::default()
    };
    let https = HttpsUpstream::start(limits, Reaction::answer);
    let server = start(&https.server());
    // By then the limit is known.
    assert_eq!(addresses(server.address, "first.example"), ["192.0.2.1"]);
    assert_eq!(ask_many(&server, 200), 200);
    assert_eq!(https.calls.connections(), 1);
    // A slow machine sends a query again that was not answered soon.
    assert!(https.calls.all().len() >= 201);
    assert_eq!(server.count("upstream_resent"), 0);
}

#[test]
fn a_response_that_arrives_byte_by_byte_is_read() {
    let https = HttpsUpstream::start(Limits::default(), |query| {
        Reaction::Respond(200, "application/dns-message", answer(query), 1)
    });
    let server = start(&https.server());
    assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
}

#[test]
fn the_ttls_of_a_response_from_a_cache_of_http_are_lower_by_its_age() {
    let https = HttpsUpstream::start(Limits::default(), |query| match query[13] {
        b'o' => Reaction::Aged("100", answer(query)),
        b'v' => Reaction::Aged("1000000", answer(query)),
        _ => Reaction::answer(query),
    });
    let server = start(&https.server());
    let ttl = |name: &str| {
        let answer = ask(server.address, name, RecordType::A);
        assert_eq!(data(&answer), ["192.0.2.1"], "{name}");
        answer.answers[0].ttl
    };
    let fresh = ttl("fresh.example");
    assert!(fresh > 200, "{fresh}");
    let old = ttl("old.example");
    assert!((1..=200).contains(&old), "{old}");
    assert_eq!(ttl("very-old.example"), 0);
}

#[test]
fn requests_that_are_given_up_are_cancelled() {
    for reaction in [|| Reaction::Silence, || Reaction::HeadOnly] {
        let https = HttpsUpstream::start(Limits::default(), move |_| reaction());
        let server = start_impatient(&https.server());
        let mut round = 0;
        // On a slow machine the time may be over before a connection is open.
        until("a cancelled request", || {
            round += 1;
            let name = format!("n{round}.example");
            let failed = ask(server.address, &name, RecordType::A);
            assert_eq!(rcode(&failed), ResponseCode::ServFail);
            https.calls.cancelled() > 0
        });
    }
}

#[test]
fn the_answer_to_another_query_is_not_used() {
    let https = HttpsUpstream::start(Limits::default(), |query| {
        let mut other = answer(query);
        other[13] ^= 1;
        Reaction::message(other)
    });
    let server = start(&https.server());
    let failed = ask(server.address, "a.example", RecordType::A);
    assert_eq!(rcode(&failed), ResponseCode::ServFail);
    let counts = &upstream(&server)["failures_total"];
    assert_eq!(counts["unasked"], 1, "{counts}");
}

#[test]
fn a_server_whose_responses_answer_no_query_is_cut_off() {
    let https = HttpsUpstream::start(Limits::default(), |query| {
        let mut other = answer(query);
        other[13] ^= 1;
        Reaction::message(other)
    });
    let server = start(&https.server());
    let mut round = 0;
    let mut fail = || {
        round += 1;
        let failed = ask(server.address, &format!("n{round}.example"), RecordType::A);
        assert_eq!(rcode(&failed), ResponseCode::ServFail);
    };
    (0..1000).for_each(|_| fail());
    until("another connection", || {
        fail();
        https.calls.connections() > 1
    });
    let problem = problem(&server);
    assert!(problem.contains("1000 messages in a row"), "{problem}");
}

#[test]
fn check_reports_the_mistakes_of_a_url() {
    for (server, said) in [
        (
            "\"https://dns.example/dns-query\"",
            "write the address, and the name behind it, as in",
        ),
        (
            "\"https://192.0.2.1/dns-query{?dns}#dns.example\"",
            "write \\\"https://192.0.2.1/dns-query#dns.example\\\"",
        ),
        (
            "\"https://192.0.2.1/a b\"",
            "characters that a URL can't have",
        ),
        (
            "\"https://192.0.2.1/dns-query#\"",
            "\\\"https://192.0.2.55/dns-query#dns.example\\\"",
        ),
    ] {
        let folder = folder(&impatient(server), &[("ads", "blocked.example\n")]);
        let output = verb(folder.path(), &["check"]);
        assert_ne!(output.status.code(), Some(0), "{server}");
        let said = said.replace("\\\"", "\"");
        assert!(text(&output).contains(&said), "{}", text(&output));
    }
}
