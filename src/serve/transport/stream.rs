//! DNS over TCP: connections, their limit, pipelining and idle timeouts (RFC 7766, RFC 9210). The number of queries and
//! bytes that wait on one connection is limited.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::bytes::{Bytes, BytesMut};
use tokio_util::codec::{Framed, FramedParts};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::frame::Frames;
use super::leaving::{Leaving, Left};
use crate::serve::admission::{Admission, Full, Permit};
use crate::serve::client::{Client, Transport};
use crate::serve::observe::Observer;
use crate::serve::pending::{Dispatched, Pending};
use crate::serve::resolver::Resolver;
use crate::serve::shared::{Setting, Shared};
use crate::serve::step::Resolution;
use crate::serve::zones::{self, Outgoing, RunningTransfer, Started, Transfers};
use crate::stats::{Count, Counters};
use crate::wire::MAX_MESSAGE;

/// Queries of one connection that may wait for upstream; further ones stay in the socket.
const PIPELINE: usize = 64;
/// The maximum number of bytes of resolved answers that a connection keeps until they are sent. A longer answer is kept
/// if it is the only one. The same limit applies to waiting queries: as soon as they have this many bytes together, no
/// further query is read. Without a limit, a client that reads nothing could make each connection hold 64 answers of
/// 64 KB and 64 queries of that size.
const HELD: usize = MAX_MESSAGE;
/// The shortest time for which a secondary may leave a message of a transfer unread: it may be busy with those before.
const TRANSFER_IDLE: Duration = Duration::from_secs(60);
/// The pause after accepting a connection failed, usually because no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The state that all connections share.
pub struct Streams<O: Observer> {
    /// Policy, cache and clock.
    pub shared: Shared,
    /// The way to upstream.
    pub resolver: Arc<Resolver<O>>,
    /// Counters of the async side.
    pub counters: Arc<Counters>,
    /// Permits for open connections.
    pub connections: Arc<Admission>,
    /// Permits for transfers of published zones.
    pub transfers: Arc<Transfers>,
    /// How long a connection may be idle, and how long an answer may remain unread.
    pub idle: Setting,
    /// Ends the service.
    pub stop: CancellationToken,
    /// Tracks the open connections.
    pub tracker: TaskTracker,
    /// Passes the open connections to another process that takes over.
    pub leaving: Leaving,
}

