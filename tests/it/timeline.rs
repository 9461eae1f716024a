//! A server's history, compressed to seconds: `why --at` and `journal export` must agree with what a
//! client received at each instant.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::history::{kept, run};
use crate::orders::{order, target};
use crate::support::client::{Port, data, errors, is_blocked, query, until};
use crate::support::server::{Server, folder, list, preamble};
use crate::support::upstream::Upstream;

/// The interval between two passes over all names.
const TICK: Duration = Duration::from_millis(50);
/// The client's timeout. A query stays without an answer if the server is killed meanwhile.
const LOST: Duration = Duration::from_secs(3);
/// A generation can come into force this long after its journal entry; `why --at` reports `unknown`
/// in this window if the previous generation answers differently.
const SETTLING: SignedDuration = SignedDuration::from_millis(250);

/// An answer that a client received.
#[derive(Debug)]
struct Received {
    data: Vec<String>,
    errors: Vec<String>,
}

#[derive(Debug)]
struct Observation {
    before: Timestamp,
    after: Timestamp,
    received: Option<Received>,
}

/// A client that queries all names repeatedly and records each answer.
struct Client {
    names: Vec<String>,
    /// Locked during a query. `None` while no server runs.
    server: Mutex<Option<SocketAddr>>,
    seen: Mutex<Vec<Vec<Observation>>>,
}

impl Client {
    fn work(&self, end: &Receiver<()>) {
        while end.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            let Some(server) = &*self.server.lock().expect("not poisoned") else {
                continue;
            };
            for (at, name) in self.names.iter().enumerate() {
                let before = Timestamp::now();
                let received = received(*server, name);
                let after = Timestamp::now();
                let mut seen = self.seen.lock().expect("not poisoned");
                seen[at].push(Observation {
                    before,
                    after,
                    received,
                });
            }
        }
    }

    /// Sends later queries to another server.
    fn follow(&self, server: Option<SocketAddr>) {
        *self.server.lock().expect("not poisoned") = server;
    }

    /// The number of queries without an answer.
    fn missed(&self) -> usize {
        let seen = self.seen.lock().expect("not poisoned");
        let all = seen.iter().flatten();
        all.filter(|seen| seen.received.is_none()).count()
    }
}

fn received(server: SocketAddr, name: &str) -> Option<Received> {
    let port = Port::open(server);
    port.0.set_read_timeout(Some(LOST)).expect("a timeout");
    let query = query(name, RecordType::A).to_vec().expect("a message");
    port.0.send(&query).ok()?;
    let mut buffer = [0; 1232];
    let len = port.0.recv(&mut buffer).ok()?;
    let answer = Message::from_vec(&buffer[..len]).expect("an answer that can be read");
    let errors = errors(&answer).into_iter();
    Some(Received {
        data: data(&answer),
        errors: errors
            .map(|(code, text)| format!("{code} {text}"))
            .collect(),
    })
}

/// A generation in `journal export`.
struct Publication {
    at: Timestamp,
    /// When it came into force, according to the log.
    logged: Timestamp,
    /// Orders in force.
    orders: BTreeSet<String>,
    /// Names of the exceptions in force.
    exceptions: BTreeSet<String>,
}

/// The history of the day, according to the journal and the logs.
struct History {
    publications: Vec<Publication>,
    /// Instants at which the known policy can change.
    bounds: Vec<Timestamp>,
}

fn time(value: &Value) -> Timestamp {
    let text = value.as_str().expect("a text");
    text.parse().expect("a time")
}

