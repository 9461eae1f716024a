//! UDP: threads that receive packets in batches, dispatch each batch, and make the first attempt at upstream.

mod waiting;
mod worker;

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::waiting::Waiting;
use self::worker::READY_PORTS;
pub use self::worker::Worker;
use crate::serve::cache::{Entry, Key};
use crate::serve::client::Client;
use crate::serve::dispatch::{BATCH, BatchExchange, Dispatcher, Exchange, Message, Received};
use crate::serve::inflight::Datagram;
use crate::serve::observe::Observer;
use crate::serve::step::Attempt;
use crate::serve::worker_cache::WorkerCache;
use crate::stats::Count;
use crate::sys::process::pin_to_core;
use crate::sys::udp::{Inbox, Route};
use crate::sys::wait::WaitSet;
use crate::wire::UDP_PAYLOAD;
use crate::wire::name::Name;

/// The size of the buffer for one query: the UDP payload size that we announce, plus some bytes. Without these bytes,
/// the buffers of a batch would map to the same lines of a processor's cache.
const SLOT: usize = UDP_PAYLOAD as usize + 48;
/// The maximum number of jobs that wait in the queue from the workers to the async side.
pub const HAND_OVER: usize = 4096;
/// After this many batches of each ready socket, a busy worker polls its other file descriptors: the other sockets and
/// the shutdown signal. A worker with a single socket polls for the shutdown signal only, and less often.
const POLL_EVERY: u32 = 8;
const POLL_EVERY_ALONE: u32 = 256;
/// Tokens in the wait set: the shutdown signal, then the sockets, then upstream's ports.
const SHUTDOWN: u64 = 0;
const FIRST_SOCKET: u64 = 1;

impl<O: Observer> Worker<O> {
    /// Serves until shutdown.
    ///
    /// # Errors
    /// If the system can no longer wait for the sockets; sockets that fail are retried.
    pub fn run(&self) -> io::Result<()> {
        // An unpinned worker is only slower.
        let _ = pin_to_core(self.index);
        let first_port = FIRST_SOCKET + self.sockets.len() as u64;
        // One wait can report the shutdown signal, all sockets and `READY_PORTS` ports. If it reports fewer ports than
        // that, no other port is ready.
        let mut waits = WaitSet::new(1 + self.sockets.len() + READY_PORTS)?;
        waits.add(self.shutdown.as_fd(), SHUTDOWN)?;
        for ((_, socket), token) in self.sockets.iter().zip(FIRST_SOCKET..) {
            waits.add(socket.as_fd(), token)?;
        }
        let all = Loop {
            worker: self,
            ready: vec![true; self.sockets.len()],
            dropped: vec![0; self.sockets.len()],
            names: Box::new([const { Name::ROOT }; BATCH]),
            worker_cache: WorkerCache::new(self.shared.cache.capacity()),
            waiting: Waiting::new(self, waits, first_port),
        };
        all.serve()
    }
}

/// The state of a worker thread.
struct Loop<'w, O: Observer> {
    worker: &'w Worker<O>,
    /// Sockets that may have packets.
    ready: Vec<bool>,
    /// How many packets the kernel dropped at each socket.
    dropped: Vec<u32>,
    /// Room for the queried names of a batch.
    names: Box<[Name; BATCH]>,
    worker_cache: WorkerCache,
    waiting: Waiting<'w, O>,
}

