//! Counts the allocations of a worker thread: answers that need no upstream must not allocate.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::thread;

use allocation_counter::measure;
use tapis::config::Recording;
use tapis::config::recording::QueryLog;
use tapis::policy::condition::{Condition, TypeSet};
use tapis::policy::effect::Effect;
use tapis::policy::rule::Scope;
use tapis::policy::snapshot::Snapshot;
use tapis::recorder::Recorder;
use tapis::serve::cache::{Cache, Entry, Key};
use tapis::serve::observe::Observer;
use tapis::stats::{Count, Counters};
use tapis::wire::answer::Answer;
use tapis::wire::name::Name;
use tapis::wire::query::Query;
use tapis::wire::rtype;

use crate::support::client::{PATIENCE, until};
use crate::support::data_plane::{self, DataPlane, INTAKE, Limits};
use crate::support::local::local_names;
use crate::support::policy;

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

/// A policy with blocked.example, a subtree that a CNAME leads to, and two rules with conditions on another name, of which one
/// holds.
fn snapshot() -> Snapshot {
    let names = ["blocked.example", "tracker.example", "limited.example"].map(name);
    let [blocked, target, limited] = &names;
    let only = |qtype: u16| {
        let types = Some(TypeSet::Only([qtype].into()));
        let condition = Condition::new(types, [name("free.limited.example")]);
        Effect {
            condition: Some(Box::new(condition.expect("small"))),
            ..Effect::default()
        }
    };
    let rules = [
        (blocked, Scope::Exact, Effect::default()),
        (target, Scope::Subtree, Effect::default()),
        (limited, Scope::Exact, only(rtype::AAAA)),
        (limited, Scope::Subtree, only(rtype::A)),
    ];
    let mut snapshot = policy::snapshot_with_effects("127.0.0.0/8", rules).with_slots(|_| Some(0));
    // An address, an alias of it, an alias of a name that is not local, and a wildcard.
    snapshot.local = local_names(&[
        ("a.home.example", 1, &[192, 0, 2, 7]),
        ("alias.home.example", 5, name("a.home.example").wire()),
        ("tv.home.example", 5, name("tv.example.net").wire()),
        ("*.dev.example", 28, &[0; 16]),
    ]);
    snapshot
}

/// Caches an answer to `asked`: these records after the question.
fn learn(cache: &Cache, asked: &str, count: u8, records: &[u8]) {
    let name = name(asked);
    let mut bytes = vec![0xBE, 0xEF, 0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0];
    bytes.extend_from_slice(name.wire());
    bytes.extend_from_slice(b"\x00\x01\x00\x01");
    bytes.extend_from_slice(records);
    let answer = Answer::parse(&bytes, &name, 1, 1, INTAKE).expect("an answer");
    let packet = query(&name);
    let key = Key::new(&Query::parse(&packet, &mut Name::default()).expect("a query"));
    cache.insert(key, Arc::new(Entry::new(answer, 0)));
}

/// The number of allocations of a worker that answers each of the names `rounds` times, and its
/// counters.
fn allocations<O: Observer + Clone>(
    rounds: usize,
    observer: impl FnOnce(&Arc<Counters>) -> O,
) -> (u64, [u64; 4]) {
    let runtime = data_plane::runtime();
    let _inside = runtime.enter();
    let limits = Limits {
        waiting: 16,
        discard: PATIENCE,
    };
    let closed_port = ([127, 0, 0, 1], 9).into();
    let plane = DataPlane::new(snapshot(), closed_port, &limits, observer);
    let cache = &plane.shared.cache;
    let address = b"\xC0\x0C\x00\x01\x00\x01\x00\x00\x0E\x10\x00\x04\xC0\x00\x02\x01";
    learn(cache, "cached.example", 1, address);
    learn(cache, "tv.example.net", 1, address);
    let target = b"\x01a\x07tracker\x07example\x00";
    let alias = b"\xC0\x0C\x00\x05\x00\x01\x00\x00\x0E\x10\x00\x13";
    let chain = [&alias[..], target, target, &address[2..]].concat();
    learn(cache, "alias.example", 2, &chain);
    let udp = plane.udp_worker(1);
    let worker = udp.worker;
    let policy = plane.shared.policy.clone();
    let run = move || {
        // A thread's first load of an `ArcSwap` takes a node from a list of the process, and allocates it if no thread that
        // has ended left one there (`arc_swap::debt::list::Node::get`).
        drop(policy.load());
        measure(|| worker.run().expect("it ran")).count_total
    };
    let thread = thread::spawn(run);
    let client = UdpSocket::bind((IpAddr::from([127, 0, 0, 1]), 0)).expect("a socket");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let names = [
        "blocked.example",
        "limited.example",
        "cached.example",
        "alias.example",
        "a.localhost",
        "a.home.example",
        "alias.home.example",
        "tv.home.example",
        "x.dev.example",
    ];
    let packets = names.map(|text| query(&name(text)));
    let mut buffer = [0; 512];
    for _ in 0..rounds {
        // Sent together, so that batches have several messages.
        for packet in &packets {
            client.send_to(packet, udp.address).expect("sent");
        }
        for _ in &packets {
            client.recv(&mut buffer).expect("an answer");
        }
    }
    drop(udp.signal);
    let count = thread.join().expect("no panic");
    let counts = [
        Count::Blocked,
        Count::CacheHits,
        Count::BlockedTarget,
        Count::Local,
    ];
    (count, counts.map(|count| plane.counters.read(count)))
}

#[test]
fn blocked_cached_and_local_answers_do_not_allocate() {
    let (few, _) = allocations(3, Arc::clone);
    let (many, counts) = allocations(300, Arc::clone);
    assert_eq!(counts, [600, 300, 300, 5 * 300], "each was answered inline");
    assert_eq!(few, many, "a worker allocates only at its start");
}

#[test]
fn a_worker_whose_queries_are_recorded_does_not_allocate() {
    let folder = tempfile::tempdir().expect("a folder");
    let recorder = Recorder::start(1, |_| None).expect("started");
    recorder.configure(&Recording {
        query_log: QueryLog {
            file: Some(folder.path().join("queries.jsonl")),
            ..QueryLog::default()
        },
        ..Recording::default()
    });
    until("it records", || recorder.is_on());
    let of = |rounds| {
        let tap = recorder.tap(0);
        allocations(rounds, |counters| (Arc::clone(counters), tap))
    };
    let (few, _) = of(3);
    let (many, _) = of(300);
    assert_eq!(few, many, "a worker allocates only at its start");
    recorder.stop();
    let lines = std::fs::read_to_string(folder.path().join("queries.jsonl")).expect("readable");
    let log = recorder.report().query_log.expect("it is on");
    assert_eq!(lines.lines().count() as u64, log.recorded);
    assert_eq!((log.recorded, log.dropped), (9 * 303, 0));
}
