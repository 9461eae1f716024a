//! Measures the time for one packet without sockets: blocked, cached, local, forwarded.
//!
//! ```text
//! cargo bench --bench respond
//! TAPIS_NAMES=names.txt cargo bench --bench respond        # names of a file, one per line
//! ```
//! The list has 100,000 names. `forwarded` ends where upstream would be asked.

mod names;
mod packets;
#[path = "../tests/it/support/policy.rs"]
mod policy;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tapis::policy::rule::Scope;
use tapis::policy::snapshot::Snapshot;
use tapis::serve::cache::{Cache, Key};
use tapis::serve::client::{Client, Transport};
use tapis::serve::respond::respond;
use tapis::serve::step::Step;
use tapis::stats::Count;
use tapis::wire::name::Name;
use tapis::wire::query::Query;

use packets::{entry, query};

const ASKED: usize = 1 << 14;
const CLIENT: Client = Client::new(
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5353),
    Transport::Udp,
);

fn packets(criterion: &mut Criterion) {
    let listed = parsed(names::some(1, 100_000));
    let rules = listed.iter().map(|name| (name, Scope::Exact));
    let snapshot = policy::snapshot("127.0.0.0/8", rules);
    let known = unlisted(&snapshot, 4);
    let cache = Cache::new(64 << 20, 0);
    for name in &known {
        learn(&cache, name);
    }
    let local: Vec<_> = (0..ASKED).map(private).collect();
    let mut group = criterion.benchmark_group("respond");
    group.throughput(Throughput::Elements(1));
    for (kind, names, expected) in [
        ("blocked", &listed, Some(Count::Blocked)),
        ("cached", &known, Some(Count::CacheHits)),
        ("local", &local, Some(Count::Local)),
        ("forwarded", &unlisted(&snapshot, 5), None),
    ] {
        let packets: Vec<_> = names.iter().take(ASKED).map(query).collect();
        let mut turn = packets.iter().cycle();
        let mut out = Vec::with_capacity(4096);
        group.bench_function(kind, |bencher| {
            bencher.iter(|| {
                let packet = black_box(turn.next().expect("it cycles"));
                let step = respond(7, &CLIENT, packet, &snapshot, &cache, &mut out);
                assert_eq!(counted(&step), expected);
                black_box(&out);
            });
        });
    }
}

fn counted(step: &Step) -> Option<Count> {
    match step {
        Step::Reply(tally) | Step::Drop(tally) => Some(tally.count),
        Step::Refresh(..) => Some(Count::CacheHits),
        Step::Resolve(..) => None,
    }
}

fn learn(cache: &Cache, name: &Name) {
    let packet = query(name);
    let mut name = Name::default();
    let query = Query::parse(&packet, &mut name).expect("a query");
    cache.insert(Key::new(&query), entry(&query));
}

/// The reverse name of a private address.
fn private(index: usize) -> Name {
    let text = format!("{}.{}.0.10.in-addr.arpa", index % 256, index / 256 % 256);
    Name::from_text(&text).expect("a name")
}

fn parsed(names: Vec<String>) -> Vec<Name> {
    let names = names.iter().map(|name| Name::from_text(name));
    names.filter_map(Result::ok).collect()
}

/// Names that no rule matches.
fn unlisted(snapshot: &Snapshot, seed: u64) -> Vec<Name> {
    use tapis::policy::decide::Decision::Pass;
    let mut names = parsed(names::made(seed, ASKED));
    names.retain(|name| matches!(snapshot.decide(name), Pass));
    names
}

criterion_group!(benches, packets);
criterion_main!(benches);
