//! Observers see each query once, however it ends; and a new transport needs only the dispatcher.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use tapis::policy::effect::{Effect, EffectAction};
use tapis::policy::rule::Scope;
use tapis::policy::snapshot::Snapshot;
use tapis::serve::admission::{Admission, Bounds};
use tapis::serve::client::{Client, Transport};
use tapis::serve::observe::{Finished, Observer};
use tapis::serve::pending::Dispatched;
use tapis::serve::resolver::Resolver;
use tapis::serve::shared::Setting;
use tapis::serve::transport::stream::Streams;
use tapis::stats::{Count, Counters};
use tapis::wire::name::{Name, write_text};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::client::{PATIENCE, Port, Stream, exchange, query, until};
use crate::support::data_plane::{DataPlane, Limits};
use crate::support::policy;
use crate::support::upstream::{Upstream, address_of, alias, answer, name, soa};

/// An observed query.
#[derive(Clone, Debug, PartialEq)]
struct Observation {
    id: u16,
    transport: Transport,
    name: Option<String>,
    outcome: Option<Count>,
    rcode: Option<u8>,
    source: Option<String>,
    has_answer: bool,
}

/// Records its observations.
#[derive(Default)]
struct Recorder(Mutex<Vec<Observation>>);

impl Observer for Recorder {
    fn finished(&self, query: &Finished<'_>) {
        assert!(query.client.address.is_loopback() && query.client.port != 0);
        assert!(query.took() < PATIENCE);
        assert_eq!(query.response.is_some(), query.response_len() > 0);
        let text = |name: Name| {
            let mut text = String::new();
            write_text(name.wire(), &mut text).expect("a string accepts all");
            text
        };
        let seen = Observation {
            id: u16::from_be_bytes([query.packet[0], query.packet[1]]),
            transport: query.client.transport,
            name: query.name().map(text),
            outcome: query.outcome,
            rcode: query.rcode(),
            source: query.matched().map(|matched| matched.source.name.clone()),
            has_answer: query.response.is_some(),
        };
        self.0.lock().expect("not poisoned").push(seen);
    }
}

type Observers = (Arc<Counters>, Arc<Recorder>);

/// A data plane with two observers; only 127.0.0.1 has permission.
struct Plane {
    runtime: Runtime,
    data: DataPlane<Observers>,
    recorder: Arc<Recorder>,
}

/// Upstream answers SERVFAIL for `fails.example`, and does not answer for `silent.example`.
fn upstream() -> Upstream {
    Upstream::start(|asked| match name(asked).as_str() {
        "silent.example" => None,
        "fails.example" => Some(answer(asked, ResponseCode::ServFail)),
        _ => Some(address_of(asked, [192, 0, 2, 1])),
    })
}

impl Plane {
    fn new(upstream: SocketAddr, waiting: usize, discard: Duration) -> Self {
        let blocked = Name::from_text("blocked.example").expect("a name");
        let snapshot = policy::snapshot("127.0.0.1/32", [(&blocked, Scope::Exact)]);
        Self::with(snapshot, upstream, &Limits { waiting, discard })
    }

