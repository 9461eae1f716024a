//! The addresses that the server listens on, and the UDP workers that serve them.
//!
//! When the configured addresses change, addresses that stay configured keep their sockets. The old workers hand their
//! queries in progress to the async side and end, then new workers use the sockets. Meanwhile packets wait in the
//! sockets.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bind::{BindError, Endpoint, bind_another};
use super::error::DaemonError;
use super::essential::Essential;
use super::observer::{QueryObserver, query_observer};
use crate::recorder::Recorder;
use crate::serve::pace::Pace;
use crate::serve::resolver::{Job, Resolver};
use crate::serve::responder::{ListenSocket, Sockets};
use crate::serve::shared::Shared;
use crate::serve::transport::stream::Streams;
use crate::serve::transport::udp::Worker;
use crate::stats::Counters;
use crate::sys::wait::{ShutdownSignal, is_readable, shutdown_signal};

/// How often to look whether the endpoints are being exchanged.
const EXCHANGE_PAUSE: Duration = Duration::from_millis(2);

/// The resources that each new worker gets.
pub(super) struct Equipment {
    pub(super) shared: Shared,
    pub(super) resolver: Arc<Resolver<QueryObserver>>,
    /// Ports to upstream, for each worker.
    pub(super) ports: usize,
    pub(super) jobs: mpsc::Sender<Job>,
    pub(super) pace: Arc<Pace>,
    /// One for each worker, and one for the async side.
    pub(super) counters: Vec<Arc<Counters>>,
    pub(super) recorder: Arc<Recorder>,
}

/// The addresses and the workers.
pub(super) struct Listeners {
    essential: Essential,
    tracker: TaskTracker,
    streams: Arc<Streams<QueryObserver>>,
    /// The sockets for the async side.
    sockets: Arc<Sockets>,
    workers: usize,
    state: Mutex<State>,
    /// Endpoints bound for a configuration that is not in force yet.
    ready: Mutex<Vec<Weak<Endpoint>>>,
}

struct State {
    /// The endpoints that are served. Queries that wait for upstream refer to them by number.
    open: Vec<Open>,
    /// The number of the next endpoint.
    next: usize,
    /// The endpoints to listen on next.
    pending: Option<Vec<Arc<Endpoint>>>,
    /// Whether a thread is exchanging the endpoints; it continues until none are pending.
    is_exchanging: bool,
    workers: Option<Workers>,
    /// Whether another process reads the queries, while the sockets stay open here.
    is_paused: bool,
    /// `None` once the service stops. The equipment has a sender, and the queue of jobs ends when its last sender is
    /// dropped.
    equipment: Option<Equipment>,
}

struct Open {
    number: usize,
    endpoint: Arc<Endpoint>,
    /// Ends the task that accepts TCP connections.
    end: CancellationToken,
}

/// The running worker threads.
struct Workers {
    lifetime: CancellationToken,
    shutdown: ShutdownSignal,
    threads: Vec<thread::JoinHandle<()>>,
}

/// The result of preparing the addresses of a configuration.
pub(super) enum Prepared {
    /// All are bound, in the order of the configuration.
    Endpoints(Vec<Arc<Endpoint>>),
    /// An address can't be bound before the current ones are closed.
    AfterRestart,
}

impl Listeners {
    /// Creates it without addresses or workers.
    pub(super) fn new(
        essential: Essential,
        tracker: TaskTracker,
        streams: Arc<Streams<QueryObserver>>,
        sockets: Arc<Sockets>,
        workers: usize,
        equipment: Equipment,
    ) -> Self {
        let state = State {
            open: Vec::new(),
            next: 0,
            pending: None,
            is_exchanging: false,
            workers: None,
            is_paused: false,
            equipment: Some(equipment),
        };
        Self {
            essential,
            tracker,
            streams,
            sockets,
            workers,
            state: Mutex::new(state),
            ready: Mutex::default(),
        }
    }

    /// Starts serving these addresses.
    pub(super) fn start(&self, endpoints: Vec<Endpoint>) -> Result<(), DaemonError> {
        let mut state = self.lock();
        self.open(&mut state, endpoints.into_iter().map(Arc::new).collect())?;
        state.workers = self.start_workers(&state)?;
        Ok(())
    }

