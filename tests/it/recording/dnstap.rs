//! dnstap: what a receiver gets, and receivers that are absent, slow, or something else.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};

use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::opt::EdnsOption;
use prost::Message as _;

use crate::support::client::{self, PATIENCE, query, until};
use crate::support::server::{Server, list, preamble};
use crate::support::upstream::{Upstream, address_of};

/// The parts of dnstap's schema that are compared.
#[derive(Clone, PartialEq, prost::Message)]
struct Frame {
    #[prost(bytes = "vec", optional, tag = "1")]
    identity: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "3")]
    extra: Option<Vec<u8>>,
    #[prost(message, optional, tag = "14")]
    message: Option<Tapped>,
    #[prost(int32, optional, tag = "15")]
    kind: Option<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Tapped {
    #[prost(int32, optional, tag = "1")]
    kind: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "4")]
    query_address: Option<Vec<u8>>,
    #[prost(uint32, optional, tag = "6")]
    query_port: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "10")]
    query: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "14")]
    answer: Option<Vec<u8>>,
    #[prost(message, optional, tag = "15")]
    policy: Option<Policy>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Policy {
    #[prost(string, optional, tag = "1")]
    kind: Option<String>,
    #[prost(bytes = "vec", optional, tag = "2")]
    rule: Option<Vec<u8>>,
    #[prost(int32, optional, tag = "3")]
    action: Option<i32>,
    #[prost(int32, optional, tag = "4")]
    matched: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "5")]
    value: Option<Vec<u8>>,
}

const CONTENT: &[u8] = b"protobuf:dnstap.Dnstap";
const QUERY: Option<i32> = Some(5);
const RESPONSE: Option<i32> = Some(6);

/// A control frame; ACCEPT, READY and START have the content type.
fn control(kind: u32) -> Vec<u8> {
    let mut body = kind.to_be_bytes().to_vec();
    if [1, 2, 4].contains(&kind) {
        body.extend(1u32.to_be_bytes());
        body.extend((CONTENT.len() as u32).to_be_bytes());
        body.extend(CONTENT);
    }
    let mut frame = vec![0; 4];
    frame.extend((body.len() as u32).to_be_bytes());
    frame.extend(body);
    frame
}

/// A receiver's end of a stream.
struct Stream(UnixStream);

impl Stream {
    /// The next stream, after its handshake.
    fn accept(listener: &UnixListener) -> Self {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut greeting = vec![0; control(4).len()];
        stream.read_exact(&mut greeting).expect("READY");
        assert_eq!(greeting, control(4));
        stream.write_all(&control(1)).expect("sent");
        stream.read_exact(&mut greeting).expect("START");
        assert_eq!(greeting, control(2));
        Self(stream)
    }

    /// The next frame; `None` for STOP.
    fn next(&mut self) -> Option<Frame> {
        let mut number = [0; 4];
        self.0.read_exact(&mut number).expect("a length");
        if number == [0; 4] {
            let mut stop = [0; 8];
            self.0.read_exact(&mut stop).expect("STOP");
            assert_eq!(stop, control(3)[4..]);
            self.0.write_all(&control(5)).expect("FINISH");
            return None;
        }
        let mut bytes = vec![0; u32::from_be_bytes(number) as usize];
        self.0.read_exact(&mut bytes).expect("a frame");
        Some(Frame::decode(&*bytes).expect("dnstap"))
    }
}

fn upstream() -> Upstream {
    Upstream::start(|asked| Some(address_of(asked, [192, 0, 2, 1])))
}

fn start(upstream: &Upstream, folder: tempfile::TempDir, dnstap: &str) -> Server {
    let section = format!("[dnstap]\nsocket = \"tap.sock\"\n{dnstap}\n");
    let config = preamble(upstream.address) + &section + &list("ads", "");
    fs::write(folder.path().join("tapis.toml"), config).expect("written");
    fs::write(folder.path().join("ads"), ".ads.example\n").expect("written");
    Server::start_in(folder)
}

fn figure(server: &Server, key: &str) -> u64 {
    let status = server.status();
    let value = &status["recording"]["dnstap"][key];
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{key} in {status}"))
}

fn wire(name: &str) -> Option<Vec<u8>> {
    let name = tapis::wire::name::Name::from_text(name).expect("a name");
    Some(name.wire().to_vec())
}

