//! July and August 2017 with a simulated clock: the order of 14 July, name by name and type by
//! type, until its lift.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use jiff::Timestamp;
use tapis::config::Config;
use tapis::control::Control;
use tapis::control::data_plane::NoHosts;
use tapis::control::gauges::Gauges;
use tapis::control::sources::wall_clock::{Wait, WallClock};
use tapis::policy::current::Reader;
use tapis::serve::cache::Cache;
use tapis::serve::client::{Client, Transport};
use tapis::serve::respond::respond;
use tapis::serve::step::Step;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::serving::ELEVEN;
use crate::support::client::{data, errors, query};

/// Names that the order did not contain: those of the application.
const OTHERS: [&str; 3] = ["api.telegram.org", "www.t.me", "telegram.com"];
const TYPES: [RecordType; 6] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::HTTPS,
    RecordType::TXT,
    RecordType::MX,
    RecordType::ANY,
];

/// A clock that is set by the test.
#[derive(Debug)]
struct ManualClock(watch::Sender<Timestamp>);

impl WallClock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.borrow()
    }

    fn until(&self, at: Timestamp) -> Wait<'_> {
        Box::pin(async move {
            let mut clock = self.0.subscribe();
            if *clock.borrow_and_update() < at {
                // The clock outlives its waiters.
                let _ = clock.changed().await;
            }
        })
    }
}

/// A control plane with a simulated clock.
struct Resolver {
    clock: Arc<ManualClock>,
    reader: Reader,
    stop: CancellationToken,
}

impl Resolver {
    async fn start(at: &str) -> Self {
        let text = "[server]\nallow = [\"127.0.0.0/8\"]\n[orders]\npath = \"blocklists/orders\"\n";
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let config = Config::parse(text, &root.join("story.toml")).expect("a configuration");
        let clock = Arc::new(ManualClock(watch::Sender::new(time(at))));
        let shared_clock = Arc::clone(&clock);
        let start = tokio::task::spawn_blocking(move || {
            Control::start(config, shared_clock, Arc::new(NoHosts))
        });
        let control = start.await.expect("no panic").expect("it starts");
        let (reader, stop) = (control.reader(), CancellationToken::new());
        let (_, requests) = mpsc::channel(1);
        let (_, hangups) = mpsc::channel(1);
        let probe = Arc::new(Gauges::default);
        tokio::spawn(control.run(requests, hangups, probe, stop.clone()));
        Self {
            clock,
            reader,
            stop,
        }
    }

    /// Sets the clock, and waits until the policy follows.
    async fn set(&self, at: &str, generation: u64) {
        self.clock.0.send_replace(time(at));
        let follows = async {
            while self.reader.load().generation != generation {
                tokio::task::yield_now().await;
            }
        };
        let patience = Duration::from_secs(10);
        tokio::time::timeout(patience, follows)
            .await
            .expect("the policy follows the clock");
    }

    /// The answer of a client; `None` when upstream must be asked.
    fn ask(&self, name: &str, rtype: RecordType) -> Option<Message> {
        let client = Client::new((Ipv4Addr::LOCALHOST, 5353).into(), Transport::Udp);
        let packet = query(name, rtype).to_vec().expect("a message");
        let (snapshot, cache) = (self.reader.load(), Cache::new(1 << 20, 0));
        let mut out = Vec::new();
        match respond(0, &client, &packet, &snapshot, &cache, &mut out) {
            Step::Resolve(..) => None,
            Step::Reply(_) => Some(Message::from_vec(&out).expect("an answer")),
            other => panic!("{name} {rtype}: {other:?}"),
        }
    }

    fn is_free(&self, name: &str, rtype: RecordType) -> bool {
        match self.ask(name, rtype) {
            // ANY is never forwarded.
            Some(answer) => rtype == RecordType::ANY && errors(&answer).is_empty(),
            None => true,
        }
    }

    fn all_are_free(&self) -> bool {
        let mut all = ELEVEN.into_iter().chain(OTHERS);
        all.all(|name| TYPES.into_iter().all(|rtype| self.is_free(name, rtype)))
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_block_and_lift_of_summer_2017_are_replayed() {
    // Thursday, 13 July: six e-mails are unanswered, nothing is blocked.
    let telling = Resolver::start("2017-07-13T12:00:00+07:00").await;
    assert!(telling.all_are_free());

    // Friday, 14 July, 11:30 in Jakarta: the order is in force.
    telling.set("2017-07-14T11:30:00+07:00", 2).await;
    let why = "order id-2017-07-14-telegram: Blocked by order of Indonesia's Ministry of \
               Communication and Informatics of 14 July 2017";
    for name in ELEVEN {
        for rtype in TYPES {
            let answer = telling
                .ask(name, rtype)
                .unwrap_or_else(|| panic!("{name} {rtype}"));
            let addresses: &[&str] = match rtype {
                RecordType::A => &["0.0.0.0"],
                RecordType::AAAA => &["::"],
                RecordType::ANY => &["0.0.0.0", "::"],
                _ => &[],
            };
            assert_eq!(data(&answer), addresses, "{name} {rtype}");
            assert_eq!(errors(&answer), [(16, why.to_owned())], "{name} {rtype}");
            let records = answer.answers.iter().chain(&answer.authorities);
            let ttls: Vec<_> = records.map(|record| record.ttl).collect();
            assert!(
                !ttls.is_empty() && ttls.iter().all(|ttl| *ttl <= 60),
                "{name} {rtype}"
            );
        }
    }
    // The servers of the application were never part of the order.
    for name in OTHERS {
        assert!(
            TYPES.into_iter().all(|rtype| telling.is_free(name, rtype)),
            "{name}"
        );
    }

    // Thursday, 10 August, 10:46: the order is lifted, and all eleven names are unblocked, not six
    // of them.
    telling.set("2017-08-10T10:46:00+07:00", 3).await;
    assert!(telling.all_are_free());

    // The clock is set back to July: the order is in force as it was then.
    telling.set("2017-07-20T00:00:00+07:00", 4).await;
    assert!(
        ELEVEN
            .into_iter()
            .all(|name| !telling.is_free(name, RecordType::A))
    );
    telling.set("2017-08-11T00:00:00+07:00", 5).await;
    assert!(telling.all_are_free());
}