    /// The addresses that it listens on.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let state = self.lock();
        let open = state.open.iter();
        open.map(|open| open.endpoint.address).collect()
    }

    /// Whether workers serve at least one address, here or in the process that takes over.
    pub(super) fn is_serving(&self) -> bool {
        let state = self.lock();
        (state.workers.is_some() || state.is_paused) && !state.open.is_empty()
    }

    /// Whether packets wait at a socket of each worker that reads it.
    pub(super) fn unread(&self) -> Vec<bool> {
        let state = self.lock();
        let has_unread = |worker| {
            if state.is_paused {
                return false;
            }
            let sockets = state.sockets(worker, self.workers);
            sockets.iter().any(|(_, socket)| is_readable(socket))
        };
        (0..self.workers).map(has_unread).collect()
    }

    /// The endpoints that are served.
    pub(super) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let state = self.lock();
        let open = state.open.iter();
        open.map(|open| Arc::clone(&open.endpoint)).collect()
    }

    /// Binds the addresses of a configuration that are not bound yet.
    pub(super) fn prepare(&self, listen: &[SocketAddr]) -> Result<Prepared, Vec<String>> {
        let open = self.endpoints();
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.retain(|endpoint| endpoint.strong_count() > 0);
        let known: Vec<_> = ready.iter().filter_map(Weak::upgrade).collect();
        let (mut endpoints, mut problems) = (Vec::new(), Vec::new());
        let mut overlap = false;
        for &address in listen {
            let mut bound = open.iter().chain(&known);
            if let Some(endpoint) = bound.find(|bound| bound.configured == address) {
                endpoints.push(Arc::clone(endpoint));
                continue;
            }
            match bind_another(address, self.workers) {
                Ok(endpoint) => {
                    let endpoint = Arc::new(endpoint);
                    ready.push(Arc::downgrade(&endpoint));
                    endpoints.push(endpoint);
                }
                Err(BindError::InUse { .. }) if open.iter().any(|open| overlaps(open, address)) => {
                    overlap = true;
                }
                Err(error) => problems.push(error.to_string()),
            }
        }
        match problems.is_empty() {
            true if overlap => Ok(Prepared::AfterRestart),
            true => Ok(Prepared::Endpoints(endpoints)),
            false => Err(problems),
        }
    }

    /// Serves exactly these addresses. The exchange runs on another thread. If this function is called again meanwhile,
    /// the last call counts.
    pub(super) fn replace(self: &Arc<Self>, endpoints: Vec<Arc<Endpoint>>) {
        let mut state = self.lock();
        if state.pending.is_none() && state.listens_on(&endpoints) {
            return;
        }
        state.pending = Some(endpoints);
        if std::mem::replace(&mut state.is_exchanging, true) {
            return;
        }
        drop(state);
        let this = Arc::clone(self);
        let stop = self.essential.stop();
        // If this fails, there are no workers, so the server must end.
        let guard = self
            .essential
            .guard(stop, "the exchange of the UDP workers");
        tokio::task::spawn_blocking(move || match this.exchange() {
            Ok(()) => guard.release(),
            Err(error) => tracing::error!(%error, "the new addresses can't be served"),
        });
    }

    fn exchange(&self) -> Result<(), DaemonError> {
        let mut state = self.lock();
        while let Some(endpoints) = state.pending.take() {
            if state.equipment.is_none() {
                break;
            }
            self.open(&mut state, endpoints)?;
            if let Some(workers) = state.workers.take() {
                // Ending takes a while, and `status` and reloads need the lock.
                drop(state);
                workers.end();
                state = self.lock();
            }
            state.workers = self.start_workers(&state)?;
        }
        state.is_exchanging = false;
        Ok(())
    }

    /// Stops reading queries, and returns once the workers have handed over those in progress. The sockets stay open, for
    /// the answers to these, and to be able to [resume](Self::resume).
    pub(super) fn pause(&self) {
        let mut state = self.lock();
        while state.is_exchanging {
            // It takes milliseconds, and nothing is waiting for this.
            drop(state);
            thread::sleep(EXCHANGE_PAUSE);
            state = self.lock();
        }
        state.is_paused = true;
        for open in &state.open {
            open.end.cancel();
        }
        let workers = state.workers.take();
        drop(state);
        if let Some(workers) = workers {
            workers.end();
        }
    }

    /// Reads queries again after [`pause`](Self::pause).
    pub(super) fn resume(&self) -> Result<(), DaemonError> {
        let mut state = self.lock();
        if state.equipment.is_none() {
            return Ok(());
        }
        let stop = self.essential.stop();
        // Without workers, the server must end.
        let guard = self.essential.guard(stop, "the return of the UDP workers");
        for open in &mut state.open {
            open.end = stop.child_token();
            self.accept(&open.endpoint, &open.end)?;
        }
        state.workers = self.start_workers(&state)?;
        state.is_paused = false;
        guard.release();
        Ok(())
    }

    /// Stops the workers, closes the queue of their jobs, and closes the TCP listeners, so that new connections are refused
    /// rather than accepted by the system and left alone. The UDP sockets stay open for answers that are still to come.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.equipment = None;
        state.open.clear();
        let workers = state.workers.take();
        drop(state);
        if let Some(workers) = workers {
            workers.end();
        }
    }

    /// Opens and closes endpoints. Endpoints that stay open keep their numbers.
    fn open(&self, state: &mut State, endpoints: Vec<Arc<Endpoint>>) -> Result<(), DaemonError> {
        state.open.retain(|open| {
            let stays = endpoints
                .iter()
                .any(|next| Arc::ptr_eq(next, &open.endpoint));
            if !stays {
                open.end.cancel();
                tracing::info!(address = %open.endpoint.address, "stopped listening");
            }
            stays
        });
        for endpoint in endpoints {
            let mut open = state.open.iter();
            if open.any(|open| Arc::ptr_eq(&open.endpoint, &endpoint)) {
                continue;
            }
            let end = self.essential.stop().child_token();
            self.accept(&endpoint, &end)?;
            let number = state.next;
            state.next += 1;
            state.open.push(Open {
                number,
                endpoint,
                end,
            });
        }
        self.sockets.store(Arc::new(state.sockets(0, self.workers)));
        Ok(())
    }

    fn accept(&self, endpoint: &Endpoint, end: &CancellationToken) -> Result<(), DaemonError> {
        let system = |source| DaemonError::System {
            what: "a TCP socket",
            source,
        };
        let listener = endpoint.tcp.try_clone().map_err(system)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(system)?;
        let accept = Arc::clone(&self.streams).accept(listener, end.clone());
        let name = "a TCP listener";
        drop(
            self.tracker
                .spawn(self.essential.watch_until(end, name, accept)),
        );
        Ok(())
    }

    /// Starts the workers; `None` if the service has stopped.
    fn start_workers(&self, state: &State) -> Result<Option<Workers>, DaemonError> {
        let Some(equipment) = &state.equipment else {
            return Ok(None);
        };
        let system = |what| move |source| DaemonError::System { what, source };
        let (shutdown, listener) = shutdown_signal().map_err(system("a pipe"))?;
        let lifetime = self.essential.stop().child_token();
        let mut threads = Vec::new();
        for index in 0..self.workers {
            let worker = Worker {
                index,
                shared: equipment.shared.clone(),
                sockets: state.sockets(index, self.workers),
                pools: equipment.resolver.pools().clone(),
                ports: equipment.ports,
                inflight: equipment.resolver.inflight().clone(),
                admission: equipment.resolver.admission().clone(),
                jobs: equipment.jobs.clone(),
                pace: equipment.pace.clone(),
                observer: query_observer(&equipment.counters[index], equipment.recorder.tap(index)),
                counters: equipment.counters[index].clone(),
                shutdown: listener.try_clone().map_err(system("a pipe"))?,
            };
            let guard = self.essential.guard(&lifetime, "a UDP worker");
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
        Ok(Some(Workers {
            lifetime,
            shutdown,
            threads,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn listens_on(&self, endpoints: &[Arc<Endpoint>]) -> bool {
        let is_wanted = |open: &Open| {
            let mut endpoints = endpoints.iter();
            endpoints.any(|next| Arc::ptr_eq(next, &open.endpoint))
        };
        self.open.len() == endpoints.len() && self.open.iter().all(is_wanted)
    }

    /// The sockets of a worker.
    fn sockets(&self, worker: usize, workers: usize) -> Vec<ListenSocket> {
        let open = self.open.iter();
        let sockets = open.flat_map(|open| {
            let sockets = open.endpoint.udp_of(worker, workers);
            sockets.map(|socket| (open.number, Arc::clone(socket)))
        });
        sockets.collect()
    }
}

impl Workers {
    /// Stops the threads, and waits until they have handed over their open queries.
    fn end(self) {
        self.lifetime.cancel();
        drop(self.shutdown);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a UDP worker panicked");
            }
        }
    }
}

/// Whether an address may be in use because of an open endpoint.
fn overlaps(open: &Endpoint, address: SocketAddr) -> bool {
    let ours = open.address;
    ours.port() == address.port()
        && ours.is_ipv4() == address.is_ipv4()
        && (ours.ip() == address.ip()
            || ours.ip().is_unspecified()
            || address.ip().is_unspecified())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::serve::admission::{Admission, Bounds};
    use crate::serve::resolver::tests::observed;
    use crate::serve::shared::Setting;

    fn another() -> Arc<Endpoint> {
        Arc::new(bind_another(([127, 0, 0, 1], 0).into(), 1).expect("bound"))
    }

    fn listeners() -> (Arc<Listeners>, mpsc::Receiver<Job>) {
        let recorder = Arc::new(Recorder::start(1, |_| None).expect("started"));
        let resolver = observed(|counters| query_observer(counters, recorder.tap(1)));
        let (essential, tracker) = (Essential::default(), TaskTracker::new());
        let responder = resolver.responder();
        let bounds = Bounds {
            all: 8,
            per_client: 8,
        };
        let streams = Streams {
            shared: responder.shared.clone(),
            resolver: Arc::clone(&resolver),
            counters: Arc::clone(&responder.counters),
            connections: Arc::new(Admission::new(bounds)),
            transfers: Arc::default(),
            idle: Setting::new(Duration::from_secs(10)),
            stop: essential.stop().clone(),
            tracker: tracker.clone(),
            leaving: Default::default(),
        };
        let (jobs, queue) = mpsc::channel(8);
        let equipment = Equipment {
            shared: responder.shared.clone(),
            ports: 4,
            jobs,
            pace: Arc::clone(&responder.pace),
            counters: vec![Arc::default(), Arc::clone(&responder.counters)],
            recorder,
            resolver: Arc::clone(&resolver),
        };
        let sockets = Arc::clone(&responder.sockets);
        let streams = Arc::new(streams);
        let listeners = Listeners::new(essential, tracker, streams, sockets, 1, equipment);
        (Arc::new(listeners), queue)
    }

    /// Waits until the condition is true.
    fn until(listeners: &Listeners, condition: impl Fn(&State) -> bool) {
        let start = Instant::now();
        let is_met = |state: MutexGuard<'_, State>| condition(&state);
        while !listeners.state.try_lock().is_ok_and(is_met) {
            assert!(start.elapsed() < Duration::from_secs(20), "timed out");
            thread::yield_now();
        }
    }

    fn listens(state: &State, endpoint: &Endpoint) -> bool {
        state.open.len() == 1 && state.open[0].endpoint.address == endpoint.address
    }

    /// Adds a worker that does not end before the sender is dropped.
    fn slow_worker(listeners: &Listeners) -> std::sync::mpsc::Sender<()> {
        let (sender, receiver) = std::sync::mpsc::channel();
        let slow = thread::spawn(move || receiver.recv().unwrap_or_default());
        let mut state = listeners.lock();
        let workers = state.workers.as_mut().expect("started");
        workers.threads.push(slow);
        sender
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn addresses_are_known_while_workers_end_and_the_last_configuration_wins() {
        let (listeners, _queue) = listeners();
        let first = bind_another(([127, 0, 0, 1], 0).into(), 1).expect("bound");
        listeners.start(vec![first]).expect("started");
        let [second, third, fourth] = [another(), another(), another()];
        for (others, last) in [(vec![&third, &fourth], &third), (vec![&second], &second)] {
            let slow = slow_worker(&listeners);
            listeners.replace(vec![Arc::clone(&second)]);
            until(&listeners, |state| listens(state, &second));
            for other in others {
                listeners.replace(vec![Arc::clone(other)]);
            }
            listeners.replace(vec![Arc::clone(last)]);
            until(&listeners, |state| listens(state, &second));
            drop(slow);
            until(&listeners, |state| {
                state.workers.is_some() && listens(state, last)
            });
        }
        listeners.essential.stop().cancel();
        listeners.end();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_end_does_not_wait_for_an_exchange_and_no_worker_starts_after_it() {
        let (listeners, _queue) = listeners();
        let first = bind_another(([127, 0, 0, 1], 0).into(), 1).expect("bound");
        listeners.start(vec![first]).expect("started");
        let slow = slow_worker(&listeners);
        let second = another();
        listeners.replace(vec![Arc::clone(&second)]);
        until(&listeners, |state| listens(state, &second));
        listeners.essential.stop().cancel();
        listeners.end();
        drop(slow);
        until(&listeners, |state| !state.is_exchanging);
        assert!(listeners.lock().workers.is_none());
    }
}
