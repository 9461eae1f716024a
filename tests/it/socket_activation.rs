//! Sockets that a service manager passes to the server (sd_listen_fds(3)).

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};

use hickory_proto::rr::RecordType;
use socket2::{Domain, Protocol, Socket, Type};
use tempfile::TempDir;

use crate::support::client::{PATIENCE, Port, Stream, exchange, is_blocked, query};
use crate::support::port::udp_and_tcp;
use crate::support::server::{Server, folder, tapis, text};
use crate::support::upstream::Upstream;

/// Starts the server with its standard input and output as the passed descriptors 3 and 4, as a service manager does.
const PASS: &str =
    r#"exec 3<&0 4>&1 </dev/null >/dev/null; export LISTEN_PID=$$ LISTEN_FDS=2; exec "$0" "$@""#;

/// A server in `folder` that gets two descriptors.
fn activated(folder: &Path, first: impl Into<OwnedFd>, second: impl Into<OwnedFd>) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", PASS])
        .arg(tapis().get_program())
        .args(["serve", "--config", "tapis.toml"])
        .env_remove("RUST_LOG")
        .current_dir(folder)
        .stdin(Stdio::from(first.into()))
        .stdout(Stdio::from(second.into()));
    command
}

fn configured(listen: SocketAddr, workers: usize, upstream: &Upstream) -> TempDir {
    let upstream = upstream.address;
    let config = format!(
        "[server]\nlisten = [\"{listen}\"]\nworkers = {workers}\ncontrol = \"control.sock\"\n\
         [upstream]\nservers = [\"{upstream}\"]\n[[list]]\nname = \"l\"\npath = \"l\"\n"
    );
    folder(&config, &[("l", "blocked.example\n")])
}

/// The output of a start that fails.
fn refused(folder: &Path, first: impl Into<OwnedFd>, second: impl Into<OwnedFd>) -> String {
    let output = activated(folder, first, second).output().expect("it ran");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    text(&output)
}

/// A UDP socket whose address others may share.
fn shared(address: SocketAddr) -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).expect("a socket");
    socket.set_reuse_port(true).expect("shared");
    socket.bind(&address.into()).expect("bound");
    socket.into()
}

#[test]
fn queries_that_arrive_while_the_server_restarts_wait_in_the_passed_sockets() {
    let upstream = Upstream::plain();
    let (udp, tcp) = udp_and_tcp(TcpListener::bind);
    let address = udp.local_addr().expect("bound");
    let folder = configured(address, 2, &upstream);
    let run = |folder: TempDir| {
        let copies = (udp.try_clone(), tcp.try_clone());
        let command = activated(
            folder.path(),
            copies.0.expect("a copy"),
            copies.1.expect("a copy"),
        );
        Server::run(command, folder)
    };
    let mut server = run(folder);
    assert_eq!(server.address, address);
    assert!(is_blocked(address, "blocked.example"));
    // The socket was not bound to be shared, so no further one can be bound beside it.
    server.logged("workers share the UDP sockets");
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    let datagrams = Port::open(address);
    datagrams.send(&query("blocked.example", RecordType::A));
    let mut stream = Stream::open(address);
    stream.send(&query("blocked.example", RecordType::A));
    let other = tempfile::tempdir().expect("a folder");
    let _again = run(std::mem::replace(&mut server.folder, other));
    assert_eq!(datagrams.receive().answers.len(), 1);
    assert_eq!(stream.receive().expect("an answer").answers.len(), 1);
}

#[test]
fn all_passed_sockets_of_an_address_are_served_even_if_there_are_more_than_workers() {
    let upstream = Upstream::plain();
    let first = shared((Ipv4Addr::LOCALHOST, 0).into());
    let address = first.local_addr().expect("bound");
    let folder = configured(address, 1, &upstream);
    let server = Server::run(activated(folder.path(), first, shared(address)), folder);
    // The kernel chooses the socket by the client's port.
    for _ in 0..32 {
        let answer = exchange(address, &query("blocked.example", RecordType::A), PATIENCE);
        assert_eq!(answer.expect("an answer").answers.len(), 1);
    }
    assert!(!server.log().contains("workers share"), "{}", server.log());
}

#[test]
fn a_passed_socket_at_an_address_that_is_not_configured_is_closed_with_a_warning() {
    let upstream = Upstream::plain();
    let (udp, tcp) = udp_and_tcp(TcpListener::bind);
    let other = udp.local_addr().expect("bound");
    let folder = configured((Ipv4Addr::LOCALHOST, 0).into(), 1, &upstream);
    let server = Server::run(activated(folder.path(), udp, tcp), folder);
    assert_ne!(server.address, other);
    assert!(is_blocked(server.address, "blocked.example"));
    let log = server.logged("protocol=\"UDP\"");
    assert!(log.contains(&format!("address=\"{other}\"")), "{log}");
    // Both are closed, so that the address is free for others.
    TcpListener::bind(other).expect("free");
    UdpSocket::bind(other).expect("free");
}

#[test]
fn a_passed_control_socket_is_used_and_stays_after_the_server() {
    let upstream = Upstream::plain();
    let folder = configured((Ipv4Addr::LOCALHOST, 0).into(), 1, &upstream);
    let path = folder.path().canonicalize().expect("a folder");
    let control = UnixListener::bind(path.join("control.sock")).expect("bound");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let mut server = Server::run(activated(folder.path(), control, udp), folder);
    assert_eq!(server.status()["lists"][0]["name"], "l");
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    assert!(server.path("control.sock").exists());
}

#[test]
fn passed_descriptors_that_are_of_no_use_are_named_with_the_remedy() {
    let upstream = Upstream::plain();
    let folder = configured((Ipv4Addr::LOCALHOST, 0).into(), 1, &upstream);
    let folder = folder.path();
    let udp = || UdpSocket::bind("127.0.0.1:0").expect("bound");
    let report = refused(folder, udp(), File::open("/dev/null").expect("opened"));
    assert!(
        report.contains("file descriptor 4 (unknown)") && report.contains("not a socket"),
        "{report}"
    );
    let report = refused(folder, UnixDatagram::unbound().expect("a socket"), udp());
    assert!(
        report.contains("file descriptor 3") && report.contains(".socket unit"),
        "{report}"
    );
    let silent = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    silent.bind(&any.into()).expect("bound");
    let report = refused(folder, silent, udp());
    assert!(report.contains("does not listen"), "{report}");
    let both = Socket::new(Domain::IPV6, Type::DGRAM, None).expect("a socket");
    both.set_only_v6(false).expect("both families");
    let any: SocketAddr = (std::net::Ipv6Addr::UNSPECIFIED, 0).into();
    if both.bind(&any.into()).is_ok() {
        let report = refused(folder, both, udp());
        assert!(report.contains("BindIPv6Only=ipv6-only"), "{report}");
    }
}
