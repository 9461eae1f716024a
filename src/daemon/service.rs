//! Starts and stops the data plane.

use std::path::Path;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bind::Endpoint;
use super::clock::follow_suspension;
use super::error::DaemonError;
use super::essential::Essential;
use super::forward_outage::ForwardOutages;
use super::forwards::OpenUpstreams;
use super::listeners::{Equipment, Listeners};
use super::live::{Files, Live, Parts, connections, waiting};
use super::metrics::Monitoring;
use super::notifications::notifications;
use super::observer::{QueryObserver, query_observer};
use super::outage::Outage;
use super::recent_drops::RecentDrops;
use super::service_manager;
use super::upstreams::UpstreamSource;
use crate::config::Config;
use crate::control::Control;
use crate::control::admin::caching::CacheControl;
use crate::control::admin::querying::QueryControl;
use crate::control::data_plane::DataPlane;
use crate::control::recording::RecordedQueries;
use crate::control::vitals::Vitals;
use crate::policy::current::Reader;
use crate::policy::images::Images;
use crate::recorder::Recorder;
use crate::serve::admission::Admission;
use crate::serve::cache::Cache;
use crate::serve::pace::Pace;
use crate::serve::resolver::Resolver;
use crate::serve::responder::{Responder, Sockets};
use crate::serve::shared::{Clock, Setting, Shared};
use crate::serve::transport::leaving::Leaving;
use crate::serve::transport::stream::Streams;
use crate::serve::transport::udp::HAND_OVER;
use crate::stats::Counters;
use crate::sys::process::return_free_memory;

/// How long queries in progress may take when the server stops.
pub(super) const DRAIN: Duration = Duration::from_secs(3);
/// How long it may take to write the last records when the server stops.
const RECORDED: Duration = Duration::from_secs(2);
/// How often to check whether a burst of queries has ended.
const TIDYING: Duration = Duration::from_secs(1);
/// The number of waiting queries that count as a burst.
const BURST: usize = 256;

/// The running data plane.
pub(super) struct Service {
    pub(super) essential: Essential,
    tracker: TaskTracker,
    live: Live,
}

impl Service {
    pub(super) fn start(
        config: &Config,
        (upstreams, cache, clock, counters): (OpenUpstreams, Cache, Clock, Vec<Arc<Counters>>),
        bound: Vec<Endpoint>,
        files: Files,
        (control, monitoring): (&Control, Monitoring),
        (socket, takes_over): (Option<&Path>, bool),
    ) -> Result<Self, DaemonError> {
        let workers = files.listening.workers;
        let essential = Essential::default();
        let stop = essential.stop().clone();
        let tracker = TaskTracker::new();
        let shared_counters = Arc::clone(&counters[workers]);
        let cache = Arc::new(cache);
        let OpenUpstreams {
            forwards,
            source,
            discovery,
        } = upstreams;
        let pools = Arc::clone(&forwards.pools);
        let pool = Arc::clone(pools.default_pool());
        let upstream_source = UpstreamSource::start(
            pool.clone(),
            (source, discovery),
            forwards.means(),
            tracker.clone(),
            stop.clone(),
        );
        let shared = Shared {
            policy: control.reader(),
            cache: cache.clone(),
            clock,
            notifications: Arc::new(notifications(config, control)),
            zones: control.zones(),
            signatures: Arc::default(),
        };
        let pace = Arc::new(Pace::new(config.server.discard));
        let sockets = Arc::new(Sockets::from_pointee(Vec::new()));
        let servers = Arc::clone(&pools);
        let find_server = move |number| Some(servers.server(number)?.address().to_string());
        let recorder =
            Recorder::start(workers, find_server).map_err(|source| DaemonError::System {
                what: "a thread",
                source,
            })?;
        if takes_over {
            // The file and the receiver belong to the other process.
            recorder.hold();
        }
        recorder.configure(&config.server.recording);
        // The first query is recorded, too.
        recorder.settle();
        let recorder = Arc::new(recorder);
        let responder = Responder {
            pace: pace.clone(),
            shared: shared.clone(),
            sockets: sockets.clone(),
            observer: query_observer(&shared_counters, recorder.tap(workers)),
            counters: shared_counters.clone(),
        };
        let resolver = Arc::new(Resolver::new(pools, responder, waiting(config)));
        let (jobs, queue) = mpsc::channel(HAND_OVER);
        let jobs_run = resolver.clone().run_jobs(queue, tracker.clone());
        tracker.spawn(essential.watch("the job taker", jobs_run));
        tracker.spawn(tidy(resolver.clone(), shared.policy.clone(), stop.clone()));
        let outage = Outage::default();
        let follow = outage.clone().follow(pool, stop.clone());
        tracker.spawn(follow);
        let forward_outages = ForwardOutages::default();
        let follow = forward_outages
            .clone()
            .follow(Arc::clone(&forwards.pools), stop.clone());
        tracker.spawn(follow);
        let recent_drops = RecentDrops::default();
        let follow = recent_drops.clone().follow(counters.clone(), stop.clone());
        tracker.spawn(follow);
        tracker.spawn(follow_suspension(shared.clock.clone(), stop.clone()));
        let streams = Arc::new(Streams {
            shared: shared.clone(),
            resolver: resolver.clone(),
            counters: shared_counters,
            connections: Arc::new(Admission::new(connections(config, files.budget))),
            transfers: Arc::default(),
            idle: Setting::new(config.server.tcp_idle),
            stop: stop.clone(),
            tracker: tracker.clone(),
            leaving: Leaving::default(),
        });
        let equipment = Equipment {
            shared,
            resolver: resolver.clone(),
            ports: files.budget.ports,
            jobs,
            pace: pace.clone(),
            counters: counters.clone(),
            recorder: recorder.clone(),
        };
        let listeners = Listeners::new(
            essential.clone(),
            tracker.clone(),
            streams.clone(),
            sockets,
            workers,
            equipment,
        );
        let addresses: Vec<_> = bound.iter().map(|endpoint| endpoint.address).collect();
        listeners.start(bound)?;
        let generation = control.generation();
        let socket = socket.map_or_else(|| "none".into(), Path::to_string_lossy);
        for address in addresses {
            tracing::info!(%address, workers, generation, control = %socket, "serving");
        }
        let parts = Arc::new(Parts {
            resolver,
            cache,
            pace,
            streams,
            ports: Arc::clone(&forwards.ports),
            upstream_source,
            forward_source: forwards,
            outage,
            forward_outages,
            recent_drops,
            counters,
            listeners: Arc::new(listeners),
            recorder,
            files,
            config: Mutex::new(config.clone()),
            resizing: Mutex::new(()),
            monitoring,
        });
        let plane: Weak<Parts> = Arc::downgrade(&parts);
        parts.monitoring.source().follow(plane);
        Ok(Self {
            essential,
            tracker,
            live: Live(parts),
        })
    }

