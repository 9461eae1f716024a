//! Upstream servers that are asked by DNS over TLS.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use serde_json::Value;

use crate::support::client::{Port, addresses, ask, query, rcode, until};
use crate::support::dot::{TlsUpstream, answer, send};
use crate::support::server::{Server, folder, list, preamble, text, verb};
use crate::support::tls::{Security, authority, web_authority};
use crate::support::upstream::Upstream;

/// The SHA-256 of the key of `primary.test`, as openssl prints it.
const PIN: &str = "YIjnRhGic0IwMuECtGQiPibGqnQWSoHEguH5sPbjqf8=";
const OTHER_PIN: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// A configuration with these servers, in the notation of the file. There is much time: a handshake is slow without
/// optimization, while other tests run.
fn config(servers: &str) -> String {
    impatient(servers).replace("[[list]]", "timeout-ms = 20000\n[[list]]")
}

fn impatient(servers: &str) -> String {
    let closed_port: SocketAddr = "127.0.0.1:9".parse().expect("an address");
    preamble(closed_port).replace("\"127.0.0.1:9\"", servers) + &list("ads", "")
}

fn start(servers: &str) -> Server {
    Server::start(&config(servers), &[("ads", "blocked.example\n")])
}

fn upstream(server: &Server, at: usize) -> Value {
    server.status()["upstream"][at].clone()
}

#[test]
fn queries_are_encrypted_padded_and_share_a_connection() {
    let of_tls = TlsUpstream::plain();
    let server = start(&of_tls.server());
    let names = [
        "a.example",
        "a-longer-name-than-the-first.example",
        "www.c.example",
    ];
    for name in names {
        assert_eq!(addresses(server.address, name), ["192.0.2.1"]);
    }
    let queries = of_tls.seen.queries();
    assert_eq!(of_tls.seen.connections(), 1);
    // A slow machine sends a query again that was not answered soon.
    let mut asked = BTreeSet::new();
    for bytes in &queries {
        assert_eq!(bytes.len(), 128, "a block");
        let message = Message::from_vec(bytes).expect("a query");
        asked.insert(message.queries[0].name().to_string());
        assert!(message.edns.is_some());
    }
    let expected = names.map(|name| format!("{name}."));
    assert_eq!(asked, BTreeSet::from(expected), "in lower case");
    assert!(!of_tls.got_datagram(), "nothing is sent in clear");
    let upstream = upstream(&server, 0);
    assert_eq!(upstream["encrypted"], true);
    assert!(upstream["latency_ms"].is_number(), "{upstream}");
    assert!(server.count("upstream_tls_queries") >= 3);
    assert_eq!(server.count("upstream_queries"), 0);
    assert!(text(&server.verb(&["status"])).contains("over TLS"));
}

#[test]
fn a_server_that_can_not_prove_who_it_is_is_not_asked_and_status_says_why() {
    let ca = authority();
    let ca = ca.to_str().expect("UTF-8");
    let web_ca = web_authority();
    let web_ca = web_ca.to_str().expect("UTF-8");
    let valid = || Security::tls(b"dot");
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
            Security::expired(b"dot"),
            "#lists.example",
            format!("ca-file = \"{web_ca}\""),
            "tls_dates",
            "its certificate has expired",
        ),
        (
            valid(),
            "#primary.test",
            format!("ca-file = \"{ca}\", pin = [\"{OTHER_PIN}\"]"),
            "tls_pin",
            PIN,
        ),
        (
            valid(),
            "",
            format!("pin = [\"{OTHER_PIN}\"]"),
            "tls_pin",
            "its key is none of `pin`",
        ),
    ] {
        let of_tls = TlsUpstream::start(security, |client, seen| {
            seen.next(client);
        });
        let address = of_tls.address;
        let server = start(&format!(
            "{{ address = \"tls://{address}{name}\", {more} }}"
        ));
        let failed = ask(server.address, "a.example", RecordType::A);
        assert_eq!(rcode(&failed), ResponseCode::ServFail, "{kind}");
        let state = upstream(&server, 0);
        let problem = state["problem"].as_str().expect("a problem");
        assert!(problem.contains(said), "{problem}");
        assert!(state["failures_total"][kind].as_u64() > Some(0), "{state}");
        assert!(server.count("upstream_tls_handshakes_failed") > 0);
        assert!(text(&server.verb(&["status"])).contains(said));
        assert!(of_tls.seen.queries().is_empty(), "no name is sent");
        assert!(!of_tls.got_datagram(), "nothing is sent in clear");
    }
}

#[test]
fn a_key_alone_proves_who_a_server_is() {
    let of_tls = TlsUpstream::plain();
    let address = of_tls.address;
    let server = start(&format!(
        "{{ address = \"tls://{address}\", pin = [\"{OTHER_PIN}\", \"{PIN}\"] }}"
    ));
    assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
    assert_eq!(upstream(&server, 0)["problem"], Value::Null);
}

