//! The basic behaviour of the server, with the built-in default.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::Ordering;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::support::client::{
    PATIENCE, Stream, addresses, ask, errors, is_blocked, query, rcode, until,
};
use crate::support::server::{Server, list, preamble, text};
use crate::support::upstream::Upstream;

pub(crate) const ELEVEN: [&str; 11] = [
    "t.me",
    "telegram.me",
    "telegram.org",
    "core.telegram.org",
    "desktop.telegram.org",
    "macos.telegram.org",
    "web.telegram.org",
    "venus.web.telegram.org",
    "pluto.web.telegram.org",
    "flora.web.telegram.org",
    "flora-1.web.telegram.org",
];

/// The shipped default on free ports, with its list at the configured path.
fn shipped(upstream: &Upstream) -> Server {
    let root = env!("CARGO_MANIFEST_DIR");
    let text = std::fs::read_to_string(format!("{root}/config/tapis.toml")).expect("readable");
    let text = text
        .replace("\"127.0.0.1:5335\", \"[::1]:5335\"", "\"127.0.0.1:0\"")
        .replace(
            "# control = \"/run/tapis/control.sock\"",
            "control = \"control.sock\"",
        )
        .replace("\"../blocklists/", &format!("\"{root}/blocklists/"));
    let upstream = upstream.address.to_string();
    Server::start_with(&text, &[], &["--upstream", &upstream])
}

#[test]
fn the_eleven_names_of_2017_are_sinkholed_and_their_neighbours_are_not() {
    let upstream = Upstream::plain();
    let server = shipped(&upstream);
    let mut stream = Stream::open(server.address);
    for name in ELEVEN {
        let mixed: String = name
            .char_indices()
            .map(|(at, c)| {
                if at % 2 == 0 {
                    c.to_ascii_uppercase()
                } else {
                    c
                }
            })
            .collect();
        for (rtype, expected) in [
            (RecordType::A, &["0.0.0.0"][..]),
            (RecordType::AAAA, &["::"]),
            (RecordType::HTTPS, &[]),
            (RecordType::TXT, &[]),
            (RecordType::ANY, &["0.0.0.0", "::"]),
        ] {
            let by_udp = ask(server.address, &mixed, rtype);
            stream.send(&query(&mixed, rtype));
            let by_tcp = stream.receive().expect("an answer");
            for answer in [by_udp, by_tcp] {
                assert_eq!(rcode(&answer), ResponseCode::NoError, "{mixed} {rtype}");
                let data: Vec<_> = answer.answers.iter().map(|r| r.data.to_string()).collect();
                assert_eq!(data, expected, "{mixed} {rtype}");
                let (code, text) = &errors(&answer)[0];
                assert_eq!(*code, 16);
                assert!(text.starts_with("telegram-web"), "{text}");
                assert_eq!(answer.queries[0].name().to_string(), format!("{mixed}."));
            }
        }
    }
    for name in ["api.telegram.org", "example.org", "www.t.me"] {
        assert_eq!(addresses(server.address, name), ["192.0.2.1"]);
    }
}

#[test]
fn the_answer_comes_from_the_address_that_was_asked() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address).replace("127.0.0.1:0", "0.0.0.0:0") + &list("ads", "");
    let server = Server::start(&config, &[("ads", "blocked.example\n")]);
    for (last, name) in [(9, "blocked.example"), (77, "free.example")] {
        let asked = SocketAddr::new(IpAddr::from([127, 0, 0, last]), server.address.port());
        // A connected socket receives no answer from any other address.
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(asked).expect("connected");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket
            .send(&query(name, RecordType::A).to_vec().expect("a message"))
            .expect("sent");
        socket
            .recv(&mut [0; 512])
            .expect("an answer from that address");
    }
}

#[test]
fn clients_without_permission_are_refused_with_a_reason() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address).replace("workers = 2", "allow = [\"192.0.2.0/24\"]");
    let server = Server::start(&config, &[]);
    let answer = ask(server.address, "a.example", RecordType::A);
    assert_eq!(
        (rcode(&answer), errors(&answer)[0].0),
        (ResponseCode::Refused, 18)
    );
    assert!(upstream.asked().is_empty());
}

#[test]
fn a_signal_stops_the_server_cleanly_and_leaves_no_socket() {
    let upstream = Upstream::plain();
    let mut server = Server::start(&preamble(upstream.address), &[]);
    assert!(server.path("control.sock").exists());
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    assert!(!server.path("control.sock").exists());
}

