//! A new process takes over from a running one: no query is lost, and whichever process dies, one serves.

mod changes;
mod deaths;
mod leaving;
mod recording;
mod upgrade;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, spawn};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;

use crate::support::client::{
    PATIENCE, Stream, addresses, data, exchange, is_blocked, query, rcode, until,
};
use crate::support::server::{Server, folder, list, preamble, tapis, text, verb};
use crate::support::upstream::{Upstream, address_of, name as upstream_name};

/// Sections of a configuration with a list, metrics, state directory and journal.
fn sections() -> String {
    let sections = "[metrics]\nlisten = [\"127.0.0.1:0\"]\n[state]\ndir = \"state\"\n[journal]\npath = \"state/journal.jsonl\"\n";
    sections.to_owned() + &list("l", "")
}

fn server(upstream: &Upstream) -> Server {
    let config = preamble(upstream.address) + &sections();
    Server::start_in(folder(&config, &[("l", "blocked.example\n")]))
}

/// A process that takes over from the server in a directory.
fn successor(folder: &Path) -> Command {
    let mut command = tapis();
    command
        .args(["serve", "--config", "tapis.toml", "--take-over"])
        .current_dir(folder);
    command
}

fn take_over(folder: &Path) -> Server {
    let other = tempfile::tempdir().expect("a folder");
    let new = Server::run(successor(folder), other);
    new.logged("took over");
    new
}

