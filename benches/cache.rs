//! Compares caches: the cost of a hit, bytes per entry, and the hit rate of popular names during a flood of
//! names that are queried once. The figures are in `docs/decisions.md`.
//!
//! ```text
//! taskset -c 1 cargo bench --bench cache
//! ```
//! Two caches have the same entries with the same weights: ours, which is quick_cache with a borrowed key for
//! lookups, and moka. Rounds are interleaved; figures are medians, with the lowest and the highest value.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod names;
mod packets;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use allocation_counter::measure;
use tapis::serve::cache::{Cache, Entry, Key, Lookup};
use tapis::wire::name::Name;
use tapis::wire::query::Query;

use names::Random;
use packets::{entry, query};

const ROUNDS: usize = 7;
const LOOKUPS: usize = 400_000;
/// The weight of an entry besides its answer, as in the server.
const OVERHEAD: usize = 160;

/// A cache under measurement.
trait Held {
    fn new(bytes: u64) -> Self;
    fn has(&self, query: &Query<'_>) -> bool;
    fn insert(&self, key: Key, entry: Arc<Entry>);
    /// Runs deferred maintenance.
    fn settle(&self) {}
}

impl Held for Cache {
    fn new(bytes: u64) -> Self {
        // The cache reserves one sixteenth of its size for failures, so 15/16 of this size are `bytes`.
        Self::new(bytes * 16 / 15, 0)
    }

    fn has(&self, query: &Query<'_>) -> bool {
        matches!(self.try_lookup(query, 0), Some(Lookup::Fresh(..)))
    }

    fn insert(&self, key: Key, entry: Arc<Entry>) {
        self.insert(key, entry);
    }
}

impl Held for moka::sync::Cache<Key, Arc<Entry>> {
    fn new(bytes: u64) -> Self {
        let weigh = |key: &Key, entry: &Arc<Entry>| {
            (OVERHEAD + key.name().len() + entry.answer.footprint()) as u32
        };
        Self::builder().max_capacity(bytes).weigher(weigh).build()
    }

    fn has(&self, query: &Query<'_>) -> bool {
        self.get(&Key::new(query)).is_some()
    }

    fn insert(&self, key: Key, entry: Arc<Entry>) {
        self.insert(key, entry);
    }

    fn settle(&self) {
        self.run_pending_tasks();
    }
}

fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let (sizes, lookups) = match is_test {
        true => (vec![1000], 2000),
        false => (vec![10_000, 500_000], LOOKUPS),
    };
    for size in sizes {
        println!("{size} entries, {lookups} lookups per round:");
        let names = names(1, size);
        let packets: Vec<_> = names.iter().map(query).collect();
        let ours = Filled::<Cache>::new(&packets);
        let moka = Filled::<moka::sync::Cache<Key, Arc<Entry>>>::new(&packets);
        let (mut one, mut other) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            one.push(ours.hits(&packets, lookups, round));
            other.push(moka.hits(&packets, lookups, round));
        }
        report("quick_cache", ours.bytes, one);
        report("moka", moka.bytes, other);
    }
    let (popular, rounds) = if is_test { (500, 2) } else { (20_000, 40) };
    println!("hits of popular names; half of all queries are for names that are queried once:");
    for share in [2, 4] {
        let ours = scanned::<Cache>(popular, popular / share, rounds);
        let moka = scanned::<moka::sync::Cache<Key, Arc<Entry>>>(popular, popular / share, rounds);
        println!(
            "  room for 1 in {share} of the popular names: quick_cache {ours:.1} %, moka {moka:.1} %"
        );
    }
}

fn report(name: &str, bytes: u64, mut nanoseconds: Vec<f64>) {
    nanoseconds.sort_by(f64::total_cmp);
    let (least, most) = (nanoseconds[0], nanoseconds[nanoseconds.len() - 1]);
    let median = nanoseconds[nanoseconds.len() / 2];
    println!("  {name}: hit {median:.0} ns ({least:.0} to {most:.0}), {bytes} bytes per entry");
}

struct Filled<C> {
    cache: C,
    bytes: u64,
}

impl<C: Held> Filled<C> {
    fn new(packets: &[Vec<u8>]) -> Self {
        let mut cache = None;
        let counted = measure(|| {
            let held = C::new(packets.len() as u64 * 1000);
            for packet in packets {
                learn(&held, packet);
            }
            held.settle();
            cache = Some(held);
        });
        Self {
            cache: cache.expect("made above"),
            bytes: counted.bytes_current as u64 / packets.len() as u64,
        }
    }

    /// Nanoseconds per lookup, in an order that the processor cannot predict.
    fn hits(&self, packets: &[Vec<u8>], lookups: usize, round: usize) -> f64 {
        let mut dice = Random(round as u64 + 1);
        let order: Vec<_> = (0..lookups).map(|_| dice.below(packets.len())).collect();
        let queries: Vec<_> = order.iter().map(|&at| &packets[at]).collect();
        let mut found = 0;
        let start = Instant::now();
        for packet in queries {
            let mut name = Name::default();
            let query = Query::parse(packet, &mut name).expect("a query");
            found += usize::from(self.cache.has(black_box(&query)));
        }
        let took = start.elapsed();
        assert!(found * 100 >= lookups * 99, "{found} of {lookups}");
        took.as_secs_f64() * 1e9 / lookups as f64
    }
}

/// The hit rate of popular names in per cent. Their popularity has a Zipf distribution, the cache has room
/// for some of them, and every second query is for a name that is never queried again.
fn scanned<C: Held>(popular: usize, room: usize, rounds: usize) -> f64 {
    let packets: Vec<_> = names(2, popular).iter().map(query).collect();
    let weights = (1..=popular).scan(0.0, |sum, rank| {
        *sum += 1.0 / rank as f64;
        Some(*sum)
    });
    let weights: Vec<f64> = weights.collect();
    let total = weights[popular - 1];
    let weight = {
        let mut name = Name::default();
        let query = Query::parse(&packets[0], &mut name).expect("a query");
        let entry = entry(&query);
        OVERHEAD + query.name.wire().len() + entry.answer.footprint()
    };
    let cache = C::new((room * weight) as u64);
    let mut dice = Random(9);
    let (mut asked, mut hits) = (0_u32, 0_u32);
    for turn in 0..rounds * popular {
        let once = Name::from_text(&format!("u{turn}.example")).expect("a name");
        learn(&cache, &query(&once));
        let point = dice.below(1 << 30) as f64 / f64::from(1 << 30) * total;
        let packet = &packets[weights.partition_point(|sum| *sum < point).min(popular - 1)];
        let is_hit = cache.has(&Query::parse(packet, &mut Name::default()).expect("a query"));
        if !is_hit {
            learn(&cache, packet);
        }
        // The first half warms the cache.
        if turn * 2 > rounds * popular {
            asked += 1;
            hits += u32::from(is_hit);
        }
    }
    f64::from(hits) * 100.0 / f64::from(asked.max(1))
}

fn names(seed: u64, count: usize) -> Vec<Name> {
    let names = names::some(seed, count);
    names
        .iter()
        .filter_map(|name| Name::from_text(name).ok())
        .collect()
}

fn learn(cache: &impl Held, packet: &[u8]) {
    let mut name = Name::default();
    let query = Query::parse(packet, &mut name).expect("a query");
    cache.insert(Key::new(&query), entry(&query));
}
