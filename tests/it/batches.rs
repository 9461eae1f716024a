//! Answers of a worker to batches of messages: each is the answer that the message gets alone.

use std::collections::HashMap;
use std::net::{IpAddr, UdpSocket};
use std::thread;

use tapis::policy::condition::{Condition, TypeSet};
use tapis::policy::effect::Effect;
use tapis::policy::rule::Scope;
use tapis::policy::snapshot::Snapshot;
use tapis::serve::client::{Client, Transport};
use tapis::serve::respond::respond;
use tapis::serve::step::Step;
use tapis::wire::name::Name;

use crate::support::client::PATIENCE;
use crate::support::data_plane::{self, DataPlane};
use crate::support::policy;

/// The number of messages that are sent together.
const TOGETHER: usize = 48;

fn name(text: &str) -> Name {
    Name::from_text(text).expect("a name")
}

/// Names of all sizes: from the root to 126 labels, and labels of 1 to 63 bytes.
fn names() -> Vec<Name> {
    let long = "l".repeat(63);
    let texts = [
        ".".to_owned(),
        "org".to_owned(),
        "blocked.org".to_owned(),
        "a.blocked.org".to_owned(),
        "below.tree.org".to_owned(),
        "blocked.orgs".to_owned(),
        "blockedx.org".to_owned(),
        "b.d.org".to_owned(),
        "sixteen-bytes-xx.org".to_owned(),
        "seventeen-bytes-x.org".to_owned(),
        format!("{long}.org"),
        format!("{long}.{long}.{long}.{}.org", "m".repeat(57)),
        "d.".repeat(125) + "org",
        "d.".repeat(60) + "org",
        r"\255\000.org".to_owned(),
    ];
    texts.iter().map(|text| name(text)).collect()
}

fn snapshot() -> Snapshot {
    let exact = [
        "blocked.org",
        "seventeen-bytes-x.org",
        r"\255\000.org",
        &("d.".repeat(60) + "org"),
        &format!("{}.org", "l".repeat(63)),
    ];
    let (exact, tree) = (exact.map(name), name("tree.org"));
    let limited = name("b.d.org");
    let condition = Condition::new(Some(TypeSet::Only([28].into())), []);
    let only = Effect {
        condition: condition.ok().map(Box::new),
        ..Effect::default()
    };
    let rules = exact
        .iter()
        .map(|name| (name, Scope::Exact, Effect::default()));
    let more = [
        (&tree, Scope::Subtree, Effect::default()),
        (&limited, Scope::Exact, only),
    ];
    policy::snapshot_with_effects("127.0.0.0/8", rules.chain(more))
}

/// A query without RD. Names that are not blocked are refused, so that upstream is not needed.
fn query(id: u16, name: &Name) -> Vec<u8> {
    let head = b"\0\0\0\x01\0\0\0\0\0\0";
    [&id.to_be_bytes(), &head[..], name.wire(), b"\0\x01\0\x01"].concat()
}

/// Queries for all names, each of type A and AAAA, and damaged in several ways.
fn messages() -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for name in names() {
        for damage in 0..5 {
            let mut message = query(messages.len() as u16, &name);
            let rtype = message.len() - 3;
            match damage {
                0 => {}
                4 => message[rtype] = 28,
                1 => drop(message.pop()),
                2 => message.truncate(12 + name.wire().len() / 2),
                _ => message[12] = 0xC0,
            }
            messages.push(message);
        }
    }
    messages
}

#[test]
fn a_message_of_a_batch_is_answered_as_if_it_were_alone() {
    let runtime = data_plane::runtime();
    let _inside = runtime.enter();
    let plane = DataPlane::without_upstream(snapshot());
    let udp = plane.udp_worker(1);
    let socket = UdpSocket::bind((IpAddr::from([127, 0, 0, 1]), 0)).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let client = Client::new(socket.local_addr().expect("bound"), Transport::Udp);
    let (snapshot, messages) = (snapshot(), messages());
    let expected: Vec<_> = messages
        .iter()
        .map(|message| {
            let mut out = Vec::new();
            let cache = &plane.shared.cache;
            match respond(0, &client, message, &snapshot, cache, &mut out) {
                Step::Reply(_) => out,
                other => panic!("{message:?}: {other:?}"),
            }
        })
        .collect();
    let mut buffer = [0; 2048];
    let mut answers = |together: &[Vec<u8>]| -> HashMap<Vec<u8>, Vec<u8>> {
        let mut answer = |_| {
            let size = socket.recv(&mut buffer).expect("an answer");
            (buffer[..2].to_vec(), buffer[..size].to_vec())
        };
        together.iter().map(&mut answer).collect()
    };
    let send = |together: &[Vec<u8>]| {
        for message in together {
            socket.send_to(message, udp.address).expect("sent");
        }
    };
    let mut order: Vec<usize> = (0..messages.len()).collect();
    // The first messages wait before the worker begins, and so they are one batch.
    send(&messages[..TOGETHER]);
    let worker = udp.worker;
    let thread = thread::spawn(move || worker.run().expect("it ran"));
    answers(&messages[..TOGETHER]);
    for round in 1..10 {
        // In each round, each name is parsed over another one.
        order.rotate_left(7 * round % messages.len());
        for some in order.chunks(TOGETHER) {
            let together: Vec<_> = some.iter().map(|&at| messages[at].clone()).collect();
            send(&together);
            let answers = answers(&together);
            for &at in some {
                assert_eq!(answers[&messages[at][..2]], expected[at], "{at}");
            }
        }
    }
    drop(udp.signal);
    thread.join().expect("no panic");
}
