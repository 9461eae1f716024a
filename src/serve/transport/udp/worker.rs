//! The parameters of a worker thread.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::serve::admission::Admission;
use crate::serve::inflight::InFlight;
use crate::serve::observe::Observer;
use crate::serve::pace::Pace;
use crate::serve::resolver::Job;
use crate::serve::responder::ListenSocket;
use crate::serve::shared::Shared;
use crate::serve::upstream::pools::Pools;
use crate::stats::Counters;
use crate::sys::wait::ShutdownListener;

/// The number of ready upstream ports that one wait can always report. If few sockets are ready, it can report more.
pub(super) const READY_PORTS: usize = 64;

/// A worker thread before it runs.
pub struct Worker<O: Observer> {
    /// Its index, which is also the core that it is pinned to.
    pub index: usize,
    /// Policy, cache and clock.
    pub shared: Shared,
    /// Its sockets, in the order of the numbers of their listen addresses.
    pub sockets: Vec<ListenSocket>,
    /// The upstream servers.
    pub pools: Arc<Pools>,
    /// The maximum number of ports to upstream that are open at a time.
    pub ports: usize,
    /// In-flight queries of all threads.
    pub inflight: Arc<InFlight>,
    /// Permits for waiting queries.
    pub admission: Arc<Admission>,
    /// Takes the work for which a worker would have to wait.
    pub jobs: mpsc::Sender<Job>,
    /// When deferred responses are sent.
    pub pace: Arc<Pace>,
    /// Its own counters.
    pub counters: Arc<Counters>,
    /// Observes the queries that it finishes.
    pub observer: O,
    /// Reports the shutdown.
    pub shutdown: ShutdownListener,
}
