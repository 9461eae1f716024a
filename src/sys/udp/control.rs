//! Control messages: the local address of a datagram, and the number of datagrams that the kernel dropped.
#![expect(
    unsafe_code,
    reason = "neither std nor rustix has packet information (RFC 3542, section 6)"
)]

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};

/// The size of the buffer: room for packet information of either family and a count of drops, with some to spare.
const CAPACITY: usize = 96;

/// The local address of a datagram, and the index of its interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// The address.
    pub ip: IpAddr,
    pub(super) interface: u32,
}

/// The contents of a received datagram's control messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Received {
    /// The address that the datagram was sent to, on a socket that is bound to the wildcard address.
    pub(super) local: Option<Local>,
    /// How many datagrams the kernel has dropped at the socket since it was made.
    pub(super) dropped: Option<u32>,
}

/// A buffer for control messages, aligned as cmsghdr must be.
#[repr(C, align(8))]
pub(super) struct Control(MaybeUninit<[u8; CAPACITY]>);

impl Control {
    pub(super) const EMPTY: Self = Self(MaybeUninit::zeroed());

    /// Writes a message that sets the source address of a datagram to `local`; returns its length.
    pub(super) fn leave_from(&mut self, local: Local) -> usize {
        // SAFETY: msghdr is a plain C struct, for which zeros are valid.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        let header = &mut header;
        header.msg_control = self.0.as_mut_ptr().cast();
        header.msg_controllen = CAPACITY as _;
        // SAFETY: `header` describes only this buffer, which outlives the borrow; CMSG_FIRSTHDR is
        // not null and CMSG_DATA lies inside, as CAPACITY holds one message of either family.
        unsafe {
            let message = libc::CMSG_FIRSTHDR(header);
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
            libc::CMSG_SPACE(size) as usize
        }
    }

    /// Reads the first `len` bytes, which the kernel wrote; `len` is its `msg_controllen`.
    pub(super) fn received(&self, len: usize) -> Received {
        let mut received = Received::default();
        if len == 0 {
            return received;
        }
        // SAFETY: msghdr is a plain C struct, for which zeros are valid.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_control = self.0.as_ptr().cast_mut().cast();
        header.msg_controllen = len.min(CAPACITY) as _;
        // SAFETY: `header` describes this buffer, of which all bytes are initialised (by EMPTY, then by
        // the kernel); the CMSG macros stay within its length. Data is read unaligned, and only from
        // messages that are long enough for it.
        unsafe {
            let mut message = libc::CMSG_FIRSTHDR(&raw const header);
            while !message.is_null() {
                let data = libc::CMSG_DATA(message);
                let holds = |size: usize| {
                    (*message).cmsg_len as usize >= libc::CMSG_LEN(size as libc::c_uint) as usize
                };
                match ((*message).cmsg_level, (*message).cmsg_type) {
                    (libc::IPPROTO_IP, libc::IP_PKTINFO) if holds(size_of::<libc::in_pktinfo>()) => {
                        let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                        received.local = Some(local_v4(&info));
                    }
                    (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)
                        if holds(size_of::<libc::in6_pktinfo>()) =>
                    {
                        let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                        received.local = Some(local_v6(&info));
                    }
                    (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) if holds(size_of::<u32>()) => {
                        received.dropped = Some(data.cast::<u32>().read_unaligned());
                    }
                    _ => {}
                }
                message = libc::CMSG_NXTHDR(&raw const header, message);
            }
        }
        received
    }
}

fn local_v4(info: &libc::in_pktinfo) -> Local {
    Local {
        ip: Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into(),
        interface: 0,
    }
}

fn local_v6(info: &libc::in6_pktinfo) -> Local {
    let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
    // A link-local address is incomplete without its interface.
    let interface = match ip.is_unicast_link_local() {
        true => info.ipi6_ifindex,
        false => 0,
    };
    Local {
        ip: ip.into(),
        interface: interface as _,
    }
}

/// Turns on packet information for each received datagram.
pub(super) fn want_packet_info(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    if v6 {
        turn_on(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
    } else {
        turn_on(socket, libc::IPPROTO_IP, libc::IP_PKTINFO)
    }
}

/// Turns on the count of dropped datagrams, which the kernel reports once there are any.
pub(super) fn want_drops(socket: BorrowedFd<'_>) -> io::Result<()> {
    turn_on(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL)
}

/// Sends datagrams without Path MTU Discovery: without DF, and never fragmented because of an ICMP message, so that
/// forged ICMP can't make the system send fragments (RFC 9715, section 3.1 and appendix C). All our datagrams fit into
/// 1280 bytes. Each link with IPv6 carries packets of that size without fragmentation (RFC 8200, section 5), and so
/// does practically each link with IPv4, although RFC 791 requires only 68 bytes.
///
/// With `OMIT`, a datagram larger than the interface's own MTU is still sent; BIND, Unbound and NSD use it, too.
pub(super) fn ignore_path_mtu(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    // Kernels before 3.15 don't know `OMIT`.
    let set = match v6 {
        true => set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::OMIT)
            .or_else(|_| set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::DONT)),
        false => set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::OMIT)
            .or_else(|_| set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DONT)),
    };
    Ok(set?)
}

fn turn_on(socket: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
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
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
