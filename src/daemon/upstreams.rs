//! Owns the question whom to ask: the configuration's servers, or the system's.
//! Refuses ourselves.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use resolv_conf::ScopedIp;

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
    /// The system's file is not understood.
    #[error(
        "{path}: {problem}; mend it, or name the resolvers with --upstream or in [upstream] servers"
    )]
    ResolvConf {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// The servers to ask; none at all when the system knows none.
pub(super) fn servers(config: &Config) -> Result<Vec<SocketAddr>, UpstreamError> {
    let servers = match &config.upstream.servers {
        Some(servers) => servers.clone(),
        None => system(Path::new(RESOLV_CONF))?,
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

/// The servers of a resolv.conf(5). A missing file names none.
fn system(path: &Path) -> Result<Vec<SocketAddr>, UpstreamError> {
    let problem = |problem: String| UpstreamError::ResolvConf {
        path: path.to_owned(),
        problem,
    };
    let octets = match std::fs::read(path) {
        Ok(octets) => octets,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(problem(error.to_string())),
    };
    let parsed = resolv_conf::Config::parse(&octets).map_err(|error| problem(error.to_string()))?;
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
    Ok(servers)
}

/// Our own address that `upstream` leads to.
fn own(upstream: SocketAddr, listen: &[SocketAddr]) -> Option<SocketAddr> {
    let leads_here = |own: &&SocketAddr| {
        own.port() != 0
            && own.port() == upstream.port()
            && (own.ip() == upstream.ip() || (own.ip().is_unspecified() && is_ours(upstream.ip())))
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
        system(&path).expect("understood")
    }

    #[test]
    fn the_systems_servers_are_taken_and_none_is_no_error() {
        let text = "search example\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n";
        let expected = ["192.0.2.1:53", "[2001:db8::1]:53"].map(|a| a.parse().expect("an address"));
        assert_eq!(parse(text), expected);
        assert_eq!(parse("# nothing\n"), []);
        let missing = system(Path::new("/nowhere/resolv.conf")).expect("no error");
        assert_eq!(missing, []);
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
    }
}
