//! Applies configuration changes to the running data plane, and collects its figures for `status`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bind::Endpoint;
use super::confinement::{Confinement, confinement};
use super::forward_outage::ForwardOutages;
use super::forwards::{Former, ForwardSource, Forwards};
use super::gauges::{from_sums, upstream_states};
use super::limits::{self, Budget, Listening};
use super::listeners::{Listeners, Prepared};
use super::log::LogLevel;
use super::log_output::LogOutput;
use super::metrics::{Bound, CacheFigures, Monitoring, Plane, PlaneState, ServerFigures};
use super::observer::QueryObserver;
use super::outage::Outage;
use super::recent_drops::RecentDrops;
use super::upstream_blocks;
use super::upstreams::{UpstreamSource, Upstreams, intake};
use super::watchdog::WorkerState;
use crate::config::upstream::NamedServer;
use crate::config::{Config, Recording};
use crate::control::admin::logging::LogControl;
use crate::control::data_plane::{Change, DataPlane};
use crate::control::gauges::Gauges;
use crate::recorder::Recorder;
use crate::serve::admission::Bounds;
use crate::serve::cache::Cache;
use crate::serve::pace::Pace;
use crate::serve::resolver::Resolver;
use crate::serve::transport::stream::Streams;
use crate::serve::upstream::state::ServerState;
use crate::stats::{Count, Counters, ListSums, UsedSlots, sums};
use crate::sys::process::user_id;
use crate::sys::udp::Ports;

/// The running data plane.
#[derive(Clone)]
pub(super) struct Live(pub(super) Arc<Parts>);

pub(super) struct Parts {
    pub(super) resolver: Arc<Resolver<QueryObserver>>,
    pub(super) cache: Arc<Cache>,
    pub(super) pace: Arc<Pace>,
    pub(super) streams: Arc<Streams<QueryObserver>>,
    pub(super) ports: Arc<Ports>,
    pub(super) upstream_source: UpstreamSource,
    pub(super) forward_source: ForwardSource,
    pub(super) outage: Outage,
    pub(super) forward_outages: ForwardOutages,
    pub(super) recent_drops: RecentDrops,
    pub(super) counters: Vec<Arc<Counters>>,
    pub(super) listeners: Arc<Listeners>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) files: Files,
    pub(super) monitoring: Monitoring,
    /// The configuration in force.
    pub(super) config: Mutex<Config>,
    /// Locked while the cache is resized.
    pub(super) resizing: Mutex<()>,
}

/// The number of files that may be open, and how they were divided when the server started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Files {
    pub(super) all: usize,
    pub(super) listening: Listening,
    pub(super) budget: Budget,
}

/// The limits of TCP connections, within the budget of files.
pub(super) fn connections(config: &Config, budget: Budget) -> Bounds {
    Bounds {
        all: budget.connections,
        per_client: limits::connections_per_client(config, budget),
    }
}

/// The limits of queries that wait for upstream.
pub(super) fn waiting(config: &Config) -> Bounds {
    Bounds {
        all: config.upstream.waiting,
        per_client: config.upstream.waiting_per_client,
    }
}

impl Files {
    /// The budget that a new configuration gets without a restart, and whether a restart would allow more TCP
    /// connections of clients.
    fn divide(self, config: &Config) -> (Budget, bool) {
        let Self {
            all,
            listening,
            budget,
        } = self;
        let listening = Listening {
            addresses: config.server.listen.len(),
            ..listening
        };
        let wanted = config.server.tcp_connections;
        let connections = limits::connections_beside(all, listening, budget, wanted);
        let is_short = connections < limits::budget(all, listening, wanted).connections;
        let budget = Budget {
            connections,
            ..budget
        };
        (budget, is_short)
    }
}

impl Parts {
    /// The counters of all threads.
    pub(super) fn counters(&self) -> impl Iterator<Item = &Counters> + Clone {
        self.counters.iter().map(|counters| &**counters)
    }

    /// Problems of all upstream servers together, and of the log, a sentence each.
    pub(super) fn problems(&self) -> Vec<String> {
        let servers = self.resolver.pools().default_pool().state();
        let problems = [
            self.upstream_source.problem(),
            self.outage.alarm(&servers),
            LogOutput::problem(),
        ];
        let problems = problems.into_iter().flatten();
        problems
            .chain(self.forward_outages.alarms())
            .chain(upstream_blocks::alarms(self.resolver.pools()))
            .chain(self.recorder.alarms())
            .collect()
    }

    /// The state of each UDP worker.
    pub(super) fn workers(&self) -> Vec<WorkerState> {
        let unread = self.listeners.unread();
        let workers = unread.into_iter().zip(&self.counters);
        let state = |(has_unread, counters): (bool, &Arc<Counters>)| WorkerState {
            received: counters.read(Count::UdpQueries),
            has_unread,
        };
        workers.map(state).collect()
    }