fn pid(folder: &Path) -> u64 {
    let output = verb(folder, &["status", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}\n{}", text(&output)));
    status["pid"].as_u64().expect("a number")
}

fn assert_journal_is_whole(folder: &Path) {
    let output = verb(folder, &["journal", "verify"]);
    assert!(output.status.success(), "{}", text(&output));
}

/// A client that asks again and again, each query after the answer to the one before.
struct Client {
    answers: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Client {
    /// `ask` returns whether there was an answer, and asserts that it is right.
    fn start(mut ask: impl FnMut(usize) -> bool + Send + 'static) -> Self {
        let (answers, stop) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (count, end) = (Arc::clone(&answers), Arc::clone(&stop));
        let thread = spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let number = count.load(Ordering::Relaxed);
                assert!(ask(number), "query {number} is lost");
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self {
            answers,
            stop,
            thread,
        }
    }

    /// Waits for some more answers.
    fn go_on(&self) {
        let wanted = self.answers.load(Ordering::Relaxed) + 20;
        until("answers", || {
            self.answers.load(Ordering::Relaxed) >= wanted || self.thread.is_finished()
        });
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no query is lost");
    }
}

/// Asserts that the answer is that of the list, or else that of [`Upstream::plain`].
fn is_right(name: &str, answer: &Message) -> bool {
    let address = match name {
        "blocked.example" => "0.0.0.0",
        _ => "192.0.2.1",
    };
    assert_eq!(rcode(answer), ResponseCode::NoError, "{name}");
    assert_eq!(data(answer), [address], "{name}");
    true
}

fn clients(address: SocketAddr) -> Vec<Client> {
    let name = |number: usize, kind: &str| match number % 3 {
        0 => "blocked.example".to_owned(),
        1 => "cached.example".to_owned(),
        _ => format!("{kind}{number}.example"),
    };
    let by_udp = move |number| {
        let name = name(number, "u");
        let message = query(&name, RecordType::A);
        let answer = exchange(address, &message, PATIENCE);
        answer.is_some_and(|answer| is_right(&name, &answer))
    };
    let by_tcp = move |number| {
        let mut stream = Stream::open(address);
        let name = name(number, "t");
        stream.send(&query(&name, RecordType::A));
        let answer = stream.receive();
        answer.is_some_and(|answer| is_right(&name, &answer))
    };
    let mut kept = Stream::open(address);
    let by_one_connection = move |number| {
        let name = name(number, "k");
        let sent = kept.try_send(&query(&name, RecordType::A));
        let answer = sent.ok().and_then(|()| kept.receive());
        answer.is_some_and(|answer| is_right(&name, &answer))
    };
    vec![
        Client::start(by_udp),
        Client::start(by_tcp),
        Client::start(by_one_connection),
    ]
}

#[test]
fn no_query_by_udp_or_tcp_is_lost_in_three_take_overs_and_connections_stay_open() {
    let upstream = Upstream::plain();
    let mut old = server(&upstream);
    let folder = old.folder.path().to_owned();
    let address = old.address;
    let first = std::mem::replace(&mut old.folder, tempfile::tempdir().expect("a folder"));
    let metrics = || {
        let status = verb(&folder, &["status", "--json"]).stdout;
        let status: serde_json::Value = serde_json::from_slice(&status).expect("JSON");
        status["metrics"].to_string()
    };
    let scraped_at = metrics();
    let clients = clients(address);
    for _ in 0..3 {
        clients.iter().for_each(Client::go_on);
        let new = take_over(&folder);
        assert_eq!(new.address, address);
        assert_eq!(old.wait(), Some(0), "{}", old.log());
        assert!(old.log().contains("handed over"), "{}", old.log());
        clients.iter().for_each(Client::go_on);
        assert_eq!(pid(&folder), u64::from(new.id()));
        assert_eq!(metrics(), scraped_at);
        old = new;
    }
    clients.into_iter().for_each(Client::end);
    assert_journal_is_whole(&folder);
    let journal = text(&verb(&folder, &["journal", "show"]));
    assert_eq!(journal.matches("stop").count(), 3, "{journal}");
    old.signal("TERM");
    assert_eq!(old.wait(), Some(0));
    assert!(
        !folder.join("control.sock").exists(),
        "the last one removes it"
    );
    drop(first);
}

/// Asks for a take-over with this version of the protocol; returns the answer's head, and the connection.
fn asked(folder: &Path, protocol: &str) -> (String, UnixStream) {
    let mut stream = UnixStream::connect(folder.join("control.sock")).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    write!(
        stream,
        "POST /take-over HTTP/1.1\r\nhost: tapis\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n\
         content-length: 0\r\n\r\n"
    )
    .expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    (String::from_utf8_lossy(&head).into_owned(), stream)
}

/// The next line of a link.
fn asked_line(stream: &mut UnixStream) -> String {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while byte != *b"\n" {
        stream.read_exact(&mut byte).expect("a line");
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("text")
}

fn refused(folder: &Path) -> Output {
    let output = successor(folder).output().expect("it ran");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    output
}

#[test]
fn another_version_and_a_second_take_over_at_a_time_are_refused_with_the_reason() {
    let upstream = Upstream::plain();
    let server = server(&upstream);
    let folder = server.folder.path();
    let (head, mut stream) = asked(folder, "tapis-take-over/0");
    assert!(head.contains(" 409 "), "{head}");
    let mut reason = String::new();
    stream.read_to_string(&mut reason).expect("text");
    assert!(
        reason.contains("tapis-take-over/0") && reason.contains("restart the server"),
        "{reason}"
    );
    // This one takes its time.
    let (head, slow) = asked(folder, "tapis-take-over/1");
    assert!(head.contains(" 101 "), "{head}");
    let report = text(&refused(folder));
    assert!(
        report.contains("another process is taking over"),
        "{report}"
    );
    drop(slow);
    server.logged("a take-over failed");
    let new = take_over(folder);
    assert!(is_blocked(new.address, "blocked.example"));
}

#[test]
fn messages_of_another_program_end_its_take_over() {
    let upstream = Upstream::plain();
    let mut server = server(&upstream);
    let folder = server.folder.path().to_owned();
    let (_, mut stream) = asked(&folder, "tapis-take-over/1");
    stream
        .write_all(b"{\"serving\":{\"has_control\":true}}\n")
        .expect("sent");
    let mut rest = String::new();
    // It gets sockets, which this test ignores, and the reason.
    stream.read_to_string(&mut rest).expect("text");
    let reason = "something else than a message of a take-over";
    assert!(rest.contains("abort") && rest.contains(reason), "{rest}");
    assert!(is_blocked(server.address, "blocked.example"));
    server.assert_well();
    // The other process has no part in the control socket any more.
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0), "{}", server.log());
    assert!(!folder.join("control.sock").exists());
}

#[test]
fn another_user_with_access_to_the_control_socket_may_not_take_over() {
    const USER: u32 = 424_242;
    let version = tapis().arg("--version").uid(USER).gid(USER).output();
    if !version.is_ok_and(|output| output.status.success()) {
        // Only root can run a program as another user.
        return;
    }
    let upstream = Upstream::plain();
    let config = preamble(upstream.address)
        .replace("[server]", &format!("[server]\ncontrol-group = \"{USER}\""));
    let server = Server::start(&config, &[]);
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(server.folder.path(), mode).expect("changed");
    let output = successor(server.folder.path()).uid(USER).gid(USER).output();
    let output = output.expect("it ran");
    let report = text(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(
        report.contains("only the server's user and root"),
        "{report}"
    );
}

#[test]
fn without_a_running_server_it_starts_as_usual() {
    let upstream = Upstream::plain();
    let folder = folder(&preamble(upstream.address), &[]);
    let server = Server::run(successor(folder.path()), folder);
    let log = server.log();
    assert!(log.contains("there is none to take over from"), "{log}");
    let answer = exchange(server.address, &query("a.example", RecordType::A), PATIENCE);
    assert_eq!(data(&answer.expect("an answer")).len(), 1);
}

#[test]
fn sockets_of_another_users_server_are_not_used_if_anybody_could_have_made_its_control_socket() {
    const USER: u32 = 424_242;
    let upstream = Upstream::plain();
    let folder = folder(&preamble(upstream.address), &[]);
    let is_theirs = std::os::unix::fs::chown(folder.path(), Some(USER), Some(USER));
    let version = tapis().arg("--version").uid(USER).gid(USER).output();
    if is_theirs.is_err() || !version.is_ok_and(|output| output.status.success()) {
        // Only root can run a program as another user.
        return;
    }
    let mut command = tapis();
    command
        .args(["serve", "--config", "tapis.toml"])
        .current_dir(folder.path())
        .uid(USER)
        .gid(USER);
    let server = Server::run(command, folder);
    let report = text(&refused(server.folder.path()));
    assert!(report.contains("runs as user 424242"), "{report}");
    assert!(
        !server.log().contains("a take-over failed"),
        "it was not even asked"
    );
}

/// A server that answers each name with the address `192.0.2.N`, for an hour.
fn lasting(last: u8) -> Upstream {
    Upstream::start(move |asked| {
        let mut answer = address_of(asked, [192, 0, 2, last]);
        answer
            .answers
            .iter_mut()
            .for_each(|record| record.ttl = 3600);
        Some(answer)
    })
}

#[test]
fn answers_about_forwarded_zones_are_in_the_cache_of_the_new_process_if_it_asks_the_same_servers() {
    let [upstream, corp, lab, other] = [1, 2, 3, 4].map(lasting);
    let forward = |zone: &str, server: &Upstream| {
        let server = server.address;
        format!("[[forward]]\nzone = \"{zone}\"\nservers = [\"{server}\"]\n")
    };
    let config = |corp: &Upstream, lab: &Upstream| {
        let forwards = forward("corp.example", corp) + &forward("lab.example", lab);
        preamble(upstream.address) + &forwards + &sections()
    };
    let folder = folder(&config(&corp, &lab), &[("l", "blocked.example\n")]);
    let mut old = Server::start_in(folder);
    let folder = old.folder.path().to_owned();
    let names = ["www.example", "www.corp.example", "www.lab.example"];
    let all = |server: &Server| names.map(|name| addresses(server.address, name).concat());
    assert_eq!(all(&old), ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    std::fs::write(folder.join("tapis.toml"), config(&corp, &other)).expect("written");
    let new = take_over(&folder);
    assert_eq!(old.wait(), Some(0));
    assert_eq!(all(&new), ["192.0.2.1", "192.0.2.2", "192.0.2.4"]);
    let asked = [&upstream, &corp, &lab, &other].map(|it| it.asked().len());
    assert_eq!(asked, [1; 4], "each was asked once");
}

#[test]
fn popular_answers_are_in_the_cache_of_the_new_process() {
    let upstream = lasting(1);
    let mut old = server(&upstream);
    let folder = old.folder.path().to_owned();
    let names = ["one.example", "two.example"];
    let all = |server: &Server| names.map(|name| addresses(server.address, name));
    assert_eq!(all(&old), [["192.0.2.1"], ["192.0.2.1"]]);
    let new = take_over(&folder);
    assert_eq!(old.wait(), Some(0));
    assert_eq!(all(&new), [["192.0.2.1"], ["192.0.2.1"]]);
    let asked = upstream.asked();
    for name in names {
        let times = asked.iter().filter(|it| upstream_name(it) == name).count();
        assert_eq!(times, 1, "{name}");
    }
}
