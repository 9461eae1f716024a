//! Fetches a zone in a separate runtime, into a sink that keeps what it takes.

use std::net::SocketAddr;
use std::time::Duration;

use tapis::control::sources::feeds::fault::Fault;
use tapis::control::sources::feeds::fetch::{Fetch, FetchError, Fetched, Want};
use tapis::control::sources::feeds::limits::{Limits, Progress};
use tapis::control::sources::feeds::sink::{Begin, Change, Sink};
use tapis::control::sources::feeds::tls::Tls;
use tapis::wire::name::Name;
use tapis::wire::transfer::tsig::Key;
use tapis::wire::transfer::{Event, Kind, Record, Request, Serial, Transfer};

use crate::support::primary::{Primary, name};

/// Longer than any test takes on the slowest of machines.
pub(super) const LIMITS: Limits = Limits {
    records: 1000,
    bytes: 1 << 20,
    total: Duration::from_secs(60),
    idle: Duration::from_secs(60),
};

/// The messages that are kept of a transfer without end.
const MOST_KEPT: usize = 10_000;

/// Keeps what it takes.
#[derive(Default)]
pub(super) struct Collected {
    pub(super) begun: Vec<(Kind, u32)>,
    pub(super) messages: Vec<Vec<u8>>,
    pub(super) changes: Vec<String>,
    pub(super) ended: usize,
    /// The number of messages after which it fails.
    pub(super) room: Option<usize>,
    pub(super) request: Option<Request>,
}

impl Collected {
    /// The owners of the records of the whole zone, as the compiler reads them.
    pub(super) fn names(&self) -> Vec<String> {
        let mut transfer = Transfer::new(self.request.as_ref().expect("begun"));
        let mut names = Vec::new();
        for message in &self.messages {
            for event in transfer.read(message).expect("part of the transfer") {
                if let Event::Record(record) = event.expect("well-formed") {
                    names.push(owner(&record));
                }
            }
        }
        assert!(transfer.has_ended());
        names
    }
}

fn owner(record: &Record<'_>) -> String {
    let mut name = Name::default();
    record.read_owner(&mut name).expect("checked");
    name.to_string()
}

impl Sink for Collected {
    type Error = ();

    async fn begin(&mut self, begin: &Begin<'_>) -> Result<(), ()> {
        self.begun.push((begin.kind, begin.soa.serial.0));
        self.request = Some(begin.request.clone());
        self.messages.clear();
        self.changes.clear();
        Ok(())
    }

    async fn message(&mut self, message: &[u8]) -> Result<(), ()> {
        if self.room == Some(self.messages.len()) {
            return Err(());
        }
        if self.messages.len() < MOST_KEPT {
            self.messages.push(message.to_vec());
        }
        Ok(())
    }

    fn change(&mut self, change: Change, record: &Record<'_>) -> Result<(), ()> {
        let verb = match change {
            Change::Delete => "-",
            Change::Add => "+",
        };
        self.changes.push(format!("{verb} {}", owner(record)));
        Ok(())
    }

    async fn end(&mut self) -> Result<(), ()> {
        self.ended += 1;
        Ok(())
    }
}

/// How a zone is fetched.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) ours: Option<u32>,
    pub(super) tls: Option<&'a Tls>,
    pub(super) key: Option<&'a Key>,
    pub(super) whole: bool,
    pub(super) limits: Limits,
}

impl Default for Wanted<'_> {
    fn default() -> Self {
        Self {
            ours: None,
            tls: None,
            key: None,
            whole: false,
            limits: LIMITS,
        }
    }
}

/// Fetches `feed.test`. An error is the fault of the primary, or `None` for one of the sink.
pub(super) fn fetch(
    primary: SocketAddr,
    wanted: Wanted<'_>,
    sink: &mut Collected,
) -> Result<Fetched, Option<Fault>> {
    let (zone, progress) = (name("feed.test"), Progress::default());
    let fetch = Fetch {
        zone: &zone,
        primary,
        tls: wanted.tls,
        key: wanted.key,
        ours: wanted.ours.map(Serial),
        known: None,
        want: match wanted.whole {
            true => Want::WholeOfAnySerial,
            false => Want::Newer,
        },
        limits: wanted.limits,
        progress: &progress,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = runtime
        .expect("a runtime")
        .block_on(is_send(fetch.run(sink)));
    result.map_err(|error| match error {
        FetchError::Primary(fault) => {
            let text = fault.to_string();
            assert!(
                text.starts_with(&format!("zone feed.test from {primary}: ")),
                "{text}"
            );
            Some(fault.fault)
        }
        FetchError::Sink(()) => None,
    })
}

/// The server runs fetches as tasks.
fn is_send<F: Future + Send>(future: F) -> F {
    future
}

/// A fetch that succeeds.
pub(super) fn fetched(primary: &Primary, ours: Option<u32>) -> (Fetched, Collected) {
    let mut sink = Collected::default();
    let wanted = Wanted {
        ours,
        ..Wanted::default()
    };
    let fetched = fetch(primary.address, wanted, &mut sink).expect("transferred");
    (fetched, sink)
}

/// The fault of a fetch that fails. Its sink is never told that the transfer is complete.
pub(super) fn fault(primary: &Primary, ours: Option<u32>, limits: Limits) -> Fault {
    let mut sink = Collected::default();
    let wanted = Wanted {
        ours,
        limits,
        ..Wanted::default()
    };
    let result = fetch(primary.address, wanted, &mut sink);
    assert_eq!(sink.ended, 0);
    result.expect_err("a fault").expect("of the primary")
}
