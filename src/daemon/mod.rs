//! Starts and stops the server.

mod answers;
mod bind;
mod bootstrap;
mod caching;
mod clock;
mod confinement;
mod control;
mod designation_check;
mod designations;
mod error;
mod essential;
mod explain;
mod forward_outage;
mod forwards;
mod gauges;
mod hosts;
mod inherited;
mod limits;
mod link;
mod listeners;
mod live;
mod log;
mod log_format;
mod log_output;
mod metrics;
mod notifications;
mod observer;
mod outage;
mod preflight;
mod privileges;
mod querying;
mod recent_drops;
mod resolv_conf;
mod service;
mod service_manager;
mod signals;
mod take_over;
mod target;
mod upstream_blocks;
mod upstreams;
mod watchdog;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::mpsc;

pub use self::bind::BindError;
use self::clock::SystemClock;
pub use self::confinement::{confine, log_confinement};
use self::control::control_socket;
pub use self::control::control_sockets;
pub use self::error::DaemonError;
pub use self::explain::{ExplainError, explain};
use self::forwards::{Former, Forwards, OpenUpstreams};
use self::hosts::UpstreamHosts;
pub use self::inherited::InheritedError;
use self::inherited::{Described, Inherited};
use self::limits::{Listening, OPEN_FILES, workers};
pub use self::link::LinkError;
use self::live::Files;
use self::log::LogLevel;
pub use self::log::{LogOverrides, start_log};
pub use self::log_output::LogOutput;
use self::metrics::Monitoring;
use self::preflight::with_others;
pub use self::preflight::{Running, file_problems, problems, warnings};
pub use self::privileges::{Privileges, drop_privileges};
use self::service::{DRAIN, Service};
use self::signals::Signals;
pub use self::take_over::Launcher;
use self::take_over::{Begun, Predecessor, TakeOver};
pub use self::target::UpstreamError;
use self::upstreams::Upstreams;
use crate::config::{Config, Origin};
use crate::control::Control;
use crate::control::admin::api::{self, Backends};
use crate::control::admin::logging::LogControl;
use crate::control::admin::socket::SocketFile;
use crate::control::admin::successor::{self, Outcome, TakeOvers};
use crate::control::admin::verdict::Explain;
use crate::control::figures::PublishedFigures;
use crate::control::publish::compose;
use crate::serve::cache::Cache;
use crate::serve::shared::Clock;
use crate::stats::Counters;
use crate::sys::process::{raise_open_files, return_large_allocations, unmap_code, user_id};

/// How long the work that follows a start may take.
const SETTLING: Duration = Duration::from_secs(1);

