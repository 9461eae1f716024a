//! Measures lookups: the image beside a hash set and an FST, interleaved in one run.
//!
//! ```text
//! cargo bench --bench lookup                        # 100 thousand and 1.5 million generated names
//! cargo bench --bench lookup -- 9500000             # this number of names
//! TAPIS_NAMES=names.txt TAPIS_TOP=top.txt cargo bench --bench lookup
//!                                                   # names of a file; popular names of another
//! ```
//! Pin the benchmark to one core: put `taskset -c 1` in front of the command.
//!
//! All contenders look up the same names, 32 at a time. The names are prepared in the form that each contender needs;
//! nanoseconds are per name. The set holds each name as text, and is searched for the name and then for each ancestor
//! until one is found. The FST holds labels from the root down and is walked byte by byte. `batch` looks up 32 names
//! in the image at once, `single` one after the other. Figures are medians of the rounds, with the lowest and the
//! highest ratio.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod names;

use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use foldhash::fast::RandomState;
use names::Random;
use tapis::control::persist::store::read_image;
use tapis::policy::builder::Builder;
use tapis::policy::effect::Effect;
use tapis::policy::image::Image;
use tapis::policy::ranking::LookupResult;
use tapis::policy::rule::Scope;
use tapis::policy::rules::Rules;
use tapis::wire::name::Name;

/// The number of names per lookup, as for a worker that finds a full batch of packets.
const BATCH: usize = 32;
/// The number of names of each kind; too many to stay in a cache.
const ASKED: usize = 1 << 18;
const ROUNDS: usize = 7;
/// The number of names that one contender looks up before the next contender runs.
const BLOCK: usize = 1 << 10;

type Set = hashbrown::HashSet<Box<str>, RandomState>;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let test = arguments.iter().any(|argument| argument == "--test");
    let sizes: Vec<usize> = arguments.iter().filter_map(|a| a.parse().ok()).collect();
    let (sizes, asked, rounds) = match (test, sizes.is_empty()) {
        (true, _) => (vec![5_000], 1 << 10, 1),
        (false, true) => (vec![100_000, 1_500_000], ASKED, ROUNDS),
        (false, false) => (sizes, ASKED, ROUNDS),
    };
    for size in sizes {
        measure(&names::some(1, size), asked, rounds);
    }
}

fn measure(names: &[String], asked: usize, rounds: usize) {
    for (scope, effects, what) in [
        (Scope::Exact, 1, "exact rules, nothing pruned"),
        (Scope::Subtree, 1, "subtree rules, needless ones pruned"),
        (Scope::Exact, 1000, "exact rules with a thousand effects"),
    ] {
        let image = image(names, scope, effects);
        let bytes = image.size() as f64 / names.len() as f64;
        println!("{} names, {what}: {bytes:.2} bytes per name", names.len());
        let contenders = Contenders::new(names, image);
        for (kind, lookups) in lookups(names, &contenders.set, asked) {
            contenders.compare(kind, &lookups, rounds);
        }
    }
}

/// An image with a rule on each of these names. `effects` is the number of different effects; the rules get them in
/// turn. The image is read from a file as a server reads it: into huge pages, if the system has some.
fn image(names: &[String], scope: Scope, effects: usize) -> Image {
    let mut builder = Builder::new();
    let parsed = names.iter().filter_map(|name| Name::from_text(name).ok());
    let number = builder.source(Default::default()).expect("the first");
    let effects = (0..effects).map(|number| Effect {
        ttl_secs: (number > 0).then_some(number as u32),
        ..Effect::default()
    });
    let effects: Vec<_> = effects.collect();
    for (name, effect) in parsed.zip(effects.iter().cycle()) {
        builder
            .insert_effect(&name, number, scope, effect)
            .expect("there is room");
    }
    let image = builder.finish().expect("there is room");
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(image.bytes()).expect("room on the disk");
    read_image(file.path()).expect("what was written can be read")
}

struct Contenders {
    set: Set,
    fst: fst::Set<Vec<u8>>,
    rules: Rules,
}

impl Contenders {
    fn new(names: &[String], image: Image) -> Self {
        let mut keys: Vec<_> = names.iter().map(|name| reversed(name)).collect();
        keys.sort_unstable();
        keys.dedup();
        Self {
            set: names.iter().map(|name| name.as_str().into()).collect(),
            fst: fst::Set::from_iter(keys).expect("sorted"),
            rules: Rules::by_rank(Arc::new(image).into(), |_| Some(0), |_| false),
        }
    }

