//! Owns the order of starting and stopping, and the signals.
//! Refuses to decide anything about names.

mod bind;
mod clock;
mod control;
mod essential;
mod explain;
mod limits;
mod listeners;
mod live;
mod log_output;
mod outage;
mod preflight;
mod resolv_conf;
mod service;
mod signals;
mod upstreams;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;

pub use self::bind::BindError;
use self::clock::SystemClock;
pub use self::control::control_places;
use self::control::control_socket;
pub use self::explain::{ExplainError, explain};
use self::limits::Listening;
use self::live::Files;
pub use self::log_output::LogOutput;
use self::preflight::with_others;
pub use self::preflight::{Running, problems, warnings};
use self::service::Service;
use self::signals::Signals;
pub use self::upstreams::UpstreamError;
use self::upstreams::Upstreams;
use crate::config::{Config, Origin};
use crate::control::Control;
use crate::control::admin::api;
use crate::control::admin::socket::{SocketError, SocketFile};
use crate::control::admin::verdict::Judge;
use crate::control::publish::compose;
use crate::control::start::StartError;
use crate::sys::process::{raise_open_files, return_large_allocations, user_id};

/// How long questions that are under way may take when the server ends.
const DRAIN: Duration = Duration::from_secs(3);
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
    /// Several things are not to be had.
    #[error("{}", .0.join("\n"))]
    Unready(Vec<String>),
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
    let workers = workers(&config);
    let built_in = config.origin == Origin::BuiltIn;
    let bound = bind::bind(&config.server.listen, workers, built_in);
    let bound = bound.map_err(|error| with_others(error.into(), &config))?;
    for warning in compose::warnings(&config) {
        tracing::warn!("{warning}");
    }
    let user = user_id();
    let inside = runtime.enter();
    let (control_socket, socket_problem) = match control_socket(&config, user) {
        Ok(socket) => socket,
        Err(error) => {
            // Its own sockets are not in the way of what is tried.
            drop(bound);
            return Err(with_others(error.into(), &config));
        }
    };
    let (socket, socket_file) = control_socket
        .map(|bound| ((bound.listener, bound.access), bound.file))
        .unzip();
    drop(inside);
    let files = divide(files, bound.len(), workers, &config);
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
        Ok(control) => control.with_socket_problem(socket_problem),
        Err(error) => {
            // A thread that waits for a file system would keep the process from ending.
            runtime.shutdown_background();
            return Err(error.into());
        }
    };
    let result = runtime.block_on(async {
        let place = socket_file.as_ref().map(SocketFile::path);
        let service = Service::start(&config, upstreams, bound, files, &control, place)?;
        let (requests, wishes) = mpsc::channel(64);
        let (hangup, hangups) = mpsc::channel(4);
        let stop = service.essential.stop().clone();
        // Without a socket nobody else holds this end, and the other one waits for it.
        let _requests = requests.clone();
        let reader = control.reader();
        let judge: Judge = Arc::new(move |question| {
            let snapshot = reader.load();
            explain(&snapshot, question).map_err(|error| error.to_string())
        });
        let state_dir = config.state.dir.clone();
        let serve = |(listener, access)| {
            let api = api::serve(listener, access, requests, judge, state_dir, stop.clone());
            tokio::spawn(service.essential.watch("the control socket", api))
        };
        let api = socket.map(serve);
        let api = async {
            if let Some(api) = api {
                // How it ended is reported by then.
                drop(api.await);
            }
        };
        let control = control.run(wishes, hangups, service.plane(), stop);
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

/// How many UDP workers a configuration has here.
fn workers(config: &Config) -> usize {
    match config.server.workers {
        0 => thread::available_parallelism().map_or(1, usize::from),
        count => count,
    }
}

/// Divides the files that may be open, and tells when that leaves less than is configured.
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

/// Whether the configuration's upstreams can be asked.
///
/// # Errors
/// [`UpstreamError`] when they can't: one is this server itself.
pub fn check_upstreams(config: &Config) -> Result<(), UpstreamError> {
    Upstreams::find(config).map(drop)
}
