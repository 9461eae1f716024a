//! UDP sockets: servers that respond from the address that a query was sent to, and clients on random ports.

mod batch;
mod buffer;
mod calls;
mod control;
mod ports;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, Socket as Raw, Type};

pub use batch::{Inbox, Outbox};
pub use control::Local;
pub use ports::Ports;

/// Bytes of socket buffer requested in each direction. The system may grant less.
const SOCKET_BUFFER: usize = 4 << 20;

/// Ports that are tried before giving up: even if nine of ten are in use, one of this many is free with a
/// probability of 99.9 %.
const PORT_TRIES: usize = 64;

/// Both addresses of a response: its destination and its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The sender of the query.
    pub peer: SocketAddr,
    /// The address that the query was sent to, on a socket that is bound to the wildcard address.
    pub local: Option<Local>,
}

/// A UDP socket. It never blocks.
#[derive(Debug)]
pub struct Socket(UdpSocket);

impl Socket {
    /// Binds to `address`. With `shared`, other sockets bound with `shared` may have the same address, and
    /// the kernel spreads datagrams among them (`SO_REUSEPORT`).
    ///
    /// # Errors
    /// As bind(2).
    pub fn bind(address: SocketAddr, shared: bool) -> io::Result<Self> {
        let raw = new(address)?;
        if address.is_ipv6() {
            raw.set_only_v6(true)?;
        }
        raw.set_reuse_port(shared)?;
        // Smaller buffers than requested are no reason not to serve.
        let _ = raw.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = raw.set_send_buffer_size(SOCKET_BUFFER);
        // The local address must be known for each datagram only if it can differ.
        if address.ip().is_unspecified() {
            control::want_packet_info(raw.as_fd(), address.is_ipv6())?;
        }
        control::want_drops(raw.as_fd())?;
        raw.bind(&address.into())?;
        Ok(Self(raw.into()))
    }

