//! Starts, observes and stops the data plane.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bind::Bound;
use super::clock::follow_suspension;
use super::essential::Essential;
use super::limits::{self, Budget};
use super::outage::Outage;
use super::resolv_conf::{FileProblem, ResolvConf};
use super::upstreams::Upstreams;
use super::{DRAIN, DaemonError};
use crate::config::Config;
use crate::control::reload::Control;
use crate::control::status::{Gauges, Histogram, UpstreamStatus};
use crate::serve::cache::Cache;
use crate::serve::desk::Desk;
use crate::serve::pace::Pace;
use crate::serve::resolve::Resolver;
use crate::serve::seats::{Bounds, Seats};
use crate::serve::shared::{Clock, Shared};
use crate::serve::streams::Streams;
use crate::serve::udp::{HAND_OVER, Worker};
use crate::serve::upstream::ServerState;
use crate::stats::{Counters, LATENCY_BOUNDS, Sums, sums};
use crate::sys::process::return_free_memory;
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
    resolver: Arc<Resolver>,
    cache: Arc<Cache>,
    counters: Vec<Arc<Counters>>,
    listen: Vec<SocketAddr>,
    file_problem: Option<FileProblem>,
    outage: Outage,
}

impl Service {
    pub(super) fn start(
        config: &Config,
        upstreams: Upstreams,
        bound: Bound,
        budget: Budget,
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
        let pool = Arc::new(upstreams.pool(config, &bound.addresses, budget, &shared_counters));
        let file_problem = upstreams.file.as_ref().map(ResolvConf::problem);
        if let Some(file) = upstreams.file {
            let (pool, stop) = (pool.clone(), stop.clone());
            let follow = async move { stop.run_until_cancelled(file.follow(pool)).await };
            tracker.spawn(follow);
        }
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
        let waiting = Bounds {
            all: config.upstream.waiting,
            per_client: config.upstream.waiting_per_client,
        };
        let resolver = Arc::new(Resolver::new(pool, desk, waiting));
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
                ports: budget.ports,
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
            places: Arc::new(Seats::new(Bounds {
                all: budget.connections,
                per_client: limits::connections_per_client(config, budget),
            })),
            idle: config.server.tcp_idle,
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
            resolver,
            cache,
            counters,
            listen: bound.addresses,
            file_problem,
            outage,
        })
    }

    /// Tells about the data plane.
    pub(super) fn probe(&self) -> impl Fn() -> Gauges + Send + use<> {
        let (resolver, cache) = (self.resolver.clone(), self.cache.clone());
        let (counters, listen) = (self.counters.clone(), self.listen.clone());
        let (file_problem, outage) = (self.file_problem.clone(), self.outage.clone());
        move || {
            let (cache_entries, cache_octets) = cache.size();
            let upstream = |server: ServerState| UpstreamStatus {
                address: server.address,
                down: server.down,
                latency_ms: server.latency.map(|latency| latency.as_secs_f64() * 1e3),
                edns: server.dialect.edns,
                random_case: server.dialect.random_case,
                referrals: server.referrals,
            };
            Gauges {
                listen: listen.clone(),
                upstream: resolver.pool().state().into_iter().map(upstream).collect(),
                upstream_problems: [
                    file_problem.as_ref().and_then(FileProblem::current),
                    outage.alarm(),
                ]
                .into_iter()
                .flatten()
                .collect(),
                waiting: resolver.waiting(),
                cache_entries,
                cache_octets,
                ..told(sums(counters.iter().map(|c| &**c)))
            }
        }
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
fn told(sums: Sums) -> Gauges {
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
