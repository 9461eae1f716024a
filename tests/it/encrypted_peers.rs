//! Unbound as an encrypted upstream whose connections are cut at random: no query is lost, and none gets a wrong answer.
//!
//! The tests need Debian's package unbound, so they only run on request: `cargo test --test it -- --ignored`. They take ten
//! seconds each, or as many as the environment variable `TAPIS_SECONDS` says. Then the server has its default limits of time,
//! and the machine must be fast enough for the rate.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;

use crate::support::client::{PATIENCE, data, query};
use crate::support::peers::{Peer, Program};
use crate::support::port::free_port;
use crate::support::random::Random;
use crate::support::server::{Server, list, preamble};
use crate::support::tls::{authority, key_of_primary, primary};

/// Queries per second, on a machine that is fast enough.
const RATE: f64 = 2000.0;
/// The maximum number of queries without an answer: a slower machine gets fewer queries.
const OPEN: usize = 1000;
/// The shortest and the longest time between two cuts.
const CUTS: [u64; 2] = [20, 250];

/// The address that a name has.
fn address_of(number: u32) -> [u8; 4] {
    let [_, b, c, d] = number.to_be_bytes();
    [10, b, c, d]
}

fn number_of(name: &str) -> Option<u32> {
    name.strip_prefix('n')?.split('.').next()?.parse().ok()
}

/// A server that knows all names: the number in a name is the address.
fn authority_of_numbers() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = socket.local_addr().expect("bound");
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((len, client)) = socket.recv_from(&mut buffer) {
            let Ok(asked) = Message::from_vec(&buffer[..len]) else {
                continue;
            };
            let Some(question) = asked.queries.first() else {
                continue;
            };
            let number = number_of(&question.name().to_lowercase().to_string());
            let labels = question.name().iter().map(|label| label.len() + 1);
            let end = 12 + labels.sum::<usize>() + 1 + 4;
            let mut answer = buffer[..end].to_vec();
            answer[2..12].copy_from_slice(&[0x85, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
            if let Some(number) = number
                && question.query_type() == RecordType::A
            {
                answer[7] = 1;
                answer.extend_from_slice(&[0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                answer.extend_from_slice(&address_of(number));
            }
            let _ = socket.send_to(&answer, client);
        }
    });
    address
}

/// Unbound, and the ports where it is asked by TLS and HTTPS.
fn unbound(upstream: SocketAddr) -> (Program, [u16; 2]) {
    let ports = [free_port(), free_port()];
    let options = format!(
        "  interface: 127.0.0.1@{}
  interface: 127.0.0.1@{}
  tls-port: {}
  https-port: {}
  tls-service-key: \"{}\"
  tls-service-pem: \"{}\"
  module-config: \"iterator\"
  incoming-num-tcp: 200
  num-queries-per-thread: 4096
  outgoing-range: 8192
",
        ports[0],
        ports[1],
        ports[0],
        ports[1],
        key_of_primary().display(),
        primary().display()
    );
    let port = upstream.port().to_string();
    let peer = Peer::unbound(&options, "").with(&[("UPSTREAM", &port)]);
    (peer.start(&[]), ports)
}

/// Passes connections on to a port, and cuts one of them every now and then. Returns its address, and the cuts so far.
fn cutter(port: u16) -> (SocketAddr, Arc<Mutex<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("bound");
    let open: Arc<Mutex<Vec<[TcpStream; 2]>>> = Arc::default();
    let cuts = Arc::<Mutex<usize>>::default();
    let all = Arc::clone(&open);
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else {
                continue;
            };
            let copy = |stream: &TcpStream| stream.try_clone().expect("a handle");
            for (mut from, mut to) in [
                (copy(&client), copy(&server)),
                (copy(&server), copy(&client)),
            ] {
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
            all.lock().expect("not poisoned").push([client, server]);
        }
    });
    let count = Arc::clone(&cuts);
    thread::spawn(move || {
        let mut random = Random(19);
        loop {
            let [least, most] = CUTS;
            let pause = least + random.below((most - least) as usize) as u64;
            thread::park_timeout(Duration::from_millis(pause));
            let mut open = open.lock().expect("not poisoned");
            if !open.is_empty() {
                let at = random.below(open.len());
                for end in open.swap_remove(at) {
                    let _ = end.shutdown(Shutdown::Both);
                }
                *count.lock().expect("not poisoned") += 1;
            }
        }
    });
    (address, cuts)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    sent: usize,
    right: usize,
    wrong: usize,
    failed: usize,
}