    /// What is recorded by the configuration in force.
    pub(super) fn recording(&self) -> Recording {
        self.config().server.recording.clone()
    }

    fn config(&self) -> MutexGuard<'_, Config> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The upstream servers of a configuration; `None` if they did not change.
    fn find_upstreams(&self, config: &Config) -> Result<Option<Upstreams>, Vec<String>> {
        let is_same = {
            let current = self.config();
            let (now, next) = (&current.upstream, &config.upstream);
            let is_same = now.servers == next.servers
                && now.resolv_conf == next.resolv_conf
                && now.named == next.named
                && now.discover == next.discover
                && now.bootstrap == next.bootstrap;
            // If the listen addresses changed, an upstream server may now be this server itself.
            is_same && current.server.listen == config.server.listen && !is_any_encrypted(config)
        };
        if is_same {
            return Ok(None);
        }
        let found = Upstreams::find(config);
        found.map(Some).map_err(|error| vec![error.to_string()])
    }

    fn apply(
        self: &Arc<Self>,
        config: Config,
        (upstreams, forwards): (Option<Upstreams>, &Forwards),
        budget: Budget,
        (next, metrics): (Option<Vec<Arc<Endpoint>>>, Vec<Arc<Bound>>),
    ) {
        let pools = self.resolver.pools();
        pools
            .default_pool()
            .tune(config.upstream.timeout, intake(&config));
        pools.default_pool().select(&config.upstream.selection);
        let bound = next.iter().flatten().map(|endpoint| endpoint.address);
        let open = self.listeners.addresses().into_iter();
        let listening_ports = open.chain(bound).map(|address| address.port());
        let listening_ports = listening_ports.collect();
        self.ports
            .replace(config.upstream.ports.clone(), listening_ports);
        if let Some(upstreams) = upstreams {
            self.upstream_source.replace(upstreams);
        }
        self.upstream_source.designations().ask_again();
        self.forward_source
            .replace(&config, forwards, Former::Go, &self.cache);
        pools.renew();
        self.resolver.admission().set_bounds(waiting(&config));
        self.pace.set_discard(config.server.discard);
        self.streams.idle.set(config.server.tcp_idle);
        self.streams.shared.notifications.follow(&config.feeds);
        self.streams
            .connections
            .set_bounds(connections(&config, budget));
        self.cache.set_stale_secs(config.cache.stale_secs);
        self.recorder.configure(&config.server.recording);
        if let Some(log) = LogLevel::global() {
            log.configure(&config.server.process.log);
        }
        if let Some(next) = next {
            self.listeners.replace(next);
        }
        self.monitoring.replace(&config.server.metrics, metrics);
        let size = config.cache.size_bytes;
        let before = std::mem::replace(&mut *self.config(), config);
        if before.cache.size_bytes != size {
            let parts = Arc::clone(self);
            // Evicting answers takes a while.
            tokio::task::spawn_blocking(move || parts.resize_cache());
        }
    }

    /// Resizes the cache to the configured size. The size is read under the lock, so the size of the last reload
    /// applies, in whatever order the tasks of several reloads run.
    fn resize_cache(&self) {
        let _turn = self.resizing.lock().unwrap_or_else(PoisonError::into_inner);
        let size = self.config().cache.size_bytes;
        self.cache.resize(size);
    }
}

impl Plane for Parts {
    fn state(&self, used: UsedSlots) -> PlaneState {
        let pools = self.resolver.pools();
        let figures = |zone: String, servers: Vec<ServerState>| {
            let servers = servers.into_iter();
            servers.map(move |state| ServerFigures {
                zone: zone.clone(),
                state,
            })
        };
        let mut servers: Vec<_> = figures(String::new(), pools.default_pool().state()).collect();
        for forward in pools.forwarding().pools() {
            let zone = forward.zones.first().map(ToString::to_string);
            servers.extend(figures(zone.unwrap_or_default(), forward.pool.state()));
        }
        let (entries, bytes) = self.cache.size();
        PlaneState {
            sums: sums(self.counters()),
            hits: ListSums::new(self.counters(), used),
            servers,
            waiting: self.resolver.waiting(),
            workers_unread: self
                .listeners
                .unread()
                .into_iter()
                .filter(|has| *has)
                .count(),
            tcp_connections: self.streams.connections.in_use(),
            cache: CacheFigures {
                entries,
                bytes,
                capacity: self.cache.capacity(),
                evictions: self.cache.evictions(),
            },
            recording: self.recorder.sinks(),
            alarms: self.problems().len() as u64,
        }
    }

    fn unready(&self) -> Option<&'static str> {
        match (
            self.streams.stop.is_cancelled(),
            self.listeners.is_serving(),
        ) {
            (true, _) => Some("stopping"),
            (_, false) => Some("the addresses to listen on are being exchanged"),
            (false, true) => None,
        }
    }
}

