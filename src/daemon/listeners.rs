//! The addresses that the server listens on, and the UDP workers that answer there.
//!
//! When other addresses are configured, those that stay keep their sockets: new workers take them over, after
//! the old ones have left what they were asked to the async side. Packets wait in the sockets meanwhile.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::DaemonError;
use super::bind::{BindError, Endpoint, bind_another};
use super::essential::Essential;
use crate::serve::desk::Sockets;
use crate::serve::pace::Pace;
use crate::serve::resolve::{Job, Resolver};
use crate::serve::shared::Shared;
use crate::serve::streams::Streams;
use crate::serve::udp::Worker;
use crate::stats::Counters;
use crate::sys::wait::{self, Bell};

/// What each worker has.
pub(super) struct Equipment {
    pub(super) shared: Shared,
    pub(super) resolver: Arc<Resolver>,
    /// Ports to upstream, for each.
    pub(super) ports: usize,
    pub(super) jobs: mpsc::Sender<Job>,
    pub(super) pace: Arc<Pace>,
    /// One for each worker, and one for the async side.
    pub(super) counters: Vec<Arc<Counters>>,
}

/// The addresses and the workers.
pub(super) struct Listeners {
    essential: Essential,
    tracker: TaskTracker,
    streams: Arc<Streams>,
    /// Those of the async side.
    sockets: Arc<Sockets>,
    workers: usize,
    state: Mutex<State>,
    /// Bound for a configuration that is not in force yet.
    ready: Mutex<Vec<Weak<Endpoint>>>,
}

struct State {
    /// By their numbers, which queries that wait for upstream have.
    open: Vec<Option<Open>>,
    workers: Option<Workers>,
    /// `None` once the service ends: what workers leave must have an end.
    equipment: Option<Equipment>,
}

struct Open {
    endpoint: Arc<Endpoint>,
    /// Ends the taking of TCP connections.
    end: CancellationToken,
}

/// Threads that run.
struct Workers {
    life: CancellationToken,
    bell: Bell,
    threads: Vec<thread::JoinHandle<()>>,
}

/// The sockets for a configuration.
pub(super) enum Next {
    /// These, in the order of the configuration.
    Endpoints(Vec<Arc<Endpoint>>),
    /// They can't be bound beside those that are.
    AfterRestart,
}

impl Listeners {
    /// Without any address yet.
    pub(super) fn new(
        essential: Essential,
        tracker: TaskTracker,
        streams: Arc<Streams>,
        sockets: Arc<Sockets>,
        workers: usize,
        equipment: Equipment,
    ) -> Self {
        let state = State {
            open: Vec::new(),
            workers: None,
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

    /// Starts to answer at these addresses.
    pub(super) fn start(&self, endpoints: Vec<Endpoint>) -> Result<(), DaemonError> {
        let mut state = self.lock();
        self.open(&mut state, endpoints.into_iter().map(Arc::new).collect())?;
        state.workers = self.hire(&state)?;
        Ok(())
    }

    /// What it listens on.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let state = self.lock();
        let open = state.open.iter().flatten();
        open.map(|open| open.endpoint.address).collect()
    }

    /// Binds the addresses of a configuration that are not bound yet.
    pub(super) fn prepare(&self, listen: &[SocketAddr]) -> Result<Next, Vec<String>> {
        let open: Vec<_> = {
            let state = self.lock();
            let open = state.open.iter().flatten();
            open.map(|open| Arc::clone(&open.endpoint)).collect()
        };
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
            true if overlap => Ok(Next::AfterRestart),
            true => Ok(Next::Endpoints(endpoints)),
            false => Err(problems),
        }
    }

