//! NOTIFY (RFC 1996): a primary reports a new version of a feed's zone.

use std::fs::{self, Permissions};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, OpCode, ResponseCode};
use serde_json::Value;
use tapis::wire::rtype;

use crate::support::client::{PATIENCE, Stream, ask, until};
use crate::support::primary::{Asked, Primary, Step, Zone, send};
use crate::support::server::{Server, folder, text};
use crate::support::signer::{OTHER_SECRET, SECRET, Signer};
use crate::support::upstream::Upstream;

const ZONE: &str = "rpz.test";
/// An address of the loopback that is not the primary's.
const ELSEWHERE: [u8; 4] = [127, 0, 0, 9];

/// A zone whose serial changes, and its primary. It blocks the name `n` and its serial.
struct Feed {
    serial: Arc<Mutex<u32>>,
    primary: Primary,
}

impl Feed {
    fn start() -> Self {
        Self::answering(|asked, zone| send(zone.answer(asked)))
    }

    /// A feed whose primary signs by the secret of 32 bytes that are `secret`.
    fn signed(secret: &Arc<Mutex<u8>>) -> Self {
        let secret = Arc::clone(secret);
        Self::answering(move |asked, zone| {
            let signer = Signer {
                secret: vec![*secret.lock().expect("not poisoned"); 32],
                ..Signer::new("transfer.key")
            };
            send(signer.sign(asked, zone.answer(asked)))
        })
    }

    fn answering(answer: impl Fn(&Asked, &Zone) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let serial = Arc::new(Mutex::new(1));
        let current = Arc::clone(&serial);
        let primary = Primary::start(move |asked| {
            let serial = *current.lock().expect("not poisoned");
            answer(asked, &Zone::new(ZONE, serial, &[&format!("n{serial}")]))
        });
        Self { serial, primary }
    }

    /// Makes the next version. Nobody is notified.
    fn change(&self) -> u32 {
        let mut serial = self.serial.lock().expect("not poisoned");
        *serial += 1;
        *serial
    }

    /// The queries for the SOA record so far.
    fn asked(&self) -> usize {
        let types = self.primary.types();
        types.iter().filter(|rtype| **rtype == rtype::SOA).count()
    }

    /// The section `[[feed]]`.
    fn section(&self, more: &str) -> String {
        let address = self.primary.address;
        format!(
            "[[feed]]\nname = \"feed\"\nzone = \"{ZONE}\"\nprimaries = [\"{address}\"]\n{more}\n"
        )
    }
}

/// A configuration whose clients are those of `allow`.
fn config(listen: &str, allow: &str, upstream: &Upstream) -> String {
    format!(
        "[server]\nlisten = [\"{listen}\"]\nworkers = 2\ncontrol = \"control.sock\"\nallow = [\"{allow}\"]\n\
         [upstream]\nservers = [\"{}\"]\n[state]\ndir = \"state\"\n",
        upstream.address
    )
}

/// A server with this feed, once its first version is in force.
fn serve(upstream: &Upstream, feed: &Feed, more: &str) -> Server {
    let config = config("127.0.0.1:0", "127.0.0.0/8", upstream) + &feed.section(more);
    let folder = folder(&config, &[("secret", SECRET)]);
    protect(&folder.path().join("secret"));
    let server = Server::start_in(folder);
    in_force(&server, 1);
    server
}

fn protect(path: &std::path::Path) {
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("changed");
}

/// Waits for a version, and checks its rule.
fn in_force(server: &Server, serial: u32) {
    until(&format!("serial {serial} is in force"), || {
        report(server)["serial"] == serial
    });
    let blocked = format!("n{serial}");
    let answer = ask(server.address, &blocked, hickory_proto::rr::RecordType::A);
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
}

/// The feed in `status`.
fn report(server: &Server) -> Value {
    server.status()["feeds"][0].clone()
}