#[test]
fn a_server_that_stalls_in_the_handshake_is_reported() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = silent.local_addr().expect("bound");
    let config = impatient(&format!("\"tls://{address}#primary.test\""));
    let server = Server::start(&config, &[("ads", "blocked.example\n")]);
    let failed = ask(server.address, "a.example", RecordType::A);
    assert_eq!(rcode(&failed), ResponseCode::ServFail);
    until("the problem", || {
        let problem = &upstream(&server, 0)["problem"];
        let said = problem.as_str().unwrap_or_default().to_owned();
        said.contains("does not complete the TLS handshake")
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
fn a_server_that_closes_after_each_answer_loses_no_query() {
    let of_tls = TlsUpstream::start(Security::tls(b"dot"), |client, seen| {
        if let Some(query) = seen.next(client) {
            send(client, &answer(&query));
        }
    });
    let server = start(&of_tls.server());
    assert_eq!(ask_many(&server, 60), 60);
    assert!(of_tls.seen.connections() >= 60);
    assert!(of_tls.seen.resumed() > 0, "sessions are resumed");
    assert!(server.count("upstream_resent") > 0);
}

#[test]
fn connections_that_are_cut_lose_no_query() {
    let of_tls = TlsUpstream::start(Security::tls(b"dot"), |client, seen| {
        // Cut with unanswered queries on it, and in the middle of a frame.
        for _ in 0..40 {
            let Some(query) = seen.next(client) else {
                return;
            };
            send(client, &answer(&query));
        }
        let _ = std::io::Write::write_all(client, &[0, 100, 1]);
        let _ = client.sock.shutdown(std::net::Shutdown::Both);
    });
    let server = start(&of_tls.server());
    for round in 0..5 {
        assert_eq!(ask_many(&server, 200), 200, "{round}");
        assert_eq!(server.verb(&["reload"]).status.code(), Some(0));
    }
}

#[test]
fn answers_to_other_queries_are_ignored_and_counted() {
    let of_tls = TlsUpstream::start(Security::tls(b"dot"), |client, seen| {
        while let Some(query) = seen.next(client) {
            let mut other_id = answer(&query);
            other_id[0] ^= 0xFF;
            send(client, &other_id);
            let mut other_name = answer(&query);
            other_name[13] = b'x';
            send(client, &other_name);
            send(client, &[0; 3]);
            send(client, &answer(&query));
        }
    });
    let server = start(&of_tls.server());
    assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
    assert_eq!(server.count("upstream_foreign_question"), 1);
    let counts = &upstream(&server, 0)["failures_total"];
    assert_eq!(counts["unasked"], 2, "{counts}");
}

#[test]
fn a_server_that_floods_messages_is_cut_off_and_status_says_so() {
    for message in [&[][..], &[0; 12]] {
        let cut = Arc::new(AtomicBool::new(false));
        let seen_cut = Arc::clone(&cut);
        let flood = [&(message.len() as u16).to_be_bytes()[..], message].concat();
        let of_tls = TlsUpstream::start(Security::tls(b"dot"), move |client, seen| {
            while let Some(query) = seen.next(client) {
                send(client, &answer(&query));
                if !seen_cut.load(Ordering::Relaxed) {
                    while std::io::Write::write_all(client, &flood).is_ok() {}
                    return seen_cut.store(true, Ordering::Relaxed);
                }
            }
        });
        let server = start(&of_tls.server());
        assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
        until("it is cut off", || cut.load(Ordering::Relaxed));
        let state = upstream(&server, 0);
        let problem = state["problem"].as_str().expect("a problem");
        assert!(problem.contains("1000 messages in a row"), "{problem}");
        let kind = match message {
            [] => "unreadable",
            _ => "unasked",
        };
        assert!(
            state["failures_total"][kind].as_u64() >= Some(1000),
            "{state}"
        );
        assert_eq!(addresses(server.address, "b.example"), ["192.0.2.1"]);
        assert!(upstream(&server, 0)["problem"].is_null());
    }
}

#[test]
fn useless_messages_between_answers_do_not_add_up() {
    let of_tls = TlsUpstream::start(Security::tls(b"dot"), |client, seen| {
        while let Some(query) = seen.next(client) {
            (0..600).for_each(|_| send(client, &[0; 12]));
            send(client, &answer(&query));
        }
    });
    let server = start(&of_tls.server());
    for name in ["a.example", "b.example", "c.example"] {
        assert_eq!(addresses(server.address, name), ["192.0.2.1"]);
    }
    assert_eq!(of_tls.seen.connections(), 1);
}

#[test]
fn a_long_frame_that_arrives_byte_by_byte_is_read() {
    let of_tls = TlsUpstream::start(Security::tls(b"dot"), |client, seen| {
        while let Some(query) = seen.next(client) {
            let answer = answer(&query);
            let frame = [&(answer.len() as u16).to_be_bytes()[..], &answer].concat();
            for byte in frame {
                let _ = std::io::Write::write_all(client, &[byte]);
                let _ = std::io::Write::flush(client);
            }
        }
    });
    let server = start(&of_tls.server());
    assert_eq!(addresses(server.address, "a.example"), ["192.0.2.1"]);
}

#[test]
fn an_encrypted_server_and_one_in_clear_share_a_pool_and_forwarded_zones_have_theirs() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let stalled = silent.local_addr().expect("bound");
    let plain = Upstream::plain();
    let corp = TlsUpstream::plain();
    let servers = format!("\"tls://{stalled}#primary.test\", \"{}\"", plain.address);
    let forward = format!(
        "[[forward]]\nzone = \"corp.test\"\nservers = [{}]\n",
        corp.server()
    );
    let config = impatient(&servers) + &forward;
    let server = Server::start(&config, &[("ads", "blocked.example\n")]);
    for name in ["a.example", "b.example", "c.example"] {
        assert_eq!(addresses(server.address, name), ["192.0.2.1"]);
    }
    assert_eq!(addresses(server.address, "www.corp.test"), ["192.0.2.1"]);
    let asked = corp.seen.queries();
    assert_eq!(asked.len(), 1);
    let in_clear = plain.asked();
    let names = in_clear.iter().map(|asked| asked.message.queries[0].name());
    let names: Vec<_> = names.map(|name| name.to_lowercase().to_string()).collect();
    assert!(names.iter().all(|name| !name.contains("corp")), "{names:?}");
    assert!(!corp.got_datagram());
}

#[test]
fn a_changed_file_of_authorities_is_read_by_a_reload() {
    let of_tls = TlsUpstream::plain();
    let address = of_tls.address;
    let config = config(&format!(
        "{{ address = \"tls://{address}#primary.test\", ca-file = \"ca.pem\" }}"
    ));
    let wrong = fs::read_to_string(web_authority()).expect("readable");
    let right = fs::read_to_string(authority()).expect("readable");
    let files = [("ads", "blocked.example\n"), ("ca.pem", &*wrong)];
    let server = Server::start(&config, &files);
    let failed = ask(server.address, "a.example", RecordType::A);
    assert_eq!(rcode(&failed), ResponseCode::ServFail);
    server.replace("ca.pem", &right);
    let report = text(&server.verb(&["reload"]));
    assert!(report.contains("certificates of authorities"), "{report}");
    assert_eq!(addresses(server.address, "b.example"), ["192.0.2.1"]);
    // A damaged file is reported, and the certificates stay in use.
    server.replace("ca.pem", "-----BEGIN CERTIFICATE-----\nx\n");
    let output = server.verb(&["reload"]);
    assert_ne!(output.status.code(), Some(0));
    assert!(text(&output).contains("ca.pem"), "{}", text(&output));
    assert_eq!(addresses(server.address, "c.example"), ["192.0.2.1"]);
}

#[test]
fn queries_in_flight_to_a_removed_server_are_answered() {
    let (gate, opened) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(Some(gate));
    let opened = std::sync::Mutex::new(opened);
    let old = TlsUpstream::start(Security::tls(b"dot"), move |client, seen| {
        if let Some(query) = seen.next(client) {
            let _ = opened.lock().expect("not poisoned").recv();
            send(client, &answer(&query));
        }
    });
    let new = TlsUpstream::plain();
    let server = start(&old.server());
    let address = server.address;
    let waiting = thread::spawn(move || addresses(address, "a.example"));
    until("the query", || !old.seen.queries().is_empty());
    server.replace("tapis.toml", &config(&new.server()));
    let report = text(&server.verb(&["reload"]));
    assert!(report.contains("upstream.servers"), "{report}");
    drop(gate.lock().expect("not poisoned").take());
    assert_eq!(waiting.join().expect("answered"), ["192.0.2.1"]);
    assert_eq!(addresses(server.address, "b.example"), ["192.0.2.1"]);
    assert_eq!((old.seen.queries().len(), new.seen.queries().len()), (1, 1));
}

#[test]
fn check_reports_the_mistakes_of_an_encrypted_server() {
    for (server, said) in [
        (
            "{ address = \"tls://192.0.2.55#dns.example\", ca-file = \"missing.pem\" }",
            "missing.pem: the certificates can't be read",
        ),
        (
            "{ address = \"tls://192.0.2.55#dns.example\", ca-file = \"ads\" }",
            "it has no certificate",
        ),
        (
            "{ address = \"tls://192.0.2.55\", pin = [\"abc\"] }",
            "which is not a SHA-256 in Base64",
        ),
        (
            "{ address = \"192.0.2.55\", ca-file = \"missing.pem\" }",
            "ca-file is set, but \"192.0.2.55\" is asked in clear",
        ),
        (
            "{ address = \"tls://192.0.2.55\", pin = [] }",
            "pin holds 0 keys",
        ),
    ] {
        let folder = folder(&config(server), &[("ads", "blocked.example\n")]);
        let output = verb(folder.path(), &["check"]);
        assert_ne!(output.status.code(), Some(0), "{server}");
        assert!(text(&output).contains(said), "{}", text(&output));
    }
}