impl History {
    fn read(entries: &[Value], logged: &BTreeMap<u64, Timestamp>) -> Self {
        let (mut publications, mut bounds) = (Vec::new(), Vec::new());
        let (mut orders, mut exceptions) = (BTreeSet::new(), BTreeSet::new());
        for entry in entries {
            let at = time(&entry["at"]);
            let rows = |key: &str| entry[key].as_array().into_iter().flatten();
            let names = |key: &str| {
                let name = |one: &Value| one["name"].as_str().expect("a name").to_owned();
                rows(key).map(name).collect::<Vec<_>>()
            };
            match entry["event"].as_str().expect("a word") {
                "published" => {}
                "start" => {
                    bounds.extend(entry.get("ran_until").map(time));
                    bounds.push(at);
                    continue;
                }
                _ => continue,
            }
            for turn in rows("states") {
                let order = turn["order"].as_str().expect("an id").to_owned();
                match turn["now"] == "in-force" {
                    true => orders.insert(order),
                    false => orders.remove(&order),
                };
            }
            exceptions.extend(names("exceptions"));
            exceptions.extend(names("exceptions_resumed"));
            for gone in names("exceptions_gone")
                .iter()
                .chain(&names("exceptions_ended"))
            {
                exceptions.remove(gone);
            }
            let generation = entry["generation"].as_u64().expect("a number");
            bounds.push(at);
            publications.push(Publication {
                at,
                logged: *logged.get(&generation).expect("the log has it"),
                orders: orders.clone(),
                exceptions: exceptions.clone(),
            });
        }
        bounds.sort();
        Self {
            publications,
            bounds,
        }
    }

    /// The number of bounds before an instant. The known policy is constant between two bounds,
    /// except just after a journal entry.
    fn part(&self, at: Timestamp) -> usize {
        self.bounds.partition_point(|bound| *bound <= at)
    }

    /// The generation in force at an instant, by its journal entry.
    fn publication(&self, at: Timestamp) -> Option<&Publication> {
        self.publications.iter().rev().find(|one| one.at <= at)
    }

    fn is_fresh(&self, at: Timestamp) -> bool {
        let last = self.publication(at);
        last.is_some_and(|last| at.duration_since(last.at) < SETTLING)
    }

    /// Whether a generation was being published while the client waited.
    fn overlaps_publication(&self, seen: &Observation) -> bool {
        let mut all = self.publications.iter();
        all.any(|one| seen.before <= one.logged && one.at <= seen.after)
    }
}