/// A NOTIFY for this zone, with its letter case; with the SOA record of a serial.
fn notify(zone: &str, serial: Option<u32>) -> Vec<u8> {
    let mut packet = vec![
        0x12,
        0x34,
        0x24,
        0,
        0,
        1,
        0,
        u8::from(serial.is_some()),
        0,
        0,
        0,
        0,
    ];
    for label in zone.split('.') {
        packet.push(label.len() as u8);
        packet.extend_from_slice(label.as_bytes());
    }
    packet.extend_from_slice(&[0, 0, 6, 0, 1]);
    if let Some(serial) = serial {
        packet.extend_from_slice(b"\xC0\x0C\x00\x06\x00\x01\0\0\0\0\x00\x18\xC0\x0C\xC0\x0C");
        packet.extend_from_slice(&serial.to_be_bytes());
        packet.extend_from_slice(&[0; 16]);
    }
    packet
}

/// Sends a message by UDP, and returns the answer.
fn deliver(server: SocketAddr, from: impl Into<IpAddr>, packet: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind((from.into(), 0)).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.send_to(packet, server).expect("sent");
    let mut buffer = [0; 512];
    let len = socket.recv(&mut buffer).expect("an answer");
    buffer[..len].to_vec()
}

/// The response code of an answer to NOTIFY.
fn rcode(answer: &[u8]) -> ResponseCode {
    let answer = Message::from_vec(answer).expect("read");
    assert_eq!(answer.metadata.id, 0x1234);
    assert_eq!(answer.metadata.op_code, OpCode::Notify);
    answer.metadata.response_code
}

/// The error of the TSIG record in an answer, which ends with it.
fn tsig_error(answer: &[u8], other: usize) -> u16 {
    let error = &answer[answer.len() - other - 4..];
    u16::from_be_bytes([error[0], error[1]])
}

#[test]
fn after_a_notify_from_a_primary_the_new_version_is_transferred() {
    let (upstream, feed) = (Upstream::plain(), Feed::start());
    let server = serve(&upstream, &feed, "");
    let shown = || text(&server.verb(&["feed", "show", "feed"]));
    assert!(shown().contains("notify     none received"), "{}", shown());
    // Another letter case, and a serial that is a hint only: it may be wrong.
    for (zone, serial) in [(ZONE, None), ("RPZ.Test", Some(1))] {
        let newest = feed.change();
        let answer = deliver(server.address, [127, 0, 0, 1], &notify(zone, serial));
        assert_eq!(rcode(&answer), ResponseCode::NoError);
        in_force(&server, newest);
    }
    assert_eq!(feed.asked(), 3);
    assert_eq!(server.count("notify_accepted"), 2);
    let line = "notify     2 accepted, the last from 127.0.0.1 at ";
    assert!(shown().contains(line), "{}", shown());
}

#[test]
fn a_notify_from_elsewhere_or_for_another_zone_is_refused() {
    let (upstream, feed) = (Upstream::plain(), Feed::start());
    let server = serve(&upstream, &feed, "");
    let newest = feed.change();
    let refused = deliver(server.address, ELSEWHERE, &notify(ZONE, Some(newest)));
    assert_eq!(rcode(&refused), ResponseCode::Refused);
    for zone in ["other.test", "test", "n1.rpz.test"] {
        let other = deliver(server.address, [127, 0, 0, 1], &notify(zone, None));
        assert_eq!(rcode(&other), ResponseCode::NotAuth, "{zone}");
    }
    until("the refusal is reported", || {
        report(&server)["notify"]["refused"] == 1
    });
    let shown = text(&server.verb(&["feed", "show", "feed"]));
    assert!(
        shown.contains("notify     1 not accepted, the last from 127.0.0.9 at "),
        "{shown}"
    );
    assert!(shown.contains("add it to notify-from"), "{shown}");
    assert_eq!(
        (
            server.count("notify_refused"),
            server.count("notify_accepted")
        ),
        (4, 0)
    );
    assert_eq!(feed.asked(), 1, "the primary was asked at the start only");
}

