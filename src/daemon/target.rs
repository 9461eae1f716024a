//! Turns configured upstream servers into servers that can be asked, and detects addresses of this server itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::config::upstream::ServerAddress;
use crate::config::upstream::UpstreamServer;
use crate::serve::upstream::server::Target;
use crate::sys::interface::index_of;
use crate::tls::TlsError;
use crate::tls::client::{Authorities, TlsClient};
use crate::wire::ask::Dialect;

/// A reason why an upstream server can't be used.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// It is this server itself.
    #[error(
        "upstream {upstream} is this server itself (it listens on {listen}), so queries would loop; name another resolver {place}"
    )]
    Ourselves {
        /// The upstream.
        upstream: SocketAddr,
        /// The listen address.
        listen: SocketAddr,
        /// Where the upstream is configured.
        place: String,
    },
    /// The interface of a link-local address does not exist.
    #[error(
        "upstream {upstream} is behind the interface {zone}, which this machine does not have; name one that `ip link` shows, or its index, {place}"
    )]
    Interface {
        /// The upstream.
        upstream: ServerAddress,
        /// The interface.
        zone: String,
        /// Where the upstream is configured.
        place: String,
    },
    /// Connections to it can't be encrypted.
    #[error("upstream {upstream}, {place}: {problem}")]
    Tls {
        /// The upstream.
        upstream: SocketAddr,
        /// The problem.
        problem: TlsError,
        /// Where the upstream is configured.
        place: String,
    },
}

/// Where the default servers are configured, for messages.
pub(super) const DEFAULT_PLACE: &str = "with `serve --upstream` or in [upstream] servers";

/// Resolves the interface of a configured server, reads the certificates of its authorities, and checks that it is not
/// this server itself. `place` is where it is configured.
pub(super) fn target(
    server: &UpstreamServer,
    listen: &[SocketAddr],
    place: &str,
    authorities: &mut Authorities,
) -> Result<Target, UpstreamError> {
    let address = resolve(server.address.clone(), place)?;
    own_address(address.socket, listen, place)?;
    let tls = server.encryption.as_ref().map(|settings| {
        let tls = TlsClient::new(settings, address.socket.ip(), authorities);
        tls.map_err(|problem| UpstreamError::Tls {
            upstream: address.socket,
            problem,
            place: place.to_owned(),
        })
    });
    Ok(Target {
        tls: tls.transpose()?,
        address,
        permitted: Dialect {
            edns: server.edns,
            random_case: server.random_case,
        },
    })
}

/// Adds the index of the interface to a link-local address. The interface must exist. `place` is where the address is
/// configured.
pub(super) fn resolve(address: ServerAddress, place: &str) -> Result<ServerAddress, UpstreamError> {
    match &address.zone {
        Some(zone) if index_of(zone).is_none() => Err(UpstreamError::Interface {
            zone: zone.clone(),
            upstream: address,
            place: place.to_owned(),
        }),
        _ => Ok(ServerAddress {
            socket: address.current(index_of),
            ..address
        }),
    }
}

/// Checks that an upstream is not this server itself. `place` is where it is configured.
pub(super) fn own_address(
    upstream: SocketAddr,
    listen: &[SocketAddr],
    place: &str,
) -> Result<(), UpstreamError> {
    match reached_address(upstream, listen) {
        Some(listen) => Err(UpstreamError::Ourselves {
            upstream,
            listen,
            place: place.to_owned(),
        }),
        None => Ok(()),
    }
}

/// The listen address that queries to `upstream` would reach.
pub(super) fn reached_address(upstream: SocketAddr, listen: &[SocketAddr]) -> Option<SocketAddr> {
    // Packets to the unspecified address reach this machine.
    let ip = match upstream.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let receives = |listen: &&SocketAddr| {
        listen.port() != 0
            && listen.port() == upstream.port()
            // The IPv6 sockets of the server receive no IPv4.
            && listen.is_ipv4() == ip.is_ipv4()
            && (listen.ip() == ip || (listen.ip().is_unspecified() && is_local(ip)))
    };
    listen.iter().find(receives).copied()
}

/// Whether the address is one of this machine. A socket can only be bound to such an address.
fn is_local(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_local_server_gets_the_index_of_its_interface() {
        let resolved = |text: &str| {
            let address = resolve(text.parse().expect("an address"), DEFAULT_PLACE)?;
            Ok::<_, UpstreamError>(address.socket)
        };
        let index = index_of("lo").expect("an interface");
        for text in ["fe80::1%lo", &format!("[fe80::1%{index}]:53")] {
            let SocketAddr::V6(address) = resolved(text).expect("an interface") else {
                panic!("IPv6");
            };
            assert_eq!((address.scope_id(), address.port()), (index, 53));
        }
        let error = resolved("[fe80::1%nosuch0]:5300").expect_err("no interface");
        let expected = "upstream [fe80::1%nosuch0]:5300 is behind the interface nosuch0, which this \
                    machine does not have; name one that `ip link` shows, or its index, with \
                    `serve --upstream` or in [upstream] servers";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn this_server_is_recognised_behind_a_wildcard_address_too() {
        let is_own = |upstream: &str, listen: &str| {
            let listen = listen.parse().expect("an address");
            reached_address(upstream.parse().expect("an address"), &[listen]).is_some()
        };
        assert!(is_own("127.0.0.1:53", "127.0.0.1:53"));
        assert!(is_own("127.0.0.1:53", "0.0.0.0:53"));
        assert!(!is_own("127.0.0.1:53", "127.0.0.1:5335"));
        assert!(!is_own("192.0.2.1:53", "0.0.0.0:53"), "another machine's");
        assert!(is_own("0.0.0.0:53", "127.0.0.1:53"));
        assert!(
            is_own("[::ffff:127.0.0.1]:53", "127.0.0.1:53"),
            "IPv4 in IPv6"
        );
        assert!(
            !is_own("127.0.0.1:53", "[::]:53"),
            "which receives only IPv6"
        );
        assert!(!is_own("[::1]:53", "0.0.0.0:53"));
    }
}