impl<O: Observer> Streams<O> {
    /// Accepts TCP connections until `stop`, or until the service ends.
    pub async fn accept(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                // A connection that arrives after the stop is the next process's.
                biased;
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, peer)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            self.start(stream, peer, BytesMut::new());
        }
    }

    /// Serves a connection that another process has left.
    ///
    /// # Errors
    /// If the client has closed it.
    pub fn adopt(self: &Arc<Self>, left: Left) -> io::Result<()> {
        left.stream.set_nonblocking(true)?;
        let peer = left.stream.peer_addr()?;
        let stream = TcpStream::from_std(left.stream)?;
        self.start(stream, peer, BytesMut::from(&left.received[..]));
        Ok(())
    }

    /// Serves a connection in a separate task, if the limits permit that. `received` are its first bytes.
    fn start(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, received: BytesMut) {
        let permit = match self.permit(peer.ip()) {
            Ok(permit) => permit,
            Err(refused) => return self.counters.bump(refused),
        };
        self.counters.bump(Count::TcpConnections);
        // Without this option the system may delay an answer to merge it with the next one, which is harmless.
        let _ = stream.set_nodelay(true);
        let client = Client {
            local: stream.local_addr().ok().map(|local| local.ip()),
            ..Client::new(peer, Transport::Tcp)
        };
        let this = Arc::clone(self);
        let leave = self.leaving.token();
        self.tracker.spawn(async move {
            let left = this.serve(stream, received, client, &leave).await;
            if let Some((stream, received)) = left
                && let Ok(stream) = stream.into_std()
            {
                let received = received.to_vec();
                this.leaving.leave(Left { stream, received });
            }
            drop(permit);
        });
    }

    /// Takes the permit for a connection. Clients that may not query must not use up the permits of clients that may. Primaries
    /// of feeds and secondaries of published zones need not be clients. Secondaries of which only the key is known have
    /// permits of their own, because anybody can pretend to be one.
    fn permit(&self, client: IpAddr) -> Result<Permit, Count> {
        let Shared {
            policy,
            notifications,
            zones,
            ..
        } = &self.shared;
        let is_known = policy.load().permits(client)
            || notifications.knows(client)
            || zones::knows(zones, client);
        let permits = match is_known {
            true => &self.connections,
            false if zones::permits_strangers(zones) => self.transfers.strangers(),
            false => return Err(Count::TcpDenied),
        };
        permits.acquire(client).map_err(|full| match full {
            Full::All => Count::TcpRefused,
            Full::Client => Count::TcpClientRefused,
        })
    }

    /// Serves one connection, which ends when the client closes it, is idle, or leaves answers unread. `stream` is the
    /// connection itself, or a layer over it, such as TLS. Returns a connection that is open when `leave` is cancelled, once
    /// all its queries are answered, with the bytes of an incomplete query.
    async fn serve<S>(
        &self,
        stream: S,
        received: BytesMut,
        client: Client,
        leave: &CancellationToken,
    ) -> Option<(S, BytesMut)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut parts = FramedParts::new::<Bytes>(stream, Frames);
        parts.read_buf = received;
        let mut frames = Framed::from_parts(parts);
        let mut queries = Queries::new(client);
        let mut open = true;
        let mut is_left = false;
        while open || !queries.is_empty() {
            let answer = if let Some(pending) = queries.next_postponed() {
                queries.take(pending.restart())
            } else {
                tokio::select! {
                    () = self.stop.cancelled(), if open => {
                        open = false;
                        // A transfer may take longer than the server may take to stop. The secondary asks again.
                        queries.transfer = None;
                        None
                    }
                    () = leave.cancelled(), if open => {
                        open = false;
                        is_left = queries.transfer.take().is_none();
                        None
                    }
                    Some(outgoing) = next_of(&mut queries.transfer) => {
                        match self.transferred(outgoing, &mut queries) {
                            Ok(message) => message,
                            Err(Cut) => return None,
                        }
                    }
                    Some(done) = queries.waiting.join_next() => {
                        done.ok().and_then(|resolved| queries.finish(resolved))
                    }
                    next = tokio::time::timeout(self.idle.get(), frames.next()),
                        if open && queries.has_room() => match next {
                            Ok(Some(Ok(packet))) => self.dispatch(&packet, &mut queries),
                            // A client that waits for answers does not count as idle.
                            Err(_) if !queries.is_empty() => None,
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
                }
            };
            if let Some(answer) = answer {
                let idle = match queries.transfer {
                    Some(_) => self.idle.get().max(TRANSFER_IDLE),
                    None => self.idle.get(),
                };
                let sent = tokio::time::timeout(idle, frames.send(Bytes::from(answer)));
                let sent = tokio::select! {
                    biased;
                    sent = sent => sent,
                    // The end of the server waits for clients that read their answers, but not for secondaries.
                    () = self.stop.cancelled(), if queries.transfer.is_some() => return None,
                    () = leave.cancelled(), if queries.transfer.is_some() => return None,
                };
                let failure = match sent {
                    Ok(Ok(())) => continue,
                    Ok(Err(_)) => Count::SendErrors,
                    Err(_) => Count::TcpUnread,
                };
                self.counters.bump(failure);
                if queries.transfer.is_some() {
                    self.counters.bump(Count::TransfersCut);
                }
                return None;
            }
        }
        is_left.then(|| {
            let parts = frames.into_parts();
            (parts.io, parts.read_buf)
        })
    }

    /// The next message of a transfer to send; `None` at its end.
    fn transferred(
        &self,
        outgoing: Outgoing,
        queries: &mut Queries<O>,
    ) -> Result<Option<Vec<u8>>, Cut> {
        match outgoing {
            Outgoing::Message(message) => Ok(Some(message)),
            Outgoing::End => {
                if let Some(transfer) = queries.transfer.take() {
                    transfer.complete();
                }
                Ok(None)
            }
            Outgoing::Cut => {
                self.counters.bump(Count::TransfersCut);
                Err(Cut)
            }
        }
    }

    /// Answers a new query at once, or starts a task that resolves it, or that transfers a zone.
    fn dispatch(&self, packet: &[u8], queries: &mut Queries<O>) -> Option<Vec<u8>> {
        self.counters.bump(Count::TcpQueries);
        let client = &queries.client;
        let Shared {
            zones, signatures, ..
        } = &self.shared;
        let started = self.transfers.start(zones, signatures, client, packet);
        if let Some(started) = started {
            let (transfer, answer, count) = match started {
                Started::Running(transfer) => {
                    let count = transfer.count();
                    (Some(transfer), None, count)
                }
                Started::Answered(answer, count) => (None, Some(answer), count),
            };
            let response = answer.as_deref();
            self.resolver
                .with_dispatcher(|dispatcher| dispatcher.transfer(client, packet, response, count));
            queries.transfer = transfer;
            return answer;
        }
        let dispatched = self.resolver.dispatch(&queries.client, packet);
        queries.take(dispatched)
    }
}

