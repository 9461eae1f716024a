//! Reusable buffers for batches of datagrams to receive or send. A buffer allocates only when it is made, or when a
//! datagram to send is longer than planned.
#![expect(
    unsafe_code,
    reason = "the calls take pointers to buffers that this file owns"
)]

use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsFd;

use super::buffer::SharedBuffer;
use super::calls::{self, Message};
use super::control::{Control, Received};
use super::socket::{Route, Socket};

/// The kernel's form of an address, large enough for either family.
type RawAddress = libc::sockaddr_in6;

/// Message headers, and the addresses, control messages and vectors that they point at.
struct Frame {
    addresses: SharedBuffer<RawAddress>,
    controls: SharedBuffer<Control>,
    vectors: SharedBuffer<libc::iovec>,
    messages: SharedBuffer<Message>,
}

impl Frame {
    fn new(slots: usize) -> Self {
        // SAFETY: a plain C struct, for which zeros are valid.
        let address = |_| -> RawAddress { unsafe { mem::zeroed() } };
        let vector = |_| libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        let addresses = SharedBuffer::new((0..slots).map(address));
        let controls = SharedBuffer::new((0..slots).map(|_| Control::EMPTY));
        let vectors = SharedBuffer::new((0..slots).map(vector));
        let messages = SharedBuffer::new((0..slots).map(|slot| {
            // SAFETY: a plain C struct, for which zeros are valid.
            let mut message: Message = unsafe { mem::zeroed() };
            let header = &mut message.msg_hdr;
            header.msg_name = addresses.at(slot).cast();
            header.msg_iov = vectors.at(slot);
            header.msg_iovlen = 1;
            header.msg_control = controls.at(slot).cast();
            message
        }));
        Self {
            addresses,
            controls,
            vectors,
            messages,
        }
    }

    fn header(&mut self, slot: usize) -> &mut libc::msghdr {
        &mut self.messages.get_mut(slot).msg_hdr
    }
}

/// Datagrams that were received.
pub struct Inbox {
    frame: Frame,
    bytes: SharedBuffer<u8>,
    size: usize,
    count: usize,
}

impl Inbox {
    /// Room for `slots` datagrams of at most `size` bytes each.
    pub fn new(slots: usize, size: usize) -> Self {
        let mut frame = Frame::new(slots);
        let bytes = SharedBuffer::new(std::iter::repeat_n(0, slots * size));
        for slot in 0..slots {
            *frame.vectors.get_mut(slot) = libc::iovec {
                iov_base: bytes.at(slot * size).cast(),
                iov_len: size,
            };
        }
        Self {
            frame,
            bytes,
            size,
            count: slots,
        }
    }

    /// Prepares the used slots for the next datagrams.
    fn reset(&mut self) {
        for slot in 0..self.count {
            let header = self.frame.header(slot);
            header.msg_namelen = size_of::<RawAddress>() as libc::socklen_t;
            header.msg_controllen = size_of::<Control>() as _;
            header.msg_flags = 0;
        }
        self.count = 0;
    }

    /// Replaces the contents by the datagrams that have arrived at `socket`, at most one per slot. Never waits.
    /// Returns the number of datagrams.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; otherwise the system's error, which an ICMP message may cause.
    pub fn receive(&mut self, socket: &Socket) -> io::Result<usize> {
        self.reset();
        let slots = self.frame.messages.len();
        // SAFETY: each message points at an address, a buffer for control messages, and bytes of this
        // inbox. These pointers are derived from the pointers that own the memory. Nothing else uses the
        // memory while the inbox is borrowed mutably.
        self.count =
            unsafe { calls::receive(socket.as_fd(), self.frame.messages.first_mut(slots))? };
        Ok(self.count)
    }