#[test]
fn a_query_in_flight_is_answered_before_the_server_ends() {
    let (upstream, gate) = Upstream::gated();
    let mut server = Server::start(&preamble(upstream.address), &[]);
    let address = server.address;
    let asks = std::thread::spawn(move || addresses(address, "slow.example"));
    until("upstream is asked", || !upstream.asked().is_empty());
    server.signal("TERM");
    // The worker has ended and has handed its query over to the upstream pool, which sends it again.
    until("upstream is asked again", || upstream.asked().len() > 1);
    gate.store(true, Ordering::Relaxed);
    assert_eq!(asks.join().expect("an answer"), ["192.0.2.1"]);
    assert_eq!(server.wait(), Some(0));
}

/// Starts the server in a shell after `before`, and waits for `word` in its log; returns that log.
fn start_after(before: &str, folder: &Path, word: &str) -> (Child, String, BufReader<ChildStderr>) {
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(format!("{before} exec \"$0\" serve --config \"$1\""))
        .arg(env!("CARGO_BIN_EXE_tapis"))
        .arg(folder.join("tapis.toml"))
        .env_remove("RUST_LOG")
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(child.stderr.take().expect("piped"));
    let mut log = String::new();
    while !log.contains(word) {
        let read = lines.read_line(&mut log).expect("text");
        assert!(read > 0, "it ended:\n{log}");
    }
    (child, log, lines)
}

fn terminate(child: &Child) {
    let sent = Command::new("kill").arg(child.id().to_string()).status();
    assert!(sent.expect("kill ran").success());
}

#[test]
fn a_signal_stops_the_server_also_while_it_reads_lists() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = preamble(Upstream::plain().address) + &list("long", "");
    std::fs::write(folder.path().join("tapis.toml"), config).expect("written");
    let mut names = String::new();
    for n in 0..3_000_000 {
        writeln!(names, "{n}.example").expect("written");
    }
    std::fs::write(folder.path().join("long"), names).expect("written");
    let (mut child, mut log, mut rest) = start_after("", folder.path(), "reading the lists");
    terminate(&child);
    assert_eq!(child.wait().expect("it ended").code(), Some(0));
    rest.read_to_string(&mut log).expect("text");
    assert!(log.contains("stopped while the lists were read"), "{log}");
    assert!(!folder.path().join("control.sock").exists());
}

#[test]
fn idle_connections_leave_file_descriptors_for_queries_and_for_the_operator() {
    let upstream = Upstream::plain();
    let folder = tempfile::tempdir().expect("a folder");
    let config = preamble(upstream.address);
    std::fs::write(folder.path().join("tapis.toml"), config).expect("written");
    let (mut child, log, _rest) = start_after("ulimit -n 200;", folder.path(), "serving address=");
    assert!(log.contains("tcp-connections lowered"), "{log}");
    let (_, address) = log.split_once("serving address=").expect("one");
    let address = address.split(' ').next().expect("an address");
    let address: SocketAddr = address.parse().expect("an address");
    let idle: Vec<_> = (0..200).map(|_| TcpStream::connect(address)).collect();
    assert_eq!(addresses(address, "free.example"), ["192.0.2.1"]);
    let status = Command::new(env!("CARGO_BIN_EXE_tapis"))
        .args(["status", "--control"])
        .arg(folder.path().join("control.sock"))
        .output();
    assert!(status.expect("it ran").status.success());
    drop(idle);
    terminate(&child);
    assert_eq!(child.wait().expect("it ended").code(), Some(0));
}

#[test]
fn an_open_control_connection_does_not_delay_the_end_of_the_server() {
    let upstream = Upstream::plain();
    let mut server = Server::start(&preamble(upstream.address), &[]);
    let mut half = UnixStream::connect(server.path("control.sock")).expect("connected");
    half.write_all(b"GET /status HTTP/1.1\r\nhost:")
        .expect("sent");
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn command_line_options_are_not_reported_as_changes_of_the_file() {
    let upstream = Upstream::plain();
    let other = Upstream::plain().address.to_string();
    let arguments = ["--upstream", other.as_str(), "--listen", "127.0.0.1:0"];
    let server = Server::start_with(&preamble(upstream.address), &[], &arguments);
    let report = text(&server.verb(&["reload"]));
    assert!(!report.contains("restart"), "{report}");
}

#[test]
fn status_has_text_and_json_output() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address) + &list("ads", "");
    let server = Server::start(&config, &[("ads", "blocked.example\n")]);
    assert!(is_blocked(server.address, "blocked.example"));
    let printed = text(&server.verb(&["status"]));
    assert!(
        printed.contains("generation 1") && printed.contains("list ads: 1 rule,"),
        "{printed}"
    );
    let status = server.status();
    assert_eq!(status["listen"][0], server.address.to_string());
    assert_eq!(status["counters"]["blocked"], 1);
    assert_eq!(
        status["upstream"][0]["address"],
        upstream.address.to_string()
    );
}