    fn with(snapshot: Snapshot, upstream: SocketAddr, limits: &Limits) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let inside = runtime.enter();
        let recorder = Arc::<Recorder>::default();
        let observers = |counters: &Arc<Counters>| (Arc::clone(counters), recorder.clone());
        let data = DataPlane::new(snapshot, upstream, limits, observers);
        drop(inside);
        Self {
            runtime,
            data,
            recorder,
        }
    }

    /// Serves by UDP while `talk` runs. The server ends before this returns.
    fn by_udp(&self, talk: impl FnOnce(SocketAddr)) {
        let _inside = self.runtime.enter();
        let udp = self.data.udp_worker(4);
        let sockets = Arc::new(udp.worker.sockets.clone());
        self.data.sockets.store(sockets);
        let tracker = TaskTracker::new();
        let jobs = Arc::clone(&self.data.resolver).run_jobs(udp.jobs, tracker.clone());
        let jobs = self.runtime.spawn(jobs);
        let thread = thread::spawn(move || udp.worker.run().expect("it ran"));
        talk(udp.address);
        drop(udp.signal);
        thread.join().expect("no panic");
        self.runtime.block_on(jobs).expect("no panic");
        tracker.close();
        self.runtime.block_on(tracker.wait());
    }

    /// The same by TCP.
    fn by_tcp(&self, talk: impl FnOnce(SocketAddr)) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0");
        let listener = self.runtime.block_on(listener).expect("bound");
        let server = listener.local_addr().expect("bound");
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        let bounds = Bounds {
            all: 8,
            per_client: 8,
        };
        let streams = Arc::new(Streams {
            shared: self.data.shared.clone(),
            resolver: Arc::clone(&self.data.resolver),
            counters: self.data.counters.clone(),
            connections: Arc::new(Admission::new(bounds)),
            transfers: Arc::default(),
            idle: Setting::new(PATIENCE),
            stop: stop.clone(),
            tracker: tracker.clone(),
            leaving: Default::default(),
        });
        let accept = self.runtime.spawn(streams.accept(listener, stop.clone()));
        talk(server);
        stop.cancel();
        self.runtime.block_on(accept).expect("no panic");
        tracker.close();
        self.runtime.block_on(tracker.wait());
    }

    fn seen(&self) -> Vec<Observation> {
        self.recorder.0.lock().expect("not poisoned").clone()
    }

    fn count(&self, count: Count) -> u64 {
        self.data.counters.read(count)
    }

    /// The outcomes of these messages in this order. Each must have been observed once, and no other message may
    /// have been observed.
    #[track_caller]
    fn outcomes(&self, ids: &[u16]) -> Vec<(Option<Count>, Option<u8>)> {
        let seen = self.seen();
        let of = |id: &u16| {
            let mut of: Vec<_> = seen.iter().filter(|seen| seen.id == *id).collect();
            assert_eq!(of.len(), 1, "{id} of {seen:?}");
            let one = of.remove(0);
            assert_eq!(one.has_answer, one.rcode.is_some());
            (one.outcome, one.rcode)
        };
        assert_eq!(seen.len(), ids.len(), "{seen:?}");
        ids.iter().map(of).collect()
    }
}

/// A query with this ID.
fn numbered(id: u16, name: &str) -> Message {
    let mut message = query(name, RecordType::A);
    message.metadata.id = id;
    message
}

fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().expect("a message")
}

/// An ID, the message with this ID, the expected outcome, and the response code of the expected answer.
type OddMessage = (u16, Vec<u8>, Option<Count>, Option<u8>);

/// Messages that are answered or dropped without upstream.
fn odd_messages() -> [OddMessage; 4] {
    let mut two_questions = bytes(&numbered(12, "a.example"));
    two_questions[5] = 2;
    let mut response = bytes(&numbered(13, "a.example"));
    response[2] |= 0x80;
    let mut transfer = numbered(14, "a.example");
    transfer.queries[0].set_query_type(RecordType::AXFR);
    let short = bytes(&numbered(11, "a.example"))[..11].to_vec();
    [
        (11, short, Some(Count::Short), None),
        (12, two_questions, Some(Count::QuestionCount), Some(1)),
        (13, response, Some(Count::Response), None),
        (14, bytes(&transfer), Some(Count::Refused), Some(5)),
    ]
}

#[test]
fn each_query_by_udp_is_observed_once_however_it_ends() {
    let upstream = upstream();
    let plane = Plane::new(upstream.address, 8, PATIENCE);
    plane.by_udp(|server| {
        let port = Port::open(server);
        // In sequence: the second query of `a.example` is answered from the cache.
        for (id, name) in [
            (1, "blocked.example"),
            (2, "a.example"),
            (3, "a.example"),
            (4, "fails.example"),
            (5, "silent.example"),
        ] {
            port.send(&numbered(id, name));
            assert_eq!(port.receive().metadata.id, id);
        }
        let stranger = Port::open_at([127, 0, 0, 2], server);
        stranger.send(&numbered(6, "a.example"));
        assert_eq!(stranger.receive().metadata.id, 6);
        for (_, packet, ..) in odd_messages() {
            port.0.send(&packet).expect("sent");
        }
        until("all are observed", || plane.seen().len() == 10);
    });
    let mut expected = vec![
        (Some(Count::Blocked), Some(0)),
        (Some(Count::Resolved), Some(0)),
        (Some(Count::CacheHits), Some(0)),
        (Some(Count::Failed), Some(2)),
        (Some(Count::Failed), Some(2)),
        (Some(Count::Denied), Some(5)),
    ];
    expected.extend(odd_messages().map(|(_, _, outcome, rcode)| (outcome, rcode)));
    assert_eq!(
        plane.outcomes(&[1, 2, 3, 4, 5, 6, 11, 12, 13, 14]),
        expected
    );
    let blocked = plane.seen().into_iter().find(|seen| seen.id == 1);
    let blocked = blocked.expect("it was seen");
    assert_eq!(blocked.source.as_deref(), Some("ads"));
    assert_eq!(blocked.name.as_deref(), Some("blocked.example"));
    assert_eq!(blocked.transport, Transport::Udp);
    // The other observer saw the same.
    let counted = [
        Count::Blocked,
        Count::Resolved,
        Count::Failed,
        Count::Response,
    ];
    assert_eq!(counted.map(|count| plane.count(count)), [1, 1, 2, 1]);
}

