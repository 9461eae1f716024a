//! Upstream servers in clear that designate encrypted ones, with a running server.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::{RData, Record, RecordType};
use serde_json::Value;

use crate::support::client::{addresses, until};
use crate::support::dot::{TlsUpstream, send};
use crate::support::server::{Server, folder, list, preamble, tapis, text};
use crate::support::tls::{Security, authority, web_authority};
use crate::support::upstream::{Asked, Upstream, address_of, answer, bytes, name};

const DESIGNATION: &str = "_dns.resolver.arpa";
const CLEAR: &str = "192.0.2.1";
const ENCRYPTED: &str = "192.0.2.2";

/// A key and its value.
type Param<'p> = (u16, &'p [u8]);

/// The data of an SVCB record with the target `dns.example`.
fn record(priority: u16, params: &[Param<'_>]) -> Vec<u8> {
    let mut data = priority.to_be_bytes().to_vec();
    data.extend_from_slice(b"\x03dns\x07example\0");
    for (key, value) in params {
        data.extend_from_slice(&key.to_be_bytes());
        data.extend_from_slice(&(value.len() as u16).to_be_bytes());
        data.extend_from_slice(value);
    }
    data
}

/// The data of a record for DNS over TLS at an address.
fn of_tls(at: SocketAddr) -> Vec<u8> {
    let port = at.port().to_be_bytes();
    record(1, &[(1, b"\x03dot"), (3, &port), (4, &[127, 0, 0, 1])])
}

/// A server in clear, and the data of the records by which it designates others.
struct Clear {
    upstream: Upstream,
    /// `None`: it answers SERVFAIL.
    records: Arc<Mutex<Option<Vec<Vec<u8>>>>>,
}

impl Clear {
    fn start(records: Vec<Vec<u8>>) -> Self {
        Self::waiting(records, |_| {})
    }

    /// Calls `wait` before each answer to another query.
    fn waiting(records: Vec<Vec<u8>>, wait: impl Fn(&Asked) + Send + Sync + 'static) -> Self {
        let records = Arc::new(Mutex::new(Some(records)));
        let now = Arc::clone(&records);
        let upstream = Upstream::start(move |asked| {
            if name(asked) == DESIGNATION {
                let records = now.lock().expect("not poisoned");
                return Some(designation(asked, records.as_deref()));
            }
            wait(asked);
            match &*name(asked) {
                "dns.example" => Some(address_of(asked, [127, 0, 0, 1])),
                _ => Some(address_of(asked, [192, 0, 2, 1])),
            }
        });
        Self { upstream, records }
    }

    fn designate(&self, records: Option<Vec<Vec<u8>>>) {
        *self.records.lock().expect("not poisoned") = records;
    }

    /// The names that it was asked for, each once.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.upstream.asked().iter().map(name).collect();
        names.sort();
        names.dedup();
        names
    }

    /// How often it was asked whom it designates.
    fn asked(&self) -> usize {
        let asked = self.upstream.asked();
        asked
            .iter()
            .filter(|asked| name(asked) == DESIGNATION)
            .count()
    }
}

fn designation(asked: &Asked, records: Option<&[Vec<u8>]>) -> Message {
    let Some(records) = records else {
        return answer(asked, ResponseCode::ServFail);
    };
    let mut message = answer(asked, ResponseCode::NoError);
    let owner = asked.message.queries[0].name();
    for data in records {
        let data = RData::Unknown {
            code: RecordType::SVCB,
            rdata: NULL::with(data.clone()),
        };
        let record = Record::from_rdata(owner.clone(), 300, data);
        message.answers.push(record);
    }
    message
}

/// A server for DNS over TLS that answers with another address than the ones in clear.
fn encrypted(security: Security) -> TlsUpstream {
    TlsUpstream::start(security, |client, seen| {
        while let Some(query) = seen.next(client) {
            let asked = Asked {
                message: Message::from_vec(&query).expect("a query"),
                tcp: true,
                peer: SocketAddr::from(([127, 0, 0, 1], 1)),
            };
            send(client, &bytes(&address_of(&asked, [192, 0, 2, 2])));
        }
    })
}

/// A server with a certificate for 127.0.0.1 of the authority for web servers.
fn valid() -> TlsUpstream {
    encrypted(Security::web_with(b"dot"))
}

fn config(servers: &[&Clear]) -> String {
    let first = servers[0].upstream.address;
    let all = servers
        .iter()
        .map(|of| format!("\"{}\"", of.upstream.address));
    let all = all.collect::<Vec<_>>().join(", ");
    preamble(first).replace(&format!("\"{first}\""), &all) + "discover = true\n" + &list("ads", "")
}

