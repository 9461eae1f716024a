//! Serves figures for monitoring by HTTP, and opens and closes the addresses for that.
//!
//! Each address has its own thread, which reads counters and the figures that the control loop published. It never
//! waits for that loop, and scrapes take no time from the threads that answer queries.

mod connections;
mod families;
mod http;
mod page;
mod places;
mod plane;
mod policy;
mod process;
mod recorder;
mod source;
mod upstream;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use self::places::Places;
pub(super) use self::plane::{CacheFigures, Plane, PlaneState, ServerFigures};
pub(super) use self::source::Source;
use super::inherited::Inherited;
use crate::config::metrics::Metrics;

/// The addresses on which metrics are served.
pub(super) struct Monitoring {
    source: Arc<Source>,
    settings: Arc<ArcSwap<Metrics>>,
    places: Arc<Places>,
    open: Mutex<Vec<Open>>,
    /// Addresses bound for a configuration that is not in force yet.
    ready: Mutex<Vec<Weak<Bound>>>,
    /// Addresses that are bound at the start, and not served yet.
    waiting: Mutex<Vec<Arc<Bound>>>,
}

/// A bound address, which is served once its configuration is in force.
#[derive(Debug)]
pub(super) struct Bound {
    configured: SocketAddr,
    address: SocketAddr,
    /// The listener, for a process that takes over.
    copy: TcpListener,
    /// `None` once it is served.
    parts: Mutex<Option<(TcpListener, tokio::runtime::Runtime)>>,
}

impl Drop for Bound {
    fn drop(&mut self) {
        let parts = self.parts.get_mut();
        let parts = parts.unwrap_or_else(PoisonError::into_inner).take();
        if let Some((_, runtime)) = parts {
            // Otherwise it waits for its threads, which panics in a task.
            runtime.shutdown_background();
        }
    }
}

struct Open {
    bound: Arc<Bound>,
    end: CancellationToken,
}

impl Monitoring {
    /// Binds the addresses of a configuration that are not among the inherited sockets. They are served from
    /// [`open`](Self::open) on.
    ///
    /// # Errors
    /// The addresses that can't be bound, a sentence each.
    pub(super) fn bound(
        settings: &Metrics,
        source: Arc<Source>,
        inherited: &mut Inherited,
    ) -> Result<Self, Vec<String>> {
        let monitoring = Self {
            source,
            settings: Arc::default(),
            places: Arc::default(),
            open: Mutex::default(),
            ready: Mutex::default(),
            waiting: Mutex::default(),
        };
        let bound = monitoring.bind(settings, inherited)?;
        monitoring.settings.store(Arc::new(settings.clone()));
        *monitoring.lock_waiting() = bound;
        Ok(monitoring)
    }

    /// Serves the addresses that were bound.
    pub(super) fn open(&self) {
        let bound = std::mem::take(&mut *self.lock_waiting());
        if !bound.is_empty() {
            let settings = self.settings.load_full();
            self.replace(&settings, bound);
        }
    }

    /// Serves no address any more, because another process does.
    pub(super) fn close(&self) {
        self.replace(&self.settings.load_full(), Vec::new());
    }