#[test]
fn notify_from_replaces_the_addresses_of_the_primaries() {
    let (upstream, feed) = (Upstream::plain(), Feed::start());
    let server = serve(&upstream, &feed, "notify-from = [\"127.0.0.8/31\"]");
    let newest = feed.change();
    let primary = deliver(server.address, [127, 0, 0, 1], &notify(ZONE, None));
    assert_eq!(rcode(&primary), ResponseCode::Refused);
    let answer = deliver(server.address, ELSEWHERE, &notify(ZONE, None));
    assert_eq!(rcode(&answer), ResponseCode::NoError);
    in_force(&server, newest);
}

const TSIG: &str = "tsig = { name = \"transfer.key\", secret-file = \"secret\" }";

#[test]
fn a_signed_notify_counts_from_any_address_and_its_answer_is_signed() {
    let (upstream, feed) = (Upstream::plain(), Feed::signed(&Arc::new(Mutex::new(7))));
    let server = serve(&upstream, &feed, TSIG);
    let signer = Signer::new("transfer.key");
    let known = signer.request(notify(ZONE, Some(1)));
    signer.check(&known, &deliver(server.address, ELSEWHERE, &known));
    let newest = feed.change();
    let request = signer.request(notify(ZONE, Some(newest)));
    let answer = deliver(server.address, ELSEWHERE, &request);
    assert_eq!(rcode(&answer), ResponseCode::NoError);
    signer.check(&request, &answer);
    in_force(&server, newest);
    assert_eq!(feed.asked(), 2, "not for the serial in force");
    assert_eq!(server.count("notify_accepted"), 2);
}

#[test]
fn a_primary_of_a_feed_with_a_key_need_not_sign() {
    let (upstream, feed) = (Upstream::plain(), Feed::signed(&Arc::new(Mutex::new(7))));
    let server = serve(&upstream, &feed, TSIG);
    let newest = feed.change();
    let answer = deliver(server.address, [127, 0, 0, 1], &notify(ZONE, None));
    assert_eq!(rcode(&answer), ResponseCode::NoError);
    in_force(&server, newest);
}

#[test]
fn a_wrong_signature_is_rejected_even_from_a_primary() {
    let (upstream, feed) = (Upstream::plain(), Feed::signed(&Arc::new(Mutex::new(7))));
    let server = serve(&upstream, &feed, TSIG);
    let right = || Signer::new("transfer.key");
    let wrong = [
        (
            Signer {
                wrong_at: Some(0),
                ..right()
            },
            16,
            0,
        ),
        (
            Signer {
                secret: vec![8; 32],
                ..right()
            },
            16,
            0,
        ),
        (Signer::new("other.key"), 17, 0),
        (
            Signer {
                ahead: 301,
                ..right()
            },
            18,
            6,
        ),
        (
            Signer {
                ahead: -301,
                ..right()
            },
            18,
            6,
        ),
    ];
    let newest = feed.change();
    for (signer, error, other) in &wrong {
        for from in [[127, 0, 0, 1], ELSEWHERE] {
            let request = signer.request(notify(ZONE, Some(newest)));
            let answer = deliver(server.address, from, &request);
            assert_eq!(rcode(&answer), ResponseCode::NotAuth);
            assert_eq!(tsig_error(&answer, *other), *error);
            assert!(answer.len() <= request.len());
        }
    }
    assert_eq!(server.count("notify_not_authentic"), 10);
    until("the last one is reported", || {
        report(&server)["notify"]["refused"] == 10
    });
    let shown = text(&server.verb(&["feed", "show", "feed"]));
    assert!(shown.contains("the signature is not valid"), "{shown}");
    assert_eq!((feed.asked(), server.count("notify_accepted")), (1, 0));
}