    /// A socket connected to `server`, on a local port chosen by `draw`, which is called again if the port is
    /// in use or not permitted. An ICMP message about `server` is an error of the next call.
    ///
    /// # Errors
    /// If no file descriptor or port is left, or there is no route to the server.
    pub fn connect(server: SocketAddr, mut draw: impl FnMut() -> u16) -> io::Result<Self> {
        let raw = new(server)?;
        let mut tries = 0;
        loop {
            let local: SocketAddr = match server {
                SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, draw()).into(),
                SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, draw()).into(),
            };
            tries += 1;
            match raw.bind(&local.into()) {
                Ok(()) => break,
                Err(error) if tries < PORT_TRIES && is_about_the_port(&error) => {}
                Err(error) => return Err(error),
            }
        }
        raw.connect(&server.into())?;
        Ok(Self(raw.into()))
    }

    /// Sends one datagram. Returns whether the system accepted it.
    pub fn send(&self, bytes: &[u8], route: &Route) -> bool {
        let mut outbox = Outbox::new(1, bytes.len());
        outbox.draft().extend_from_slice(bytes);
        outbox.push(Some(route));
        outbox.flush(self) == 0
    }

    /// The address that the socket is bound to.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl From<Socket> for UdpSocket {
    fn from(socket: Socket) -> Self {
        socket.0
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn new(address: SocketAddr) -> io::Result<Raw> {
    let domain = Domain::for_address(address);
    let raw = Raw::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    raw.set_nonblocking(true)?;
    control::ignore_path_mtu(raw.as_fd(), address.is_ipv6())?;
    Ok(raw)
}

fn is_about_the_port(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied
    )
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use rustix::net::sockopt::{
        Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, ip_mtu_discover, ipv6_mtu_discover,
    };

    use super::*;

    fn connected(server: &Socket) -> Socket {
        Socket::connect(server.local_addr().expect("bound"), || 0).expect("connected")
    }

    /// Receives the next datagrams, as soon as there are any.
    fn received(socket: &Socket, inbox: &mut Inbox) -> usize {
        loop {
            match inbox.receive(socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                other => return other.expect("received"),
            }
        }
    }

    fn echo(listen: &str, target: &str) -> SocketAddr {
        let server = Socket::bind(listen.parse().expect("an address"), false).expect("bound");
        let port = server.local_addr().expect("bound").port();
        let target = SocketAddr::new(target.parse().expect("an address"), port);
        let client = UdpSocket::bind((target.ip(), 0)).or_else(|_| UdpSocket::bind("0.0.0.0:0"));
        let client = client.expect("a client");
        let (mut inbox, mut outbox) = (Inbox::new(4, 16), Outbox::new(4, 16));
        let mut from = target;
        // Twice, as buffers are used again.
        for word in [&b"ping"[..], b"again"] {
            client.send_to(word, target).expect("sent");
            assert_eq!(received(&server, &mut inbox), 1);
            let route = inbox.route(0);
            assert_eq!(route.peer, client.local_addr().expect("bound"));
            outbox.draft().clear();
            outbox.draft().extend_from_slice(inbox.packet(0));
            outbox.push(Some(&route));
            assert_eq!(outbox.flush(&server), 0);
            let mut buffer = [0; 16];
            let (len, peer) = client.recv_from(&mut buffer).expect("an answer");
            assert_eq!((&buffer[..len], peer.port()), (word, port));
            from = peer;
        }
        from
    }

    #[test]
    fn a_response_leaves_from_the_address_that_the_query_was_sent_to() {
        let from = echo("0.0.0.0:0", "127.0.0.77");
        assert_eq!(from.ip(), IpAddr::from([127, 0, 0, 77]));
        let from = echo("127.0.0.5:0", "127.0.0.5");
        assert_eq!(from.ip(), IpAddr::from([127, 0, 0, 5]));
    }

    #[test]
    fn so_does_a_response_over_ipv6() {
        if UdpSocket::bind("[::1]:0").is_ok() {
            let from = echo("[::]:0", "::1");
            assert_eq!(from.ip(), IpAddr::from(Ipv6Addr::LOCALHOST));
        }
    }

    #[test]
    fn an_unshared_port_is_bound_only_once() {
        let first = Socket::bind("127.0.0.1:0".parse().expect("an address"), false).expect("bound");
        let address = first.local_addr().expect("bound");
        let again = Socket::bind(address, true).expect_err("in use");
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn batches_are_received_and_sent_and_truncated_datagrams_are_marked() {
        let server = Socket::bind("127.0.0.1:0".parse().expect("an address"), false);
        let server = server.expect("bound");
        let client = connected(&server);
        let (mut inbox, mut outbox) = (Inbox::new(4, 8), Outbox::new(6, 8));
        for len in 5..11_u8 {
            outbox.draft().clear();
            outbox.draft().extend((0..len).map(|_| len));
            outbox.push(None);
        }
        assert!(outbox.is_full());
        assert_eq!(outbox.flush(&client), 0);
        assert_eq!(received(&server, &mut inbox), 4);
        let cut = |inbox: &Inbox| -> Vec<_> {
            let all = 0..inbox.len();
            all.map(|slot| (inbox.packet(slot).to_vec(), inbox.is_cut(slot)))
                .collect()
        };
        let all = cut(&inbox);
        assert_eq!(all[0], (vec![5; 5], false));
        assert_eq!(all[3], (vec![8; 8], false));
        assert_eq!(received(&server, &mut inbox), 2);
        assert_eq!(cut(&inbox), [(vec![9; 8], true), (vec![10; 8], true)]);
    }

    #[test]
    fn datagrams_that_the_kernel_dropped_are_counted() {
        let server = Socket::bind("127.0.0.1:0".parse().expect("an address"), false);
        let server = server.expect("bound");
        Raw::from(server.0.try_clone().expect("a handle"))
            .set_recv_buffer_size(1)
            .expect("small");
        let client = connected(&server);
        let (mut inbox, mut outbox) = (Inbox::new(64, 512), Outbox::new(64, 512));
        let mut send = |count: usize| {
            for _ in 0..count {
                outbox.draft().resize(512, 7);
                outbox.push(None);
            }
            assert_eq!(outbox.flush(&client), 0);
        };
        send(64);
        let kept = received(&server, &mut inbox);
        assert!(kept < 64);
        send(1);
        assert_eq!(received(&server, &mut inbox), 1);
        assert_eq!(inbox.dropped(), Some(64 - kept as u32));
    }

    #[test]
    fn a_datagram_that_cant_be_sent_does_not_hold_back_the_others() {
        let server = Socket::bind("127.0.0.1:0".parse().expect("an address"), false);
        let server = server.expect("bound");
        let client = UdpSocket::bind("127.0.0.1:0").expect("a client");
        let mut outbox = Outbox::new(3, 8);
        let nowhere = "127.0.0.1:0".parse().expect("an address");
        for peer in [nowhere, client.local_addr().expect("bound"), nowhere] {
            outbox.draft().resize(4, 1);
            outbox.push(Some(&Route { peer, local: None }));
        }
        assert_eq!(outbox.flush(&server), 2);
        assert_eq!(client.recv(&mut [0; 8]).expect("received"), 4);
    }

    #[test]
    fn a_port_in_use_is_skipped_and_another_one_drawn() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("a server");
        let taken = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        let taken = taken.local_addr().map(|address| (taken, address.port()));
        let (_held, taken) = taken.expect("bound");
        let mut drawn = vec![0, taken, taken];
        let draw = || drawn.pop().expect("no more are target for");
        let socket = Socket::connect(server.local_addr().expect("bound"), draw);
        let port = socket
            .expect("connected")
            .local_addr()
            .expect("bound")
            .port();
        assert_ne!(port, taken);
        let error = Socket::connect(server.local_addr().expect("bound"), || taken);
        let error = error.expect_err("in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn no_socket_follows_icmp_messages_about_the_path_mtu() {
        let server = Socket::bind("127.0.0.1:0".parse().expect("an address"), false);
        let server = server.expect("bound");
        let client = connected(&server);
        for socket in [&server, &client] {
            let found = ip_mtu_discover(socket).expect("an option");
            assert_eq!(found, Ipv4PathMtuDiscovery::OMIT);
        }
        if let Ok(server) = Socket::bind("[::1]:0".parse().expect("an address"), false) {
            let found = ipv6_mtu_discover(&server).expect("an option");
            assert_eq!(found, Ipv6PathMtuDiscovery::OMIT);
        }
    }
}