    /// Where the figures come from.
    pub(super) fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// The addresses that are served.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let open = self.lock();
        open.iter().map(|open| open.bound.address).collect()
    }

    /// The sockets that are served, by their configured addresses.
    pub(super) fn sockets(&self) -> io::Result<Vec<(SocketAddr, TcpListener)>> {
        let open = self.lock();
        let sockets = open.iter();
        let copy = |bound: &Bound| Ok((bound.configured, bound.copy.try_clone()?));
        sockets.map(|open| copy(&open.bound)).collect()
    }

    /// Binds the addresses of a configuration that are not bound yet.
    ///
    /// # Errors
    /// The addresses that can't be bound, a sentence each.
    pub(super) fn prepare(&self, settings: &Metrics) -> Result<Vec<Arc<Bound>>, Vec<String>> {
        self.bind(settings, &mut Inherited::default())
    }

    fn bind(
        &self,
        settings: &Metrics,
        inherited: &mut Inherited,
    ) -> Result<Vec<Arc<Bound>>, Vec<String>> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.retain(|bound| bound.strong_count() > 0);
        let known: Vec<_> = {
            let open = self.lock();
            let open = open.iter().map(|open| Arc::clone(&open.bound));
            open.chain(ready.iter().filter_map(Weak::upgrade)).collect()
        };
        let (mut all, mut problems) = (Vec::new(), Vec::new());
        for &address in &settings.listen {
            let mut known = known.iter();
            if let Some(bound) = known.find(|bound| bound.configured == address) {
                all.push(Arc::clone(bound));
                continue;
            }
            match Bound::new(address, inherited) {
                Ok(bound) => {
                    let bound = Arc::new(bound);
                    ready.push(Arc::downgrade(&bound));
                    all.push(bound);
                }
                Err(error) => problems.push(problem(address, &error)),
            }
        }
        match problems.is_empty() {
            true => Ok(all),
            false => Err(problems),
        }
    }

    /// Serves exactly these addresses. Scrapes in progress on others are aborted.
    pub(super) fn replace(&self, settings: &Metrics, next: Vec<Arc<Bound>>) {
        self.settings.store(Arc::new(settings.clone()));
        let mut open = self.lock();
        open.retain(|open| {
            let stays = next.iter().any(|next| Arc::ptr_eq(next, &open.bound));
            if !stays {
                open.end.cancel();
                tracing::info!(address = %open.bound.address, "stopped serving metrics");
            }
            stays
        });
        for bound in next {
            let parts = bound.parts.lock();
            let parts = parts.unwrap_or_else(PoisonError::into_inner).take();
            // An address that stays has no parts any more.
            let Some((listener, runtime)) = parts else {
                continue;
            };
            let end = CancellationToken::new();
            let server = http::Server {
                source: Arc::clone(&self.source),
                settings: Arc::clone(&self.settings),
                places: Arc::clone(&self.places),
                end: end.clone(),
            };
            let address = bound.address;
            let body = move || runtime.block_on(server.run(listener));
            let thread = std::thread::Builder::new().name("tapis-metrics".to_owned());
            match thread.spawn(body) {
                Ok(_) => {
                    tracing::info!(%address, "serving metrics");
                    open.push(Open { bound, end });
                }
                // Monitoring is no reason to stop answering queries.
                Err(error) => {
                    tracing::error!(%address, %error, "the system refuses a thread: no metrics are served there");
                }
            }
        }
    }

    fn lock_waiting(&self) -> MutexGuard<'_, Vec<Arc<Bound>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bound {
    fn new(configured: SocketAddr, inherited: &mut Inherited) -> io::Result<Self> {
        let listener = match inherited.take_metrics(configured) {
            Some(listener) => listener,
            None => TcpListener::bind(configured)?,
        };
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build()?;
        Ok(Self {
            configured,
            address,
            copy: listener.try_clone()?,
            parts: Mutex::new(Some((listener, runtime))),
        })
    }
}

/// A sentence for each address of a configuration that can't be bound now, except those that are `held` by a running server.
pub(super) fn problems(settings: &Metrics, held: impl Fn(&SocketAddr) -> bool) -> Vec<String> {
    let free = settings.listen.iter().filter(|address| !held(address));
    let bound = free.map(|address| (address, TcpListener::bind(address)));
    let failed = bound.filter_map(|(address, bound)| Some((address, bound.err()?)));
    failed
        .map(|(address, error)| problem(*address, &error))
        .collect()
}

fn problem(address: SocketAddr, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => "stop the program that uses it, or choose another port",
        io::ErrorKind::PermissionDenied => {
            "choose a port above 1023, or give the server CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => "choose an address of this machine",
        _ => "choose another address",
    };
    format!("[metrics] listen: {address} can't be listened on: {error}; {remedy}")
}