    /// Keeps the service manager informed until the stop.
    pub(super) fn report(&self, policy: Reader, vitals: Arc<Vitals>) {
        let stop = self.essential.stop().clone();
        let follow = service_manager::follow(self.live.clone(), policy, vitals, stop);
        self.tracker.spawn(follow);
    }

    /// The data plane, for a take-over.
    pub(super) fn live(&self) -> Live {
        self.live.clone()
    }

    /// The data plane, for the control plane.
    pub(super) fn plane(&self) -> Arc<dyn DataPlane> {
        Arc::new(self.live.clone())
    }

    /// The cache, for the control socket.
    pub(super) fn cache_control(&self) -> Arc<dyn CacheControl> {
        Arc::new(self.live.clone())
    }

    /// The finished queries, for the control socket.
    pub(super) fn recorded(&self) -> Arc<dyn RecordedQueries> {
        Arc::clone(&self.live.0.recorder) as Arc<dyn RecordedQueries>
    }

    /// The answers to operators' queries, for the control socket.
    pub(super) fn query_control(&self) -> Arc<dyn QueryControl> {
        Arc::new(self.live.clone())
    }

    /// Accepts no more queries, answers those in progress, and ends within [`DRAIN`].
    pub(super) async fn stop(self) {
        // This comes first: tasks that end before it are reported as failed.
        self.essential.stop().cancel();
        let listeners = self.live.0.listeners.clone();
        let joined = tokio::task::spawn_blocking(move || listeners.end());
        self.tracker.close();
        let drained = async {
            // A panic inside has been logged.
            let _ = joined.await;
            self.tracker.wait().await;
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            let left = self.tracker.len();
            tracing::warn!(left, "queries left unanswered at the end");
        }
        self.live.0.resolver.abandon_all();
        let recorder = Arc::clone(&self.live.0.recorder);
        let recorded = tokio::task::spawn_blocking(move || recorder.stop());
        // A disk that does not answer must not prevent the end.
        if tokio::time::timeout(RECORDED, recorded).await.is_err() {
            tracing::warn!("the recorder has not ended in time; its last records may be lost");
        }
        tracing::info!("stopped");
    }
}

/// Returns free memory to the system after each burst: thousands of queries that wait for a silent upstream take tens
/// of megabytes, which the allocator would keep. To compile thousands of patterns takes as much. Threads that allocate
/// at that moment may wait for milliseconds, so this is done only after a burst, or if the number of patterns changed.
async fn tidy(resolver: Arc<Resolver<QueryObserver>>, policy: Reader, stop: CancellationToken) {
    let tidy = async {
        let (mut most, mut patterns) = (0, 0);
        loop {
            tokio::time::sleep(TIDYING).await;
            let waiting = resolver.waiting();
            most = waiting.max(most);
            let is_burst_over = most >= BURST && waiting < most / 8;
            if is_burst_over {
                most = 0;
            }
            let before = std::mem::replace(&mut patterns, pattern_count(&policy.load().images()));
            if is_burst_over || patterns != before {
                // A panic here would be no reason to stop.
                let _ = tokio::task::spawn_blocking(return_free_memory).await;
            }
        }
    };
    stop.run_until_cancelled(tidy).await;
}

/// The number of rules with patterns.
fn pattern_count(images: &Images) -> usize {
    let all = [&images.base, &images.delta, &images.orders];
    let groups = all
        .into_iter()
        .flatten()
        .flat_map(|image| image.pattern_groups());
    groups.map(|group| group.rules.len()).sum()
}
