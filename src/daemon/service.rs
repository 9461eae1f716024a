//! Starts, observes and stops the data plane.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bind::Bound;
use super::clock::follow_suspension;
use super::essential::Essential;
use super::live::{Files, Live, Parts, connections, waiting};
use super::outage::Outage;
use super::upstreams::{Source, Upstreams};
use super::{DRAIN, DaemonError};
use crate::config::Config;
use crate::control::plane::DataPlane;
use crate::control::reload::Control;
use crate::control::status::{Gauges, Histogram};
use crate::serve::cache::Cache;
use crate::serve::desk::Desk;
use crate::serve::pace::Pace;
use crate::serve::resolve::Resolver;
use crate::serve::seats::Seats;
use crate::serve::shared::{Clock, Setting, Shared};
use crate::serve::streams::Streams;
use crate::serve::udp::{HAND_OVER, Worker};
use crate::stats::{Counters, LATENCY_BOUNDS, Sums};
use crate::sys::process::return_free_memory;
use crate::sys::udp::Ports;
use crate::sys::wait::{self, Bell};

/// How often to look whether a burst has ended, and how many questions that wait are one.
const TIDYING: Duration = Duration::from_secs(1);
const BURST: usize = 256;

/// The data plane while it runs.
pub(super) struct Service {
    pub(super) essential: Essential,
    tracker: TaskTracker,
    bell: Bell,
    threads: Vec<thread::JoinHandle<()>>,
    live: Live,
}

impl Service {
    pub(super) fn start(
        config: &Config,
        upstreams: Upstreams,
        bound: Bound,
        files: Files,
        control: &Control,
        socket: Option<&Path>,
    ) -> Result<Self, DaemonError> {
        let system = |what| move |source| DaemonError::System { what, source };
        let workers = bound.udp.len();
        let essential = Essential::default();
        let stop = essential.stop().clone();
        let tracker = TaskTracker::new();
        let counters: Vec<Arc<Counters>> = (0..=workers).map(|_| Arc::default()).collect();
        let shared_counters = Arc::clone(&counters[workers]);
        let clock = Clock::start();
        let cache = Arc::new(Cache::new(config.cache.size_bytes, config.cache.stale_secs));
        let taken = bound.addresses.iter().map(SocketAddr::port).collect();
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
        let desk = Desk {
            pace: pace.clone(),
            shared: shared.clone(),
            // All workers' sockets answer from the same addresses.
            sockets: bound.udp.first().cloned().unwrap_or_default(),
            counters: shared_counters.clone(),
        };
        let resolver = Arc::new(Resolver::new(pool, desk, waiting(config)));
        let (jobs, queue) = mpsc::channel(HAND_OVER);
        let jobs_taken = resolver.clone().take_jobs(queue, tracker.clone());
        tracker.spawn(essential.watch("the job taker", jobs_taken));
        let (bell, ear) = wait::bell().map_err(system("a pipe"))?;
        let mut threads = Vec::new();
        for (index, sockets) in bound.udp.into_iter().enumerate() {
            let worker = Worker {
                index,
                shared: shared.clone(),
                sockets,
                pool: resolver.pool().clone(),
                ports: files.budget.ports,
                flights: resolver.flights().clone(),
                seats: resolver.seats().clone(),
                jobs: jobs.clone(),
                pace: pace.clone(),
                counters: counters[index].clone(),
                ear: ear.try_clone().map_err(system("a pipe"))?,
            };
            let guard = essential.guard("a UDP worker");
            let body = move || {
                let _guard = guard;
                if let Err(error) = worker.run() {
                    tracing::error!(%error, "a UDP worker can't wait for packets");
                }
            };
            let name = format!("tapis-udp-{index}");
            let thread = thread::Builder::new().name(name).spawn(body);
            threads.push(thread.map_err(system("a thread"))?);
        }
        tracker.spawn(tidy(resolver.clone(), stop.clone()));
        let outage = Outage::default();
        let follow = outage.clone().follow(resolver.pool().clone(), stop.clone());
        tracker.spawn(follow);
        tracker.spawn(follow_suspension(shared.clock.clone(), stop.clone()));
        let streams = Arc::new(Streams {
            shared,
            resolver: resolver.clone(),
            counters: shared_counters,
            places: Arc::new(Seats::new(connections(config, files.budget))),
            idle: Setting::new(config.server.tcp_idle),
            stop: stop.clone(),
            tracker: tracker.clone(),
        });
        for listener in bound.tcp {
            let listener = tokio::net::TcpListener::from_std(listener);
            let listener = listener.map_err(system("a TCP socket"))?;
            tracker.spawn(essential.watch("a TCP listener", streams.clone().accept(listener)));
        }
        let generation = control.generation();
        let socket = socket.map_or_else(|| "none".into(), Path::to_string_lossy);
        for address in &bound.addresses {
            tracing::info!(%address, workers, generation, control = %socket, "serving");
        }
        Ok(Self {
            essential,
            tracker,
            bell,
            threads,
            live: Live(Arc::new(Parts {
                resolver,
                cache,
                pace,
                streams,
                ports,
                source,
                outage,
                counters,
                listen: bound.addresses,
                files,
                config: Mutex::new(config.clone()),
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
        drop(self.bell);
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(|| {
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a UDP worker panicked");
                }
            }
        });
        self.tracker.close();
        let drained = async {
            // A panic inside was told above.
            let _ = joined.await;
            self.tracker.wait().await;
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            let left = self.tracker.len();
            tracing::warn!(left, "questions left unanswered at the end");
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
