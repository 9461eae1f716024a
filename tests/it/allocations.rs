//! Counts the allocations of a worker thread: answers that need no upstream must not allocate.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use allocation_counter::measure;
use tapis::policy::builder::Builder;
use tapis::policy::current::Publisher;
use tapis::policy::rule::{Action, Against, Blocking, Ede, Kind, Scope, Source};
use tapis::policy::snapshot::Snapshot;
use tapis::serve::admission::Bounds;
use tapis::serve::cache::{Cache, Entry, Key};
use tapis::serve::pace::Pace;
use tapis::serve::resolver::Resolver;
use tapis::serve::responder::Responder;
use tapis::serve::shared::{Clock, Shared};
use tapis::serve::transport::udp::Worker;
use tapis::serve::upstream::Pool;
use tapis::serve::upstream::connect::Network;
use tapis::serve::upstream::server::Server as UpstreamServer;
use tapis::stats::{Count, Counters};
use tapis::sys::udp::{Ports, Socket};
use tapis::sys::wait;
use tapis::wire::answer::{Answer, Intake};
use tapis::wire::ask::Dialect;
use tapis::wire::name::Name;
use tapis::wire::query::Query;

use crate::support::client::PATIENCE;

const BOUNDS: Intake = Intake {
    min_ttl: 0,
    max_ttl: 3600,
    max_negative_ttl: u32::MAX,
    additional: false,
};

fn name(text: &str) -> Name {
    Name::from_text(text).expect("a name")
}

/// A query for A, with EDNS.
fn query(name: &Name) -> Vec<u8> {
    let mut bytes = b"\xBE\xEF\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01".to_vec();
    bytes.extend_from_slice(name.wire());
    bytes.extend_from_slice(b"\x00\x01\x00\x01\x00\x00\x29\x04\xD0\x00\x00\x00\x00\x00\x00");
    bytes
}

/// A policy with blocked.example, and a subtree that a CNAME leads to.
fn snapshot() -> Snapshot {
    let blocking = Blocking {
        action: Action::Sinkhole,
        sinkhole_v4: vec![Ipv4Addr::UNSPECIFIED],
        sinkhole_v6: Vec::new(),
        ttl_secs: 60,
        ede: Ede::Blocked,
        extra_text: "ads".to_owned(),
    };
    let source = Source {
        name: "ads".to_owned(),
        path: PathBuf::new(),
        kind: Kind::Block,
        against: Against::All,
        blocking,
    };
    let rules = [
        (name("blocked.example"), Scope::Exact),
        (name("tracker.example"), Scope::Subtree),
    ];
    let mut builder = Builder::new();
    let rules = rules.iter().map(|(name, scope)| (name, *scope));
    builder.list("ads", rules).expect("there is room");
    let image = Arc::new(builder.finish().expect("there is room"));
    let mut snapshot = Snapshot::default();
    snapshot.clients = ["127.0.0.0/8".parse().expect("a network")].iter().collect();
    snapshot
        .with_rules(vec![Arc::new(source)], image.into())
        .with_slots(|_| Some(0))
}

/// Caches an answer to `asked`: these records after the question.
fn learn(cache: &Cache, asked: &str, count: u8, records: &[u8]) {
    let name = name(asked);
    let mut bytes = vec![0xBE, 0xEF, 0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0];
    bytes.extend_from_slice(name.wire());
    bytes.extend_from_slice(b"\x00\x01\x00\x01");
    bytes.extend_from_slice(records);
    let answer = Answer::parse(&bytes, &name, 1, 1, BOUNDS).expect("an answer");
    let packet = query(&name);
    let key = Key::new(&Query::parse(&packet).expect("a query"));
    cache.insert(key, Arc::new(Entry::new(answer, 0)));
}

/// The number of allocations of a worker that answers each of the names `rounds` times, and its
/// counters.
fn allocations(rounds: usize) -> (u64, [u64; 4]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let _inside = runtime.enter();
    let cache = Arc::new(Cache::new(1 << 20, 0));
    let address = b"\xC0\x0C\x00\x01\x00\x01\x00\x00\x0E\x10\x00\x04\xC0\x00\x02\x01";
    learn(&cache, "cached.example", 1, address);
    let target = b"\x01a\x07tracker\x07example\x00";
    let alias = b"\xC0\x0C\x00\x05\x00\x01\x00\x00\x0E\x10\x00\x13";
    let chain = [&alias[..], target, target, &address[2..]].concat();
    learn(&cache, "alias.example", 2, &chain);
    let publisher = Publisher::new(snapshot());
    let shared = Shared {
        policy: publisher.reader(),
        cache,
        clock: Clock::start(),
    };
    let counters = Arc::<Counters>::default();
    let closed_port: SocketAddr = ([127, 0, 0, 1], 9).into();
    let pace = Arc::new(Pace::new(PATIENCE));
    let ports = Arc::<Ports>::default();
    let network = Arc::new(Network::new(1, ports.clone(), counters.clone()));
    let servers = vec![UpstreamServer::new(closed_port, Dialect::FULL)];
    let pool = Pool::new(servers, network, PATIENCE, BOUNDS, ports, counters.clone());
    let responder = Responder {
        pace: pace.clone(),
        shared: shared.clone(),
        sockets: Arc::default(),
        observer: counters.clone(),
        counters: counters.clone(),
    };
    let bounds = Bounds {
        all: 16,
        per_client: 16,
    };
    let resolver = Resolver::new(Arc::new(pool), responder, bounds);
    let socket = Arc::new(Socket::bind(([127, 0, 0, 1], 0).into(), true).expect("bound"));
    let server = socket.local_addr().expect("bound");
    let (shutdown, listener) = wait::shutdown_signal().expect("a pipe");
    let (jobs, _queue) = tokio::sync::mpsc::channel(16);
    let worker = Worker {
        index: 0,
        shared,
        sockets: vec![(0, socket)],
        pool: resolver.pool().clone(),
        ports: 1,
        inflight: resolver.inflight().clone(),
        admission: resolver.admission().clone(),
        jobs,
        pace,
        observer: counters.clone(),
        counters: counters.clone(),
        shutdown: listener,
    };
    let run = move || measure(|| worker.run().expect("it ran")).count_total;
    let thread = thread::spawn(run);
    let client = UdpSocket::bind((IpAddr::from([127, 0, 0, 1]), 0)).expect("a socket");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let names = [
        "blocked.example",
        "cached.example",
        "alias.example",
        "a.localhost",
    ];
    let packets = names.map(|text| query(&name(text)));
    let mut buffer = [0; 512];
    for _ in 0..rounds {
        // Sent together, so that batches have several messages.
        for packet in &packets {
            client.send_to(packet, server).expect("sent");
        }
        for _ in &packets {
            client.recv(&mut buffer).expect("an answer");
        }
    }
    drop(shutdown);
    let count = thread.join().expect("no panic");
    let counts = [
        Count::Blocked,
        Count::CacheHits,
        Count::BlockedTarget,
        Count::Local,
    ];
    (count, counts.map(|count| counters.read(count)))
}

#[test]
fn blocked_cached_and_local_answers_do_not_allocate() {
    let (few, _) = allocations(3);
    let (many, counts) = allocations(300);
    assert_eq!(counts, [300; 4], "each was answered inline");
    assert_eq!(few, many, "a worker allocates only at its start");
}