#[test]
fn queries_without_a_permit_or_past_their_deadline_are_observed_once() {
    let upstream = upstream();
    let full = Plane::new(upstream.address, 0, PATIENCE);
    full.by_udp(|server| {
        let port = Port::open(server);
        port.send(&numbered(1, "a.example"));
        assert_eq!(port.receive().metadata.id, 1);
    });
    assert_eq!(full.outcomes(&[1]), [(Some(Count::Overloaded), Some(2))]);
    let late = Plane::new(upstream.address, 8, Duration::ZERO);
    late.by_udp(|server| {
        Port::open(server).send(&numbered(2, "a.example"));
        until("it is discarded", || late.count(Count::Discarded) == 1);
    });
    assert_eq!(late.outcomes(&[2]), [(Some(Count::Discarded), None)]);
    assert_eq!(late.seen()[0].name.as_deref(), Some("a.example"));
}

#[test]
fn a_query_that_waits_when_the_server_ends_is_observed_once() {
    let upstream = upstream();
    let plane = Plane::new(upstream.address, 8, PATIENCE);
    plane.by_udp(|server| {
        Port::open(server).send(&numbered(1, "silent.example"));
        until("it is observed", || {
            plane.data.resolver.abandon_all();
            !plane.seen().is_empty()
        });
    });
    assert_eq!(plane.outcomes(&[1]), [(None, None)]);
}

#[test]
fn each_query_by_tcp_is_observed_once_however_it_ends() {
    let upstream = upstream();
    let plane = Plane::new(upstream.address, 8, PATIENCE);
    plane.by_tcp(|server| {
        let mut stream = Stream::open(server);
        for (id, name) in [
            (1, "blocked.example"),
            (2, "a.example"),
            (3, "a.example"),
            (4, "fails.example"),
            (5, "silent.example"),
        ] {
            stream.send(&numbered(id, name));
            assert_eq!(stream.receive().expect("an answer").metadata.id, id);
        }
        for (_, packet, ..) in odd_messages() {
            let framed = [&(packet.len() as u16).to_be_bytes()[..], &packet].concat();
            std::io::Write::write_all(&mut stream.0, &framed).expect("sent");
        }
        until("all are observed", || plane.seen().len() == 9);
    });
    let mut expected = vec![
        (Some(Count::Blocked), Some(0)),
        (Some(Count::Resolved), Some(0)),
        (Some(Count::CacheHits), Some(0)),
        (Some(Count::Failed), Some(2)),
        (Some(Count::Failed), Some(2)),
    ];
    expected.extend(odd_messages().map(|(_, _, outcome, rcode)| (outcome, rcode)));
    assert_eq!(plane.outcomes(&[1, 2, 3, 4, 5, 11, 12, 13, 14]), expected);
    assert!(
        plane
            .seen()
            .iter()
            .all(|seen| seen.transport == Transport::Tcp)
    );
}

/// A list that puts garden.example in place of bad.example and of x.track.test.
fn garden() -> Snapshot {
    let name = |text: &str| Name::from_text(text).expect("a name");
    let effect = Effect {
        action: EffectAction::Cname {
            target: Arc::new(name("garden.example")),
            prepend: false,
        },
        ..Effect::default()
    };
    let owners = ["bad.example", "x.track.test"].map(name);
    let rules = owners
        .iter()
        .map(|owner| (owner, Scope::Exact, effect.clone()));
    policy::snapshot_with_effects("127.0.0.1/32", rules)
}

/// Upstream has addresses of all names, and an alias that leads from www.shop.example to x.track.test.
fn aliased() -> Upstream {
    Upstream::start(|asked| {
        if name(asked) != "www.shop.example" {
            return Some(address_of(asked, [192, 0, 2, 80]));
        }
        let mut message = answer(asked, ResponseCode::NoError);
        let record = alias("www.shop.example.", "x.track.test.", 60);
        message.answers.push(record);
        message.authorities.push(soa("track.test.", 60));
        Some(message)
    })
}