    fn compare(&self, kind: &str, lookups: &[String], rounds: usize) {
        // Nanoseconds per name: set, fst, batch, single.
        let mut times: Vec<[f64; 4]> = Vec::new();
        for _ in 0..rounds {
            let mut sums = [0_u128; 4];
            let mut hits = [0_usize; 4];
            let blocks: Vec<_> = lookups.chunks_exact(BLOCK.min(lookups.len())).collect();
            for turn in 0..blocks.len() {
                for which in 0..4 {
                    // Each contender works on another block, so that none warms the caches for the next.
                    let block = blocks[(turn + which * blocks.len() / 4) % blocks.len()];
                    for chunk in block.chunks_exact(BATCH) {
                        let (hit, nanos) = self.ask(which, chunk);
                        hits[which] += hit;
                        sums[which] += nanos;
                    }
                }
            }
            assert!(hits[1..3] == hits[2..4], "they agree: {hits:?}");
            let count = (blocks.len() * blocks[0].len() / BATCH * BATCH) as f64;
            times.push(sums.map(|sum| sum as f64 / count));
        }
        let median = |of: &dyn Fn(&[f64; 4]) -> f64| {
            let mut all: Vec<_> = times.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            (all[all.len() / 2], all[0], all[all.len() - 1])
        };
        print!("  {kind:<12} set {:6.1} ns", median(&|times| times[0]).0);
        for (which, name) in [(1, "fst"), (2, "batch"), (3, "single")] {
            let time = median(&|times| times[which]).0;
            let (ratio, least, most) = median(&|times| times[which] / times[0]);
            print!(" | {name} {time:6.1} ns {ratio:5.2} x ({least:.2} to {most:.2})");
        }
        println!();
    }

    /// Looks up some names with a contender: returns the number of hits and of nanoseconds.
    fn ask(&self, which: usize, chunk: &[String]) -> (usize, u128) {
        // Copies, so that the names are in the cache, as those of a packet are.
        let texts: Vec<String> = chunk.to_vec();
        let keys: Vec<Vec<u8>> = chunk.iter().map(|name| reversed(name)).collect();
        let names: Vec<Name> = chunk.iter().map(|name| parse(name)).collect();
        let names: Vec<&Name> = names.iter().collect();
        let start = Instant::now();
        let hits = match which {
            0 => texts.iter().filter(|name| walk(&self.set, name)).count(),
            1 => keys.iter().filter(|key| self.accepts(key)).count(),
            2 => self.look::<BATCH>(black_box(&names)),
            _ => names
                .iter()
                .map(|name| self.look::<1>(black_box(&[name])))
                .sum(),
        };
        (hits, start.elapsed().as_nanos())
    }

    fn look<const MANY: usize>(&self, names: &[&Name]) -> usize {
        let mut found = [LookupResult::default(); MANY];
        self.rules.lookup(names, &mut found);
        found.iter().filter(|found| found.best().is_some()).count()
    }

    /// Whether the FST has the name or an ancestor.
    fn accepts(&self, key: &[u8]) -> bool {
        let fst = self.fst.as_fst();
        let mut node = fst.root();
        for &byte in key {
            let Some(at) = node.find_input(byte) else {
                return false;
            };
            node = fst.node(node.transition(at).addr);
            if byte == b'.' && node.is_final() {
                return true;
            }
        }
        false
    }
}

/// Whether the set has the name or an ancestor.
fn walk(set: &Set, mut name: &str) -> bool {
    loop {
        if set.contains(name) {
            return true;
        }
        match name.find('.') {
            Some(dot) => name = &name[dot + 1..],
            None => return false,
        }
    }
}

/// The labels from the root down, each with a dot after it.
fn reversed(name: &str) -> Vec<u8> {
    let labels = name.rsplit('.');
    labels
        .flat_map(|label| label.bytes().chain([b'.']))
        .collect()
}

fn parse(name: &str) -> Name {
    Name::from_text(name).expect("a name")
}

/// The names to look up, by kind.
fn lookups(names: &[String], set: &Set, asked: usize) -> Vec<(&'static str, Vec<String>)> {
    let mut random = Random(3);
    let mut hits = Vec::with_capacity(asked);
    while hits.len() < asked {
        let name = &names[random.below(names.len())];
        if Name::from_text(name).is_ok() {
            hits.push(name.clone());
        }
    }
    let missing = |name: &String| !walk(set, name) && Name::from_text(name).is_ok();
    let near_miss = hits
        .iter()
        .map(|name| near_miss(name))
        .filter(missing)
        .collect();
    let misses = names::made(2, asked).into_iter().filter(missing).collect();
    let top = names::lines_of("TAPIS_TOP").unwrap_or_else(|| names::made(4, asked.min(100_000)));
    let top: Vec<_> = top.into_iter().filter(missing).collect();
    let popular = (0..asked).map(|_| {
        // Zipf: rank r has a share of about 1 / r.
        let uniform = random.below(1 << 30) as f64 / (1 << 30) as f64;
        let rank = (top.len() as f64).powf(uniform) as usize;
        top[rank.min(top.len() - 1)].clone()
    });
    vec![
        ("hit", hits),
        ("near miss", near_miss),
        ("miss", misses),
        ("popular miss", popular.collect()),
    ]
}

/// The name with another letter in its registered label: a miss that takes many steps.
fn near_miss(name: &str) -> String {
    let mut bytes = name.as_bytes().to_vec();
    let dots: Vec<_> = name.rmatch_indices('.').map(|(at, _)| at).collect();
    let at = dots.get(1).map_or(0, |dot| dot + 1);
    bytes[at] = if bytes[at] == b'q' { b'0' } else { b'q' };
    String::from_utf8(bytes).expect("a letter for a letter")
}
