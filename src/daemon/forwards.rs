//! The pools of upstream servers at the start, and those of forwarded zones: made from the configuration, and replaced at a
//! reload.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::bootstrap::Means;
use super::designations::Discovery;
use super::limits::Budget;
use super::target::{UpstreamError, target};
use super::upstreams::{Source, Upstreams, intake};
use crate::config::Config;
use crate::config::selection::{Selection, Strategy};
use crate::serve::cache::Cache;
use crate::serve::upstream::Pool;
use crate::serve::upstream::connect::Network;
use crate::serve::upstream::pools::{ForwardPool, Forwarding, Pools};
use crate::serve::upstream::server::{Server, Target};
use crate::stats::Counters;
use crate::sys::udp::Ports;
use crate::tls::client::Authorities;
use crate::wire::name::Name;

/// The servers of forwarded zones.
#[derive(Debug)]
pub(super) struct Forwards(Vec<Forward>);

/// Servers, and the zones that they are asked for. Sections with equal servers, timeouts and strategies share one: of thousands of zones,
/// most have the same servers.
#[derive(Debug)]
struct Forward {
    zones: Vec<Name>,
    servers: Vec<Target>,
    timeout: Duration,
    strategy: Strategy,
}

/// Which zones are routed besides those of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Former {
    /// Those of the configuration before. While its policy is in force, their names must not be sent to others.
    Stay,
    /// None.
    Go,
}

impl Forwards {
    /// Finds the servers of a configuration.
    #[expect(
        clippy::mutable_key_type,
        reason = "the configuration of TLS, which holds resumed sessions, takes no part in comparisons"
    )]
    pub(super) fn find(config: &Config) -> Result<Self, UpstreamError> {
        let mut all: Vec<Forward> = Vec::new();
        let mut places: HashMap<_, usize> = HashMap::new();
        let mut authorities = Authorities::default();
        for forward in &config.local.forwards {
            let place = format!("in `servers` of [[forward]] on line {}", forward.line);
            let servers = forward
                .servers
                .iter()
                .map(|server| target(server, &config.server.listen, &place, &mut authorities));
            let servers = servers.collect::<Result<Vec<_>, _>>()?;
            let timeout = forward.timeout.unwrap_or(config.upstream.timeout);
            let strategy = forward.strategy;
            let strategy = strategy.unwrap_or(config.upstream.selection.strategy);
            match places.entry((servers.clone(), timeout, strategy)) {
                Entry::Occupied(at) => all[*at.get()].zones.extend_from_slice(&forward.zones),
                Entry::Vacant(at) => {
                    at.insert(all.len());
                    all.push(Forward {
                        zones: forward.zones.clone(),
                        servers,
                        timeout,
                        strategy,
                    });
                }
            }
        }
        Ok(Self(all))
    }

    /// Whether each of these servers is asked already.
    pub(super) fn are_known(&self, before: &Forwarding) -> bool {
        self.known(before).iter().all(Option::is_some)
    }

    /// For each of these servers the pool that asks them already: rather one with the same timeout.
    #[expect(
        clippy::mutable_key_type,
        reason = "the configuration of TLS, which holds resumed sessions, takes no part in comparisons"
    )]
    fn known(&self, before: &Forwarding) -> Vec<Option<Arc<Pool>>> {
        let mut free: HashMap<_, Vec<_>> = HashMap::new();
        let mut seen = HashSet::new();
        for ForwardPool { pool, .. } in before.pools() {
            if seen.insert(pool.id()) {
                let pools = free.entry(pool.targets()).or_default();
                pools.push(Arc::clone(pool));
            }
        }
        let mut take = |forward: &Forward, fits: &dyn Fn(&Arc<Pool>) -> bool| {
            let pools = free.get_mut(&forward.servers)?;
            let at = pools.iter().position(fits)?;
            Some(pools.remove(at))
        };
        let same = self.0.iter().map(|forward| {
            let has_its_timeout = |pool: &Arc<Pool>| pool.timeout() == forward.timeout;
            take(forward, &has_its_timeout)
        });
        let same: Vec<_> = same.collect();
        let both = self.0.iter().zip(same);
        both.map(|(forward, same)| same.or_else(|| take(forward, &|_| true)))
            .collect()
    }
}

/// The upstream servers, ready to be asked: before the data plane starts, lists may have to be downloaded.
pub(super) struct OpenUpstreams {
    /// All pools; those of forwarded zones are not there yet.
    pub(super) forwards: ForwardSource,
    /// Where servers come from that may change while the configuration stays.
    pub(super) source: Option<Source>,
    /// Whether encrypted servers that they designate replace those in clear.
    pub(super) discovery: Discovery,
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
            source: upstreams.source,
            discovery: upstreams.discovery,
        }
    }
}

impl OpenUpstreams {
    /// Finds the addresses of servers that are given by name, for a short time.
    pub(super) async fn find_names(&mut self) {
        let means = self.forwards.means();
        if let Some(Source::Names(names)) = &mut self.source {
            names.find_first(&means).await;
            self.forwards.pools.default_pool().replace(names.servers());
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
    /// The means of further pools.
    pub(super) fn means(&self) -> Means {
        Means {
            network: Arc::clone(&self.network),
            ports: Arc::clone(&self.ports),
            counters: Arc::clone(&self.counters),
        }
    }

    /// Sends the queries for forwarded zones to these servers from now on. Servers that stay keep their pool. For zones that
    /// get another pool, what the cache holds is not used any more.
    pub(super) fn replace(
        &self,
        config: &Config,
        forwards: &Forwards,
        former: Former,
        cache: &Cache,
    ) {
        let before = self.pools.forwarding();
        let known = forwards.known(&before).into_iter();
        let pools = forwards.0.iter().zip(known).map(|(forward, known)| {
            let pool = known.unwrap_or_else(|| Arc::new(self.pool(config, forward)));
            pool.tune(forward.timeout, intake(config));
            pool.select(&Selection {
                strategy: forward.strategy,
                ..config.upstream.selection.clone()
            });
            ForwardPool {
                zones: forward.zones.clone(),
                pool,
            }
        });
        let mut pools: Vec<_> = pools.collect();
        if former == Former::Stay {
            pools.extend(leavers(&before, forwards));
        }
        let next = Forwarding::new(pools);
        let routes = Arc::clone(next.routes());
        self.pools.replace(next);
        if routes != *before.routes() {
            cache.set_routes(routes);
        }
    }

    fn pool(&self, config: &Config, forward: &Forward) -> Pool {
        Pool::new(
            forward.servers.iter().cloned().map(Server::of).collect(),
            self.network.clone(),
            forward.timeout,
            intake(config),
            Arc::clone(&self.ports),
            Arc::clone(&self.counters),
        )
        .of_zones()
    }
}

/// The zones that are not among those of `forwards`, with their pools.
fn leavers(before: &Forwarding, forwards: &Forwards) -> Vec<ForwardPool> {
    let stay: HashSet<_> = forwards.0.iter().flat_map(|of| &of.zones).collect();
    let leave = before.pools().iter().map(|of| {
        let zones = of.zones.iter().filter(|zone| !stay.contains(zone));
        ForwardPool {
            zones: zones.cloned().collect(),
            pool: Arc::clone(&of.pool),
        }
    });
    leave.filter(|of| !of.zones.is_empty()).collect()
}

#[cfg(test)]
mod tests;