impl DataPlane for Live {
    fn gauges(&self) -> Gauges {
        let parts = &self.0;
        let (cache_entries, cache_octets) = parts.cache.size();
        let pools = parts.resolver.pools();
        let servers = pools.default_pool().state();
        Gauges {
            user: Some(user_id()),
            landlock: confinement().map_or_else(Default::default, Confinement::report),
            log: LogLevel::global().map(|log| log.report()),
            listen: parts.listeners.addresses(),
            upstream: upstream_states(servers, &pools.forwarding()),
            metrics: parts.monitoring.addresses(),
            discovery: parts.upstream_source.designations().status(),
            problems: parts.problems(),
            outage_since: parts.outage.since(),
            kernel_drops_recent: parts.recent_drops.count(&parts.counters),
            waiting: parts.resolver.waiting(),
            cache_entries,
            cache_octets,
            recording: parts.recorder.report(),
            list_hits: ListSums::new(parts.counters(), UsedSlots::ALL).by_slot(),
            ..from_sums(sums(parts.counters()))
        }
    }

    fn reopen_records(&self) {
        self.0.recorder.reopen();
    }

    fn prepare(&self, config: &Config) -> Result<Change, Vec<String>> {
        let parts = Arc::clone(&self.0);
        let outside = confinement().map_or_else(Vec::new, |it| it.problems(config));
        if !outside.is_empty() {
            return Err(outside);
        }
        let (budget, is_short) = parts.files.divide(config);
        let mut served = config.clone();
        let metrics = parts.monitoring.prepare(&config.server.metrics);
        let listeners = parts.listeners.prepare(&config.server.listen);
        let (listeners, metrics) = match (listeners, metrics) {
            (Ok(listeners), Ok(metrics)) => (listeners, metrics),
            (listeners, metrics) => {
                let problems = [listeners.err(), metrics.err()];
                return Err(problems.into_iter().flatten().flatten().collect());
            }
        };
        let next = match listeners {
            Prepared::Endpoints(endpoints) => Some(endpoints),
            Prepared::AfterRestart => {
                // Until the restart, this server listens on the current addresses. They must not be upstream servers,
                // either.
                served.server.listen.extend(parts.listeners.addresses());
                None
            }
        };
        let upstreams = parts.find_upstreams(&served)?;
        let forwards = Forwards::find(&served).map_err(|error| vec![error.to_string()])?;
        let restart = [
            ("[server] listen", next.is_none()),
            ("[server] tcp-connections", is_short),
        ];
        let restart = restart.into_iter().filter(|(_, waits)| *waits);
        let of_config = Arc::new((config.clone(), forwards));
        let (of_parts, prepared) = (Arc::clone(&parts), Arc::clone(&of_config));
        Ok(Change {
            restart: restart.map(|(key, _)| key.to_owned()).collect(),
            precede: Box::new(move || {
                let (config, forwards) = &*prepared;
                let source = &of_parts.forward_source;
                source.replace(config, forwards, Former::Stay, &of_parts.cache);
            }),
            apply: Box::new(move || {
                let (config, forwards) = &*of_config;
                parts.apply(
                    config.clone(),
                    (upstreams, forwards),
                    budget,
                    (next, metrics),
                );
            }),
        })
    }

    /// The certificates of the authorities of upstream servers, and the encrypted servers that others designate.
    fn read_again(&self) -> Result<Vec<String>, Vec<String>> {
        let parts = &self.0;
        let config = parts.config().clone();
        let problem = |error: &dyn std::fmt::Display| {
            vec![format!(
                "{error}; the certificates that were read before stay in use"
            )]
        };
        let mut changed = Vec::new();
        let source = &parts.upstream_source;
        source.designations().ask_again();
        if is_any_encrypted(&config) {
            let mut found = Upstreams::find(&config).map_err(|error| problem(&error))?;
            let servers = source.servers(&mut found);
            let before = source.designations().servers();
            if servers.is_some_and(|servers| servers != before) {
                source.replace(found);
                changed.push("certificates of authorities of upstream.servers".to_owned());
            }
        }
        let forwards = Forwards::find(&config).map_err(|error| problem(&error))?;
        if !forwards.are_known(&parts.resolver.pools().forwarding()) {
            let source = &parts.forward_source;
            source.replace(&config, &forwards, Former::Go, &parts.cache);
            changed.push("certificates of authorities of forward.servers".to_owned());
        }
        Ok(changed)
    }
}

/// Whether a server of `[upstream]` is asked by encrypted connections. The files of its authorities may have changed.
fn is_any_encrypted(config: &Config) -> bool {
    let named = config.upstream.named.iter().map(NamedServer::server);
    let servers = config.upstream.servers.iter().flatten();
    servers
        .chain(named)
        .map(|server| &server.encryption)
        .any(Option::is_some)
}
