//! Owns UDP sockets that answer from the address that was asked.
//! Refuses to read what the datagrams say.
#![expect(
    unsafe_code,
    reason = "std has no access to packet information (RFC 3542, section 6)"
)]

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use socket2::{Domain, Protocol, SockAddr, Socket as Raw, Type};

/// Octets of socket buffer that are asked for in each direction. The system may give less.
const SOCKET_BUFFER: usize = 4 << 20;
/// Room for one packet information of either family, with alignment to spare.
const CONTROL: usize = 64;

/// The local end of a datagram: the address that it came to, and by which interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    ip: IpAddr,
    interface: u32,
}

/// A bound UDP socket.
#[derive(Debug)]
pub struct Socket {
    inner: UdpSocket,
    /// Bound to a wildcard address: each datagram's own local address must be carried along.
    wildcard: bool,
}

impl Socket {
    /// Binds to `address`. With `shared`, other sockets that ask for the same may share it, and
    /// the kernel spreads datagrams among them (`SO_REUSEPORT`). Never blocks afterwards.
    ///
    /// # Errors
    /// What the system says, as from bind(2).
    pub fn bind(address: SocketAddr, shared: bool) -> io::Result<Self> {
        let domain = Domain::for_address(address);
        let raw = Raw::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            raw.set_only_v6(true)?;
        }
        raw.set_reuse_port(shared)?;
        raw.set_nonblocking(true)?;
        // Smaller buffers than asked for are no reason not to serve.
        let _ = raw.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = raw.set_send_buffer_size(SOCKET_BUFFER);
        let wildcard = address.ip().is_unspecified();
        if wildcard {
            want_packet_info(&raw, address.is_ipv6())?;
        }
        raw.bind(&address.into())?;
        Ok(Self {
            inner: raw.into(),
            wildcard,
        })
    }

    /// The address that it is bound to.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// Takes one datagram: its length, its sender, and on a wildcard address where it came to.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; else what the system says.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, Option<Local>)> {
        if self.wildcard {
            return recv_with_info(&self.inner, buffer);
        }
        let (len, peer) = self.inner.recv_from(buffer)?;
        Ok((len, peer, None))
    }

    /// Sends one datagram, from `local` if that is given.
    ///
    /// # Errors
    /// What the system says.
    pub fn send(&self, octets: &[u8], peer: SocketAddr, local: Option<Local>) -> io::Result<()> {
        match local {
            Some(local) => send_with_info(&self.inner, octets, peer, local),
            None => self.inner.send_to(octets, peer).map(drop),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

fn want_packet_info(socket: &Raw, v6: bool) -> io::Result<()> {
    let (level, option) = if v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
    } else {
        (libc::IPPROTO_IP, libc::IP_PKTINFO)
    };
    let on: libc::c_int = 1;
    // SAFETY: the pointer and the length are those of `on`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Control data, aligned as cmsghdr must be.
#[repr(C, align(8))]
struct Control(MaybeUninit<[u8; CONTROL]>);

fn recv_with_info(
    socket: &UdpSocket,
    buffer: &mut [u8],
) -> io::Result<(usize, SocketAddr, Option<Local>)> {
    let mut control = Control(MaybeUninit::zeroed());
    let mut vector = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: `storage` is as large as any address and `header` describes live buffers with their
    // own lengths; recvmsg writes within those, and tells how much in `header`.
    let (received, peer, header) = unsafe {
        let mut received = 0;
        let mut control_len = 0;
        let result = SockAddr::try_init(|storage, length| {
            let mut header: libc::msghdr = mem::zeroed();
            header.msg_name = storage.cast();
            header.msg_namelen = *length;
            header.msg_iov = &raw mut vector;
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut control).cast();
            header.msg_controllen = CONTROL;
            let count = libc::recvmsg(socket.as_raw_fd(), &raw mut header, 0);
            if count < 0 {
                return Err(io::Error::last_os_error());
            }
            *length = header.msg_namelen;
            control_len = header.msg_controllen;
            received = count as usize;
            Ok(())
        })?;
        let mut header: libc::msghdr = mem::zeroed();
        header.msg_control = (&raw mut control).cast();
        header.msg_controllen = control_len;
        (received, result.1, header)
    };
    let peer = peer
        .as_socket()
        .ok_or_else(|| io::Error::other("a datagram without an IP address"))?;
    Ok((received, peer, read_info(&header)))
}

/// The packet information among the control messages that recvmsg has written.
fn read_info(header: &libc::msghdr) -> Option<Local> {
    // SAFETY: `header` describes control data that recvmsg wrote; the CMSG macros stay within its
    // length. Packet information is read unaligned, from messages that say they hold it.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            let data = libc::CMSG_DATA(message);
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info: libc::in_pktinfo = data.cast::<libc::in_pktinfo>().read_unaligned();
                    let ip = Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes());
                    return Some(Local {
                        ip: ip.into(),
                        interface: 0,
                    });
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info: libc::in6_pktinfo = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                    // A link-local address is only an address together with its interface.
                    let interface = if ip.is_unicast_link_local() {
                        info.ipi6_ifindex
                    } else {
                        0
                    };
                    return Some(Local {
                        ip: ip.into(),
                        interface,
                    });
                }
                _ => message = libc::CMSG_NXTHDR(header, message),
            }
        }
    }
    None
}

