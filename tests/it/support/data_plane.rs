//! A data plane without a daemon: a policy, a cache, and one upstream server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tapis::policy::current::Publisher;
use tapis::policy::snapshot::Snapshot;
use tapis::serve::admission::Bounds;
use tapis::serve::cache::Cache;
use tapis::serve::observe::Observer;
use tapis::serve::pace::Pace;
use tapis::serve::resolver::{Job, Resolver};
use tapis::serve::responder::{Responder, Sockets};
use tapis::serve::shared::{Clock, Shared};
use tapis::serve::transport::udp::Worker;
use tapis::serve::upstream::Pool;
use tapis::serve::upstream::connect::Network;
use tapis::serve::upstream::pools::Pools;
use tapis::serve::upstream::server::Server as UpstreamServer;
use tapis::stats::Counters;
use tapis::sys::udp::{Ports, Socket};
use tapis::sys::wait::{self, ShutdownSignal};
use tapis::wire::answer::Intake;
use tapis::wire::ask::Dialect;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::client::PATIENCE;

/// The treatment of upstream's answers.
pub(crate) const INTAKE: Intake = Intake {
    min_ttl: 0,
    max_ttl: 3600,
    max_negative_ttl: u32::MAX,
    additional: false,
};

/// How long a query waits for upstream.
const TIMEOUT: Duration = Duration::from_millis(400);

/// The limits of a data plane.
pub(crate) struct Limits {
    /// Queries that may wait for upstream.
    pub(crate) waiting: usize,
    /// The age at which queries are discarded.
    pub(crate) discard: Duration,
}

pub(crate) struct DataPlane<O: Observer> {
    pub(crate) resolver: Arc<Resolver<O>>,
    pub(crate) shared: Shared,
    pub(crate) counters: Arc<Counters>,
    /// Where the async side finds the sockets of workers.
    pub(crate) sockets: Arc<Sockets>,
    pace: Arc<Pace>,
    observer: O,
    _publisher: Publisher,
}

/// A worker that does not run yet, and what belongs to it.
pub(crate) struct UdpWorker<O: Observer> {
    pub(crate) worker: Worker<O>,
    pub(crate) address: SocketAddr,
    /// The worker stops when this is dropped.
    pub(crate) signal: ShutdownSignal,
    /// The queries that it hands over.
    pub(crate) jobs: mpsc::Receiver<Job>,
}

/// A runtime for a data plane that needs no async tasks.
pub(crate) fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

impl DataPlane<Arc<Counters>> {
    /// A data plane whose upstream server never answers. Must be called inside a runtime.
    pub(crate) fn without_upstream(snapshot: Snapshot) -> Self {
        let limits = Limits {
            waiting: 16,
            discard: PATIENCE,
        };
        let closed_port = ([127, 0, 0, 1], 9).into();
        Self::new(snapshot, closed_port, &limits, Arc::clone)
    }
}

impl<O: Observer + Clone> DataPlane<O> {
    /// Must be called inside a runtime. `observer` makes the observer from the counters.
    pub(crate) fn new(
        snapshot: Snapshot,
        upstream: SocketAddr,
        limits: &Limits,
        observer: impl FnOnce(&Arc<Counters>) -> O,
    ) -> Self {
        let publisher = Publisher::new(snapshot);
        let shared = Shared {
            policy: publisher.reader(),
            cache: Arc::new(Cache::new(1 << 20, 0)),
            clock: Clock::start(),
            notifications: Arc::default(),
            zones: Default::default(),
            signatures: Arc::default(),
        };
        let counters = Arc::<Counters>::default();
        let observer = observer(&counters);
        let ports = Arc::<Ports>::default();
        let network = Arc::new(Network::new(8, ports.clone(), counters.clone()));
        let servers = vec![UpstreamServer::new(upstream, Dialect::FULL)];
        let pool = Pool::new(servers, network, TIMEOUT, INTAKE, ports, counters.clone());
        let pace = Arc::new(Pace::new(limits.discard));
        let sockets = Arc::<Sockets>::default();
        let responder = Responder {
            pace: pace.clone(),
            shared: shared.clone(),
            sockets: sockets.clone(),
            counters: counters.clone(),
            observer: observer.clone(),
        };
        let bounds = Bounds {
            all: limits.waiting,
            per_client: limits.waiting,
        };
        let resolver = Arc::new(Resolver::new(
            Arc::new(Pools::new(Arc::new(pool))),
            responder,
            bounds,
        ));
        Self {
            resolver,
            shared,
            counters,
            sockets,
            pace,
            observer,
            _publisher: publisher,
        }
    }

    /// A worker with a socket on the loopback, and this number of ports to upstream.
    pub(crate) fn udp_worker(&self, ports: usize) -> UdpWorker<O> {
        let socket = Arc::new(Socket::bind(([127, 0, 0, 1], 0).into(), true).expect("bound"));
        let address = socket.local_addr().expect("bound");
        let (signal, shutdown) = wait::shutdown_signal().expect("a pipe");
        let (sender, jobs) = mpsc::channel(16);
        let worker = Worker {
            index: 0,
            shared: self.shared.clone(),
            sockets: vec![(0, socket)],
            pools: self.resolver.pools().clone(),
            ports,
            inflight: self.resolver.inflight().clone(),
            admission: self.resolver.admission().clone(),
            jobs: sender,
            pace: self.pace.clone(),
            counters: self.counters.clone(),
            observer: self.observer.clone(),
            shutdown,
        };
        UdpWorker {
            worker,
            address,
            signal,
            jobs,
        }
    }
}
