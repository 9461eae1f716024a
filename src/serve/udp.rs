//! Owns the UDP workers: threads that take packets, answer what they can, and hand on the rest.
//! Refuses to compile, to log, and to wait for anything but packets (and, for a hit, a shard of the cache).

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::cache::{Cache, Entry, Key};
use super::resolve::{Clock, Resolver};
use super::respond::{Client, Resolution, Step, conclude, respond};
use crate::policy::current::Reader;
use crate::stats::{Count, Counters};
use crate::sys::udp::{Local, Socket};
use crate::sys::wait::{Ear, WaitSet};
use crate::wire::MAX_MESSAGE;

/// Packets that are taken from one socket before the others get their turn.
const BURST: usize = 64;
/// Questions that may wait between the workers and the async side.
pub const HAND_OVER: usize = 4096;

/// What all parts of the data plane share.
#[derive(Clone)]
pub struct Shared {
    /// The policy in force.
    pub policy: Reader,
    /// What upstream said.
    pub cache: Arc<Cache>,
    /// The time of all TTLs.
    pub clock: Clock,
}

/// A question that a worker could not answer.
pub struct Job {
    packet: Box<[u8]>,
    client: Client,
    key: Key,
    stale: Option<Arc<Entry>>,
    socket: Arc<Socket>,
    peer: SocketAddr,
    local: Option<Local>,
}

/// One worker thread's belongings.
pub struct Worker {
    /// What it shares with all others.
    pub shared: Shared,
    /// Its sockets, one for each listen address.
    pub sockets: Vec<Arc<Socket>>,
    /// Where questions go that it can't answer.
    pub jobs: mpsc::Sender<Job>,
    /// Its own counters.
    pub counters: Arc<Counters>,
    /// Hears when it is over.
    pub ear: Ear,
}

impl Worker {
    /// Serves until the bell rings.
    ///
    /// # Errors
    /// When the system can't wait for the sockets any more; sockets that fail are retried.
    pub fn run(&self) -> io::Result<()> {
        let mut packet = vec![0; MAX_MESSAGE];
        let mut out = Vec::with_capacity(MAX_MESSAGE);
        let sockets = self.sockets.iter().map(|socket| socket.as_fd());
        let mut ready = WaitSet::new(&self.ear, sockets);
        while ready.wait()? {
            for (index, socket) in self.sockets.iter().enumerate() {
                if ready.is_ready(index) {
                    self.serve(socket, &mut packet, &mut out);
                }
            }
        }
        Ok(())
    }

    /// Serves what has come to one socket, under one snapshot and at one time.
    fn serve(&self, socket: &Arc<Socket>, packet: &mut [u8], out: &mut Vec<u8>) {
        let snapshot = self.shared.policy.load();
        let now = self.shared.clock.now();
        for _ in 0..BURST {
            let (len, peer, local) = match socket.recv(packet) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An ICMP error of an earlier answer; the next packet is another's.
                Err(_) => continue,
            };
            self.counters.bump(Count::UdpQueries);
            let packet = &packet[..len];
            let client = Client {
                ip: peer.ip(),
                stream: false,
            };
            let count = match respond(now, client, packet, &snapshot, &self.shared.cache, out) {
                Step::Drop(count) => {
                    self.counters.bump(count);
                    continue;
                }
                Step::Reply(count) => count,
                Step::Resolve(key, stale) => {
                    let job = Job {
                        packet: packet.into(),
                        client,
                        key,
                        stale,
                        socket: Arc::clone(socket),
                        peer,
                        local,
                    };
                    let Err(refused) = self.jobs.try_send(job) else {
                        continue;
                    };
                    let resolution = Resolution::Overloaded(refused.into_inner().stale);
                    match conclude(now, client, packet, &snapshot, &resolution, out) {
                        Step::Reply(count) => count,
                        Step::Drop(_) | Step::Resolve(..) => continue,
                    }
                }
            };
            self.counters.bump(count);
            if socket.send(out, peer, local).is_err() {
                self.counters.bump(Count::SendErrors);
            }
        }
    }
}

/// Takes the workers' questions to upstream and answers them, until the workers are gone. Answers
/// under way are `tracker`'s to wait for.
pub async fn take_jobs(
    mut jobs: mpsc::Receiver<Job>,
    shared: Shared,
    resolver: Arc<Resolver>,
    counters: Arc<Counters>,
    tracker: TaskTracker,
) {
    while let Some(job) = jobs.recv().await {
        let (shared, resolver, counters) = (shared.clone(), resolver.clone(), counters.clone());
        tracker.spawn(async move {
            let resolution = resolver.resolve(job.key, job.stale).await;
            let mut out = Vec::with_capacity(512);
            let now = shared.clock.now();
            let snapshot = shared.policy.load();
            match conclude(
                now,
                job.client,
                &job.packet,
                &snapshot,
                &resolution,
                &mut out,
            ) {
                Step::Reply(count) => {
                    counters.bump(count);
                    if job.socket.send(&out, job.peer, job.local).is_err() {
                        counters.bump(Count::SendErrors);
                    }
                }
                Step::Drop(count) => counters.bump(count),
                Step::Resolve(..) => {}
            }
        });
    }
}