/// Runs the server until SIGTERM or SIGINT, or until another process has taken over. With `takes_over`, gets the sockets
/// of the running server, if there is one, which ends then. `launcher` starts the process that takes over from this one.
///
/// # Errors
/// [`DaemonError`]. Its message has the remedy.
pub fn run(config: Config, takes_over: bool, launcher: Launcher) -> Result<(), DaemonError> {
    return_large_allocations();
    // This comes before anything that opens files: it takes descriptors by their numbers.
    let mut inherited = Inherited::from_service_manager()?;
    let mut take_over = None;
    if takes_over {
        let control = config.server.control.as_deref();
        match TakeOver::begin(&control_sockets(control))? {
            Begun::From(from, sockets) => (take_over, inherited) = (Some(Arc::new(from)), sockets),
            Begun::Alone(sockets) => inherited = inherited.or(sockets),
        }
    }
    let held = inherited.held();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("tapis-async")
        .worker_threads(limits::async_threads())
        .enable_all()
        .build()
        .map_err(|source| DaemonError::System {
            what: "threads",
            source,
        })?;
    let inside = runtime.enter();
    // This comes before the first socket: a service manager or a script that sees an open port may send SIGHUP, and the
    // default action of that signal ends the process.
    let mut signals = Signals::listen()?;
    drop(inside);
    // This comes before the first socket, too, as many workers need many files.
    let files = raise_open_files(OPEN_FILES);
    let upstreams = Upstreams::find(&config)?;
    let forwards = Forwards::find(&config)?;
    let workers = workers(&config);
    let built_in = config.origin == Origin::BuiltIn;
    let bound = bind::bind(&config.server.listen, workers, built_in, &mut inherited);
    let bound = bound.map_err(|error| with_others(error.into(), &config, &held))?;
    for warning in compose::warnings(&config) {
        tracing::warn!("{warning}");
    }
    let user = user_id();
    let inside = runtime.enter();
    let (control_socket, socket_problem) = match control_socket(&config, user, &mut inherited) {
        Ok(socket) => socket,
        Err(error) => {
            // `with_others` checks the addresses by binding them, so they must be free.
            drop(bound);
            return Err(with_others(error.into(), &config, &held));
        }
    };
    let (socket, socket_file) = control_socket
        .map(|bound| ((bound.listener, bound.access), bound.file))
        .unzip();
    drop(inside);
    let figures = PublishedFigures::default();
    let take_overs = Arc::<TakeOvers>::default();
    let source = metrics::Source::new(Arc::clone(&figures), Arc::clone(&take_overs));
    let source = Arc::new(source);
    let monitoring = match Monitoring::bound(&config.server.metrics, source, &mut inherited) {
        Ok(monitoring) => monitoring,
        Err(problems) => {
            drop((bound, socket_file));
            return Err(with_others(DaemonError::Unready(problems), &config, &held));
        }
    };
    let has_control = take_over.is_some() && held.has_control && !inherited.has_control();
    inherited.close_rest();
    let mut warm = None;
    match &take_over {
        Some(take_over) => {
            let (take_over, intake) = (Arc::clone(take_over), upstreams::intake(&config));
            let waiting = runtime.spawn_blocking(move || take_over.wait_until_parked(intake));
            let Some(parked) = runtime.block_on(signals.wait_for(waiting)) else {
                tracing::info!("stopped while another process was parking");
                runtime.shutdown_background();
                return Ok(());
            };
            warm = parked.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        }
        // Otherwise the other process answers scrapes, until this one serves.
        None => monitoring.open(),
    }
    let files = divide(files, bound.len(), workers, &config);
    tracing::info!(lists = config.lists.len(), "reading the lists");
    if take_over.is_none() {
        // Otherwise the other process is the main process of the service.
        service_manager::starting();
    }
    let boot = config.clone();
    let wall_clock = Arc::new(SystemClock::default());
    let counters: Vec<Arc<Counters>> = (0..=workers).map(|_| Arc::default()).collect();
    let listening = bound.iter().map(|endpoint| endpoint.address.port());
    let shared_counters = &counters[workers];
    let mut upstreams = OpenUpstreams::new(
        upstreams,
        &config,
        listening.collect(),
        files.budget,
        shared_counters,
    );
    let cache = Cache::new(config.cache.size_bytes, config.cache.stale_secs);
    upstreams
        .forwards
        .replace(&config, &forwards, Former::Go, &cache);
    let warm = warm.map(|mut warm| {
        let answers = warm.fill(&cache, &upstreams.forwards.pools.forwarding());
        tracing::info!(answers, "got answers for the cache from the other process");
        warm.clock
    });
    let clock = warm.unwrap_or_else(Clock::start);
    // Lists may have to be downloaded, for which the upstream servers are asked.
    runtime.block_on(upstreams.find_names());
    let hosts = Arc::new(UpstreamHosts(Arc::clone(&upstreams.forwards.pools)));
    let loading = runtime.spawn_blocking(move || Control::start(boot, wall_clock, hosts));
    let Some(loaded) = runtime.block_on(signals.wait_for(loading)) else {
        tracing::info!("stopped while the lists were read");
        // Reading can't be interrupted; it ends with the process.
        runtime.shutdown_background();
        return Ok(());
    };
    let loaded = loaded.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    let control = match loaded {
        Ok(control) => control
            .with_socket_problem(socket_problem)
            .with_figures(figures),
        Err(error) => {
            // A thread that waits for a file system would prevent the process from ending.
            runtime.shutdown_background();
            return Err(error.into());
        }
    };
    let is_passing = Arc::new(AtomicBool::new(false));
    let mut has_left_control = false;
    let result = runtime.block_on(async {
        let socket_path = socket_file.as_ref().map(SocketFile::path);
        let service = Service::start(
            &config,
            (upstreams, cache, clock, counters),
            bound,
            files,
            (&control, monitoring),
            (socket_path, take_over.is_some()),
        )?;
        if let Some(take_over) = take_over {
            let (live, this) = (service.live(), Arc::clone(&take_over));
            let completing = move || this.complete(has_control, &live);
            let completing = tokio::task::spawn_blocking(completing);
            let completed = tokio::select! {
                completed = signals.wait_for(completing) => completed,
                () = service.essential.stop().cancelled() => {
                    return Err(DaemonError::Ended(service.essential.ended()));
                }
            };
            let Some(completed) = completed else {
                tracing::info!(
                    "stopped before the take-over was complete: the other process goes on"
                );
                // Before this one stops to read queries, so that one of the two reads at any moment.
                take_over.give_up();
                service.stop().await;
                return Ok(());
            };
            let completed =
                completed.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            if let Err(error) = completed {
                take_over.give_up();
                service.stop().await;
                return Err(error.into());
            }
            take_overs.count(Outcome::Succeeded);
            service.live().0.monitoring.open();
        }
        let denied = socket_file
            .as_ref()
            .and_then(|file| control::own(file, &config, user));
        let control = match denied {
            Some(problem) => control.with_socket_problem(Some(problem)),
            None => control,
        };
        let (requests, queue) = mpsc::channel(64);
        let (successors, arrivals) = successor::successors(Arc::clone(&take_overs));
        let predecessor = Predecessor {
            live: service.live(),
            requests: requests.clone(),
            control: socket
                .as_ref()
                .zip(socket_file.as_ref())
                .and_then(|((listener, _), file)| passed_control(listener, file)),
            launcher: Arc::new(launcher),
            is_passing: Arc::clone(&is_passing),
            essential: service.essential.clone(),
            vitals: control.vitals(),
            take_overs,
        };
        let (hangup, hangups) = mpsc::channel(4);
        let waiting_hangups = hangup.clone();
        let stop = service.essential.stop().clone();
        // This sender keeps the channel open if there is no control socket.
        let _requests = requests.clone();
        let (reader, policy) = (control.reader(), control.reader());
        let explain: Explain = Arc::new(move |request| {
            let snapshot = reader.load();
            explain(&snapshot, request).map_err(|error| error.to_string())
        });
        let log = LogLevel::global().map(|log| Arc::new(log) as Arc<dyn LogControl>);
        let state_dir = config.state.dir.clone();
        let serve = |(listener, access)| {
            let api = api::serve(
                listener,
                access,
                requests,
                Backends {
                    explain,
                    policy,
                    cache: service.cache_control(),
                    recorded: service.recorded(),
                    queries: service.query_control(),
                    log,
                },
                successors,
                state_dir,
                stop.clone(),
            );
            tokio::spawn(service.essential.watch("the control socket", api))
        };
        let api = socket.map(serve);
        let api = async {
            if let Some(api) = api {
                // `essential` has reported how it ended.
                drop(api.await);
            }
        };
        let manager_policy = control.reader();
        service.report(manager_policy.clone(), control.vitals());
        let control = control.run(queue, hangups, service.plane(), stop);
        let control = tokio::spawn(service.essential.watch("the control loop", control));
        service_manager::ready(&manager_policy);
        tokio::spawn(unmap_start());
        let (end, handover) = tokio::select! {
            end = signals.wait_for_the_end(&service.essential, hangup) => (end, None),
            handover = predecessor.wait(arrivals) => (Ok(()), Some(handover)),
        };
        match handover {
            Some(handover) => {
                has_left_control = handover.has_control;
                // The control loop is parked and reads none. It must not end before.
                let is_hung_up = signals.is_hung_up()
                    || waiting_hangups.capacity() < waiting_hangups.max_capacity();
                // From here on, the control socket and the addresses of metrics are not read.
                service.essential.stop().cancel();
                service.live().0.monitoring.close();
                handover.finish(is_hung_up);
            }
            None => service_manager::stopping(),
        }
        let stopping = async {
            service.stop().await;
            // Both end after the stop token is cancelled, unless a client keeps its connection open. Their results don't
            // matter any more.
            let _ = tokio::time::timeout(DRAIN, async { tokio::join!(api, control) }).await;
        };
        signals.hurry(stopping).await;
        end
    });
    // A process that was about to take over uses the file now.
    has_left_control |= is_passing.load(Ordering::Relaxed);
    if let Some(file) = socket_file.filter(|_| has_left_control) {
        file.leave();
    }
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// Unmaps the code that only the start runs: once the server is ready, and once more after the work that follows then, such
/// as saving the state.
async fn unmap_start() {
    unmap_code();
    tokio::time::sleep(SETTLING).await;
    unmap_code();
}

/// The control socket as another process gets it; `None` if the system refuses.
fn passed_control(listener: &UnixListener, file: &SocketFile) -> Option<(Described, OwnedFd)> {
    let path = std::path::absolute(file.path()).ok()?;
    let owned = file.owned();
    let listener = listener.as_fd().try_clone_to_owned().ok()?;
    Some((Described::Control { path, owned }, listener))
}

/// Divides the files that may be open; warns if fewer TCP connections remain than configured.
fn divide(all: usize, addresses: usize, workers: usize, config: &Config) -> Files {
    let listening = Listening { addresses, workers };
    let configured = config.server.tcp_connections;
    let budget = limits::budget(all, listening, configured);
    if budget.connections < configured {
        tracing::warn!(
            configured,
            now = budget.connections,
            files = all,
            "tcp-connections lowered: too few files may be open; raise LimitNOFILE in the systemd unit, or the hard limit of `ulimit -n`"
        );
    }
    Files {
        all,
        listening,
        budget,
    }
}

/// Checks that queries can be sent to the configuration's upstream servers.
///
/// # Errors
/// [`UpstreamError`]: one of them is this server itself, or its interface does not exist.
pub fn check_upstreams(config: &Config) -> Result<(), UpstreamError> {
    Upstreams::find(config)?;
    Forwards::find(config).map(drop)
}