#[test]
fn a_signature_for_a_feed_without_a_key_is_rejected() {
    let (upstream, feed) = (Upstream::plain(), Feed::start());
    let server = serve(&upstream, &feed, "");
    let request = Signer::new("transfer.key").request(notify(ZONE, None));
    let answer = deliver(server.address, [127, 0, 0, 1], &request);
    assert_eq!(
        (rcode(&answer), tsig_error(&answer, 0)),
        (ResponseCode::NotAuth, 17)
    );
}

#[test]
fn a_new_secret_counts_once_the_primaries_were_asked_with_it() {
    let secret = Arc::new(Mutex::new(7));
    let (upstream, feed) = (Upstream::plain(), Feed::signed(&secret));
    let server = serve(&upstream, &feed, TSIG);
    *secret.lock().expect("not poisoned") = 8;
    server.replace("secret", OTHER_SECRET);
    protect(&server.path("secret"));
    feed.change();
    assert!(server.verb(&["feed", "refresh", "feed"]).status.success());
    in_force(&server, 2);
    let newest = feed.change();
    let old = Signer::new("transfer.key");
    let new = Signer {
        secret: vec![8; 32],
        ..old.clone()
    };
    let old = deliver(server.address, ELSEWHERE, &old.request(notify(ZONE, None)));
    assert_eq!(rcode(&old), ResponseCode::NotAuth);
    let new = deliver(server.address, ELSEWHERE, &new.request(notify(ZONE, None)));
    assert_eq!(rcode(&new), ResponseCode::NoError);
    in_force(&server, newest);
}

#[test]
fn a_flood_causes_a_query_every_five_seconds_at_most_and_is_not_answered() {
    let (upstream, feed) = (Upstream::plain(), Feed::start());
    let start = Instant::now();
    let server = serve(&upstream, &feed, "");
    let newest = feed.change();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let packet = notify(ZONE, None);
    for _ in 0..500 {
        socket.send_to(&packet, server.address).expect("sent");
    }
    in_force(&server, newest);
    until("all are counted", || {
        let counts = server.status()["counters"].clone();
        let counts =
            ["notify_accepted", "notify_limited", "kernel_drops"].map(|name| counts[name].as_u64());
        counts.into_iter().flatten().sum::<u64>() == 500
    });
    assert!(server.count("notify_limited") > 0);
    let pauses = start.elapsed().as_secs() / Duration::from_secs(5).as_secs();
    assert!(feed.asked() as u64 <= 1 + pauses, "{}", feed.asked());
}

#[test]
fn malformed_messages_get_an_error() {
    let (upstream, feed) = (Upstream::plain(), Feed::start());
    let server = serve(&upstream, &feed, "");
    let edit = |at: usize, value: u8| {
        let mut packet = notify(ZONE, Some(2));
        packet[at] = value;
        packet
    };
    let long = [&notify(ZONE, None)[..], &[0; 2000]].concat();
    let formats = [
        edit(5, 0),
        edit(5, 2),
        edit(12, 0x43),
        edit(7, 2),
        edit(11, 1),
        long,
    ];
    for packet in &formats {
        let answer = deliver(server.address, [127, 0, 0, 1], packet);
        assert_eq!(rcode(&answer), ResponseCode::FormErr);
        assert_eq!(answer.len(), 12, "a header only");
    }
    let mut other_type = notify(ZONE, None);
    let at = other_type.len() - 3;
    other_type[at] = 1;
    let answer = deliver(server.address, [127, 0, 0, 1], &other_type);
    assert_eq!(rcode(&answer), ResponseCode::NotImp);
    assert_eq!(server.count("malformed_notify"), 6);
    assert_eq!(feed.asked(), 1);
}

