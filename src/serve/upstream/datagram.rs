//! Sends one query by UDP from a separate socket and recognises the response.
//!
//! Records are not read here: `wire::answer` reads those that it needs, and passes the rest unchanged. If malformed
//! records made an exchange fail here, the owner of a zone could make an upstream server look broken.

use std::io;
use std::net::SocketAddr;

use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::exchange::Reply;
use super::query::OutgoingQuery;
use crate::stats::{Count, Counters};
use crate::sys::udp::{Ports, Socket};
use crate::wire::ask;
use crate::wire::{UDP_PAYLOAD, flag, read_u16};

/// Sends `query` from a random port of `ports` and waits for its response, without a timeout.
///
/// The socket is connected: the kernel accepts datagrams from that server only, and reports a closed port.
///
/// # Errors
/// Those of the socket, ICMP errors included.
pub(super) async fn exchange(
    server: SocketAddr,
    query: &OutgoingQuery,
    ports: &Ports,
    counters: &Counters,
) -> io::Result<Reply> {
    let socket = Socket::connect(server, || ports.draw(&mut rand::rng()))?;
    let socket = UdpSocket::from_std(socket.into())?;
    socket.send(&query.bytes).await?;
    let limit = ask::udp_limit(query.sent.dialect.edns);
    loop {
        let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
        let received = match ready.is_error() {
            true => socket.try_io(Interest::ERROR, || refusal(&socket)),
            false => receive(&socket, limit),
        };
        match received {
            // A late response, or a forged one: the true one may still arrive (RFC 5452, section 9.1).
            Ok(bytes) if read_u16(&bytes, 0) != Some(query.sent.id) => {
                counters.bump(Count::UpstreamStray);
            }
            Ok(bytes) => {
                if let Some(fit) = query.sent.fit(&bytes, counters) {
                    return Ok(Reply { bytes, fit });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Receives one datagram. An answer of more than `limit` bytes counts as truncated. This is a separate function so that
/// the buffer is not part of the `Future` of `exchange`: a query that waits holds no buffer.
fn receive(socket: &UdpSocket, limit: usize) -> io::Result<Vec<u8>> {
    let mut buffer = [0; UDP_PAYLOAD as usize + 1];
    let len = socket.try_recv(&mut buffer)?;
    let mut bytes = buffer[..len].to_vec();
    if len > limit {
        mark_as_truncated(&mut bytes);
    }
    Ok(bytes)
}

/// The error that ICMP reported. The kernel signals it as an error of the socket, not as a datagram.
fn refusal(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    let error = socket.take_error()?;
    Err(error.unwrap_or_else(|| io::ErrorKind::WouldBlock.into()))
}

/// An answer longer than we announced may have come in fragments. Fragments after the first one carry neither port nor
/// ID, so they are easily forged (RFC 9715, section 3.2). Therefore the answer counts as truncated, and the query is
/// repeated by TCP.
fn mark_as_truncated(bytes: &mut [u8]) {
    bytes[2] |= (flag::TC >> 8) as u8;
}
