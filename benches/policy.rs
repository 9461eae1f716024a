//! Measures the decision: views, effects, and what they cost.
//!
//! ```text
//! taskset -c 0 cargo bench --bench policy                 # 1.5 million names
//! taskset -c 0 cargo bench --bench policy -- 9500000      # this number of names
//! ```
//! Nine lists have the names; every tenth name is in two lists. A round measures each case once. Figures are medians of
//! the rounds, with the lowest and the highest value. `TAPIS_NAMES` names a file of names, one per line.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod names;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use allocation_counter::measure;
use names::Random;
use tapis::policy::builder::Builder;
use tapis::policy::effect::Effect;
use tapis::policy::image::Image;
use tapis::policy::image::provenance::ImageSource;
use tapis::policy::ranking::LookupResult;
use tapis::policy::rule::{Action, Against, Blocking, Kind, Scope, Source};
use tapis::policy::snapshot::Snapshot;
use tapis::policy::view::{Mode, View, ViewId, ViewList};
use tapis::wire::name::Name;

const LISTS: usize = 9;
/// The number of views, beside the default, of snapshots with views.
const VIEWS: usize = 1000;
/// The number of effects of the image with effects.
const EFFECTS: usize = 1000;
/// The number of names per lookup, as for a worker that finds a full batch of packets.
const BATCH: usize = 32;
const LOOKUPS: usize = 1 << 18;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let is_test = arguments.iter().any(|argument| argument == "--test");
    let size = arguments.iter().find_map(|argument| argument.parse().ok());
    let (size, lookups, rounds) = match is_test {
        true => (5_000, 1 << 10, 1),
        false => (size.unwrap_or(1_500_000), LOOKUPS, 9),
    };
    let names = names::some(1, size);
    let names: Vec<Name> = names
        .iter()
        .filter_map(|name| Name::from_text(name).ok())
        .collect();
    let plain = Arc::new(image(&names, 1));
    let varied = image(&names, EFFECTS);
    let per_name = |image: &Image| image.size() as f64 / names.len() as f64;
    println!(
        "{} names: {:.2} bytes per name; with {EFFECTS} effects {:.2} bytes, {:.3} x",
        names.len(),
        per_name(&plain),
        per_name(&varied),
        per_name(&varied) / per_name(&plain),
    );
    drop(varied);
    let mut random = Random(7);
    let views: Vec<View> = (0..VIEWS).map(|_| view(&mut random)).collect();
    let one = measured(rounds, || snapshot(&plain, &[]));
    let many = measured(rounds, || snapshot(&plain, &views));
    println!("snapshot with one view: {one}");
    println!("snapshot with {VIEWS} more views: {many}");
    let asked: Vec<&Name> = (0..lookups)
        .map(|_| &names[random.below(names.len())])
        .collect();
    let ids: Vec<ViewId> = (0..lookups)
        .map(|_| ViewId(random.below(VIEWS + 1) as u16))
        .collect();
    let default = vec![ViewId::DEFAULT; lookups];
    let snapshots = [snapshot(&plain, &[]), snapshot(&plain, &views)];
    let cases = [
        ("one view", &snapshots[0], &default),
        ("default of many views", &snapshots[1], &default),
        ("all of many views", &snapshots[1], &ids),
    ];
    let mut times = [(); 3].map(|()| Vec::new());
    for _ in 0..rounds {
        for ((_, snapshot, ids), times) in cases.iter().zip(&mut times) {
            times.push(decide(snapshot, &asked, ids));
        }
    }
    for ((what, ..), times) in cases.iter().zip(times) {
        println!("decision, {what}: {} ns per name", Spread::of(times));
    }
}

/// An image of nine lists, whose rules have this number of effects in turn.
fn image(names: &[Name], effects: usize) -> Image {
    let effects: Vec<_> = (0..effects)
        .map(|number| Effect {
            ttl_secs: (number > 0).then_some(number as u32),
            ..Effect::default()
        })
        .collect();
    let mut builder = Builder::new();
    for list in 0..LISTS {
        let source = ImageSource::named(&named(list));
        builder.source(source).expect("few");
    }
    for (number, name) in names.iter().enumerate() {
        let effect = &effects[number % effects.len()];
        let mut insert = |list: usize| {
            let inserted = builder.insert_effect(name, list as u16, Scope::Subtree, effect);
            inserted.expect("room");
        };
        insert(number % LISTS);
        if number % 10 == 0 {
            insert((number + 1) % LISTS);
        }
    }
    builder.finish().expect("room")
}

fn named(list: usize) -> String {
    format!("list{list}")
}

/// Some of the lists in a random order, one of them with another action.
fn view(random: &mut Random) -> View {
    let mut lists: Vec<usize> = (0..LISTS).collect();
    for at in (1..LISTS).rev() {
        lists.swap(at, random.below(at + 1));
    }
    lists.truncate(1 + random.below(LISTS));
    let lists = lists.into_iter().enumerate().map(|(place, list)| ViewList {
        name: named(list),
        mode: Mode::Enforce,
        action: (place == 0).then_some(Action::Refused),
    });
    View {
        lists: lists.collect(),
    }
}

fn snapshot(image: &Arc<Image>, views: &[View]) -> Snapshot {
    let sources = (0..LISTS).map(|list| {
        Arc::new(Source {
            name: named(list),
            path: named(list).into(),
            kind: Kind::Block,
            blocking: Blocking::none(),
            against: Against::All,
        })
    });
    let images = Arc::clone(image).into();
    Snapshot::default().with_views(sources.collect(), images, views)
}

/// The milliseconds that making a snapshot takes, and its bytes.
fn measured(rounds: usize, make: impl Fn() -> Snapshot) -> String {
    let mut made = None;
    let allocated = measure(|| made = Some(make()));
    drop(made);
    let mut times = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        let made = black_box(make());
        times.push(start.elapsed().as_secs_f64() * 1e3);
        drop(made);
    }
    let megabytes = allocated.bytes_current as f64 / 1e6;
    format!("{} ms, {megabytes:.2} MB", Spread::of(times))
}

/// Nanoseconds per name.
fn decide(snapshot: &Snapshot, names: &[&Name], views: &[ViewId]) -> f64 {
    let mut blocked = 0;
    let start = Instant::now();
    for (names, views) in names.chunks(BATCH).zip(views.chunks(BATCH)) {
        let mut found = [LookupResult::default(); BATCH];
        let found = &mut found[..names.len()];
        snapshot.lookup_in(names, views, found);
        for ((name, found), view) in names.iter().zip(&*found).zip(views) {
            let decision = snapshot.view(*view).decide_by(name, found);
            blocked += usize::from(black_box(decision).chain_exemption() as u8 == 0);
        }
    }
    let time = start.elapsed().as_secs_f64() * 1e9;
    black_box(blocked);
    time / names.len() as f64
}

/// A median, with the lowest and the highest value.
struct Spread([f64; 3]);

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let last = values.len() - 1;
        Self([values[0], values[last / 2], values[last]])
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [least, median, most] = self.0;
        write!(f, "{median:.2} ({least:.2} to {most:.2})")
    }
}
