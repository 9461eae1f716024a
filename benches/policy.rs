//! Measures the decision: views, effects, rules on addresses, patterns, and what they cost.
//!
//! ```text
//! taskset -c 0 cargo bench --bench policy                 # 1.5 million names
//! taskset -c 0 cargo bench --bench policy -- 9500000      # this number of names
//! ```
//! Nine lists have the names; every tenth name is in two lists. A round measures each case once. Figures are medians of
//! the rounds, with the lowest and the highest value. `TAPIS_NAMES` names a file of names, one per line. Packets are
//! answered without sockets; a packet costs some 2.5 microseconds more with them.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod names;
mod packets;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use allocation_counter::measure;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use names::Random;
use packets::{entry, query};
use tapis::policy::builder::Builder;
use tapis::policy::condition::{Condition, TypeSet};
use tapis::policy::decide::Decision;
use tapis::policy::effect::Effect;
use tapis::policy::image::Image;
use tapis::policy::image::provenance::ImageSource;
use tapis::policy::prefix::{AddressOf, Prefix};
use tapis::policy::ranking::LookupResult;
use tapis::policy::rule::{Action, Against, Blocking, Kind, Scope, Source};
use tapis::policy::snapshot::Snapshot;
use tapis::policy::view::{LookupKey, Mode, View, ViewId, ViewList};
use tapis::serve::cache::{Cache, Key};
use tapis::serve::client::{Client, Transport};
use tapis::serve::respond::respond;
use tapis::serve::step::Step;
use tapis::stats::Count;
use tapis::wire::name::Name;
use tapis::wire::query::Query;
use tapis::wire::rtype;

const LISTS: usize = 9;
/// The number of views, beside the default, of snapshots with views.
const VIEWS: usize = 1000;
/// The number of effects of the image with effects.
const EFFECTS: usize = 1000;
/// The number of names per lookup, as for a worker that finds a full batch of packets.
const BATCH: usize = 32;
const LOOKUPS: usize = 1 << 18;
/// The number of packets of each kind.
const PACKETS: usize = 1 << 14;

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
    let keys: Vec<LookupKey> = (0..lookups)
        .map(|_| LookupKey::new(ViewId(random.below(VIEWS + 1) as u16), rtype::A))
        .collect();
    let default = vec![LookupKey::default(); lookups];
    let snapshots = [snapshot(&plain, &[]), snapshot(&plain, &views)];
    let cases = [
        ("one view", &snapshots[0], &default),
        ("default of many views", &snapshots[1], &default),
        ("all of many views", &snapshots[1], &keys),
    ];
    let mut times = [(); 3].map(|()| Vec::new());
    for _ in 0..rounds {
        for ((_, snapshot, keys), times) in cases.iter().zip(&mut times) {
            times.push(decide(snapshot, &asked, keys));
        }
    }
    for ((what, ..), times) in cases.iter().zip(times) {
        println!("decision, {what}: {} ns per name", Spread::of(times));
    }
    let [one, many] = snapshots;
    drop(plain);
    answers(&names, rounds, [one, many]);
}

/// Measures the answers to blocked and to cached names, with what may slow them down.
fn answers(names: &[Name], rounds: usize, [one, many]: [Snapshot; 2]) {
    let made = |extra: &dyn Fn(&mut Builder)| {
        let image = Arc::new(image_with(names, 1, extra));
        let groups = image.pattern_groups().iter();
        let bytes: usize = groups.map(|group| group.set.memory()).sum();
        if bytes > 0 {
            println!("compiled patterns: {:.2} MB", bytes as f64 / 1e6);
        }
        println!(
            "snapshot with more rules: {}",
            measured(rounds, || snapshot(&image, &[]))
        );
        snapshot(&image, &[])
    };
    let snapshots = [
        ("no other rules", one, 0),
        ("many views", many, VIEWS),
        ("7,000 networks", made(&networks), 0),
        ("5,000 patterns", made(&patterns), 0),
        ("5,000 conditions on other names", made(&conditions), 0),
    ];
    let listed = names.iter().step_by(names.len() / PACKETS + 1).cloned();
    let mut others: Vec<Name> = made_names().collect();
    for (_, snapshot, _) in &snapshots {
        others.retain(|name| matches!(snapshot.decide(name), Decision::Pass));
    }
    let cache = Cache::new(64 << 20, 0);
    for name in &others {
        let packet = query(name);
        let mut name = Name::default();
        let query = Query::parse(&packet, &mut name).expect("a query");
        cache.insert(Key::new(&query), entry(&query));
    }
    for (kind, names, expected) in [
        ("blocked", listed.collect(), Count::Blocked),
        ("cached", others, Count::CacheHits),
    ] {
        let packets: Vec<_> = names.iter().map(query).collect();
        let mut times: Vec<_> = snapshots.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for ((_, snapshot, views), times) in snapshots.iter().zip(&mut times) {
                times.push(respond_all(snapshot, *views, &cache, &packets, expected));
            }
        }
        for ((what, ..), times) in snapshots.iter().zip(times) {
            println!("{kind}, {what}: {} ns per packet", Spread::of(times));
        }
    }
}

