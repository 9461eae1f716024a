use std::net::SocketAddr;

use futures_util::future::BoxFuture;

use super::*;
use crate::policy::current::Publisher;
use crate::policy::snapshot::Snapshot;
use crate::serve::cache::{Cache, Lookup};
use crate::serve::pace::Pace;
use crate::serve::responder::Sockets;
use crate::serve::routes::PoolId;
use crate::serve::shared::Clock;
use crate::serve::upstream::OpenExchange;
use crate::serve::upstream::connect::Connector;
use crate::serve::upstream::exchange::{ExchangeError, How, Reply};
use crate::serve::upstream::pools::{ForwardPool, Forwarding};
use crate::serve::upstream::server::Server;
use crate::stats::Counters;
use crate::sys::udp::{Route, Socket};
use crate::wire::answer::{Answer, Intake};
use crate::wire::ask::{Dialect, Fit};
use crate::wire::name::Name;
use crate::wire::query::Query;

mod aliases;
mod refreshes;
mod stale;

/// A query for `a`, type A, with EDNS.
pub(crate) const PACKET: &[u8] =
    b"\0\x01\x01\0\0\x01\0\0\0\0\0\x01\x01a\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0";
pub(crate) const BOUNDS: Intake = Intake {
    min_ttl: 0,
    max_ttl: 86_400,
    max_negative_ttl: u32::MAX,
    additional: false,
};

/// How the scripted connector handles each query.
pub(crate) enum Fate {
    /// The exchange panics.
    Panics,
    /// It fails at once.
    Fails(ExchangeError),
    /// The upstream never answers.
    Silent,
    /// It answers at once that the name is an alias of the one with this letter, for 100 seconds.
    LeadsTo(u8),
    /// It answers at that time, with this response code and no address.
    AnswersAt(Instant, u8),
}