    /// The number of datagrams received.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether no datagram was received.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The bytes of one datagram.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn packet(&self, slot: usize) -> &[u8] {
        let len = self.frame.messages.get(slot).msg_len as usize;
        self.bytes.slice(slot * self.size, len.min(self.size))
    }

    /// Whether the datagram was longer than a slot, so that its end is missing.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn is_cut(&self, slot: usize) -> bool {
        self.frame.messages.get(slot).msg_hdr.msg_flags & libc::MSG_TRUNC != 0
    }

    /// The sender of a datagram.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn peer(&self, slot: usize) -> SocketAddr {
        decode(self.frame.addresses.get(slot))
    }

    /// The route of the response to a datagram.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn route(&self, slot: usize) -> Route {
        Route {
            peer: self.peer(slot),
            local: self.control(slot).local,
        }
    }

    /// How many datagrams the kernel has dropped at the socket since it was made, if it reports that.
    pub fn dropped(&self) -> Option<u32> {
        let last = self.count.checked_sub(1)?;
        self.control(last).dropped
    }

    fn control(&self, slot: usize) -> Received {
        let len = self.frame.messages.get(slot).msg_hdr.msg_controllen as _;
        self.frame.controls.get(slot).received(len)
    }
}

/// Datagrams to be sent.
pub struct Outbox {
    frame: Frame,
    drafts: Vec<Vec<u8>>,
    count: usize,
}

