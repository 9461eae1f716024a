//! The sender of a query, as seen by the transport that received it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::policy::view::ViewId;
use crate::sys::udp::Route;

/// The transport of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One datagram for a query and one for its answer.
    Udp,
    /// Messages on a connection, each behind its length (RFC 7766).
    Tcp,
}

impl Transport {
    /// The index of its counters, in the order of [`TRANSPORTS`](crate::stats::TRANSPORTS).
    pub fn index(self) -> usize {
        match self {
            Self::Udp => 0,
            Self::Tcp => 1,
        }
    }

    /// Whether an answer may have up to 65,535 bytes.
    pub fn is_stream(self) -> bool {
        self == Self::Tcp
    }
}

/// Who sent a query, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The address that the query came from.
    pub address: IpAddr,
    /// The port that it came from.
    pub port: u16,
    /// The transport that received the query.
    pub transport: Transport,
    /// The address that it was sent to, if the transport reports it: UDP does so on wildcard sockets only.
    pub local: Option<IpAddr>,
    /// The server name that the client asked for when it set up TLS.
    pub tls_name: Option<Arc<str>>,
    /// The path of its HTTPS request.
    pub path: Option<Arc<str>>,
    /// The view that it belongs to.
    pub view: ViewId,
}

impl Client {
    /// A client of which only the address and the transport are known.
    pub const fn new(peer: SocketAddr, transport: Transport) -> Self {
        Self {
            address: peer.ip(),
            port: peer.port(),
            transport,
            local: None,
            tls_name: None,
            path: None,
            view: ViewId::DEFAULT,
        }
    }

    /// The sender of a datagram.
    #[inline]
    pub fn of_datagram(route: &Route) -> Self {
        Self {
            local: route.local.map(|local| local.ip),
            ..Self::new(route.peer, Transport::Udp)
        }
    }
}