#[test]
fn a_query_for_which_two_names_are_resolved_is_answered_and_observed_once() {
    let expected: [(u16, &str, &[&str]); 3] = [
        (1, "bad.example", &["garden.example.", "192.0.2.80"]),
        (
            2,
            "www.shop.example",
            &["x.track.test.", "garden.example.", "192.0.2.80"],
        ),
        (
            3,
            "www.shop.example",
            &["x.track.test.", "garden.example.", "192.0.2.80"],
        ),
    ];
    // In the second round, the target is not in the cache when the name that leads to it is asked for.
    for (by_tcp, range) in [(false, 0..3), (false, 1..3), (true, 0..3), (true, 1..3)] {
        let upstream = aliased();
        let limits = Limits {
            waiting: 8,
            discard: PATIENCE,
        };
        let plane = Plane::with(garden(), upstream.address, &limits);
        let check = |id: u16, answer: Message| {
            let data = answer.answers.iter().map(|record| record.data.to_string());
            let (_, _, expected) = expected[usize::from(id) - 1];
            assert_eq!(data.collect::<Vec<_>>(), expected);
        };
        let asked = &expected[range];
        match by_tcp {
            true => plane.by_tcp(|server| {
                let mut stream = Stream::open(server);
                for (id, name, _) in asked {
                    stream.send(&numbered(*id, name));
                    check(*id, stream.receive().expect("an answer"));
                }
            }),
            false => plane.by_udp(|server| {
                for (id, name, _) in asked {
                    let answer = exchange(server, &numbered(*id, name), PATIENCE);
                    check(*id, answer.expect("an answer"));
                }
            }),
        }
        let ids: Vec<_> = asked.iter().map(|(id, ..)| *id).collect();
        let outcomes = plane.outcomes(&ids);
        let expected = ids.iter().map(|id| match id {
            1 => (Some(Count::Blocked), Some(0)),
            _ => (Some(Count::BlockedTarget), Some(0)),
        });
        assert_eq!(outcomes, expected.collect::<Vec<_>>());
        let sources = plane.seen().into_iter().map(|seen| seen.source);
        assert!(
            sources
                .into_iter()
                .all(|source| source.as_deref() == Some("ads"))
        );
        let mut names: Vec<_> = upstream.asked().iter().map(name).collect();
        names.sort();
        assert_eq!(names, ["garden.example", "www.shop.example"], "each once");
    }
}

/// An in-memory transport. It shows all that a transport has to do.
struct Memory<'p> {
    resolver: &'p Arc<Resolver<Observers>>,
    client: Client,
}

impl Memory<'_> {
    async fn exchange(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let mut dispatched = self.resolver.dispatch(&self.client, packet);
        loop {
            match dispatched {
                Dispatched::Reply(answer) => return Some(answer),
                Dispatched::Nothing => return None,
                Dispatched::Pending(pending) => {
                    let resolution = pending.resolve().await;
                    dispatched = pending.conclude(&resolution);
                }
            }
        }
    }
}

#[test]
fn a_new_transport_needs_only_the_dispatcher_and_its_queries_are_observed() {
    let upstream = upstream();
    let plane = Plane::new(upstream.address, 8, PATIENCE);
    let peer = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5353);
    let memory = Memory {
        resolver: &plane.data.resolver,
        client: Client::new(peer, Transport::Tcp),
    };
    plane.runtime.block_on(async {
        for (id, name) in [(1, "blocked.example"), (2, "a.example"), (3, "a.example")] {
            let answer = memory.exchange(&bytes(&numbered(id, name))).await;
            let answer = Message::from_vec(&answer.expect("an answer")).expect("readable");
            assert_eq!((answer.metadata.id, answer.answers.len()), (id, 1));
        }
        for (_, packet, _, rcode) in odd_messages() {
            let answer = memory.exchange(&packet).await;
            assert_eq!(answer.map(|answer| answer[3] & 0x0F), rcode);
        }
        // The client leaves while its query waits.
        let packet = bytes(&numbered(4, "silent.example"));
        let left = memory.exchange(&packet);
        let left = tokio::time::timeout(Duration::from_millis(10), left).await;
        assert!(left.is_err());
    });
    let mut expected = vec![
        (Some(Count::Blocked), Some(0)),
        (Some(Count::Resolved), Some(0)),
        (Some(Count::CacheHits), Some(0)),
        (None, None),
    ];
    expected.extend(odd_messages().map(|(_, _, outcome, rcode)| (outcome, rcode)));
    assert_eq!(plane.outcomes(&[1, 2, 3, 4, 11, 12, 13, 14]), expected);
}