#[test]
fn a_receiver_gets_queries_answers_and_the_policy_until_the_end_of_the_stream() {
    let folder = tempfile::tempdir().expect("a folder");
    let listener = UnixListener::bind(folder.path().join("tap.sock")).expect("bound");
    let upstream = upstream();
    let mut server = start(&upstream, folder, "identity = \"ns1\"\nclient = \"whole\"");
    let mut stream = Stream::accept(&listener);
    for name in ["a.example", "X.ads.example"] {
        client::ask(server.address, name, RecordType::A);
    }
    let mut frames: Vec<_> = (0..4).map(|_| stream.next().expect("a frame")).collect();
    frames.sort_by_key(|frame| frame.extra.is_some());
    for frame in &frames {
        assert_eq!(
            (frame.identity.as_deref(), frame.kind),
            (Some(&b"ns1"[..]), Some(1))
        );
        let message = frame.message.as_ref().expect("a message");
        assert_eq!(message.query_address.as_deref(), Some(&[127, 0, 0, 1][..]));
        assert!(message.query_port.is_some_and(|port| port > 0));
    }
    let blocked = frames.pop().expect("the last one");
    assert_eq!(blocked.extra.as_deref(), Some(&b"ads"[..]), "the list");
    let message = blocked.message.expect("a message");
    assert_eq!(message.kind, RESPONSE);
    let expected = Policy {
        kind: Some("list".to_owned()),
        rule: wire("ads.example"),
        action: Some(6),
        matched: Some(1),
        value: wire("x.ads.example"),
    };
    assert_eq!(message.policy, Some(expected), "local data for a name");
    let answer = hickory_proto::op::Message::from_vec(&message.answer.expect("an answer"));
    assert_eq!(client::data(&answer.expect("readable")), ["0.0.0.0"]);
    let kinds: Vec<_> = frames
        .iter()
        .map(|frame| frame.message.as_ref().expect("a message"))
        .map(|message| {
            (
                message.kind,
                message.query.is_some(),
                message.policy.is_some(),
            )
        })
        .collect();
    assert_eq!(
        kinds
            .iter()
            .filter(|kind| **kind == (QUERY, true, false))
            .count(),
        2
    );
    assert_eq!(
        kinds
            .iter()
            .filter(|kind| **kind == (RESPONSE, false, false))
            .count(),
        1
    );
    server.assert_well();
    server.signal("TERM");
    assert_eq!(stream.next(), None, "STOP");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn the_client_subnet_of_a_query_is_shown_only_with_whole_clients() {
    for (form, shown) in [
        ("whole", [192, 0, 2, 55]),
        ("truncated", [0; 4]),
        ("none", [0; 4]),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join("tap.sock")).expect("bound");
        let upstream = upstream();
        let config = format!("messages = [\"client-query\"]\nclient = \"{form}\"");
        let server = start(&upstream, folder, &config);
        let mut stream = Stream::accept(&listener);
        let of = |address: [u8; 4]| {
            let mut query = query("a.example", RecordType::A);
            query.metadata.id = 1;
            let edns = query.edns.as_mut().expect("EDNS");
            let subnet = [&[0, 1, 32, 0][..], &address].concat();
            edns.options_mut().insert(EdnsOption::Unknown(8, subnet));
            query
        };
        let sent = of([192, 0, 2, 55]);
        client::exchange(server.address, &sent, PATIENCE).expect("an answer");
        let message = stream.next().expect("a frame").message.expect("a message");
        let expected = of(shown).to_vec().expect("a query");
        assert_eq!(message.query, Some(expected), "{form}");
    }
}

#[test]
fn a_receiver_that_comes_late_dies_and_comes_back_gets_streams_from_then_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tap.sock");
    let upstream = upstream();
    let server = start(&upstream, folder, "messages = [\"client-query\"]");
    until("the alarm", || {
        let alarms = server.status()["alarms"].to_string();
        alarms.contains("dnstap: no stream to") && alarms.contains("No such file")
    });
    client::ask(server.address, "lost.example", RecordType::A);
    until("it is counted", || figure(&server, "lost") == 1);
    for round in 0..2 {
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("bound");
        let mut stream = Stream::accept(&listener);
        until("no alarm", || {
            server.status()["alarms"] == serde_json::json!([])
        });
        client::ask(server.address, "a.example", RecordType::A);
        let message = stream.next().expect("a frame").message.expect("a message");
        assert_eq!((message.kind, message.query_port), (QUERY, None));
        assert_eq!(message.query_address.as_deref(), Some(&[127, 0, 0, 0][..]));
        assert_eq!(figure(&server, "recorded"), round + 1);
        drop((stream, listener));
        until("the alarm", || server.status()["degraded"] == true);
    }
}

#[test]
fn a_receiver_that_does_not_read_costs_a_bounded_queue_and_queries_are_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    let listener = UnixListener::bind(folder.path().join("tap.sock")).expect("bound");
    let upstream = upstream();
    let server = start(&upstream, folder, "");
    let stream = Stream::accept(&listener);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(server.address).expect("connected");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let packet = query("x.ads.example", RecordType::A)
        .to_vec()
        .expect("a query");
    // The alarm goes away while nothing is lost.
    until("the queue is full, and that is an alarm", || {
        for _ in 0..2000 {
            socket.send(&packet).expect("sent");
            socket.recv(&mut [0; 512]).expect("an answer");
        }
        let status = server.status();
        status["alarms"].to_string().contains("reads too slowly")
    });
    assert!(figure(&server, "lost") > 0);
    let before = server.peak_kib();
    for _ in 0..4000 {
        socket.send(&packet).expect("sent");
        socket.recv(&mut [0; 512]).expect("an answer");
    }
    assert!(server.peak_kib() < before + 8 * 1024, "bounded memory");
    drop(stream);
}