fn why(server: &Server, name: &str, at: Timestamp) -> Value {
    let output = server.verb(&["why", name, "--json", "--at", &at.to_string()]);
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn is_unknown(why: &Value) -> bool {
    why["decision"] == "unknown"
}

/// Whether the explanation predicts the client's answer.
fn agrees(why: &Value, received: Option<&Received>) -> bool {
    let texts = |key: &str| -> Vec<&str> {
        let all = why["answer"][key].as_array().expect("an array").iter();
        all.map(|text| text.as_str().expect("a text")).collect()
    };
    let Some(received) = received else {
        return is_unknown(why) || why["decision"] == "stopped";
    };
    if why["answer"].is_null() {
        let word = why["decision"].as_str().expect("a word");
        return ["upstream", "allowed", "excepted"].contains(&word)
            && received.data == ["192.0.2.1"];
    }
    let records = texts("records").into_iter();
    let data = records.filter_map(|record| record.split(' ').next_back());
    data.eq(received.data.iter()) && texts("ede") == received.errors
}

/// Compares the answers for a name with the explanations. Returns the number of answers and how
/// many of them are explained as unknown.
fn compare(server: &Server, history: &History, name: &str, seen: &[Observation]) -> (usize, usize) {
    let mut parts = BTreeMap::<usize, Vec<&Observation>>::new();
    for one in seen {
        parts.entry(history.part(one.before)).or_default().push(one);
    }
    let last = |seen: &[&Observation]| seen.last().expect("no part is empty").before;
    let verdicts = parts.iter();
    let verdicts: BTreeMap<usize, Value> = verdicts
        .map(|(part, seen)| (*part, why(server, name, last(seen))))
        .collect();
    let (mut answers, mut unknown) = (0, 0);
    for (part, seen) in &parts {
        let settled = &verdicts[part];
        let before = part.checked_sub(1).and_then(|before| verdicts.get(&before));
        let is_same = before.is_some_and(|before| {
            ["decision", "answer"]
                .iter()
                .all(|key| before[key] == settled[key])
        });
        let mut fresh = None;
        for one in seen {
            let verdict = match history.is_fresh(one.before) && !is_same {
                true => fresh.get_or_insert_with(|| why(server, name, one.before)),
                false => settled,
            };
            answers += usize::from(one.received.is_some());
            if one.received.is_some() && is_unknown(verdict) {
                unknown += 1;
                continue;
            }
            let agrees = |verdict: &Value| agrees(verdict, one.received.as_ref());
            let mut neighbours = part.saturating_sub(1)..=part + 1;
            let mut is_either = || {
                history.overlaps_publication(one)
                    && neighbours.any(|part| verdicts.get(&part).is_some_and(agrees))
            };
            assert!(agrees(verdict) || is_either(), "{name}: {one:?}: {verdict}");
            if let Some(received) = one
                .received
                .as_ref()
                .filter(|_| !history.is_fresh(one.before) && !history.overlaps_publication(one))
            {
                compare_with_export(history, name, one.before, received);
            }
        }
    }
    (answers, unknown)
}

/// Compares an answer with the orders and exceptions in force according to the journal.
fn compare_with_export(history: &History, name: &str, at: Timestamp, received: &Received) {
    let known = history.publication(at).expect("it was served");
    let excepted = known.exceptions.contains(name);
    assert!(
        !excepted || received.data == ["192.0.2.1"],
        "{name} at {at}: {received:?}"
    );
    let order = received
        .errors
        .iter()
        .find_map(|error| error.strip_prefix("16 order "));
    let order = order
        .and_then(|text| text.split_once(':'))
        .map(|(id, _)| id);
    let id = name.trim_end_matches(".example");
    let expected = known.orders.contains(id).then_some(id);
    assert_eq!(order, expected, "{name} at {at}");
}

/// The content of the list's file.
fn ads(numbers: std::ops::Range<usize>, more: &str) -> String {
    let names = numbers.map(|number| format!("ads-{number}.example\n"));
    names.chain([format!("{more}\n")]).collect()
}

fn exception(name: &str, more: &str) -> String {
    format!(
        "[[exception]]\nname = \"{name}\"\nscope = \"exact\"\nagainst = [\"all\"]\nreason = \"a test\"\n\
         author = \"me\"\n{more}\n"
    )
}

/// Records when each generation came into force, according to the log.
fn logged(server: &Server, entries: &[Value], times: &mut BTreeMap<u64, Timestamp>) {
    // A log line may be written after the journal entry.
    until("the log", || {
        for line in server.log().lines() {
            if let Some((start, generation)) = line.split_once(" INFO published generation=") {
                let at = start.trim().parse().expect("a time");
                times.insert(generation.trim().parse().expect("a number"), at);
            }
        }
        let mut published = entries.iter().filter(|entry| entry["event"] == "published");
        published.all(|entry| times.contains_key(&entry["generation"].as_u64().expect("a number")))
    });
}

fn export(server: &Server) -> Vec<Value> {
    let output = server.verb(&["journal", "export"]);
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Runs a verb that must succeed.
fn succeed(server: &Server, arguments: &[&str]) {
    let (code, text) = run(server, arguments);
    assert_eq!(code, Some(0), "{text}");
}

/// The events of the day, up to the kill of the server.
fn run_day(server: &Server) {
    let blocked = |name: &str| is_blocked(server.address, name);
    let begin = Timestamp::now();
    let at = |seconds| begin + SignedDuration::from_secs(seconds);
    let exact = |name: &str| target(name, "exact");
    for (id, dates) in [
        (
            "x-3",
            format!(
                "effective-from = 2020-01-01T00:00:00Z\nexpires-at = {}",
                at(18)
            ),
        ),
        (
            "x-1",
            format!("effective-from = {}\nexpires-at = {}", at(2), at(10)),
        ),
        ("x-2", format!("effective-from = {}", at(3))),
    ] {
        let text = order(id, &dates, &exact(&format!("{id}.example")));
        server.replace(&format!("orders/{id}.toml"), &text);
    }
    until("the third order", || blocked("x-3.example"));
    until("the first order", || blocked("x-1.example"));
    until("the second order", || blocked("x-2.example"));

    let soon = Timestamp::now() + SignedDuration::from_secs(6);
    let exceptions = exception("ads-6.example", &format!("until = {}", soon));
    let exceptions = exceptions + &exception("ads-7.example", "");
    server.replace("exceptions/mine.toml", &exceptions);
    until("the exceptions", || {
        !blocked("ads-6.example") && !blocked("ads-7.example")
    });

    kept(server, 1);
    server.replace("ads", &ads(0..10, "new-1.example"));
    until("the first edit", || blocked("new-1.example"));
    kept(server, 2);
    let first = server.status()["generation"].to_string();
    server.replace("ads", &ads(0..10, "new-2.example"));
    until("the second edit", || blocked("new-2.example"));
    kept(server, 3);

    server.replace("ads", &ads(0..8, "new-2.example"));
    assert_eq!(run(server, &["reload"]).0, Some(1), "held");
    assert!(blocked("ads-9.example"));
    succeed(server, &["reload", "--accept", "ads:shrunk"]);
    assert!(!blocked("ads-9.example"));
    kept(server, 4);

    succeed(server, &["rollback", &first]);
    assert!(blocked("ads-9.example") && blocked("new-1.example") && !blocked("new-2.example"));
    // The smaller number of names was accepted before.
    succeed(server, &["rollback", "--release"]);
    assert!(!blocked("ads-9.example") && !blocked("new-1.example") && blocked("new-2.example"));

    until("the end of the first order", || !blocked("x-1.example"));
    until("the end of an exception", || blocked("ads-6.example"));
    // A killed server is known to have run until its last heartbeat.
    let heartbeat = || fs::read_to_string(server.path("state/journal.jsonl.alive"));
    let last = heartbeat().expect("readable");
    until("a heartbeat", || heartbeat().expect("readable") != last);
    server.signal("KILL");
}

#[test]
fn reports_about_the_past_match_what_a_client_received() {
    let upstream = Upstream::plain();
    let config = preamble(upstream.address)
        + "[state]\ndir = \"state\"\nkeep = 10\n[orders]\npath = \"orders\"\n\
           [exceptions]\npath = \"exceptions\"\n[guard]\nshrink-percent = 10\n"
        + &list("ads", "");
    let files = [("ads", &*ads(0..10, ""))];
    let folder = folder(&config, &files);
    for name in ["orders", "exceptions"] {
        fs::create_dir(folder.path().join(name)).expect("made");
    }
    let mut server = Server::start_in(folder);
    let names = (0..10).map(|number| format!("ads-{number}.example"));
    let names = names.chain((0..10).map(|number| format!("free-{number}.example")));
    let others = ["new-1", "new-2", "x-1", "x-2", "x-3"];
    let names: Vec<_> = names
        .chain(others.map(|name| format!("{name}.example")))
        .collect();
    let client = Client {
        seen: Mutex::new(names.iter().map(|_| Vec::new()).collect()),
        names,
        server: Mutex::new(Some(server.address)),
    };
    let mut times = BTreeMap::new();
    let server = std::thread::scope(|scope| {
        let (end, wait) = channel();
        scope.spawn(|| client.work(&{ wait }));
        run_day(&server);
        server.wait();
        until("a query without an answer", || client.missed() > 0);
        client.follow(None);
        logged(&server, &export(&server), &mut times);
        let server = server.again();
        client.follow(Some(server.address));
        until("the end of the third order", || {
            !is_blocked(server.address, "x-3.example")
        });
        let ended = Timestamp::now() + SETTLING;
        until("a moment after that", || Timestamp::now() > ended);
        drop(end);
        server
    });

    let entries = export(&server);
    logged(&server, &entries, &mut times);
    let happened = |what: &dyn Fn(&Value) -> bool| entries.iter().any(what);
    assert!(happened(&|entry| entry["event"] == "refused"), "a guard");
    assert!(happened(&|entry| !entry["held"].is_null()), "a rollback");
    assert!(happened(&|entry| !entry["ran_until"].is_null()), "a kill");
    let history = History::read(&entries, &times);
    let seen = client.seen.into_inner().expect("not poisoned");
    let all: Vec<_> = client.names.iter().zip(&seen).collect();
    let (answers, unknown) = std::thread::scope(|scope| {
        let (server, history) = (&server, &history);
        let parts = all.chunks(all.len().div_ceil(2)).map(|part| {
            scope.spawn(move || {
                let each = part
                    .iter()
                    .map(|(name, seen)| compare(server, history, name, seen));
                each.fold((0, 0), |sum, each| (sum.0 + each.0, sum.1 + each.1))
            })
        });
        let parts: Vec<_> = parts.collect();
        let sums = parts.into_iter().map(|part| part.join().expect("compared"));
        sums.fold((0, 0), |sum, each| (sum.0 + each.0, sum.1 + each.1))
    });
    assert!(
        unknown * 50 <= answers,
        "{unknown} of {answers} answers are unknown"
    );
}
