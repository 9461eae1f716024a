//! The pools of upstream servers at the start, and those of forwarded zones: made from the configuration, and replaced at a
//! reload.

use std::sync::Arc;
use std::time::Duration;

use super::limits::Budget;
use super::resolv_conf::ResolvConf;
use super::target::{Target, UpstreamError, own_address, resolve};
use super::upstreams::{Upstreams, dialect, intake};
use crate::config::Config;
use crate::serve::cache::Cache;
use crate::serve::upstream::Pool;
use crate::serve::upstream::connect::Network;
use crate::serve::upstream::pools::{ForwardPool, Forwarding, Pools};
use crate::serve::upstream::server::Server;
use crate::stats::Counters;
use crate::sys::udp::Ports;
use crate::wire::name::Name;

/// The servers of forwarded zones.
#[derive(Debug)]
pub(super) struct Forwards(Vec<Forward>);

/// The servers of the zones of one section.
#[derive(Debug)]
struct Forward {
    zones: Vec<Name>,
    servers: Vec<Target>,
    timeout: Duration,
}

impl Forwards {
    /// Finds the servers of a configuration.
    pub(super) fn find(config: &Config) -> Result<Self, UpstreamError> {
        let forwards = config.local.forwards.iter().map(|forward| {
            let place = format!("in `servers` of [[forward]] on line {}", forward.line);
            let servers = forward.servers.iter().map(|server| {
                let address = resolve(server.address.clone(), &place)?;
                own_address(address.socket, &config.server.listen, &place)?;
                Ok((address, dialect(server)))
            });
            Ok(Forward {
                zones: forward.zones.clone(),
                servers: servers.collect::<Result<_, _>>()?,
                timeout: forward.timeout.unwrap_or(config.upstream.timeout),
            })
        });
        Ok(Self(forwards.collect::<Result<_, _>>()?))
    }
}

/// The upstream servers, ready to be asked: before the data plane starts, lists may have to be downloaded.
pub(super) struct OpenUpstreams {
    /// All pools; those of forwarded zones are not there yet.
    pub(super) forwards: ForwardSource,
    /// The file to watch; `None` if the servers are from the configuration.
    pub(super) file: Option<ResolvConf>,
}

impl OpenUpstreams {
    /// Pools of these servers. `listening` are the ports that this server listens on.
    pub(super) fn new(
        upstreams: Upstreams,
        config: &Config,
        listening: Vec<u16>,
        budget: Budget,
        counters: &Arc<Counters>,
    ) -> Self {
        let ports = Arc::new(Ports::new(config.upstream.ports.clone(), listening));
        let network = Network::new(budget.upstream, Arc::clone(&ports), Arc::clone(counters));
        let network = Arc::new(network);
        let pool = upstreams.pool(config, &network, Arc::clone(&ports), counters);
        Self {
            forwards: ForwardSource {
                pools: Arc::new(Pools::new(Arc::new(pool))),
                network,
                ports,
                counters: Arc::clone(counters),
            },
            file: upstreams.file,
        }
    }
}

/// Makes the pools of forwarded zones.
pub(super) struct ForwardSource {
    pub(super) pools: Arc<Pools>,
    pub(super) network: Arc<Network>,
    pub(super) ports: Arc<Ports>,
    pub(super) counters: Arc<Counters>,
}

impl ForwardSource {
    /// Sends the queries for forwarded zones to these servers from now on. A section that is unchanged keeps its pool. For
    /// all other zones, the cache drops what the former servers said.
    pub(super) fn replace(&self, config: &Config, forwards: &Forwards, cache: &Cache) {
        let before = self.pools.forwarding();
        let pool = |forward: &Forward| {
            let known = before.pools().iter().find(|known| {
                known.zones == forward.zones && known.pool.has_servers(&forward.servers)
            });
            let pool = match known {
                Some(known) => Arc::clone(&known.pool),
                None => Arc::new(self.pool(config, forward)),
            };
            pool.tune(forward.timeout, intake(config));
            ForwardPool {
                zones: forward.zones.clone(),
                pool,
            }
        };
        let next: Vec<_> = forwards.0.iter().map(pool).collect();
        let is_in = |pools: &[ForwardPool], one: &ForwardPool| {
            pools
                .iter()
                .any(|other| Arc::ptr_eq(&other.pool, &one.pool))
        };
        let new = next.iter().filter(|one| !is_in(before.pools(), one));
        let gone = before.pools().iter().filter(|one| !is_in(&next, one));
        let changed: Vec<_> = new.chain(gone).flat_map(|one| one.zones.clone()).collect();
        self.pools.replace(Forwarding::new(next));
        let forwarded = config.local.forwards.iter();
        let forwarded = forwarded.flat_map(|forward| &forward.zones);
        cache.separate(forwarded, &changed.iter().collect::<Vec<_>>());
    }

    fn pool(&self, config: &Config, forward: &Forward) -> Pool {
        let server = |(address, permitted): &Target| Server::new(address.clone(), *permitted);
        Pool::new(
            forward.servers.iter().map(server).collect(),
            self.network.clone(),
            forward.timeout,
            intake(config),
            Arc::clone(&self.ports),
            Arc::clone(&self.counters),
        )
        .of_zones(&forward.zones)
    }
}
