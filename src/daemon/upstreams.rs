//! Owns the question whom to ask: the configuration's servers, or the system's.
//! Refuses ourselves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

use resolv_conf::{ParseError, ScopedIp};

use crate::config::Config;

/// Where the system's servers stand.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Why the servers can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// It is this server.
    #[error(
        "upstream {upstream} is this server itself (it listens on {listen}), so questions would go in a circle; name another resolver with --upstream or in [upstream] servers"
    )]
    Ourselves {
        /// The upstream.
        upstream: SocketAddr,
        /// Our own address.
        listen: SocketAddr,
    },
}

/// The servers to ask; none at all when the system knows none.
pub(super) fn servers(config: &Config) -> Result<Vec<SocketAddr>, UpstreamError> {
    let servers = match &config.upstream.servers {
        Some(servers) => servers.clone(),
        None => system(Path::new(RESOLV_CONF)),
    };
    if servers.is_empty() {
        tracing::warn!(
            "no upstream: {RESOLV_CONF} names no server; only our own names are answered"
        );
    }
    for &upstream in &servers {
        if let Some(listen) = own(upstream, &config.server.listen) {
            return Err(UpstreamError::Ourselves { upstream, listen });
        }
    }
    Ok(servers)
}

/// The servers of a resolv.conf(5). A missing file names none. As the C library does, it takes what
/// it understands: what is wrong with the rest is no reason not to serve.
fn system(path: &Path) -> Vec<SocketAddr> {
    let octets = match std::fs::read(path) {
        Ok(octets) => octets,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the system's servers can't be read");
            return Vec::new();
        }
    };
    let (parsed, errors) = resolv_conf::Config::parse_with_errors(&octets);
    for error in errors {
        let (ParseError::InvalidUtf8(line, _)
        | ParseError::InvalidValue(line)
        | ParseError::InvalidOptionValue(line)
        | ParseError::InvalidOption(line)
        | ParseError::InvalidDirective(line)
        | ParseError::InvalidIp(line, _)
        | ParseError::ExtraData(line)) = error;
        // Counted from 0, also in the error's own words.
        let line = line + 1;
        tracing::warn!(path = %path.display(), line, "not understood in full");
    }
    let mut servers = Vec::new();
    for server in &parsed.nameservers {
        match server {
            ScopedIp::V4(ip) => servers.push(SocketAddr::from((*ip, 53))),
            ScopedIp::V6(ip, None) => servers.push(SocketAddr::from((*ip, 53))),
            ScopedIp::V6(ip, Some(scope)) => {
                tracing::warn!(%ip, scope, "upstream left out: link-local servers are not supported");
            }
        }
    }
    servers
}

/// Our own address that `upstream` leads to.
fn own(upstream: SocketAddr, listen: &[SocketAddr]) -> Option<SocketAddr> {
    // Who is sent to the unspecified address comes to this machine.
    let ip = match upstream.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let leads_here = |own: &&SocketAddr| {
        own.port() != 0
            && own.port() == upstream.port()
            // Our IPv6 sockets take IPv6 only.
            && own.is_ipv4() == ip.is_ipv4()
            && (own.ip() == ip || (own.ip().is_unspecified() && is_ours(ip)))
    };
    listen.iter().find(leads_here).copied()
}

/// Whether the address is this machine's: only then a socket can be bound to it.
fn is_ours(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Vec<SocketAddr> {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, text).expect("written");
        system(&path)
    }

    #[test]
    fn the_systems_servers_are_taken_and_none_is_no_error() {
        let text = "search example\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n";
        let expected = ["192.0.2.1:53", "[2001:db8::1]:53"].map(|a| a.parse().expect("an address"));
        assert_eq!(parse(text), expected);
        assert_eq!(parse("# nothing\n"), []);
        assert_eq!(system(Path::new("/nowhere/resolv.conf")), []);
        assert_eq!(system(Path::new("/")), [], "unreadable");
    }

    #[test]
    fn what_is_not_understood_hides_no_server() {
        let text =
            b"nameserver\nnameserver 192.0.2.1 extra\noptions timeout:x unheard-of trust-ad\n\
                     directive\nnameserver nonsense\nsearch \xff\nnameserver 192.0.2.2\n";
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, text).expect("written");
        let expected = ["192.0.2.1:53", "192.0.2.2:53"].map(|a| a.parse().expect("an address"));
        assert_eq!(system(&path), expected);
    }

    #[test]
    fn ourselves_are_recognised_behind_a_wildcard_too() {
        let own = |upstream: &str, listen: &str| {
            let listen = listen.parse().expect("an address");
            own(upstream.parse().expect("an address"), &[listen]).is_some()
        };
        assert!(own("127.0.0.1:53", "127.0.0.1:53"));
        assert!(own("127.0.0.1:53", "0.0.0.0:53"));
        assert!(!own("127.0.0.1:53", "127.0.0.1:5335"));
        assert!(!own("192.0.2.1:53", "0.0.0.0:53"), "another machine's");
        assert!(own("0.0.0.0:53", "127.0.0.1:53"));
        assert!(own("[::ffff:127.0.0.1]:53", "127.0.0.1:53"), "IPv4 in IPv6");
        assert!(!own("127.0.0.1:53", "[::]:53"), "which takes IPv6 only");
        assert!(!own("[::1]:53", "0.0.0.0:53"));
    }
}