#[test]
fn a_receiver_that_speaks_something_else_is_an_alarm() {
    let folder = tempfile::tempdir().expect("a folder");
    let listener = UnixListener::bind(folder.path().join("tap.sock")).expect("bound");
    let upstream = upstream();
    let server = start(&upstream, folder, "");
    let (mut stream, _) = listener.accept().expect("a connection");
    stream
        .write_all(b"220 mail.example ESMTP\r\n")
        .expect("sent");
    until("the alarm", || {
        let alarms = server.status()["alarms"].to_string();
        alarms.contains("the receiver does not speak Frame Streams")
    });
}

/// Ends a program.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs fstrm_capture and dnstap-ldns; CI runs it"]
fn ten_thousand_sampled_queries_are_read_back_with_debians_readers() {
    let folder = tempfile::tempdir().expect("a folder");
    let (tap, file) = (
        folder.path().join("tap.sock"),
        folder.path().join("tap.fstrm"),
    );
    let mut command = Command::new("fstrm_capture");
    command
        .args(["-t", "protobuf:dnstap.Dnstap", "-u"])
        .arg(&tap);
    command.arg("-w").arg(&file).stderr(Stdio::null());
    let capture = Running(command.spawn().expect("fstrm_capture"));
    until("it listens", || tap.exists());
    let upstream = upstream();
    let mut server = start(&upstream, folder, "sample = 0.5\nclient = \"whole\"");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(server.address).expect("connected");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut asked = 0_u32;
    // The queries and answers that were on the wire, with the name if it is blocked.
    let (mut packets, mut answers) = (BTreeMap::new(), BTreeMap::new());
    until("enough are recorded", || {
        for _ in 0..2000 {
            let blocked = asked
                .is_multiple_of(2)
                .then(|| format!("n{asked}.ads.example"));
            let name = blocked.clone();
            let name = name.unwrap_or_else(|| format!("n{}.example", asked % 100));
            let packet = query(&name, RecordType::A).to_vec().expect("a query");
            socket.send(&packet).expect("sent");
            let mut answer = [0; 512];
            let length = socket.recv(&mut answer).expect("an answer");
            answers.insert(answer[..length].to_vec(), blocked);
            packets.insert(packet, name);
            asked += 1;
        }
        figure(&server, "recorded") >= 10_000
    });
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let sent = Command::new("kill")
        .arg(capture.0.id().to_string())
        .status();
    assert!(sent.expect("kill ran").success());
    let bytes = || fs::read(&file).unwrap_or_default();
    let stop = control(3);
    until("the file is complete", || bytes().ends_with(&stop));
    let bytes = bytes();
    let mut rest = &bytes[control(2).len()..bytes.len() - stop.len()];
    let (mut queries, mut responses, mut policies) = (Vec::new(), 0, 0);
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (frame, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        rest = after;
        let frame = Frame::decode(frame).expect("dnstap");
        let message = frame.message.expect("a message");
        assert_eq!(message.query_address.as_deref(), Some(&[127, 0, 0, 1][..]));
        if message.kind == QUERY {
            queries.push(packets[&message.query.expect("a query")].clone());
            assert_eq!((message.policy, message.answer), (None, None));
            continue;
        }
        assert_eq!(message.kind, RESPONSE);
        let blocked = answers[&message.answer.expect("an answer")].as_deref();
        let expected = blocked.map(|name| Policy {
            kind: Some("list".to_owned()),
            rule: wire("ads.example"),
            action: Some(6),
            matched: Some(1),
            value: wire(name),
        });
        policies += usize::from(expected.is_some());
        assert_eq!(message.policy, expected);
        assert_eq!(frame.extra.as_deref(), blocked.map(|_| &b"ads"[..]));
        responses += 1;
    }
    assert!(queries.len() >= 10_000, "{}", queries.len());
    assert_eq!(responses, queries.len(), "an answer for each");
    let of_blocked = queries.iter().filter(|name| name.contains("ads"));
    assert_eq!(policies, of_blocked.count());
    let read = Command::new("dnstap-ldns")
        .arg("-q")
        .arg("-r")
        .arg(&file)
        .output();
    let read = String::from_utf8(read.expect("dnstap-ldns").stdout).expect("text");
    let names = |kind: &str| {
        let lines = read.lines().filter(|line| line.contains(kind));
        let name = |line: &str| {
            assert!(line.contains("127.0.0.1 UDP"), "{line}");
            let mut words = line.split_whitespace();
            let name = words.find_map(|word| {
                let word = word.trim_matches('"');
                word.strip_suffix(".example.")
            });
            name.unwrap_or_else(|| panic!("a name in {line}"))
                .to_owned()
                + ".example"
        };
        let mut names: Vec<_> = lines.map(name).collect();
        names.sort();
        names
    };
    queries.sort();
    assert_eq!(names(" CQ "), queries);
    assert_eq!(names(" CR "), queries);
}
