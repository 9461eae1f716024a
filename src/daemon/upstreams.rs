//! The upstream servers, from the configuration or from resolv.conf, and their changes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bootstrap::{Bootstrap, FoundAddresses, Means};
use super::designations::{Designations, Discovery};
use super::resolv_conf::{ResolvConf, SourceProblem};
use super::target::{DEFAULT_PLACE, UpstreamError, target};
use crate::config::Config;
use crate::serve::upstream::Pool;
use crate::serve::upstream::connect::Network;
use crate::serve::upstream::server::{Server, Target};
use crate::stats::Counters;
use crate::sys::udp::Ports;
use crate::tls::client::Authorities;
use crate::wire::answer::Intake;

/// The upstream servers, and where they are from.
#[derive(Debug)]
pub(super) struct Upstreams {
    pub(super) servers: Vec<Target>,
    /// Where other servers may come from; `None` if all are at fixed addresses.
    pub(super) source: Option<Source>,
    /// Whether encrypted servers that they designate replace those in clear.
    pub(super) discovery: Discovery,
}

/// Where servers come from that may change while the configuration stays.
#[derive(Debug)]
pub(super) enum Source {
    /// The file that names them.
    File(ResolvConf),
    /// Their names.
    Names(Bootstrap),
}

impl Source {
    fn problem(&self) -> SourceProblem {
        match self {
            Self::File(file) => file.problem(),
            Self::Names(names) => names.problem(),
        }
    }
}

impl Upstreams {
    /// Finds the servers. There may be none if they are from resolv.conf.
    pub(super) fn find(config: &Config) -> Result<Self, UpstreamError> {
        let listen = &config.server.listen;
        let Some(servers) = &config.upstream.servers else {
            let mut file = ResolvConf::new(&config.upstream.resolv_conf, listen);
            let servers = file.read_first()?;
            return Ok(Self {
                servers,
                source: Some(Source::File(file)),
                discovery: Discovery::of(config),
            });
        };
        let mut authorities = Authorities::default();
        let targets = servers
            .iter()
            .map(|server| target(server, listen, DEFAULT_PLACE, &mut authorities));
        let targets = targets.collect::<Result<Vec<_>, _>>()?;
        let names = Bootstrap::new(config, intake(config), targets.clone(), authorities)?;
        Ok(Self {
            servers: targets,
            source: names.map(Source::Names),
            discovery: Discovery::of(config),
        })
    }

    /// A pool of the servers.
    pub(super) fn pool(
        &self,
        config: &Config,
        network: &Arc<Network>,
        ports: Arc<Ports>,
        counters: &Arc<Counters>,
    ) -> Pool {
        let pool = Pool::new(
            self.servers.iter().cloned().map(Server::of).collect(),
            network.clone(),
            config.upstream.timeout,
            intake(config),
            ports,
            Arc::clone(counters),
        );
        pool.select(&config.upstream.selection);
        pool
    }
}

/// The limits on upstream's answers.
pub(super) fn intake(config: &Config) -> Intake {
    Intake {
        min_ttl: config.cache.min_ttl_secs,
        max_ttl: config.cache.max_ttl_secs,
        max_negative_ttl: config.cache.max_negative_ttl_secs,
        additional: config.cache.additional,
    }
}

/// Replaces the servers of a pool when the configuration, resolv.conf, or the address of a name changes.
pub(super) struct UpstreamSource {
    designations: Designations,
    tracker: TaskTracker,
    stop: CancellationToken,
    means: Means,
    found: FoundAddresses,
    /// Locked while servers are replaced. Thus a file that is no longer watched can't replace the new servers.
    current: Arc<Mutex<Current>>,
}

struct Current {
    /// Ends the task that watches the file, or follows the names.
    end: CancellationToken,
    problem: Option<SourceProblem>,
}

impl UpstreamSource {
    /// Follows `source` until `stop` is cancelled.
    pub(super) fn start(
        pool: Arc<Pool>,
        (source, discovery): (Option<Source>, Discovery),
        means: Means,
        tracker: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let designations = Designations::new(pool, means.clone());
        designations.configure(discovery, None);
        let (follow, end) = (designations.clone().follow(), stop.clone());
        tracker.spawn(async move { end.run_until_cancelled(follow).await });
        let current = Current {
            end: stop.child_token(),
            problem: None,
        };
        let this = Self {
            designations,
            tracker,
            stop,
            means,
            found: FoundAddresses::default(),
            current: Arc::new(Mutex::new(current)),
        };
        this.follow(&mut this.lock(), source);
        this
    }

    /// Replaces all servers. If no address of the new ones is known yet, this waits until one is.
    pub(super) fn replace(&self, mut upstreams: Upstreams) {
        let mut current = self.lock();
        current.end.cancel();
        let servers = self.servers(&mut upstreams);
        self.designations.configure(upstreams.discovery, servers);
        self.follow(&mut current, upstreams.source);
    }

    /// The servers that can be asked now. `None` if all are given by name, and no address is known.
    pub(super) fn servers(&self, upstreams: &mut Upstreams) -> Option<Vec<Target>> {
        let Some(Source::Names(names)) = &mut upstreams.source else {
            return Some(upstreams.servers.clone());
        };
        names.adopt(&self.found);
        Some(names.servers().to_vec()).filter(|servers| !servers.is_empty())
    }

    /// The encrypted servers that replace those in clear.
    pub(super) fn designations(&self) -> &Designations {
        &self.designations
    }

    /// The problem with the file or the names, if there is one.
    pub(super) fn problem(&self) -> Option<String> {
        self.lock()
            .problem
            .as_ref()
            .and_then(SourceProblem::current)
    }

    fn follow(&self, current: &mut Current, source: Option<Source>) {
        *current = Current {
            end: self.stop.child_token(),
            problem: source.as_ref().map(Source::problem),
        };
        let Some(mut source) = source else {
            return;
        };
        if let Source::Names(names) = &mut source {
            names.adopt(&self.found);
        }
        let (designations, end) = (self.designations.clone(), current.end.clone());
        let (all, ended) = (Arc::clone(&self.current), end.clone());
        let replace = move |servers: &[Target]| {
            let _current = all.lock().unwrap_or_else(PoisonError::into_inner);
            if !ended.is_cancelled() {
                designations.set(servers);
            }
        };
        let means = self.means.clone();
        let follow = async move {
            let follow = async {
                match source {
                    Source::File(file) => file.follow(replace).await,
                    Source::Names(names) => names.follow(means, replace).await,
                }
            };
            end.run_until_cancelled(follow).await;
        };
        self.tracker.spawn(follow);
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
