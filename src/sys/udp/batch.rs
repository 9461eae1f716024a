//! Owns buffers for many datagrams, received or to be sent, which are used again and again.
//! Refuses to read what the datagrams say. Nothing here allocates once it is made.
#![expect(
    unsafe_code,
    reason = "the calls take pointers to buffers that this file owns"
)]

use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsFd;

use super::calls::{Message, give, take};
use super::control::{Control, Told};
use super::{Route, Socket};

/// An address of either family, as the kernel has it: the larger one's room.
type RawAddress = libc::sockaddr_in6;

/// What one kind of message needs beside its octets, on the heap: `messages` point there.
struct Frame {
    addresses: Box<[RawAddress]>,
    controls: Box<[Control]>,
    vectors: Box<[libc::iovec]>,
    messages: Box<[Message]>,
}

impl Frame {
    fn new(slots: usize) -> Self {
        // SAFETY: a plain C struct, for which zeros are valid.
        let address: RawAddress = unsafe { mem::zeroed() };
        let vector = libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        // SAFETY: a plain C struct, for which zeros are valid.
        let message = || -> Message { unsafe { mem::zeroed() } };
        Self {
            addresses: vec![address; slots].into(),
            controls: (0..slots).map(|_| Control::EMPTY).collect(),
            vectors: vec![vector; slots].into(),
            messages: (0..slots).map(|_| message()).collect(),
        }
    }

    /// Makes a slot's message describe its address and `octets`, without control messages. Each time
    /// anew: what a pointer may be used for ends when its target is borrowed or moved.
    fn point(&mut self, slot: usize, octets: &mut [u8]) -> &mut libc::msghdr {
        self.vectors[slot] = libc::iovec {
            iov_base: octets.as_mut_ptr().cast(),
            iov_len: octets.len(),
        };
        let header = &mut self.messages[slot].msg_hdr;
        header.msg_name = (&raw mut self.addresses[slot]).cast();
        header.msg_iov = &raw mut self.vectors[slot];
        header.msg_iovlen = 1;
        header
    }
}

/// Datagrams that were received.
pub struct Inbox {
    frame: Frame,
    octets: Box<[u8]>,
    size: usize,
    count: usize,
}

impl Inbox {
    /// Room for `slots` datagrams of at most `size` octets each.
    pub fn new(slots: usize, size: usize) -> Self {
        Self {
            frame: Frame::new(slots),
            octets: vec![0; slots * size].into(),
            size,
            count: slots,
        }
    }

    /// Makes the slots that were used ready for the next datagrams.
    fn reset(&mut self) {
        let used = self.octets.chunks_mut(self.size).take(self.count);
        for (slot, octets) in used.enumerate() {
            let header = self.frame.point(slot, octets);
            header.msg_namelen = size_of::<RawAddress>() as libc::socklen_t;
            header.msg_flags = 0;
            let header = &mut self.frame.messages[slot].msg_hdr;
            self.frame.controls[slot].offer(header);
        }
        self.count = 0;
    }

    /// Takes what has come to `socket`, at most as many datagrams as there are slots; what was in
    /// here is gone. Never waits. Returns how many.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; else what the system says, as of an ICMP message.
    pub fn receive(&mut self, socket: &Socket) -> io::Result<usize> {
        self.reset();
        // SAFETY: each message describes an address, a control room, and octets of this inbox,
        // which nobody else uses while it is borrowed.
        self.count = unsafe { take(socket.as_fd(), &mut self.frame.messages)? };
        Ok(self.count)
    }

    /// How many datagrams are in here.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The octets of one datagram.
    ///
    /// # Panics
    /// When there are not so many slots.
    pub fn packet(&self, slot: usize) -> &[u8] {
        let len = self.frame.messages[slot].msg_len as usize;
        &self.octets[slot * self.size..][..len.min(self.size)]
    }

    /// Whether it had more octets than a slot has.
    ///
    /// # Panics
    /// When there are not so many slots.
    pub fn is_cut(&self, slot: usize) -> bool {
        self.frame.messages[slot].msg_hdr.msg_flags & libc::MSG_TRUNC != 0
    }

    /// Who sent it.
    ///
    /// # Panics
    /// When there are not so many slots.
    pub fn peer(&self, slot: usize) -> SocketAddr {
        decode(&self.frame.addresses[slot])
    }

    /// Where its answer goes.
    ///
    /// # Panics
    /// When there are not so many slots.
    pub fn route(&self, slot: usize) -> Route {
        Route {
            peer: self.peer(slot),
            local: self.told(slot).local,
        }
    }

    /// How many datagrams the socket has had no room for since it was made, if that was told.
    pub fn dropped(&self) -> Option<u32> {
        let last = self.count.checked_sub(1)?;
        self.told(last).dropped
    }

    fn told(&self, slot: usize) -> Told {
        let len = self.frame.messages[slot].msg_hdr.msg_controllen as _;
        self.frame.controls[slot].told(len)
    }
}

/// Datagrams that are to be sent.
pub struct Outbox {
    frame: Frame,
    octets: Vec<Vec<u8>>,
    count: usize,
}

impl Outbox {
    /// Room for `slots` datagrams; `size` octets each have room without an allocation.
    pub fn new(slots: usize, size: usize) -> Self {
        Self {
            frame: Frame::new(slots),
            octets: (0..slots).map(|_| Vec::with_capacity(size)).collect(),
            count: 0,
        }
    }

    /// Whether nothing waits to be sent.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether nothing more has room.
    pub fn is_full(&self) -> bool {
        self.count == self.octets.len()
    }

    /// Where the next datagram is to be written. It counts once it is [pushed](Self::push).
    ///
    /// # Panics
    /// When the outbox is full.
    pub fn draft(&mut self) -> &mut Vec<u8> {
        &mut self.octets[self.count]
    }

    /// Makes the draft a datagram to be sent: by `route`, or to whom the socket is connected.
    ///
    /// # Panics
    /// When the outbox is full.
    pub fn push(&mut self, route: Option<&Route>) {
        let slot = self.count;
        let len = route.map_or(0, |route| {
            encode(route.peer, &mut self.frame.addresses[slot])
        });
        let header = self.frame.point(slot, &mut self.octets[slot]);
        header.msg_namelen = len;
        header.msg_controllen = 0;
        if let Some(local) = route.and_then(|route| route.local) {
            let header = &mut self.frame.messages[slot].msg_hdr;
            self.frame.controls[slot].leave_from(local, header);
        }
        self.count += 1;
    }

    /// Sends all. Returns how many the system did not take: each was tried twice.
    pub fn flush(&mut self, socket: &Socket) -> usize {
        let mut failed = 0;
        let mut is_second = false;
        let mut rest = &mut self.frame.messages[..mem::take(&mut self.count)];
        while !rest.is_empty() {
            // SAFETY: each message describes an address, control messages and octets of this
            // outbox; `push` wrote them, and nothing has changed since.
            let sent = unsafe { give(socket.as_fd(), rest) };
            let done = match sent {
                Ok(sent) => sent.max(1),
                // What ICMP said of an earlier datagram is told instead of sending this one.
                Err(_) if !is_second => 0,
                // One that can't be sent must not hold back the others.
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

/// Writes an address as the kernel wants it; returns its length.
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

/// Reads an address that the kernel wrote; of another family than IP it is 0.0.0.0:0.
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