/// A transfer can't go on.
struct Cut;

/// The next message of a transfer; `None` without a transfer. Cancel safe.
async fn next_of(transfer: &mut Option<RunningTransfer>) -> Option<Outgoing> {
    match transfer {
        Some(transfer) => Some(transfer.next().await),
        None => None,
    }
}

/// The queries of one connection that are not answered yet.
struct Queries<O: Observer> {
    client: Client,
    /// The transfer of a published zone. No further query is read before its end.
    transfer: Option<RunningTransfer>,
    waiting: JoinSet<Resolved<O>>,
    /// Queries whose outcomes did not fit into `held`.
    postponed: VecDeque<Pending<O>>,
    /// Whether the query that waits was postponed before. Such a query waits alone.
    resumed: bool,
    /// Bytes of all queries that wait.
    kept: usize,
    /// A permit for each byte of resolved answers that may be kept.
    held: Arc<Semaphore>,
}

impl<O: Observer> Queries<O> {
    fn new(client: Client) -> Self {
        Self {
            client,
            transfer: None,
            waiting: JoinSet::new(),
            postponed: VecDeque::new(),
            resumed: false,
            kept: 0,
            held: Arc::new(Semaphore::new(HELD)),
        }
    }

    fn is_empty(&self) -> bool {
        self.transfer.is_none() && self.waiting.is_empty() && self.postponed.is_empty()
    }

    /// Whether another query may be read. Postponed queries must be answered first: if the outcomes of other queries
    /// filled `held` each time, the postponed queries would be sent upstream again and again.
    fn has_room(&self) -> bool {
        let resumes = self.resumed && !self.waiting.is_empty();
        let has_room = self.waiting.len() < PIPELINE && self.kept < HELD;
        has_room && !resumes && self.postponed.is_empty() && self.transfer.is_none()
    }

    /// The answer to a query, or `None` if it gets none or waits.
    fn take(&mut self, dispatched: Dispatched<O>) -> Option<Vec<u8>> {
        match dispatched {
            Dispatched::Reply(answer) => Some(answer),
            Dispatched::Nothing => None,
            Dispatched::Pending(pending) => {
                self.kept += pending.packet_len();
                let held = Arc::clone(&self.held);
                self.waiting.spawn(async move {
                    let resolution = pending.resolve().await;
                    Resolved::new(pending, resolution, held)
                });
                None
            }
        }
    }

    /// The answer to a resolved query, under the current snapshot. `None` if the query is postponed or gets no answer.
    /// Answers are written one at a time, when they can be sent.
    fn finish(&mut self, resolved: Resolved<O>) -> Option<Vec<u8>> {
        let Resolved {
            pending,
            resolution,
        } = resolved;
        let Some((resolution, _held)) = resolution else {
            self.postponed.push_back(pending);
            return None;
        };
        self.kept -= pending.packet_len();
        let dispatched = pending.conclude(&resolution);
        self.take(dispatched)
    }

    /// Takes a postponed query, once no other waits: its outcome then fits.
    fn next_postponed(&mut self) -> Option<Pending<O>> {
        if !self.waiting.is_empty() {
            return None;
        }
        let pending = self.postponed.pop_front();
        self.resumed = pending.is_some();
        self.kept -= pending.as_ref().map_or(0, Pending::packet_len);
        pending
    }
}

/// A query and its outcome.
struct Resolved<O: Observer> {
    pending: Pending<O>,
    /// `None` if the connection keeps too many bytes already.
    resolution: Option<(Resolution, OwnedSemaphorePermit)>,
}

