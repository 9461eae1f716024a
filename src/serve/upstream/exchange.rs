//! How one query is sent to one server, and how that ends.

use std::io;

use crate::stats::Count;
use crate::wire::ask::{Dialect, Fit};

/// The transport of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One datagram from a random port with a random ID (RFC 5452).
    Udp,
    /// A connection that is shared and kept open (RFC 7766).
    Tcp,
    /// An encrypted connection that is shared and kept open (RFC 7858).
    Tls,
    /// The same with HTTP/2 (RFC 8484).
    Https,
    /// A connection over QUIC that is shared and kept open (RFC 9250).
    Quic,
    /// The same with HTTP/3 (RFC 8484).
    H3,
}

impl Transport {
    /// Whether nobody on the way can read it.
    pub fn is_encrypted(self) -> bool {
        match self {
            Self::Udp | Self::Tcp => false,
            Self::Tls | Self::Https | Self::Quic | Self::H3 => true,
        }
    }

    /// The counter of queries that are sent by it.
    pub(super) fn queries(self) -> Count {
        match self {
            Self::Udp => Count::UpstreamQueries,
            Self::Tcp => Count::UpstreamTcp,
            Self::Tls => Count::UpstreamTls,
            Self::Https => Count::UpstreamHttps,
            Self::Quic => Count::UpstreamQuic,
            Self::H3 => Count::UpstreamH3,
        }
    }

    /// Its name in `status` and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Https => "https",
            Self::Quic => "quic",
            Self::H3 => "h3",
        }
    }
}

/// How a query is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct How {
    /// By which transport.
    pub over: Transport,
    /// The client that it is sent for; `None` if no client waits for it. Clients take turns if each query needs a TCP
    /// connection of its own, because the number of such connections is limited.
    pub client: Option<usize>,
    /// The extensions to use. On connections the letter case is not random, because responses can't be forged there.
    pub dialect: Dialect,
}

/// The response to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The message.
    pub bytes: Vec<u8>,
    /// How it fits the query; never [`Fit::Foreign`].
    pub fit: Fit,
}

/// Why a server gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeError {
    /// It did not answer in time.
    Timeout,
    /// It can't be reached.
    Unreachable,
    /// It responded by HTTP, but not with a DNS message.
    Refused,
    /// No socket or connection was free in time. This is no sign of a fault of the server.
    Busy,
}

/// Converts a socket's error; `Busy` if the cause is our lack of sockets.
pub(super) fn error_of(error: &io::Error) -> ExchangeError {
    let ours = [
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOBUFS,
        libc::ENOMEM,
        libc::EADDRINUSE,
        libc::EADDRNOTAVAIL,
        libc::EAGAIN,
        libc::EPERM,
    ];
    match error.raw_os_error() {
        Some(number) if ours.contains(&number) => ExchangeError::Busy,
        _ if error.kind() == io::ErrorKind::TimedOut => ExchangeError::Timeout,
        _ => ExchangeError::Unreachable,
    }
}