impl Connector for Fate {
    fn resume(
        &self,
        open: OpenExchange,
        server: &Arc<Server>,
        key: &Key,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Reply, ExchangeError>> {
        self.exchange(server, open.how(), key, patience)
    }

    fn exchange(
        &self,
        _: &Arc<Server>,
        _: How,
        key: &Key,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Reply, ExchangeError>> {
        match self {
            Self::Panics => Box::pin(async { panic!("a panic for the test") }),
            Self::Fails(error) => Box::pin(std::future::ready(Err(*error))),
            Self::Silent => Box::pin(async move {
                tokio::time::sleep(patience).await;
                Err(ExchangeError::Timeout)
            }),
            Self::LeadsTo(target) => {
                let head = b"\0\0\x81\x80\0\x01\0\x01\0\0\0\0";
                let alias = b"\0\x01\xC0\x0C\0\x05\0\x01\0\0\0\x64\0\x03\x01";
                let rtype = key.rtype().to_be_bytes();
                let bytes = [head, key.name(), &rtype, alias, &[*target, 0]].concat();
                let fit = Fit::Answer;
                Box::pin(std::future::ready(Ok(Reply { bytes, fit })))
            }
            Self::AnswersAt(instant, rcode) => {
                let head = [0, 0, 0x81, 0x80 | rcode, 0, 1, 0, 0, 0, 0, 0, 0];
                let rtype = key.rtype().to_be_bytes();
                let bytes = [&head[..], key.name(), &rtype, &[0, 1]].concat();
                let instant = *instant;
                Box::pin(async move {
                    tokio::time::timeout(patience, tokio::time::sleep_until(instant))
                        .await
                        .map_err(|_| ExchangeError::Timeout)?;
                    let fit = Fit::Answer;
                    Ok(Reply { bytes, fit })
                })
            }
        }
    }
}

/// A resolver with this upstream timeout; clients on loopback may ask.
pub(crate) fn resolver(
    fate: Fate,
    timeout: Duration,
    sockets: Vec<Arc<Socket>>,
) -> Arc<Resolver<Arc<Counters>>> {
    resolver_by(Snapshot::default(), fate, timeout, sockets)
}

/// A resolver that nobody answers, whose queries are observed by others, too.
pub(crate) fn observed<O: Observer>(
    observer: impl FnOnce(&Arc<Counters>) -> O,
) -> Arc<Resolver<O>> {
    let timeout = Duration::from_secs(2);
    resolver_with(
        Snapshot::default(),
        Fate::Silent,
        timeout,
        Vec::new(),
        observer,
    )
}

/// The same with this policy.
fn resolver_by(
    snapshot: Snapshot,
    fate: Fate,
    timeout: Duration,
    sockets: Vec<Arc<Socket>>,
) -> Arc<Resolver<Arc<Counters>>> {
    resolver_with(snapshot, fate, timeout, sockets, Arc::clone)
}

/// The same with an observer that is made from the counters.
fn resolver_with<O: Observer>(
    mut snapshot: Snapshot,
    fate: Fate,
    timeout: Duration,
    sockets: Vec<Arc<Socket>>,
    observer: impl FnOnce(&Arc<Counters>) -> O,
) -> Arc<Resolver<O>> {
    let counters = Arc::<Counters>::default();
    let server = Server::new(SocketAddr::from(([192, 0, 2, 1], 53)), Dialect::FULL);
    let pool = Pool::new(
        vec![server],
        Arc::new(fate),
        timeout,
        BOUNDS,
        Arc::default(),
        counters.clone(),
    );
    let loopback = "127.0.0.0/8".parse().expect("a network");
    snapshot.clients = [loopback].iter().collect();
    let shared = Shared {
        policy: Publisher::new(snapshot).reader(),
        cache: Arc::new(Cache::new(1 << 20, 86_400)),
        clock: Clock::start(),
        notifications: Arc::default(),
        zones: Default::default(),
        signatures: Arc::default(),
    };
    let responder = Responder {
        pace: Arc::new(Pace::new(timeout)),
        shared,
        sockets: Arc::new(Sockets::from_pointee(
            sockets.into_iter().enumerate().collect(),
        )),
        observer: observer(&counters),
        counters,
    };
    let bounds = Bounds {
        all: 512,
        per_client: 512,
    };
    Arc::new(Resolver::new(
        Arc::new(Pools::new(Arc::new(pool))),
        responder,
        bounds,
    ))
}

impl<O: Observer> Resolver<O> {
    /// The responder that delivers the resolver's answers.
    pub(crate) fn responder(&self) -> &Responder<O> {
        &self.responder
    }
}

pub(crate) fn key() -> Key {
    Key::new(&Query::parse(PACKET, &mut Name::default()).expect("a query"))
}

/// An answer to [`PACKET`] with one address, received at second 0.
pub(crate) fn entry(ttl: u8) -> Arc<Entry> {
    entry_with(ttl, 1, &[192, 0, 2, 7])
}

/// An answer of about that many bytes.
pub(crate) fn entry_of(bytes: usize) -> Arc<Entry> {
    const TEXT: u8 = 16;
    entry_with(60, TEXT, &vec![0; bytes.saturating_sub(100)])
}

fn entry_with(ttl: u8, rtype: u8, data: &[u8]) -> Arc<Entry> {
    let head = b"\0\0\x81\x80\0\x01\0\x01\0\0\0\0\x01a\0\0";
    let record = b"\0\x01\xC0\x0C\0";
    let len = (data.len() as u16).to_be_bytes();
    let bytes = [
        &head[..],
        &[rtype],
        record,
        &[rtype, 0, 1, 0, 0, 0, ttl],
        &len,
        data,
    ]
    .concat();
    let name = Name::from_text("a").expect("a name");
    let answer = Answer::parse(&bytes, &name, rtype.into(), 1, BOUNDS).expect("an answer");
    Arc::new(Entry::new(answer, 0))
}

#[tokio::test(start_paused = true)]
async fn a_query_that_panics_leaves_no_client_waiting() {
    let resolver = resolver(Fate::Panics, Duration::from_secs(2), Vec::new());
    for _ in 0..2 {
        let start = Instant::now();
        let client = IpAddr::from([192, 0, 2, 9]);
        let resolution = resolver.resolve(client, key(), None).await;
        assert!(matches!(resolution, Resolution::Failed(_, None)));
        assert_eq!((start.elapsed(), resolver.waiting()), (Duration::ZERO, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_stale_answer_a_task_waits_for_the_timeout() {
    let resolver = resolver(Fate::Silent, Duration::from_secs(10), Vec::new());
    let start = Instant::now();
    let client = IpAddr::from([127, 0, 0, 1]);
    let none = resolver.resolve(client, key(), None).await;
    assert!(matches!(none, Resolution::Failed(_, None)), "{none:?}");
    let waited = start.elapsed().as_secs_f64();
    assert!((9.9..10.1).contains(&waited), "{waited}");
    assert_eq!(resolver.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_upstream_is_remembered_and_our_lack_of_sockets_is_not() {
    for (error, is_remembered) in [
        (ExchangeError::Unreachable, true),
        (ExchangeError::Timeout, true),
        (ExchangeError::Busy, false),
    ] {
        let resolver = resolver(Fate::Fails(error), Duration::from_secs(2), Vec::new());
        let client = IpAddr::from([127, 0, 0, 1]);
        let resolution = resolver.resolve(client, key(), None).await;
        assert!(matches!(resolution, Resolution::Failed(_, None)));
        let Shared { cache, clock, .. } = &resolver.responder().shared;
        let mut name = Name::default();
        let query = Query::parse(PACKET, &mut name).expect("a query");
        let known = cache.lookup(&query, clock.now());
        let remembered = matches!(known, Lookup::Failed(..));
        assert_eq!(remembered, is_remembered, "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_query_to_servers_that_are_no_longer_asked_for_its_name_ends_and_has_no_effect() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    for rcode in [0, 2] {
        for is_asked in [true, false] {
            let fate = || Fate::AnswersAt(Instant::now() + TIMEOUT / 2, rcode);
            let resolver = resolver(fate(), TIMEOUT, Vec::new());
            let client = IpAddr::from([192, 0, 2, 9]);
            let asking = Arc::clone(&resolver);
            let asking = tokio::spawn(async move { asking.resolve(client, key(), None).await });
            // The query starts in a separate task, after this one.
            tokio::task::yield_now().await;
            if is_asked {
                tokio::time::advance(TIMEOUT / 4).await;
            }
            let server = Server::new(SocketAddr::from(([192, 0, 2, 2], 53)), Dialect::FULL);
            let pool = Pool::new(
                vec![server],
                Arc::new(fate()),
                TIMEOUT,
                BOUNDS,
                Arc::default(),
                Arc::default(),
            );
            let forward = ForwardPool {
                zones: vec![Name::from_text("a").expect("a name")],
                pool: Arc::new(pool.of_zones()),
            };
            resolver.pools().replace(Forwarding::new(vec![forward]));
            let resolution = asking.await.expect("it ran");
            assert!(matches!(resolution, Resolution::Outdated), "{resolution:?}");
            assert_eq!(resolver.waiting(), 0);
            let Shared { cache, .. } = &resolver.responder().shared;
            let query =
                Query::parse(PACKET, &mut Name::default()).map(|query| cache.lookup(&query, 0));
            assert!(matches!(query, Ok(Lookup::Miss(None))), "{query:?}");
            let failures = resolver.responder().counters.read(Count::UpstreamFailures);
            assert_eq!(failures, 0);
        }
    }
}