impl<O: Observer> Loop<'_, O> {
    fn serve(mut self) -> io::Result<()> {
        let mut inbox = Inbox::new(BATCH, SLOT);
        let mut ports = Vec::new();
        let mut rounds = 0_u32;
        let poll_every = if self.ready.len() > 1 {
            POLL_EVERY
        } else {
            POLL_EVERY_ALONE
        };
        loop {
            for socket in 0..self.ready.len() {
                if self.ready[socket] {
                    self.receive(&mut inbox, socket);
                }
            }
            // While packets arrive, the other files are polled only if queries wait, or every `poll_every` rounds, so
            // that a flood at one socket blocks neither the other sockets nor the shutdown signal.
            rounds = rounds.wrapping_add(1);
            let is_busy = self.ready.contains(&true);
            if self.waiting.is_empty() && is_busy && !rounds.is_multiple_of(poll_every) {
                continue;
            }
            self.waiting.flush_queries();
            if !self.wait(&mut ports)? {
                self.waiting.drain();
                return Ok(());
            }
            self.waiting.receive(&ports);
        }
    }

    /// Waits until there is something to do, and fills `ports` with upstream's ports that may have answers. Returns
    /// false at shutdown.
    fn wait(&mut self, ports: &mut Vec<usize>) -> io::Result<bool> {
        let timeout = match self.ready.contains(&true) {
            true => Some(Duration::ZERO),
            false => self.waiting.timeout(),
        };
        let ready = &mut self.ready;
        let mut is_over = false;
        ports.clear();
        self.waiting.wait(timeout, |token, port| match port {
            Some(port) => ports.push(port),
            None if token == SHUTDOWN => is_over = true,
            None => ready[(token - FIRST_SOCKET) as usize] = true,
        })?;
        Ok(!is_over)
    }

    /// Receives a batch of packets from a socket and dispatches it, under one snapshot and at one time.
    fn receive(&mut self, inbox: &mut Inbox, socket: usize) {
        let Loop {
            worker, waiting, ..
        } = self;
        // Either there is no packet, or the error is an ICMP message about an earlier answer. If there are packets, the
        // next wait reports them.
        if inbox.receive(&worker.sockets[socket].1).is_err() {
            self.ready[socket] = false;
            return;
        }
        let counters = &worker.counters;
        counters.add(Count::UdpQueries, inbox.len() as u64);
        if let Some(dropped) = inbox.dropped() {
            let before = std::mem::replace(&mut self.dropped[socket], dropped);
            counters.add(Count::KernelDrops, dropped.wrapping_sub(before).into());
        }
        self.worker_cache.follow(&worker.shared.cache);
        let snapshot = worker.shared.policy.load();
        let received = Instant::now();
        waiting.set_time(received);
        let dispatcher = Dispatcher::new(&snapshot, &worker.shared, &worker.observer, received);
        let inbox = &*inbox;
        let messages = (0..inbox.len()).filter_map(|slot| {
            let route = inbox.route(slot);
            let packet = inbox.packet(slot);
            if route.peer.port() == 0 {
                // Port 0 can't be answered, and a failing send would delay the other answers.
                let message = Message {
                    client: &Client::of_datagram(&route),
                    packet,
                    received,
                };
                dispatcher.reject(message, Count::SourcePort);
                return None;
            }
            Some(Received {
                handle: Handle { slot, route },
                packet,
                is_cut: inbox.is_cut(slot),
            })
        });
        let mut exchange = Datagrams {
            waiting,
            inbox,
            socket,
            received,
        };
        dispatcher.batch(
            messages,
            &mut self.names,
            &mut self.worker_cache,
            &mut exchange,
        );
        waiting.flush(socket);
    }
}

/// A packet in the inbox.
#[derive(Clone, Copy)]
struct Handle {
    slot: usize,
    route: Route,
}

/// The packets of one socket.
struct Datagrams<'a, 'w, O: Observer> {
    waiting: &'a mut Waiting<'w, O>,
    inbox: &'a Inbox,
    socket: usize,
    received: Instant,
}

impl<O: Observer> Datagrams<'_, '_, O> {
    /// Copies a packet out of the inbox, to answer it later.
    fn to_datagram(&self, Handle { slot, route }: Handle, stale: Option<Arc<Entry>>) -> Datagram {
        Datagram {
            packet: self.inbox.packet(slot).into(),
            route,
            listen: self.waiting.listen(self.socket),
            since: self.received,
            stale,
            attempt: Attempt::First,
        }
    }
}

impl<O: Observer> Exchange for Datagrams<'_, '_, O> {
    type Handle = Handle;

    #[inline]
    fn draft(&mut self) -> &mut Vec<u8> {
        self.waiting.draft(self.socket)
    }

    #[inline]
    fn send(&mut self, Handle { route, .. }: Handle) {
        self.waiting.push(self.socket, &route);
    }

    fn refresh(&mut self, key: Key) {
        self.waiting.refresh(key);
    }

    fn resolve(&mut self, handle: Handle, key: Key, stale: Option<Arc<Entry>>) {
        let datagram = self.to_datagram(handle, stale);
        self.waiting.resolve(key, datagram);
    }
}

impl<O: Observer> BatchExchange for Datagrams<'_, '_, O> {
    #[inline]
    fn client(&self, Handle { route, .. }: Handle) -> Client {
        Client::of_datagram(&route)
    }

    fn hand_over(&mut self, handle: Handle) {
        let datagram = self.to_datagram(handle, None);
        self.waiting.hand_over_packet(datagram);
    }
}
