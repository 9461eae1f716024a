//! Owns the order of starting and stopping, and the signals.
//! Refuses to decide anything about names.

mod bind;
mod clock;
mod control;
mod essential;
mod limits;
mod resolv_conf;
mod signals;
mod upstreams;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::bind::BindError;
use self::bind::Bound;
use self::clock::{SystemClock, follow_suspension};
pub use self::control::control_places;
use self::control::control_socket;
use self::essential::Essential;
use self::limits::{Budget, Listening};
use self::resolv_conf::{FileProblem, ResolvConf};
use self::signals::Signals;
pub use self::upstreams::UpstreamError;
use self::upstreams::Upstreams;
use crate::config::{Config, Origin};
use crate::control::api;
use crate::control::reload::Control;
use crate::control::socket::{SocketError, SocketFile};
use crate::control::start::StartError;
use crate::control::status::{Gauges, Histogram, UpstreamStatus};
use crate::serve::cache::Cache;
use crate::serve::desk::Desk;
use crate::serve::pace::Pace;
use crate::serve::resolve::Resolver;
use crate::serve::seats::{Bounds, Seats};
use crate::serve::shared::{Clock, Shared};
use crate::serve::streams::Streams;
use crate::serve::udp::{HAND_OVER, Worker};
use crate::stats::{Counters, LATENCY_BOUNDS, Sums, sums};
use crate::sys::process::{
    raise_open_files, return_free_memory, return_large_allocations, user_id,
};
use crate::sys::wait::{self, Bell};

/// How long questions that are under way may take when the server ends.
const DRAIN: Duration = Duration::from_secs(3);
/// How often to look whether a burst has ended, and how many questions that wait are one.
const TIDYING: Duration = Duration::from_secs(1);
const BURST: usize = 256;
/// Most open files that the process asks for: as many as Linux allows by default.
const OPEN_FILES: usize = 1 << 20;

/// Why the server did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// No address to answer on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// An upstream that can't be one.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// No control socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Lists that must be there are not.
    #[error(transparent)]
    List(#[from] StartError),
    /// The system did not give what every program needs.
    #[error("the system refuses {what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What it says.
        source: io::Error,
    },
    /// A task or thread that the server cannot do without ended while it was serving.
    #[error("{0} ended before the server did, so the server ends too; see the log")]
    Ended(&'static str),
}

/// Serves until a signal ends it (SIGTERM, SIGINT).
///
/// # Errors
/// [`DaemonError`], each a sentence with its remedy.
pub fn run(config: Config) -> Result<(), DaemonError> {
    return_large_allocations();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("tapis-async")
        .enable_all()
        .build()
        .map_err(|source| DaemonError::System {
            what: "threads",
            source,
        })?;
    let inside = runtime.enter();
    // Before the first socket is bound: a service manager, or a script, that sees a port open may send
    // SIGHUP at once, and the default action of that signal ends the process.
    let mut signals = Signals::listen()?;
    drop(inside);
    // Before the first socket: there may be many workers.
    let files = raise_open_files(OPEN_FILES).map_err(|source| DaemonError::System {
        what: "to tell how many files may be open",
        source,
    })?;
    let upstreams = Upstreams::find(&config)?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let workers = match config.server.workers {
        0 => cores,
        count => count,
    };
    let built_in = config.origin == Origin::BuiltIn;
    let bound = bind::bind(&config.server.listen, workers, built_in)?;
    let user = user_id();
    let inside = runtime.enter();
    let control_socket = control_socket(&config, user)?;
    let (socket, socket_file) = control_socket.unzip();
    drop(inside);
    let budget = divide(files, &bound, &config);
    tracing::info!(lists = config.lists.len(), "reading the lists");
    let boot = config.clone();
    let wall = Arc::new(SystemClock::default());
    let loading = runtime.spawn_blocking(move || Control::start(boot, wall));
    let Some(loaded) = runtime.block_on(signals.wait_for_the_lists(loading)) else {
        tracing::info!("stopped before it served");
        // Reading can't be interrupted; it ends with the process.
        runtime.shutdown_background();
        return Ok(());
    };
    let loaded = loaded.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    let control = match loaded {
        Ok(control) => control,
        Err(error) => {
            // A thread that waits for a file system would keep the process from ending.
            runtime.shutdown_background();
            return Err(error.into());
        }
    };
    let result = runtime.block_on(async {
        let place = socket_file.as_ref().map(SocketFile::path);
        let service = Service::start(&config, upstreams, bound, budget, &control, place)?;
        let (requests, wishes) = mpsc::channel(64);
        let (hangup, hangups) = mpsc::channel(4);
        let stop = service.essential.stop().clone();
        // Without a socket nobody else holds this end, and the other one waits for it.
        let _requests = requests.clone();
        let serve = |socket| {
            let api = api::serve(socket, user, requests, stop.clone());
            tokio::spawn(service.essential.watch("the control socket", api))
        };
        let api = socket.map(serve);
        let api = async {
            if let Some(api) = api {
                // How it ended is reported by then.
                drop(api.await);
            }
        };
        let probe = service.probe();
        let control = control.run(wishes, hangups, Box::new(probe), stop);
        let control = tokio::spawn(service.essential.watch("the control loop", control));
        let end = signals.wait_for_the_end(&service.essential, hangup).await;
        service.stop().await;
        // Both end at the same token, but for a client that keeps its connection open; what they
        // still say is said to nobody.
        let _ = tokio::time::timeout(DRAIN, async { tokio::join!(api, control) }).await;
        end
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// Divides the files that may be open, and tells when that leaves less than is configured.
fn divide(files: usize, bound: &Bound, config: &Config) -> Budget {
    let listening = Listening {
        addresses: bound.addresses.len(),
        workers: bound.udp.len(),
    };
    let configured = config.server.tcp_connections;
    let budget = limits::budget(files, listening, configured);
    if budget.connections < configured {
        tracing::warn!(
            configured,
            now = budget.connections,
            files,
            "tcp-connections lowered: too few files may be open; raise LimitNOFILE in the systemd unit, or the hard limit of `ulimit -n`"
        );
    }
    budget
}

/// Whether the configuration's upstreams can be asked.
///
/// # Errors
/// [`UpstreamError`] when they can't: one is this server itself.
pub fn check_upstreams(config: &Config) -> Result<(), UpstreamError> {
    Upstreams::find(config).map(drop)
}

/// The data plane while it runs.
struct Service {
    essential: Essential,
    tracker: TaskTracker,
    bell: Bell,
    threads: Vec<thread::JoinHandle<()>>,
    resolver: Arc<Resolver>,
    cache: Arc<Cache>,
    counters: Vec<Arc<Counters>>,
    listen: Vec<std::net::SocketAddr>,
    file_problem: Option<FileProblem>,
}

impl Service {
    fn start(
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
        })
    }

    /// Tells about the data plane.
    fn probe(&self) -> impl Fn() -> Gauges + Send + use<> {
        let (resolver, cache) = (self.resolver.clone(), self.cache.clone());
        let (counters, listen) = (self.counters.clone(), self.listen.clone());
        let file_problem = self.file_problem.clone();
        move || {
            let (cache_entries, cache_octets) = cache.size();
            let upstream = |server: crate::serve::upstream::ServerState| UpstreamStatus {
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
                upstream_problem: file_problem.as_ref().and_then(FileProblem::current),
                waiting: resolver.waiting(),
                cache_entries,
                cache_octets,
                ..told(sums(counters.iter().map(|c| &**c)))
            }
        }
    }

    /// Takes no more questions, answers those under way, and ends within [`DRAIN`].
    async fn stop(self) {
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