/// Asks for unknown names at [`RATE`], for that time.
fn ask_steadily(server: SocketAddr, time: Duration) -> Counts {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(server).expect("connected");
    let tick = Some(Duration::from_millis(1));
    socket.set_read_timeout(tick).expect("a timeout");
    let mut counts = Counts::default();
    let (start, mut last) = (Instant::now(), Instant::now());
    let mut buffer = [0; 4096];
    loop {
        let is_over = start.elapsed() > time;
        let due = (start.elapsed().as_secs_f64() * RATE) as usize;
        let answered = counts.right + counts.wrong + counts.failed;
        while !is_over && counts.sent < due && counts.sent - answered < OPEN {
            let mut asked = query(&format!("n{}.example", counts.sent), RecordType::A);
            asked.metadata.id = counts.sent as u16;
            socket
                .send(&asked.to_vec().expect("a message"))
                .expect("sent");
            counts.sent += 1;
        }
        if let Ok(len) = socket.recv(&mut buffer) {
            last = Instant::now();
            let answer = Message::from_vec(&buffer[..len]).expect("an answer that can be read");
            let number = number_of(&answer.queries[0].name().to_string()).expect("one of ours");
            let [a, b, c, d] = address_of(number);
            let is_right = data(&answer) == [format!("{a}.{b}.{c}.{d}")];
            match answer.metadata.response_code {
                ResponseCode::NoError if is_right && answer.metadata.id == number as u16 => {
                    counts.right += 1;
                }
                ResponseCode::ServFail => counts.failed += 1,
                _ => counts.wrong += 1,
            }
        }
        if is_over && (answered == counts.sent || last.elapsed() > PATIENCE) {
            return counts;
        }
    }
}

fn lose_nothing(scheme: &str, path: &str, of: usize) {
    let (unbound, ports) = unbound(authority_of_numbers());
    let (address, cuts) = cutter(ports[of]);
    let seconds = std::env::var("TAPIS_SECONDS").ok();
    let time = seconds
        .as_deref()
        .map_or(10, |seconds| seconds.parse().expect("a number"));
    let ca = authority();
    let server = format!(
        "{{ address = \"{scheme}://{address}{path}#primary.test\", ca-file = \"{}\" }}",
        ca.display()
    );
    let closed: SocketAddr = "127.0.0.1:9".parse().expect("an address");
    let config = preamble(closed).replace("\"127.0.0.1:9\"", &server);
    let config = match seconds {
        Some(_) => config,
        None => {
            config.replace("[server]\n", "[server]\ndiscard-ms = 60000\n") + "timeout-ms = 20000\n"
        }
    };
    let config = config + &list("ads", "");
    let server = Server::start(&config, &[("ads", "blocked.example\n")]);
    let counts = ask_steadily(server.address, Duration::from_secs(time));
    let resent = server.count("upstream_resent");
    let cuts = *cuts.lock().expect("not poisoned");
    eprintln!(
        "{scheme}: {counts:?} in {time} s, {cuts} connections cut, {resent} queries sent again"
    );
    assert!(
        cuts > 0 && resent > 0 && counts.sent > 100,
        "{counts:?}, {cuts}, {resent}"
    );
    if seconds.is_some() {
        let due = RATE * time as f64;
        assert!(
            counts.sent as f64 > 0.99 * due,
            "not at the rate: {counts:?}"
        );
    }
    let lost = counts.sent - counts.right;
    assert_eq!((lost, counts.wrong, counts.failed), (0, 0, 0), "{counts:?}");
    drop(unbound);
}

#[test]
#[ignore = "needs unbound"]
fn no_query_over_tls_is_lost_while_connections_are_cut_at_random() {
    lose_nothing("tls", "", 0);
}

#[test]
#[ignore = "needs unbound"]
fn no_query_over_https_is_lost_while_connections_are_cut_at_random() {
    lose_nothing("https", "/dns-query", 1);
}