    /// Answers at these addresses from now on, and at no others. Takes a moment, on another thread.
    pub(super) fn replace(self: &Arc<Self>, endpoints: Vec<Arc<Endpoint>>) {
        let is_same = {
            let state = self.lock();
            let mut open = state.open.iter().flatten();
            let stays = |open: &Open| {
                endpoints
                    .iter()
                    .any(|next| Arc::ptr_eq(next, &open.endpoint))
            };
            open.clone().count() == endpoints.len() && open.all(stays)
        };
        if is_same {
            return;
        }
        let this = Arc::clone(self);
        let stop = self.essential.stop();
        // Without workers nobody would be answered.
        let guard = self
            .essential
            .guard(stop, "the exchange of the UDP workers");
        tokio::task::spawn_blocking(move || match this.exchange(endpoints) {
            Ok(()) => guard.release(),
            Err(error) => tracing::error!(%error, "other addresses can't be listened on"),
        });
    }

    fn exchange(&self, endpoints: Vec<Arc<Endpoint>>) -> Result<(), DaemonError> {
        let mut state = self.lock();
        if state.equipment.is_none() {
            return Ok(());
        }
        self.open(&mut state, endpoints)?;
        if let Some(workers) = state.workers.take() {
            workers.end();
        }
        state.workers = self.hire(&state)?;
        Ok(())
    }

    /// Ends the workers, and then what they leave.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        if let Some(workers) = state.workers.take() {
            workers.end();
        }
        state.equipment = None;
    }

    /// Has these addresses listened on, each that stays by its number.
    fn open(&self, state: &mut State, endpoints: Vec<Arc<Endpoint>>) -> Result<(), DaemonError> {
        for place in &mut state.open {
            let stays = |open: &Open| {
                endpoints
                    .iter()
                    .any(|next| Arc::ptr_eq(next, &open.endpoint))
            };
            if let Some(gone) = place.take_if(|open| !stays(open)) {
                gone.end.cancel();
                tracing::info!(address = %gone.endpoint.address, "serves no more");
            }
        }
        for endpoint in endpoints {
            let mut open = state.open.iter().flatten();
            if open.any(|open| Arc::ptr_eq(&open.endpoint, &endpoint)) {
                continue;
            }
            let end = self.essential.stop().child_token();
            self.accept(&endpoint, &end)?;
            let next = Some(Open { endpoint, end });
            match state.open.iter_mut().find(|place| place.is_none()) {
                Some(place) => *place = next,
                None => state.open.push(next),
            }
        }
        let sockets = state.open.iter().map(|open| {
            let endpoint = &open.as_ref()?.endpoint;
            endpoint.udp.first().map(Arc::clone)
        });
        self.sockets.store(Arc::new(sockets.collect()));
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

    /// Starts workers at all addresses.
    fn hire(&self, state: &State) -> Result<Option<Workers>, DaemonError> {
        let Some(equipment) = &state.equipment else {
            return Ok(None);
        };
        let system = |what| move |source| DaemonError::System { what, source };
        let (bell, ear) = wait::bell().map_err(system("a pipe"))?;
        let life = self.essential.stop().child_token();
        let mut threads = Vec::new();
        for index in 0..self.workers {
            let socket = |open: &Option<Open>| open.as_ref()?.endpoint.udp.get(index).cloned();
            let worker = Worker {
                index,
                shared: equipment.shared.clone(),
                sockets: state.open.iter().map(socket).collect(),
                pool: equipment.resolver.pool().clone(),
                ports: equipment.ports,
                flights: equipment.resolver.flights().clone(),
                seats: equipment.resolver.seats().clone(),
                jobs: equipment.jobs.clone(),
                pace: equipment.pace.clone(),
                counters: equipment.counters[index].clone(),
                ear: ear.try_clone().map_err(system("a pipe"))?,
            };
            let guard = self.essential.guard(&life, "a UDP worker");
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
            life,
            bell,
            threads,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Workers {
    /// Ends them, and waits until they have left what they were asked.
    fn end(self) {
        self.life.cancel();
        drop(self.bell);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a UDP worker panicked");
            }
        }
    }
}

/// Whether an address that is in use may be so because of ours.
fn overlaps(open: &Endpoint, address: SocketAddr) -> bool {
    let ours = open.address;
    ours.port() == address.port()
        && ours.is_ipv4() == address.is_ipv4()
        && (ours.ip() == address.ip()
            || ours.ip().is_unspecified()
            || address.ip().is_unspecified())
}
