//! One query by UDP: a socket of its own, and which datagram is the answer.
//!
//! Records are not read here: `wire::answer` reads what it needs, and passes the rest as it came.
//! Whoever owns a zone could otherwise make a server look broken.

use std::io;
use std::net::SocketAddr;

use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::connect::Reply;
use crate::stats::{Count, Counters};
use crate::sys::udp::{Ports, Socket};
use crate::wire::ask::{self, Fit};
use crate::wire::{UDP_PAYLOAD, flag, read_u16};

/// Sends `query` from a random port of `ports` and waits for its answer, without an end.
///
/// The socket is connected: the kernel takes datagrams of that server only, and reports a port where
/// nobody listens.
///
/// # Errors
/// Those of the socket; what ICMP says is one of them.
pub(super) async fn exchange(
    server: SocketAddr,
    query: &[u8],
    ports: &Ports,
    counters: &Counters,
) -> io::Result<Reply> {
    let socket = Socket::connect(server, || ports.draw(&mut rand::rng()))?;
    let socket = UdpSocket::from_std(socket.into())?;
    socket.send(query).await?;
    loop {
        let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
        let received = match ready.is_error() {
            true => socket.try_io(Interest::ERROR, || refusal(&socket)),
            false => receive(&socket, ask::udp_limit(ask::has_edns(query))),
        };
        match received {
            // Not ours, a late one or a forgery: the true one may still come (RFC 5452, section 9.1).
            Ok(bytes) if read_u16(&bytes, 0) != read_u16(query, 0) => {
                counters.bump(Count::UpstreamStray);
            }
            Ok(bytes) => match ask::fit(&bytes, ask::question_of(query)) {
                Fit::Foreign => counters.bump(Count::UpstreamForeign),
                Fit::BareError if !ask::has_edns(query) => counters.bump(Count::UpstreamForeign),
                fit => return Ok(Reply { bytes, fit }),
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// No part of the future above, so that a query that waits holds no buffer. At most `limit` bytes are
/// taken as a whole answer.
fn receive(socket: &UdpSocket, limit: usize) -> io::Result<Vec<u8>> {
    let mut buffer = [0; UDP_PAYLOAD as usize + 1];
    let len = socket.try_recv(&mut buffer)?;
    let mut bytes = buffer[..len].to_vec();
    if len > limit {
        mark_as_cut(&mut bytes);
    }
    Ok(bytes)
}

/// What ICMP said; the kernel wakes us for it, but not as for a datagram.
fn refusal(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    let error = socket.take_error()?;
    Err(error.unwrap_or_else(|| io::ErrorKind::WouldBlock.into()))
}

/// An answer longer than we announced came in fragments, or could have: all but the first carry
/// neither port nor ID, so anybody may have written them (RFC 9715, section 3.2). It counts as if
/// the server had cut it, and is asked for by TCP.
fn mark_as_cut(bytes: &mut [u8]) {
    bytes[2] |= (flag::TC >> 8) as u8;
}