#[test]
fn a_primary_need_not_be_a_client_over_udp_and_tcp() {
    let (upstream, feed) = (Upstream::plain(), Feed::start());
    // The tests' clients have 127.0.0.1.
    let config = config("127.0.0.1:0", "127.0.0.1", &upstream);
    let config = config + &feed.section("notify-from = [\"127.0.0.9\"]");
    let server = Server::start(&config, &[]);
    in_force(&server, 1);
    let newest = feed.change();
    let answer = deliver(server.address, ELSEWHERE, &notify(ZONE, None));
    assert_eq!(rcode(&answer), ResponseCode::NoError);
    in_force(&server, newest);
    let newest = feed.change();
    let mut stream = stream(server.address, ELSEWHERE);
    stream.send(&Message::from_vec(&notify(ZONE, None)).expect("read"));
    let answer = stream.receive().expect("an answer");
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    in_force(&server, newest);
    // It may still not query.
    stream.send(&crate::support::client::query(
        "n1",
        hickory_proto::rr::RecordType::A,
    ));
    let answer = stream.receive().expect("an answer");
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    // Others may not connect.
    let mut other = self::stream(server.address, [127, 0, 0, 10]);
    let _ = other.try_send(&Message::from_vec(&notify(ZONE, None)).expect("read"));
    assert!(other.receive().is_none(), "closed");
}

/// A connection from this address.
fn stream(server: SocketAddr, from: [u8; 4]) -> Stream {
    use socket2::{Domain, Socket, Type};
    let raw = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    raw.bind(&SocketAddr::from((from, 0)).into())
        .expect("bound");
    raw.connect(&server.into()).expect("connected");
    let stream = std::net::TcpStream::from(raw);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    Stream(stream)
}

#[test]
fn a_notify_by_ipv6_counts() {
    let (upstream, feed) = (Upstream::plain(), Feed::start());
    let config = config("[::1]:0", "127.0.0.1", &upstream);
    let config = config + &feed.section("notify-from = [\"::1\"]");
    let server = Server::start(&config, &[]);
    until("serial 1 is in force", || report(&server)["serial"] == 1);
    let newest = feed.change();
    let answer = deliver(
        server.address,
        std::net::Ipv6Addr::LOCALHOST,
        &notify(ZONE, None),
    );
    assert_eq!(rcode(&answer), ResponseCode::NoError);
    until("the new version is in force", || {
        report(&server)["serial"] == newest
    });
}

#[test]
fn a_reload_changes_the_zones_and_addresses_that_count() {
    let (upstream, feed) = (Upstream::plain(), Feed::start());
    let server = serve(&upstream, &feed, "");
    let reload = |more: &str| {
        let config = config("127.0.0.1:0", "127.0.0.0/8", &upstream) + more;
        server.replace("tapis.toml", &config);
        let reload = server.verb(&["reload"]);
        assert!(reload.status.success(), "{}", text(&reload));
    };
    let from = |from| rcode(&deliver(server.address, from, &notify(ZONE, None)));
    reload(&feed.section("notify-from = [\"127.0.0.9\"]"));
    assert_eq!(from([127, 0, 0, 1]), ResponseCode::Refused);
    assert_eq!(from(ELSEWHERE), ResponseCode::NoError);
    reload(&feed.section("").replace(ZONE, "other.test"));
    assert_eq!(from([127, 0, 0, 1]), ResponseCode::NotAuth);
    reload("");
    assert_eq!(from([127, 0, 0, 1]), ResponseCode::NotImp);
}

#[test]
fn a_version_that_a_signed_notify_announces_is_missed_until_a_primary_sends_it() {
    let (upstream, feed) = (Upstream::plain(), Feed::signed(&Arc::new(Mutex::new(7))));
    let server = serve(&upstream, &feed, TSIG);
    let request = Signer::new("transfer.key").request(notify(ZONE, Some(2)));
    let answer = deliver(server.address, ELSEWHERE, &request);
    assert_eq!(rcode(&answer), ResponseCode::NoError);
    until("it is missed", || report(&server)["announced"] == 2);
    let alarms = server.status()["alarms"].to_string();
    assert!(alarms.contains("serial 2 was announced"), "{alarms}");
    let newest = feed.change();
    server.verb(&["feed", "refresh", "feed"]);
    in_force(&server, newest);
    until("it is missed no more", || {
        report(&server)["announced"].is_null()
    });
}
