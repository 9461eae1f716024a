//! Owns one question's way by UDP: a socket of its own, and which datagram is the answer.
//! Refuses to read records: `wire::answer` does, and what it has no need to know passes as it came.
//!
//! It is ours because hickory's UDP client reads the whole answer and fails at RDATA that it does
//! not know. Whoever owns a zone could then make a server look broken.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::stats::{Count, Counters};
use crate::wire::ask::{self, Fit, LONGEST_ANSWER};
use crate::wire::{flag, read_u16};

/// Sends `request` to `server` and waits for its answer, without an end.
///
/// The socket is connected: the kernel picks a random port, takes datagrams of that server only,
/// and tells of a port where nobody listens.
///
/// # Errors
/// Those of the socket; what ICMP says is one of them.
pub(super) async fn exchange(
    server: SocketAddr,
    request: &[u8],
    counters: &Counters,
) -> io::Result<Vec<u8>> {
    let local: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(server).await?;
    socket.send(request).await?;
    loop {
        let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
        let received = match ready.is_error() {
            true => socket.try_io(Interest::ERROR, || refusal(&socket)),
            false => receive(&socket),
        };
        match received {
            // Not ours, a late one or a forgery: the true one may still come (RFC 5452, section 9.1).
            Ok(octets) if read_u16(&octets, 0) != read_u16(request, 0) => {
                counters.bump(Count::UpstreamStray);
            }
            Ok(octets) => match ask::fit(&octets, ask::question_of(request)) {
                Fit::Answer => return Ok(octets),
                // By TCP there is no need for letters.
                Fit::OtherCase => {
                    counters.bump(Count::UpstreamCase);
                    return Ok(cut(octets));
                }
                Fit::Foreign => counters.bump(Count::UpstreamForeign),
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// No part of the future above, so that a question that waits holds no buffer.
fn receive(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    let mut buffer = [0; LONGEST_ANSWER];
    let len = socket.try_recv(&mut buffer)?;
    let octets = buffer[..len].to_vec();
    // There may have been more.
    Ok(if len == LONGEST_ANSWER {
        cut(octets)
    } else {
        octets
    })
}

/// What ICMP said; the kernel wakes us for it, but not as for a datagram.
fn refusal(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    let error = socket.take_error()?;
    Err(error.unwrap_or_else(|| io::ErrorKind::WouldBlock.into()))
}

/// The same as if the server had cut it.
fn cut(mut octets: Vec<u8>) -> Vec<u8> {
    octets[2] |= (flag::TC >> 8) as u8;
    octets
}
