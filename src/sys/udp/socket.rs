//! A UDP socket, for servers and for clients.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use socket2::{Domain, Protocol, SockRef, Socket as Raw, Type};

use super::control::{self, Local};

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
pub struct Socket(pub(super) UdpSocket);

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
        prepare(&raw, address)?;
        raw.bind(&address.into())?;
        Ok(Self(raw.into()))
    }

    /// Uses a socket that another process has bound to `address`.
    ///
    /// # Errors
    /// If the socket refuses an option.
    pub fn adopt(file: OwnedFd, address: SocketAddr) -> io::Result<Self> {
        let raw = Raw::from(file);
        raw.set_nonblocking(true)?;
        control::ignore_path_mtu(raw.as_fd(), address.is_ipv6())?;
        prepare(&raw, address)?;
        Ok(Self(raw.into()))
    }

    /// Whether further sockets can be bound to the same address (`SO_REUSEPORT`).
    pub fn is_shared(&self) -> bool {
        SockRef::from(&self.0).reuse_port().unwrap_or(false)
    }

    /// A socket connected to `server`, on a local port chosen by `draw`, which is called again if the port is
    /// in use or not permitted. An ICMP message about `server` makes the next call on the socket fail.
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

/// Sets the options of a socket that receives queries at `address`.
fn prepare(raw: &Raw, address: SocketAddr) -> io::Result<()> {
    // Smaller buffers than requested are no reason not to serve.
    let _ = raw.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = raw.set_send_buffer_size(SOCKET_BUFFER);
    // The local address must be known for each datagram only if it can differ.
    if address.ip().is_unspecified() {
        control::want_packet_info(raw.as_fd(), address.is_ipv6())?;
    }
    control::want_drops(raw.as_fd())
}

fn is_about_the_port(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied
    )
}
