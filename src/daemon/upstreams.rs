//! Which upstream servers there are: those of the configuration, or those of resolv.conf.
//!
//! This server itself is never one of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::limits::Budget;
use super::resolv_conf::{FileProblem, ResolvConf};
use crate::config::Config;
use crate::config::upstream::{ServerAddress, UpstreamServer};
use crate::serve::upstream::Pool;
use crate::serve::upstream::connect::Network;
use crate::serve::upstream::server::Server;
use crate::stats::Counters;
use crate::sys::interface::index_of;
use crate::sys::udp::Ports;
use crate::wire::answer::Intake;
use crate::wire::ask::Dialect;

/// A server's address, and what it may be asked with.
pub(super) type Target = (ServerAddress, Dialect);

/// Why the servers can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// It is this server.
    #[error(
        "upstream {upstream} is this server itself (it listens on {listen}), so queries would go in a circle; name another resolver with `serve --upstream` or in [upstream] servers"
    )]
    Ourselves {
        /// The upstream.
        upstream: SocketAddr,
        /// Our own address.
        listen: SocketAddr,
    },
    /// A link-local address behind an interface that does not exist.
    #[error(
        "upstream {upstream} is behind the interface {zone}, which this machine does not have; name one that `ip link` shows, or its index, with `serve --upstream` or in [upstream] servers"
    )]
    Interface {
        /// The upstream.
        upstream: ServerAddress,
        /// The interface.
        zone: String,
    },
}

/// The servers at the start, and the file that changes them.
#[derive(Debug)]
pub(super) struct Upstreams {
    pub(super) servers: Vec<Target>,
    /// `None` when the configuration names the servers.
    pub(super) file: Option<ResolvConf>,
}

impl Upstreams {
    /// Finds the servers; none at all when the system knows none.
    pub(super) fn find(config: &Config) -> Result<Self, UpstreamError> {
        let listen = &config.server.listen;
        let Some(servers) = &config.upstream.servers else {
            let mut file = ResolvConf::new(&config.upstream.resolv_conf, listen);
            let servers = file.read_first()?;
            return Ok(Self {
                servers,
                file: Some(file),
            });
        };
        let mut targets = Vec::new();
        for server in servers {
            let address = resolve(server.address.clone())?;
            let upstream = address.socket;
            if let Some(listen) = own(upstream, listen) {
                return Err(UpstreamError::Ourselves { upstream, listen });
            }
            targets.push((address, dialect(server)));
        }
        Ok(Self {
            servers: targets,
            file: None,
        })
    }

    /// A pool of the servers.
    pub(super) fn pool(
        &self,
        config: &Config,
        ports: Arc<Ports>,
        budget: Budget,
        counters: &Arc<Counters>,
    ) -> Pool {
        let network = Network::new(budget.upstream, Arc::clone(&ports), Arc::clone(counters));
        let server = |(address, permitted): &Target| Server::new(address.clone(), *permitted);
        Pool::new(
            self.servers.iter().map(server).collect(),
            Arc::new(network),
            config.upstream.timeout,
            intake(config),
            ports,
            Arc::clone(counters),
        )
    }
}

/// What is taken of upstream's answers.
pub(super) fn intake(config: &Config) -> Intake {
    Intake {
        min_ttl: config.cache.min_ttl_secs,
        max_ttl: config.cache.max_ttl_secs,
        max_negative_ttl: config.cache.max_negative_ttl_secs,
        additional: config.cache.additional,
    }
}

/// Keeps the servers of a pool those of the configuration in force.
pub(super) struct Source {
    pool: Arc<Pool>,
    tracker: TaskTracker,
    stop: CancellationToken,
    /// Held while servers are replaced, so that a file that no longer counts replaces none.
    current: Arc<Mutex<Current>>,
}

struct Current {
    /// Ends the following of the file.
    end: CancellationToken,
    problem: Option<FileProblem>,
}

impl Source {
    /// Follows `file` until `stop`.
    pub(super) fn start(
        pool: Arc<Pool>,
        file: Option<ResolvConf>,
        tracker: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let current = Current {
            end: stop.child_token(),
            problem: None,
        };
        let source = Self {
            pool,
            tracker,
            stop,
            current: Arc::new(Mutex::new(current)),
        };
        source.follow(&mut source.lock(), file);
        source
    }

    /// Takes others in the place of all servers.
    pub(super) fn replace(&self, upstreams: Upstreams) {
        let mut current = self.lock();
        current.end.cancel();
        self.pool.replace(&upstreams.servers);
        self.follow(&mut current, upstreams.file);
    }

    /// What is wrong with the file.
    pub(super) fn problem(&self) -> Option<String> {
        self.lock().problem.as_ref().and_then(FileProblem::current)
    }

    fn follow(&self, current: &mut Current, file: Option<ResolvConf>) {
        *current = Current {
            end: self.stop.child_token(),
            problem: file.as_ref().map(ResolvConf::problem),
        };
        let Some(file) = file else {
            return;
        };
        let (pool, end) = (Arc::clone(&self.pool), current.end.clone());
        let (all, ended) = (Arc::clone(&self.current), end.clone());
        let replace = move |servers: &[Target]| {
            let _current = all.lock().unwrap_or_else(PoisonError::into_inner);
            if !ended.is_cancelled() {
                pool.replace(servers);
            }
        };
        let follow = async move { end.run_until_cancelled(file.follow(replace)).await };
        self.tracker.spawn(follow);
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn dialect(server: &UpstreamServer) -> Dialect {
    Dialect {
        edns: server.edns,
        random_case: server.random_case,
    }
}

/// The address of a server with the index of its interface, which must exist.
pub(super) fn resolve(address: ServerAddress) -> Result<ServerAddress, UpstreamError> {
    match &address.zone {
        Some(zone) if index_of(zone).is_none() => Err(UpstreamError::Interface {
            zone: zone.clone(),
            upstream: address,
        }),
        _ => Ok(ServerAddress {
            socket: address.current(index_of),
            ..address
        }),
    }
}

/// Our own address that `upstream` leads to.
pub(super) fn own(upstream: SocketAddr, listen: &[SocketAddr]) -> Option<SocketAddr> {
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

    #[test]
    fn a_link_local_server_gets_the_index_of_its_interface() {
        let resolved = |text: &str| {
            let address = resolve(text.parse().expect("an address"))?;
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
        let told = "upstream [fe80::1%nosuch0]:5300 is behind the interface nosuch0, which this \
                    machine does not have; name one that `ip link` shows, or its index, with \
                    `serve --upstream` or in [upstream] servers";
        assert_eq!(error.to_string(), told);
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