/// Nanoseconds per packet. Clients belong to the default view and to this number of others in turn.
fn respond_all(
    snapshot: &Snapshot,
    views: usize,
    cache: &Cache,
    packets: &[Vec<u8>],
    expected: Count,
) -> f64 {
    let peer = SocketAddr::from(([127, 0, 0, 1], 5353));
    let mut client = Client::new(peer, Transport::Udp);
    let mut out = Vec::with_capacity(4096);
    let start = Instant::now();
    for (number, packet) in packets.iter().enumerate() {
        client.view = ViewId((number % (views + 1)) as u16);
        let step = respond(7, &client, packet, snapshot, cache, &mut out);
        let is_expected = matches!(step, Step::Reply(tally) if tally.count == expected);
        assert!(is_expected, "{step:?}");
        black_box(&out);
    }
    start.elapsed().as_secs_f64() * 1e9 / packets.len() as f64
}

/// Names that are not in the lists.
fn made_names() -> impl Iterator<Item = Name> {
    let made = names::made(11, PACKETS);
    made.into_iter()
        .filter_map(|name| Name::from_text(&name).ok())
}

/// Rules on 7,000 networks, a fifth of IPv6, as a national list of addresses has them. A lookup of an IPv4 address ends
/// early if no network has the same first 16 bits. One network, 192.0.3.0/24, has the first 16 bits of all addresses in
/// the cached answers, so that no lookup of them ends early.
fn networks(builder: &mut Builder) {
    let mut random = Random(3);
    for number in 0..7_000_u32 {
        let network = match number % 5 {
            0 => {
                let first = (random.below(1 << 32) as u128) << 64 | 0x2000 << 112;
                IpNet::from(Ipv6Net::new(Ipv6Addr::from(first), 64).expect("a length"))
            }
            _ if number == 1 => "192.0.3.0/24".parse().expect("a network"),
            1 => IpNet::from(
                Ipv4Net::new(Ipv4Addr::from(random.below(1 << 32) as u32), 24).expect("a length"),
            ),
            _ => IpNet::from(IpAddr::from(Ipv4Addr::from(random.below(1 << 32) as u32))),
        };
        let prefix = Prefix::new(AddressOf::Answer, network.trunc()).expect("a small network");
        builder
            .insert_prefix(prefix, 0, &Effect::default())
            .expect("room");
    }
}

/// 5,000 patterns in the last list, in the shapes that lists of trackers have.
fn patterns(builder: &mut Builder) {
    const PARTS: [&str; 16] = [
        "trk", "pix", "adv", "metr", "stat", "bann", "clic", "spon", "tele", "coun", "aff", "beac",
        "insi", "popu", "rtb", "sync",
    ];
    let mut random = Random(5);
    let mut word = || {
        let parts = (0..3).map(|_| PARTS[random.below(PARTS.len())]);
        parts.collect::<String>()
    };
    for number in 0..5_000 {
        let (word, other) = (word(), word());
        let pattern = match number % 5 {
            0 => format!(r"(^|\.){word}[0-9]*\."),
            1 => format!(r"^{word}[a-z0-9-]*\.{other}\."),
            2 => format!(r"{word}s?\.{other}[0-9]+"),
            3 => format!(r"^.*\.{word}{other}\..*$"),
            _ => format!(r"{word}[_.-]?{other}$"),
        };
        let list = LISTS as u16 - 1;
        builder
            .insert_pattern(&pattern, list, &Effect::default())
            .expect("room");
    }
}

/// 5,000 rules with conditions in the last list, none of them on a name that is looked up or above one.
fn conditions(builder: &mut Builder) {
    for number in 0..5_000_u16 {
        let types = Some(TypeSet::Only([rtype::AAAA, number % 100 + 256].into()));
        let condition = Condition::new(types, []).expect("small");
        let effect = Effect {
            condition: Some(Box::new(condition)),
            ..Effect::default()
        };
        let name = Name::from_text(&format!("n{number}.conditions.example")).expect("a name");
        builder
            .insert_effect(&name, LISTS as u16 - 1, Scope::Subtree, &effect)
            .expect("room");
    }
}

/// An image of nine lists. `effects` is the number of different effects; the names get them in turn.
fn image(names: &[Name], effects: usize) -> Image {
    image_with(names, effects, &|_| {})
}

/// The same with more rules.
fn image_with(names: &[Name], effects: usize, extra: &dyn Fn(&mut Builder)) -> Image {
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
    extra(&mut builder);
    builder.finish().expect("room")
}

fn named(list: usize) -> String {
    format!("list{list}")
}

/// All lists in a random order, the first of them with another action.
fn view(random: &mut Random) -> View {
    let mut lists: Vec<usize> = (0..LISTS).collect();
    for at in (1..LISTS).rev() {
        lists.swap(at, random.below(at + 1));
    }
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
            allows_across: false,
            zone: None,
            paused: false,
        })
    });
    let images = Arc::clone(image).into();
    let mut snapshot = Snapshot::default().with_views(sources.collect(), images, views);
    let loopback = IpNet::from(Ipv4Net::new(Ipv4Addr::LOCALHOST, 8).expect("a length"));
    snapshot.clients = [loopback].iter().collect();
    snapshot
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
fn decide(snapshot: &Snapshot, names: &[&Name], keys: &[LookupKey]) -> f64 {
    let mut blocked = 0;
    let start = Instant::now();
    for (names, keys) in names.chunks(BATCH).zip(keys.chunks(BATCH)) {
        let mut found = [LookupResult::default(); BATCH];
        let found = &mut found[..names.len()];
        snapshot.lookup_in(names, keys, found);
        for ((name, found), key) in names.iter().zip(&*found).zip(keys) {
            let decision = snapshot.view(key.view).decide_by(name, found);
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