/// Starts on a system that trusts one authority.
fn start(servers: &[&Clear], authority: PathBuf) -> Server {
    let folder = folder(&config(servers), &[("ads", "blocked.example\n")]);
    let mut command = tapis();
    command.env("SSL_CERT_FILE", authority);
    command
        .args(["serve", "--config"])
        .arg(folder.path().join("tapis.toml"));
    Server::run(command, folder)
}

fn discovery(server: &Server, at: usize) -> Value {
    server.status()["discovery"][at].clone()
}

fn until_encrypted(server: &Server, by: &TlsUpstream) {
    let expected = format!("tls://{}#dns.example", by.address);
    until("the encrypted server", || {
        discovery(server, 0)["encrypted"] == expected
    });
}

/// Waits for the reason why a server is asked in clear.
fn until_clear(server: &Server, at: usize, reason: &str) {
    until(reason, || {
        let found = discovery(server, at);
        let problem = found["problem"].as_str().unwrap_or_default().to_owned();
        found["encrypted"].is_null() && problem.contains(reason)
    });
}

#[test]
fn a_verified_encrypted_server_takes_the_place_of_the_one_in_clear() {
    let of_tls = valid();
    let port = of_tls.address.port().to_be_bytes();
    // The server in clear knows the address of the name, too. The certificate need not have that name.
    let clear = Clear::start(vec![
        record(2, &[(1, b"\x03dot"), (3, &[0, 9]), (4, &[127, 0, 0, 1])]),
        record(1, &[(1, b"\x02xx\x03dot"), (3, &port)]),
    ]);
    let server = start(&[&clear], web_authority());
    until_encrypted(&server, &of_tls);
    for name in ["a.example", "b.example"] {
        assert_eq!(addresses(server.address, name), [ENCRYPTED]);
    }
    assert_eq!(clear.names(), [DESIGNATION, "dns.example"]);
    assert_eq!(discovery(&server, 0)["problem"], Value::Null);
    let status = server.status();
    assert_eq!(status["upstream"][0]["encrypted"], true);
    assert_eq!(status["upstream"][0]["address"], of_tls.address.to_string());
    let said = format!("is asked in place of {}", clear.upstream.address);
    assert!(text(&server.verb(&["status"])).contains(&said));
    server.logged("a verified encrypted server is asked in its place");
    server.assert_well();
}

#[test]
fn a_server_whose_certificate_proves_no_designation_gets_no_query() {
    // The certificate is valid for the name, but not for the address of the server in clear.
    let without_address = encrypted(Security::tls(b"dot"));
    let of_other_authority = valid();
    let mut by_name = of_tls(without_address.address);
    by_name.splice(2..15, *b"\x07primary\x04test\0");
    let (one, other) = (
        Clear::start(vec![by_name]),
        Clear::start(vec![of_tls(of_other_authority.address)]),
    );
    let server = start(&[&one, &other], authority());
    until_clear(&server, 0, "its certificate is not for 127.0.0.1");
    until_clear(&server, 1, "unknown authority");
    for name in ["a.example", "b.example", "c.example"] {
        assert_eq!(addresses(server.address, name), [CLEAR]);
    }
    for server in [&without_address, &of_other_authority] {
        assert!(server.seen.queries().is_empty());
    }
    assert_eq!(server.status()["upstream"][0]["encrypted"], false);
    let report = text(&server.verb(&["status"]));
    assert!(
        report.contains("is asked in clear: tls://127.0.0.1:"),
        "{report}"
    );
    server.logged("asked in clear: there is no verified encrypted server in its place");
}

#[test]
fn designations_that_can_not_be_used_leave_the_server_in_clear() {
    let of_tls = valid();
    let port = of_tls.address.port().to_be_bytes();
    let dot: Param<'_> = (1, b"\x03dot");
    let to_port: Param<'_> = (3, &port);
    let hint: Param<'_> = (4, &[127, 0, 0, 1]);
    let silent = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let stalled = silent.local_addr().expect("bound");
    let unknown = record(1, &[(0, &[0xfd, 0xe8]), dot, to_port, hint, (65_000, b"")]);
    let cases = [
        (vec![], "it designates no encrypted server"),
        (vec![unknown], "no encrypted server that is supported"),
        (
            vec![record(0, &[])],
            "no encrypted server that is supported",
        ),
        (
            // The second record is valid, but the set is not.
            vec![record(2, &[dot, dot]), record(1, &[dot, to_port, hint])],
            "malformed",
        ),
        (vec![vec![0, 1, 63]], "no usable answer"),
        (
            vec![self::of_tls(stalled)],
            "does not complete the TLS handshake in time",
        ),
        (
            vec![record(1, &[(1, b"\x02h2"), to_port, hint])],
            "offers no protocol that is supported",
        ),
    ];
    let servers: Vec<_> = cases
        .iter()
        .map(|(records, _)| Clear::start(records.clone()))
        .collect();
    let server = start(&servers.iter().collect::<Vec<_>>(), web_authority());
    for (at, (_, reason)) in cases.iter().enumerate() {
        until_clear(&server, at, reason);
    }
    assert_eq!(addresses(server.address, "a.example"), [CLEAR]);
    assert!(of_tls.seen.queries().is_empty());
    // Each one is asked again later, not at once.
    assert_eq!(servers[0].asked(), 1);
}