impl Outbox {
    /// Room for `slots` datagrams. A datagram of at most `size` bytes needs no allocation.
    pub fn new(slots: usize, size: usize) -> Self {
        Self {
            frame: Frame::new(slots),
            drafts: (0..slots).map(|_| Vec::with_capacity(size)).collect(),
            count: 0,
        }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether there is no room for another datagram.
    pub fn is_full(&self) -> bool {
        self.count == self.drafts.len()
    }

    /// The buffer for the next datagram, which is sent only if it is [pushed](Self::push).
    ///
    /// # Panics
    /// If the outbox is full.
    pub fn draft(&mut self) -> &mut Vec<u8> {
        &mut self.drafts[self.count]
    }

    /// Adds the draft to the datagrams to send. It is sent by `route`, or, if that is `None`, to the peer that the
    /// socket is connected to.
    ///
    /// # Panics
    /// If the outbox is full.
    pub fn push(&mut self, route: Option<&Route>) {
        let slot = self.count;
        let len = route.map_or(0, |route| {
            encode(route.peer, self.frame.addresses.get_mut(slot))
        });
        let bytes = &mut self.drafts[slot];
        *self.frame.vectors.get_mut(slot) = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        let local = route.and_then(|route| route.local);
        let control = local.map_or(0, |local| {
            self.frame.controls.get_mut(slot).leave_from(local)
        });
        let header = self.frame.header(slot);
        header.msg_namelen = len;
        header.msg_controllen = control as _;
        self.count += 1;
    }

    /// Sends all datagrams. Returns how many failed; each of them was tried twice.
    pub fn flush(&mut self, socket: &Socket) -> usize {
        let mut failed = 0;
        let mut is_second = false;
        let mut rest = self.frame.messages.first_mut(mem::take(&mut self.count));
        while !rest.is_empty() {
            // SAFETY: each message describes an address, control messages and bytes of this
            // outbox; `push` wrote them, and nothing has changed since.
            let sent = unsafe { calls::send(socket.as_fd(), rest) };
            let done = match sent {
                Ok(sent) => sent.max(1),
                // The error may be that of an ICMP message about an earlier datagram, reported instead of
                // sending this one.
                Err(_) if !is_second => 0,
                // A datagram that can't be sent must not hold back the others.
                Err(_) => {
                    failed += 1;
                    1
                }
            };
            is_second = done == 0;
            rest = &mut rest[done..];
        }
        failed
    }
}

/// Writes an address in the kernel's form; returns its length.
fn encode(address: SocketAddr, raw: &mut RawAddress) -> libc::socklen_t {
    match address {
        SocketAddr::V4(v4) => {
            let short = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(v4.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_in6 is larger than sockaddr_in and no less aligned; both are plain.
            unsafe { (&raw mut *raw).cast::<libc::sockaddr_in>().write(short) };
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(v6) => {
            raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            raw.sin6_port = v6.port().to_be();
            raw.sin6_flowinfo = v6.flowinfo();
            raw.sin6_addr.s6_addr = v6.ip().octets();
            raw.sin6_scope_id = v6.scope_id();
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

/// Reads an address that the kernel wrote; 0.0.0.0:0 if it is neither IPv4 nor IPv6.
fn decode(raw: &RawAddress) -> SocketAddr {
    match libc::c_int::from(raw.sin6_family) {
        libc::AF_INET => {
            // SAFETY: the family says that this is a sockaddr_in, which is smaller and no more
            // aligned.
            let short = unsafe { (&raw const *raw).cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(short.sin_addr.s_addr.to_ne_bytes());
            SocketAddrV4::new(ip, u16::from_be(short.sin_port)).into()
        }
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
            let port = u16::from_be(raw.sin6_port);
            SocketAddrV6::new(ip, port, raw.sin6_flowinfo, raw.sin6_scope_id).into()
        }
        _ => SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0).into(),
    }
}

impl Socket {
    /// Sends one datagram. Returns whether the system accepted it.
    pub fn send(&self, bytes: &[u8], route: &Route) -> bool {
        let mut outbox = Outbox::new(1, bytes.len());
        outbox.draft().extend_from_slice(bytes);
        outbox.push(Some(route));
        outbox.flush(self) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::udp::Local;

    /// Writes through the pointers of a message, as recvmmsg(2) does.
    fn deliver(message: &mut Message, packet: &[u8], from: SocketAddr) {
        let header = &mut message.msg_hdr;
        // SAFETY: the inbox set up these pointers, and is borrowed mutably for the message.
        unsafe {
            header.msg_namelen = encode(from, &mut *header.msg_name.cast());
            let vector = *header.msg_iov;
            assert!(packet.len() <= vector.iov_len);
            std::ptr::copy_nonoverlapping(packet.as_ptr(), vector.iov_base.cast(), packet.len());
        }
        header.msg_controllen = 0;
        message.msg_len = packet.len() as _;
    }

    #[test]
    fn the_pointers_of_all_slots_stay_valid_while_other_slots_are_read() {
        let mut inbox = Inbox::new(3, 16);
        let from = |last| SocketAddr::from(([192, 0, 2, last], 53));
        for round in 0..3_u8 {
            inbox.reset();
            for slot in 0..3 {
                let message = inbox.frame.messages.get_mut(slot);
                deliver(message, &[round, slot as u8], from(slot as u8));
                inbox.count = slot + 1;
                for read in 0..=slot {
                    assert_eq!(inbox.packet(read), [round, read as u8]);
                    assert_eq!(inbox.route(read).peer, from(read as u8));
                }
            }
            // Only one slot counts as used, so the next reset does not change the headers of the others.
            inbox.count = 1;
        }
    }

    #[test]
    fn the_messages_describe_the_datagrams_that_were_pushed() {
        let mut outbox = Outbox::new(2, 4);
        let v6: SocketAddr = "[fe80::1%7]:53".parse().expect("an address");
        let local = |peer: SocketAddr| Local {
            ip: peer.ip(),
            interface: if peer.is_ipv6() { 7 } else { 0 },
        };
        for (slot, peer) in [SocketAddr::from(([192, 0, 2, 1], 53)), v6]
            .into_iter()
            .enumerate()
        {
            let draft = outbox.draft();
            draft.clear();
            draft.extend(std::iter::repeat_n(slot as u8, 9));
            let local = Some(local(peer));
            outbox.push(Some(&Route { peer, local }));
        }
        for (slot, expected) in [(0, "192.0.2.1:53"), (1, "[fe80::1%7]:53")] {
            let header = outbox.frame.messages.get(slot).msg_hdr;
            // SAFETY: `push` set up these pointers, and nothing has changed since.
            let (peer, bytes) = unsafe {
                let vector = *header.msg_iov;
                let bytes =
                    std::slice::from_raw_parts(vector.iov_base.cast::<u8>(), vector.iov_len);
                (decode(&*header.msg_name.cast()), bytes)
            };
            assert_eq!(
                (peer.to_string(), bytes),
                (expected.to_owned(), &[slot as u8; 9][..])
            );
            let len = header.msg_controllen as _;
            let received = outbox.frame.controls.get(slot).received(len).local;
            assert_eq!(received, Some(local(peer)));
        }
    }
}
