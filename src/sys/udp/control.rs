//! Owns control messages: to which of our addresses a datagram came, and how many the kernel dropped.
//! Refuses to send or receive.
#![expect(
    unsafe_code,
    reason = "std has no access to control messages (RFC 3542, section 6)"
)]

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Room for packet information of either family and a count of drops, with room to spare.
const ROOM: usize = 96;

/// The local end of a datagram: the address that it came to, and by which interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// The address.
    pub ip: IpAddr,
    pub(super) interface: u32,
}

/// What the control messages of a datagram say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// The address that it came to, on a socket that is bound to none.
    pub(super) local: Option<Local>,
    /// How many datagrams the socket had no room for since it was made.
    pub(super) dropped: Option<u32>,
}

/// Room for control messages, aligned as cmsghdr must be.
#[repr(C, align(8))]
pub(super) struct Control(MaybeUninit<[u8; ROOM]>);

impl Control {
    pub(super) const EMPTY: Self = Self(MaybeUninit::zeroed());

    /// Writes a message that makes a datagram leave from `local`; returns its length.
    pub(super) fn leave_from(&mut self, local: Local) -> usize {
        // SAFETY: msghdr is a plain C struct, for which zeros are valid.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        let header = &mut header;
        header.msg_control = self.0.as_mut_ptr().cast();
        header.msg_controllen = ROOM as _;
        // SAFETY: `header` describes this room alone, which outlives the borrow; CMSG_FIRSTHDR is
        // not null and CMSG_DATA lies inside, as ROOM holds one message of either family.
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

    /// Reads what was received here: `len` octets, as the kernel said in `msg_controllen`.
    pub(super) fn told(&self, len: usize) -> Told {
        let mut told = Told::default();
        if len == 0 {
            return told;
        }
        // SAFETY: msghdr is a plain C struct, for which zeros are valid.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_control = self.0.as_ptr().cast_mut().cast();
        header.msg_controllen = len.min(ROOM) as _;
        // SAFETY: `header` describes this room, of which all octets are initialised (EMPTY, then
        // the kernel); the CMSG macros stay within its length. Data is read unaligned, from
        // messages that are as long as it.
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
                        told.local = Some(local_v4(&info));
                    }
                    (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)
                        if holds(size_of::<libc::in6_pktinfo>()) =>
                    {
                        let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                        told.local = Some(local_v6(&info));
                    }
                    (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) if holds(size_of::<u32>()) => {
                        told.dropped = Some(data.cast::<u32>().read_unaligned());
                    }
                    _ => {}
                }
                message = libc::CMSG_NXTHDR(&raw const header, message);
            }
        }
        told
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
    // A link-local address is only an address together with its interface.
    let interface = match ip.is_unicast_link_local() {
        true => info.ipi6_ifindex,
        false => 0,
    };
    Local {
        ip: ip.into(),
        interface: interface as _,
    }
}

/// Asks for packet information with each datagram.
pub(super) fn want_packet_info(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    if v6 {
        turn_on(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
    } else {
        turn_on(socket, libc::IPPROTO_IP, libc::IP_PKTINFO)
    }
}

/// Asks for the number of drops, once there are any.
pub(super) fn want_drops(socket: BorrowedFd<'_>) -> io::Result<()> {
    turn_on(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL)
}

/// Makes datagrams leave without Path MTU Discovery: neither DF nor fragments by what ICMP said, so
/// that forged ICMP can't make the system send fragments (RFC 9715, section 3.1 and appendix C).
/// All datagrams of ours fit 1280 bytes, which each link that carries IPv6 takes whole (RFC 8200, section 5);
/// so do practically all that carry IPv4, where only 68 bytes are required (RFC 791).
///
/// `OMIT` still sends where the interface's own MTU is smaller; BIND, Unbound and NSD use it, too.
#[cfg(target_os = "linux")]
pub(super) fn ignore_path_mtu(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    let (level, option, omit, dont) = match v6 {
        true => (
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_OMIT,
            libc::IPV6_PMTUDISC_DONT,
        ),
        false => (
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_OMIT,
            libc::IP_PMTUDISC_DONT,
        ),
    };
    // Kernels before 3.15 don't know it.
    set(socket, level, option, omit).or_else(|_| set(socket, level, option, dont))
}

/// Other systems have no such option, or none that is safe to use.
#[cfg(not(target_os = "linux"))]
pub(super) fn ignore_path_mtu(_socket: BorrowedFd<'_>, _v6: bool) -> io::Result<()> {
    Ok(())
}

/// The value of that option.
#[cfg(all(test, target_os = "linux"))]
pub(super) fn path_mtu_discovery(socket: BorrowedFd<'_>, v6: bool) -> io::Result<libc::c_int> {
    let (level, option) = match v6 {
        true => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
        false => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
    };
    let mut value: libc::c_int = 0;
    let mut size = size_of_val(&value) as libc::socklen_t;
    // SAFETY: both pointers are those of live variables, and `size` is the first one's size.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw mut value).cast(),
            &raw mut size,
        )
    };
    match result {
        0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}

fn turn_on(socket: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    set(socket, level, option, 1)
}

fn set(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
