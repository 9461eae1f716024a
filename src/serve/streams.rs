//! Owns DNS over TCP: connections, their limit, pipelining and idleness (RFC 7766, RFC 9210).
//! Refuses to let one connection hold more than its share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::bytes::Bytes;
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::resolve::Resolver;
use super::respond::{Client, Step, answer, conclude, read, respond};
use super::seats::{Full, Seats};
use super::shared::Shared;
use crate::stats::{Count, Counters};
use crate::wire::MAX_MESSAGE;

/// Questions of one connection that may wait for upstream; further ones stay in the socket.
const PIPELINE: usize = 64;
/// Pause after the system would not give a connection, for want of files mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all connections share.
pub struct Streams {
    /// Policy, cache and clock.
    pub shared: Shared,
    /// The way to upstream.
    pub resolver: Arc<Resolver>,
    /// Counters of the async side.
    pub counters: Arc<Counters>,
    /// One for each connection that may be open.
    pub places: Arc<Seats>,
    /// How long a connection may be idle, and an answer remain unread.
    pub idle: Duration,
    /// Ends the service.
    pub stop: CancellationToken,
    /// Knows the connections that are open.
    pub tracker: TaskTracker,
}

impl Streams {
    /// Takes connections until the service ends.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, peer)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            // Strangers must not take places from those who may ask.
            if !self.shared.policy.load().permits(peer.ip()) {
                self.counters.bump(Count::TcpDenied);
                continue;
            }
            let place = match self.places.take(peer.ip()) {
                Ok(place) => place,
                Err(full) => {
                    self.counters.bump(match full {
                        Full::All => Count::TcpRefused,
                        Full::Client => Count::TcpClientRefused,
                    });
                    continue;
                }
            };
            self.counters.bump(Count::TcpConnections);
            let this = Arc::clone(&self);
            self.tracker.spawn(async move {
                this.serve(stream, peer).await;
                drop(place);
            });
        }
    }

    /// Serves one connection. It ends when the client closes it, is idle, or leaves answers unread.
    async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        // Without it the system may hold back an answer to join it to the next; nothing worse.
        let _ = stream.set_nodelay(true);
        let codec = LengthDelimitedCodec::builder()
            .length_field_type::<u16>()
            .max_frame_length(MAX_MESSAGE)
            .new_codec();
        let mut frames = Framed::new(stream, codec);
        let mut waiting: JoinSet<Option<Vec<u8>>> = JoinSet::new();
        let mut open = true;
        while open || !waiting.is_empty() {
            let answer = tokio::select! {
                () = self.stop.cancelled(), if open => {
                    open = false;
                    None
                }
                Some(done) = waiting.join_next() => done.ok().flatten(),
                next = tokio::time::timeout(self.idle, frames.next()),
                    if open && waiting.len() < PIPELINE => match next {
                        Ok(Some(Ok(packet))) => self.take(&packet, peer, &mut waiting),
                        // Idle while answers are under way is only patience.
                        Err(_) if !waiting.is_empty() => None,
                        Err(_) => {
                            self.counters.bump(Count::TcpIdle);
                            open = false;
                            None
                        }
                        _ => {
                            open = false;
                            None
                        }
                    },
            };
            if let Some(answer) = answer {
                let sent = tokio::time::timeout(self.idle, frames.send(Bytes::from(answer)));
                let failure = match sent.await {
                    Ok(Ok(())) => continue,
                    Ok(Err(_)) => Count::SendErrors,
                    Err(_) => Count::TcpUnread,
                };
                self.counters.bump(failure);
                return;
            }
        }
    }

    /// Answers one message at once, or starts a task that will.
    fn take(
        self: &Arc<Self>,
        packet: &[u8],
        peer: SocketAddr,
        waiting: &mut JoinSet<Option<Vec<u8>>>,
    ) -> Option<Vec<u8>> {
        self.counters.bump(Count::TcpQueries);
        let client = Client {
            ip: peer.ip(),
            stream: true,
        };
        let mut out = Vec::with_capacity(512);
        let Shared {
            policy,
            cache,
            clock,
        } = &self.shared;
        let snapshot = policy.load();
        let step = match read(client, packet, &snapshot, &mut out) {
            Ok(asked) => {
                self.counters.bump_type(asked.query.rtype);
                let (now, decision) = (clock.now(), snapshot.decide(&asked.query.name));
                match answer(now, &asked, &decision, &snapshot, cache, None, &mut out) {
                    Step::Busy => respond(now, client, packet, &snapshot, cache, &mut out),
                    step => step,
                }
            }
            Err(step) => step,
        };
        match step {
            Step::Reply(tally) => {
                tally.add_to(&self.counters);
                Some(out)
            }
            Step::Drop(tally) => {
                tally.add_to(&self.counters);
                None
            }
            Step::Refresh(key) => {
                self.counters.bump(Count::CacheHits);
                self.resolver.refresh(&key);
                Some(out)
            }
            Step::Resolve(key, stale) => {
                let (this, packet) = (Arc::clone(self), Box::<[u8]>::from(packet));
                waiting.spawn(async move {
                    let resolution = this.resolver.resolve(client.ip, key, stale).await;
                    let now = this.shared.clock.now();
                    let snapshot = this.shared.policy.load();
                    match conclude(now, client, &packet, &snapshot, &resolution, &mut out) {
                        Step::Reply(tally) => {
                            tally.add_to(&this.counters);
                            Some(out)
                        }
                        Step::Drop(tally) => {
                            tally.add_to(&this.counters);
                            None
                        }
                        // What upstream said is there, so nothing is looked up.
                        Step::Resolve(..) | Step::Refresh(_) | Step::Busy => None,
                    }
                });
                None
            }
            // `respond` waits for the cache.
            Step::Busy => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::resolve::tests::{Fate, PACKET, entry, key, resolver};
    use super::super::seats::Bounds;
    use super::*;

    fn streams() -> Arc<Streams> {
        let resolver = resolver(Fate::Silent, Duration::from_secs(2), Vec::new());
        let bounds = Bounds {
            all: 8,
            per_client: 8,
        };
        Arc::new(Streams {
            shared: resolver.desk().shared.clone(),
            counters: Arc::clone(&resolver.desk().counters),
            resolver,
            places: Arc::new(Seats::new(bounds)),
            idle: Duration::from_secs(10),
            stop: CancellationToken::new(),
            tracker: TaskTracker::new(),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_hit_that_is_due_is_counted_as_a_hit_and_asked_for_again() {
        let streams = streams();
        streams.shared.cache.insert(key(), entry(100));
        let mut waiting = JoinSet::new();
        let mut hits = |seconds| {
            let (streams, waiting) = (Arc::clone(&streams), &mut waiting);
            let answer = streams.take(PACKET, ([127, 0, 0, 1], 5353).into(), waiting);
            assert!(answer.is_some(), "answered from the cache at {seconds}");
            let read = |count| streams.counters.read(count);
            (read(Count::CacheHits), read(Count::Prefetched))
        };
        assert_eq!(hits(0), (1, 0));
        tokio::time::advance(Duration::from_secs(95)).await;
        assert_eq!(hits(95), (2, 0), "one hit is not popular");
        assert_eq!(hits(95), (3, 1), "the second one is");
        assert_eq!(hits(95), (4, 1), "it is asked for once");
        assert_eq!(streams.counters.read(Count::TcpQueries), 4);
        assert!(waiting.is_empty());
    }
}
