//! The upstream servers, from the configuration or from resolv.conf.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::resolv_conf::{FileProblem, ResolvConf};
use super::target::{DEFAULT_PLACE, UpstreamError, target};
use crate::config::Config;
use crate::serve::upstream::Pool;
use crate::serve::upstream::connect::Network;
use crate::serve::upstream::server::{Server, Target};
use crate::stats::Counters;
use crate::sys::udp::Ports;
use crate::tls::client::Authorities;
use crate::wire::answer::Intake;

/// The upstream servers, and the file that they are from.
#[derive(Debug)]
pub(super) struct Upstreams {
    pub(super) servers: Vec<Target>,
    /// The file to watch; `None` if the servers are from the configuration.
    pub(super) file: Option<ResolvConf>,
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
                file: Some(file),
            });
        };
        let mut authorities = Authorities::default();
        let targets = servers
            .iter()
            .map(|server| target(server, listen, DEFAULT_PLACE, &mut authorities));
        Ok(Self {
            servers: targets.collect::<Result<_, _>>()?,
            file: None,
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

/// Replaces the servers of a pool when the configuration or resolv.conf changes.
pub(super) struct UpstreamSource {
    pool: Arc<Pool>,
    tracker: TaskTracker,
    stop: CancellationToken,
    /// Locked while servers are replaced. Thus a file that is no longer watched can't replace the new servers.
    current: Arc<Mutex<Current>>,
}

struct Current {
    /// Ends the task that watches the file.
    end: CancellationToken,
    problem: Option<FileProblem>,
}

impl UpstreamSource {
    /// Watches `file` until `stop` is cancelled.
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

    /// Replaces all servers.
    pub(super) fn replace(&self, upstreams: Upstreams) {
        let mut current = self.lock();
        current.end.cancel();
        self.pool.replace(&upstreams.servers);
        self.follow(&mut current, upstreams.file);
    }

    /// The problem with the file, if there is one.
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