fn send_with_info(
    socket: &UdpSocket,
    octets: &[u8],
    peer: SocketAddr,
    local: Local,
) -> io::Result<()> {
    let peer = SockAddr::from(peer);
    let mut control = Control(MaybeUninit::zeroed());
    let mut vector = libc::iovec {
        iov_base: octets.as_ptr().cast_mut().cast(),
        iov_len: octets.len(),
    };
    // SAFETY: `header` describes live buffers with their own lengths; sendmsg only reads them.
    // CMSG_FIRSTHDR is not null, as CONTROL has room for one message of either family.
    let sent = unsafe {
        let mut header: libc::msghdr = mem::zeroed();
        header.msg_name = peer.as_ptr().cast_mut().cast();
        header.msg_namelen = peer.len();
        header.msg_iov = &raw mut vector;
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut control).cast();
        header.msg_controllen = CONTROL;
        let message = libc::CMSG_FIRSTHDR(&raw const header);
        let size = match local.ip {
            IpAddr::V4(ip) => {
                let mut info: libc::in_pktinfo = mem::zeroed();
                info.ipi_spec_dst.s_addr = u32::from_ne_bytes(ip.octets());
                (*message).cmsg_level = libc::IPPROTO_IP;
                (*message).cmsg_type = libc::IP_PKTINFO;
                libc::CMSG_DATA(message)
                    .cast::<libc::in_pktinfo>()
                    .write_unaligned(info);
                size_of::<libc::in_pktinfo>() as libc::c_uint
            }
            IpAddr::V6(ip) => {
                let mut info: libc::in6_pktinfo = mem::zeroed();
                info.ipi6_addr.s6_addr = ip.octets();
                info.ipi6_ifindex = local.interface as _;
                (*message).cmsg_level = libc::IPPROTO_IPV6;
                (*message).cmsg_type = libc::IPV6_PKTINFO;
                libc::CMSG_DATA(message)
                    .cast::<libc::in6_pktinfo>()
                    .write_unaligned(info);
                size_of::<libc::in6_pktinfo>() as libc::c_uint
            }
        };
        (*message).cmsg_len = libc::CMSG_LEN(size) as _;
        header.msg_controllen = libc::CMSG_SPACE(size) as _;
        libc::sendmsg(socket.as_raw_fd(), &raw const header, 0)
    };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(listen: &str, asked: &str) -> SocketAddr {
        let server = Socket::bind(listen.parse().expect("an address"), false).expect("bound");
        let port = server.local_addr().expect("bound").port();
        let asked = SocketAddr::new(asked.parse().expect("an address"), port);
        let client = UdpSocket::bind((asked.ip(), 0)).or_else(|_| UdpSocket::bind("0.0.0.0:0"));
        let client = client.expect("a client");
        client.send_to(b"ping", asked).expect("sent");
        let mut buffer = [0; 16];
        let (len, peer, local) = loop {
            match server.recv(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                other => break other.expect("received"),
            }
        };
        server.send(&buffer[..len], peer, local).expect("answered");
        let (_, from) = client.recv_from(&mut buffer).expect("an answer");
        assert_eq!(from.port(), port);
        from
    }

    #[test]
    fn the_answer_leaves_from_the_address_that_was_asked() {
        let from = echo("0.0.0.0:0", "127.0.0.77");
        assert_eq!(from.ip(), IpAddr::from([127, 0, 0, 77]));
        let from = echo("127.0.0.5:0", "127.0.0.5");
        assert_eq!(from.ip(), IpAddr::from([127, 0, 0, 5]));
    }

    #[test]
    fn so_it_does_by_ipv6_where_there_is_any() {
        if UdpSocket::bind("[::1]:0").is_ok() {
            let from = echo("[::]:0", "::1");
            assert_eq!(from.ip(), IpAddr::from(Ipv6Addr::LOCALHOST));
        }
    }

    #[test]
    fn an_unshared_port_is_taken_once_only() {
        let first = Socket::bind("127.0.0.1:0".parse().expect("an address"), false).expect("bound");
        let address = first.local_addr().expect("bound");
        let again = Socket::bind(address, true).expect_err("taken");
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
    }
}
