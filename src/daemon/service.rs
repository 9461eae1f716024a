//! Starts, observes and stops the data plane.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bind::Endpoint;
use super::clock::follow_suspension;
use super::essential::Essential;
use super::listeners::{Equipment, Listeners};
use super::live::{Files, Live, Parts, connections, waiting};
use super::outage::Outage;
use super::upstreams::{Source, Upstreams};
use super::{DRAIN, DaemonError};
use crate::config::Config;
use crate::control::Control;
use crate::control::admin::status::{Gauges, Histogram};
use crate::control::publish::data_plane::DataPlane;
use crate::serve::cache::Cache;
use crate::serve::desk::{Desk, Sockets};
use crate::serve::pace::Pace;
use crate::serve::resolve::Resolver;
use crate::serve::seats::Seats;
use crate::serve::shared::{Clock, Setting, Shared};
use crate::serve::streams::Streams;
use crate::serve::udp::HAND_OVER;
use crate::stats::{Counters, LATENCY_BOUNDS, Sums};
use crate::sys::process::return_free_memory;
use crate::sys::udp::Ports;

/// How often to look whether a burst has ended, and how many questions that wait are one.
const TIDYING: Duration = Duration::from_secs(1);
const BURST: usize = 256;

/// The data plane while it runs.
pub(super) struct Service {
    pub(super) essential: Essential,
    tracker: TaskTracker,
    live: Live,
}

impl Service {
    pub(super) fn start(
        config: &Config,
        upstreams: Upstreams,
        bound: Vec<Endpoint>,
        files: Files,
        control: &Control,
        socket: Option<&Path>,
    ) -> Result<Self, DaemonError> {
        let workers = files.listening.workers;
        let essential = Essential::default();
        let stop = essential.stop().clone();
        let tracker = TaskTracker::new();
        let counters: Vec<Arc<Counters>> = (0..=workers).map(|_| Arc::default()).collect();
        let shared_counters = Arc::clone(&counters[workers]);
        let clock = Clock::start();
        let cache = Arc::new(Cache::new(config.cache.size_bytes, config.cache.stale_secs));
        let taken = bound
            .iter()
            .map(|endpoint| endpoint.address.port())
            .collect();
        let ports = Arc::new(Ports::new(config.upstream.ports.clone(), taken));
        let pool = upstreams.pool(config, ports.clone(), files.budget, &shared_counters);
        let pool = Arc::new(pool);
        let source = Source::start(pool.clone(), upstreams.file, tracker.clone(), stop.clone());
        let shared = Shared {
            policy: control.reader(),
            cache: cache.clone(),
            clock,
        };
        let pace = Arc::new(Pace::new(config.server.discard));
        let sockets = Arc::new(Sockets::from_pointee(Vec::new()));
        let desk = Desk {
            pace: pace.clone(),
            shared: shared.clone(),
            sockets: sockets.clone(),
            counters: shared_counters.clone(),
        };
        let resolver = Arc::new(Resolver::new(pool, desk, waiting(config)));
        let (jobs, queue) = mpsc::channel(HAND_OVER);
        let jobs_taken = resolver.clone().take_jobs(queue, tracker.clone());
        tracker.spawn(essential.watch("the job taker", jobs_taken));
        tracker.spawn(tidy(resolver.clone(), stop.clone()));
        let outage = Outage::default();
        let follow = outage.clone().follow(resolver.pool().clone(), stop.clone());
        tracker.spawn(follow);
        tracker.spawn(follow_suspension(shared.clock.clone(), stop.clone()));
        let streams = Arc::new(Streams {
            shared: shared.clone(),
            resolver: resolver.clone(),
            counters: shared_counters,
            places: Arc::new(Seats::new(connections(config, files.budget))),
            idle: Setting::new(config.server.tcp_idle),
            stop: stop.clone(),
            tracker: tracker.clone(),
        });
        let equipment = Equipment {
            shared,
            resolver: resolver.clone(),
            ports: files.budget.ports,
            jobs,
            pace: pace.clone(),
            counters: counters.clone(),
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
        Ok(Self {
            essential,
            tracker,
            live: Live(Arc::new(Parts {
                resolver,
                cache,
                pace,
                streams,
                ports,
                source,
                outage,
                counters,
                listeners: Arc::new(listeners),
                files,
                config: Mutex::new(config.clone()),
                resizing: Mutex::new(()),
            })),
        })
    }

    /// The data plane, for the control plane.
    pub(super) fn plane(&self) -> Arc<dyn DataPlane> {
        Arc::new(self.live.clone())
    }

    /// Takes no more questions, answers those under way, and ends within [`DRAIN`].
    pub(super) async fn stop(self) {
        // First: what ends from now on ends in its time.
        self.essential.stop().cancel();
        let listeners = self.live.0.listeners.clone();
        let joined = tokio::task::spawn_blocking(move || listeners.end());
        self.tracker.close();
        let drained = async {
            // A panic inside was told above.
            let _ = joined.await;
            self.tracker.wait().await;
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            let left = self.tracker.len();
            tracing::warn!(left, "queries left unanswered at the end");
        }
        tracing::info!("stopped");
    }
}

/// Gives free memory back when a burst has ended, until the service does: thousands of questions that
/// wait for an upstream that is silent take tens of megabytes, which the allocator would keep. Whoever
/// allocates at that moment may wait for milliseconds, so it is not done without need.
async fn tidy(resolver: Arc<Resolver>, stop: CancellationToken) {
    let tidy = async {
        let mut most = 0;
        loop {
            tokio::time::sleep(TIDYING).await;
            let waiting = resolver.waiting();
            most = waiting.max(most);
            if most >= BURST && waiting < most / 8 {
                most = 0;
                // That it panics is not to be expected, and no reason to end.
                let _ = tokio::task::spawn_blocking(return_free_memory).await;
            }
        }
    };
    stop.run_until_cancelled(tidy).await;
}

/// What was counted, in the words of `status`.
pub(super) fn told(sums: Sums) -> Gauges {
    let mut count = 0;
    let cumulated = |of: &u64| {
        count += of;
        count
    };
    let buckets = LATENCY_BOUNDS
        .into_iter()
        .zip(sums.latency.iter().map(cumulated))
        .collect();
    let counter = |(name, sum): (&str, u64)| (name.to_owned(), sum.into());
    let counts = sums.counts.iter().map(|(count, sum)| (count.name(), *sum));
    Gauges {
        counters: counts.map(counter).collect(),
        query_types: sums.types.iter().copied().map(counter).collect(),
        upstream_latency: Histogram {
            buckets,
            count: sums.latency.iter().sum(),
            sum_ms: sums.latency_sum_ms,
        },
        list_hits: sums.lists,
        ..Gauges::default()
    }
}
