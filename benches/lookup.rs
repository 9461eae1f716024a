//! Owns the measure of one lookup: hits, near misses and random misses, beside a plain hash set.
//! Refuses to measure what a packet costs; `respond` does.
//!
//! ```text
//! cargo bench --bench lookup                               # names are made, always the same ones
//! TAPIS_NAMES=names.txt cargo bench --bench lookup         # names of a file, one a line
//! cargo bench --bench lookup -- '1500k/hit'                # one of them
//! ```
//! Times are for 32 lookups; the throughput is that of single ones. The set holds each name as
//! octets and is asked for the name and each of its ancestors, as a subtree rule needs.

mod names;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use foldhash::fast::RandomState;
use names::Random;
use tapis::policy::builder::Builder;
use tapis::policy::rule::Scope;
use tapis::policy::trie::{Found, Trie};
use tapis::wire::name::Name;

/// Lookups that are made at a time, as a worker does with the packets that it finds waiting.
const BATCH: usize = 32;
/// Different names asked; enough that they are not all in a cache.
const ASKED: usize = 1 << 17;

type Set = hashbrown::HashSet<Box<[u8]>, RandomState>;

fn lookup(criterion: &mut Criterion) {
    for (label, count) in [("100k", 100_000), ("1500k", 1_500_000)] {
        let names = names::some(1, count);
        let set: Set = names.iter().map(|name| name.wire().into()).collect();
        let trie = trie(&names);
        let mut group = criterion.benchmark_group(format!("lookup/{label}"));
        group.throughput(Throughput::Elements(BATCH as u64));
        for (kind, asked) in [
            ("hit", hits(&names)),
            ("near-miss", misses(&set, hits(&names).iter().map(near))),
            ("miss", misses(&set, names::made(2, ASKED).into_iter())),
        ] {
            assert!(!asked.is_empty(), "there are names to ask for");
            let batches: Vec<Vec<&Name>> = asked
                .chunks_exact(BATCH)
                .map(|c| c.iter().collect())
                .collect();
            let mut turn = batches.iter().cycle();
            let mut found = [Found::default(); BATCH];
            group.bench_function(format!("{kind}/trie"), |bencher| {
                bencher.iter(|| {
                    let batch = turn.next().expect("it cycles");
                    trie.lookup_batch(black_box(batch), &mut found);
                    black_box(&found);
                });
            });
            group.bench_function(format!("{kind}/set"), |bencher| {
                bencher.iter(|| {
                    let batch = turn.next().expect("it cycles");
                    for name in black_box(batch) {
                        black_box(walk(&set, name));
                    }
                });
            });
        }
    }
}

fn trie(names: &[Name]) -> Trie {
    let mut builder = Builder::new();
    for name in names {
        builder.insert(name, Scope::Subtree).expect("there is room");
    }
    builder.finish()
}

/// Whether the set holds the name or an ancestor, asked from the root down.
fn walk(set: &Set, name: &Name) -> bool {
    (1..=name.label_count()).any(|labels| set.contains(name.ancestor(labels)))
}

fn hits(names: &[Name]) -> Vec<Name> {
    let mut random = Random(3);
    (0..ASKED)
        .map(|_| names[random.below(names.len())].clone())
        .collect()
}

/// The same name with another letter in its registered label: a miss that goes all the way.
fn near(name: &Name) -> Name {
    let mut wire = name.wire().to_vec();
    let last = name.ancestor_start(name.label_count().min(2)) + 1;
    wire[last] = if wire[last] == b'q' { b'0' } else { b'q' };
    Name::read(&wire, 0).expect("a letter for a letter").0
}

fn misses(set: &Set, names: impl Iterator<Item = Name>) -> Vec<Name> {
    names.filter(|name| !walk(set, name)).collect()
}

criterion_group!(benches, lookup);
criterion_main!(benches);