#[test]
fn a_reload_asks_again_and_follows_the_designation() {
    let of_tls = valid();
    let clear = Clear::start(Vec::new());
    let server = start(&[&clear], web_authority());
    until_clear(&server, 0, "it designates no encrypted server");
    assert_eq!(addresses(server.address, "a.example"), [CLEAR]);
    clear.designate(Some(vec![self::of_tls(of_tls.address)]));
    assert!(server.verb(&["reload"]).status.success());
    until_encrypted(&server, &of_tls);
    assert_eq!(addresses(server.address, "b.example"), [ENCRYPTED]);
    // Another change of the configuration keeps the encrypted server: the one in clear gets no name meanwhile.
    let config = config(&[&clear]);
    server.replace(
        "tapis.toml",
        &config.replace("discover", "timeout-ms = 1900\ndiscover"),
    );
    assert!(server.verb(&["reload"]).status.success());
    assert_eq!(addresses(server.address, "c.example"), [ENCRYPTED]);
    // Without an answer, it stays in use while it works.
    clear.designate(None);
    assert!(server.verb(&["reload"]).status.success());
    until("a problem", || {
        let problem = discovery(&server, 0)["problem"].to_string();
        problem.contains("with the response code 2")
    });
    until_encrypted(&server, &of_tls);
    let report = text(&server.verb(&["status"]));
    assert!(report.contains("which does not confirm it"), "{report}");
    clear.designate(Some(Vec::new()));
    assert!(server.verb(&["reload"]).status.success());
    until_clear(&server, 0, "it designates no encrypted server");
    assert_eq!(addresses(server.address, "d.example"), [CLEAR]);
    server.logged("asked in clear again");
    assert_eq!(clear.names(), [DESIGNATION, "a.example", "d.example"]);
    let asked = clear.asked();
    server.replace(
        "tapis.toml",
        &config.replace("discover = true", "discover = false"),
    );
    let report = text(&server.verb(&["reload"]));
    assert!(report.contains("upstream.discover"), "{report}");
    assert!(server.status().get("discovery").is_none());
    assert_eq!(clear.asked(), asked);
}

#[test]
fn without_discovery_no_server_is_asked_for_a_designation() {
    let of_tls = valid();
    let clear = Clear::start(vec![self::of_tls(of_tls.address)]);
    let config = config(&[&clear]).replace("discover = true\n", "");
    let server = Server::start(&config, &[("ads", "blocked.example\n")]);
    assert_eq!(addresses(server.address, "a.example"), [CLEAR]);
    assert_eq!(clear.names(), ["a.example"]);
    // It takes effect without a restart.
    let on = config.replace("[[list]]", "discover = true\n[[list]]");
    server.replace("tapis.toml", &on);
    let report = text(&server.verb(&["reload"]));
    assert!(report.contains("upstream.discover"), "{report}");
    until("a query", || clear.asked() > 0);
}

#[test]
fn a_query_that_waits_for_the_server_in_clear_is_answered_after_the_change() {
    let of_tls = valid();
    let (gate, opened) = mpsc::channel::<()>();
    let opened = Mutex::new(opened);
    let clear = Clear::waiting(Vec::new(), move |asked| {
        if name(asked) == "slow.example" {
            let _ = opened.lock().expect("not poisoned").recv();
        }
    });
    let server = start(&[&clear], web_authority());
    until_clear(&server, 0, "it designates no encrypted server");
    let address = server.address;
    let waiting = thread::spawn(move || addresses(address, "slow.example"));
    until("the query", || {
        clear.names().contains(&"slow.example".to_owned())
    });
    clear.designate(Some(vec![self::of_tls(of_tls.address)]));
    assert!(server.verb(&["reload"]).status.success());
    until_encrypted(&server, &of_tls);
    drop(gate);
    assert_eq!(waiting.join().expect("answered").len(), 1);
    assert_eq!(addresses(server.address, "b.example"), [ENCRYPTED]);
}