impl<O: Observer> Resolved<O> {
    fn new(pending: Pending<O>, resolution: Resolution, held: Arc<Semaphore>) -> Self {
        // An outcome that is larger than the limit is kept if there is no other.
        let bytes = resolution.footprint().min(HELD) as u32;
        let permit = held.try_acquire_many_owned(bytes).ok();
        Self {
            pending,
            resolution: permit.map(|permit| (resolution, permit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use arc_swap::ArcSwapOption;

    use super::*;
    use crate::policy::served_zones::{ServedZone, ZoneAccess};
    use crate::serve::admission::Bounds;
    use crate::serve::cache::Failure;
    use crate::serve::resolver::tests::{Fate, PACKET, entry, entry_of, key, resolver};
    use crate::wire::Rcode;
    use crate::wire::name::Name;
    use crate::wire::transfer::query::Query as TransferQuery;
    use crate::wire::transfer::tsig::{Algorithm, Key, Session};

    type Queries = super::Queries<Arc<Counters>>;
    type Pending = super::Pending<Arc<Counters>>;
    type Streams = super::Streams<Arc<Counters>>;

    fn client() -> Client {
        Client::new(([127, 0, 0, 1], 5353).into(), Transport::Tcp)
    }

    fn queries() -> Queries {
        Queries::new(client())
    }

    /// A query that waits for upstream.
    fn pending() -> Pending {
        let resolver = resolver(Fate::Silent, Duration::from_secs(2), Vec::new());
        match resolver.dispatch(&client(), PACKET) {
            Dispatched::Pending(pending) => pending,
            _ => panic!("upstream is not asked"),
        }
    }

    fn streams() -> Arc<Streams> {
        let resolver = resolver(Fate::Silent, Duration::from_secs(2), Vec::new());
        let bounds = Bounds {
            all: 8,
            per_client: 8,
        };
        Arc::new(Streams {
            shared: resolver.responder().shared.clone(),
            counters: Arc::clone(&resolver.responder().counters),
            resolver,
            connections: Arc::new(Admission::new(bounds)),
            transfers: Arc::default(),
            idle: Setting::new(Duration::from_secs(10)),
            stop: CancellationToken::new(),
            tracker: TaskTracker::new(),
            leaving: Leaving::default(),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_cache_hit_that_is_due_counts_as_a_hit_and_is_refreshed() {
        let streams = streams();
        streams.shared.cache.insert(key(), entry(100));
        let mut queries = queries();
        let mut hits = |seconds| {
            let answer = streams.dispatch(PACKET, &mut queries);
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
        assert!(queries.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn no_further_query_is_read_while_those_that_wait_are_long() {
        let streams = streams();
        let mut queries = queries();
        // With 40,000 bytes of padding (RFC 7830).
        let mut long = PACKET.strip_suffix(&[0, 0]).expect("no option").to_vec();
        long.extend_from_slice(&40_004_u16.to_be_bytes());
        long.extend_from_slice(&12_u16.to_be_bytes());
        long.extend_from_slice(&40_000_u16.to_be_bytes());
        long.resize(long.len() + 40_000, 0);
        let mut room = || {
            assert!(streams.dispatch(&long, &mut queries).is_none(), "it waits");
            queries.has_room()
        };
        assert_eq!((room(), room()), (true, false));
        // No upstream server answers.
        while let Some(resolved) = queries.waiting.join_next().await {
            let resolved = resolved.expect("no panic");
            assert!(queries.finish(resolved).is_some());
        }
        assert!(queries.has_room() && queries.kept == 0);
    }

    #[tokio::test]
    async fn no_further_query_is_read_while_the_pipeline_is_full_or_a_postponed_query_waits() {
        let wait = |queries: &mut Queries| {
            queries.waiting.spawn(std::future::pending());
        };
        let mut many = queries();
        (1..PIPELINE).for_each(|_| wait(&mut many));
        assert!(many.has_room());
        wait(&mut many);
        assert!(!many.has_room());

        let mut long = queries();
        long.kept = HELD - 1;
        assert!(long.has_room());
        long.kept = HELD;
        assert!(!long.has_room());

        let mut postponed = queries();
        postponed.kept = PACKET.len();
        postponed.postponed.push_back(pending());
        assert!(!postponed.has_room());
        assert!(postponed.next_postponed().is_some());
        assert_eq!(postponed.kept, 0);
        assert!(postponed.has_room(), "it is answered");
        wait(&mut postponed);
        assert!(!postponed.has_room(), "it waits again");
        assert!(postponed.next_postponed().is_none());
    }

    /// Serves a zone without a version.
    fn serve_zone(streams: &Arc<Streams>, access: ZoneAccess) {
        let zone = ServedZone {
            name: Name::default(),
            access,
            version: ArcSwapOption::empty(),
            transfers: Arc::default(),
        };
        streams.shared.zones.replace(vec![Arc::new(zone)]);
    }

    #[test]
    fn secondaries_of_which_only_the_key_is_known_take_no_permits_of_clients() {
        let streams = streams();
        let stranger = |n: u8| streams.permit([192, 0, 2, n].into());
        assert_eq!(stranger(1).err(), Some(Count::TcpDenied));
        let access = ZoneAccess {
            is_signed: true,
            ..ZoneAccess::default()
        };
        serve_zone(&streams, access);
        let of_one: Vec<_> = (0..8).map(|_| stranger(1).expect("a permit")).collect();
        assert_eq!(stranger(1).err(), Some(Count::TcpClientRefused));
        let others = (2..=255).flat_map(|n| [stranger(n), stranger(n)]);
        let others: Vec<_> = others.filter_map(Result::ok).collect();
        assert_eq!(of_one.len() + others.len(), 64);
        assert_eq!(stranger(2).err(), Some(Count::TcpRefused));
        let clients = (0..9).map(|_| streams.permit([127, 0, 0, 1].into()));
        let clients: Vec<_> = clients.collect();
        assert_eq!(clients.iter().filter(|permit| permit.is_ok()).count(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_signature_of_a_query_for_a_transfer_is_checked_once() {
        let streams = streams();
        let [right, wrong] = [7, 8]
            .map(|byte| Key::new(&Name::default(), Algorithm::Sha256, &[byte; 32]).expect("a key"));
        let access = ZoneAccess {
            is_signed: true,
            key: ArcSwapOption::from_pointee(right),
            ..ZoneAccess::default()
        };
        serve_zone(&streams, access);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.expect("after 1970").as_secs();
        let query = TransferQuery::Axfr.write(9, &Name::default());
        let (_, query) = Session::sign(&wrong, &query, now).expect("signed");
        let mut queries = queries();
        let answers = (0..1001).filter_map(|_| streams.dispatch(&query, &mut queries));
        let rcodes: Vec<_> = answers.map(|answer| answer[3] & 0x0F).collect();
        let count = |rcode: Rcode| rcodes.iter().filter(|one| **one == rcode as u8).count();
        assert_eq!((count(Rcode::NotAuth), count(Rcode::Refused)), (1000, 1));
    }

    #[test]
    fn a_connection_keeps_no_more_bytes_of_answers_than_one_message_may_have() {
        let resolved = |bytes, queries: &Queries| {
            let resolution = Resolution::Answered(entry_of(bytes));
            Resolved::new(pending(), resolution, Arc::clone(&queries.held))
        };
        let queries = queries();
        let kept = [40_000, 40_000, 20_000].map(|bytes| resolved(bytes, &queries));
        let is_kept: Vec<_> = kept.iter().map(|one| one.resolution.is_some()).collect();
        assert_eq!(is_kept, [true, false, true]);
        assert!(resolved(MAX_MESSAGE, &queries).resolution.is_none());
        drop(kept);
        let longest = resolved(MAX_MESSAGE, &queries);
        assert!(longest.resolution.is_some(), "nothing else is kept");
        assert!(resolved(100, &queries).resolution.is_none());
        drop(longest);
        let short: Vec<_> = (0..PIPELINE).map(|_| resolved(500, &queries)).collect();
        assert!(short.iter().all(|one| one.resolution.is_some()));
    }

    #[test]
    fn answers_that_accompany_a_failure_count_as_kept() {
        let said = Failure {
            code: 0,
            said: Some(entry_of(40_000)),
        };
        let failed = Resolution::Failed(Arc::new(said), Some(entry_of(20_000)));
        assert!(failed.footprint() >= 60_000);
        assert!(Resolution::Overloaded(Some(entry_of(20_000))).footprint() >= 20_000);
        assert_eq!(Resolution::Overloaded(None).footprint(), 0);
    }
}
