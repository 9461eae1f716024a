//! The task of one feed: asks its primaries when that is due, and delivers what they send.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::confirmed::{Confirmations, age};
use super::delivery::{Delivery, Undelivered};
use super::fault::{Fault, FaultCounts, PrimaryFault};
use super::fetch::{Fetch, FetchError, Fetched};
use super::key;
use super::limits::{Limits, Progress};
use super::notified::{Keys, remember};
use super::primary::{Primary, order};
use super::receive::{ReceiveError, Receiving};
use super::refresh::{Action, Overrides, Refresh, Timers};
use super::report::{FeedReport, HeldVersion, NotifyReport, PrimaryReport, TransferReport};
use super::tls::Tls;
use crate::config::feed::Feed;
use crate::control::sources::lists::comparison::Comparable;
use crate::wire::transfer::tsig::Key;
use crate::wire::transfer::{Kind, Serial};

/// The longest time without a message of a transfer.
const IDLE: Duration = Duration::from_secs(30);
/// How often the report of a transfer under way is renewed.
const REPORT: Duration = Duration::from_millis(500);

/// What a runner can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Ask the primaries now, because of the operator's request with this number; for the whole zone, whatever its serial,
    /// if that is wanted.
    Refresh { request: u64, whole: bool },
    /// The version that is held may be accepted now: ask the primaries for it again.
    Retry,
    /// Transfer the whole zone as soon as a primary sends it: its rules must be checked again.
    Check,
    /// This version is in force, by another way than a delivery: a rollback, or a start.
    InForce(Option<Serial>),
    /// A primary may have a newer version, perhaps with this serial.
    Notified(Option<Serial>),
}

/// What connects a runner with the rest of the server.
pub(super) struct Links {
    pub(super) deliveries: mpsc::Sender<Delivery>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) reports: watch::Sender<FeedReport>,
    /// Where the key is shared with the data plane.
    pub(super) keys: Keys,
    /// The rules in force that a whole zone is compared with.
    pub(super) comparable: watch::Receiver<Option<Comparable>>,
}

/// The task of one feed.
pub(super) struct Runner {
    feed: Feed,
    /// Where large transfers are written: beside the images, or among the temporary files.
    folder: PathBuf,
    links: Links,
    /// The version in force, and a version that was not accepted.
    ours: Option<Serial>,
    held: Option<HeldVersion>,
    refresh: Refresh,
    primaries: Vec<Primary>,
    faults: Vec<Option<String>>,
    counts: FaultCounts,
    /// When a primary last sent or confirmed the newest version.
    confirmed: Confirmations,
    whole: Whole,
    /// The next transfer is compiled without a comparison.
    compiles: bool,
    requests: Requests,
}

/// Numbers of the operator's requests.
struct Requests {
    last: u64,
    /// The last one whose result is known.
    answered: u64,
}

/// Whether the whole zone is to be transferred even if there are changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whole {
    No,
    /// The primaries are asked for it until one has sent or refused it.
    UntilAnswered,
    /// They are asked until one has sent it. A primary that refuses is asked for changes as well.
    UntilSent,
}

/// How asking one primary ended.
enum Asked {
    /// It has sent or confirmed the newest version.
    Current(Box<Fetched>),
    /// What it sent can't be applied to the version in force, but the whole zone can.
    Inapplicable,
    Failed,
}

impl Runner {
    pub(super) fn new(
        feed: Feed,
        state_dir: Option<PathBuf>,
        links: Links,
        in_force: Option<(Serial, Timers, Timestamp)>,
        answered: u64,
    ) -> Self {
        let overrides = Overrides {
            refresh: feed.timers.refresh,
            retry: feed.timers.retry,
            expire: feed.timers.expire,
        };
        let now = Instant::now();
        let mut confirmed = Confirmations::new(&feed, state_dir.as_deref());
        let in_force = in_force.map(|(serial, timers, transferred)| {
            let at = confirmed.restore(serial, transferred);
            (serial, timers, at)
        });
        let refresh = match in_force {
            Some((_, timers, at)) => Refresh::restored(overrides, timers, age(at), now),
            None => Refresh::new(overrides, now),
        };
        Self {
            primaries: vec![Primary::default(); feed.primaries.len()],
            faults: vec![None; feed.primaries.len()],
            counts: FaultCounts::default(),
            feed,
            folder: state_dir.unwrap_or_else(std::env::temp_dir),
            links,
            ours: in_force.map(|(serial, ..)| serial),
            held: None,
            confirmed,
            refresh,
            whole: Whole::No,
            compiles: false,
            requests: Requests {
                last: answered,
                answered,
            },
        }
    }

    /// Runs until there are no more commands.
    pub(super) async fn run(mut self) {
        self.report(None);
        loop {
            match self.refresh.next(Instant::now()) {
                Some(Action::Fetch) => {
                    self.fetch().await;
                    self.requests.answered = self.requests.last;
                    self.report(None);
                }
                Some(Action::Expire) => {
                    self.counts.add(Fault::Expired);
                    let feed = &*self.feed.name;
                    tracing::error!(
                        feed,
                        "no primary has confirmed the zone for too long; its rules stay in force"
                    );
                    self.report(None);
                }
                None => {
                    let far = Instant::now() + Duration::from_secs(3600);
                    let due = self.refresh.deadline().unwrap_or(far);
                    tokio::select! {
                        () = sleep_until(due) => {}
                        command = self.links.commands.recv() => match command {
                            Some(command) => self.obey(command),
                            None => return,
                        },
                    }
                }
            }
            while let Ok(command) = self.links.commands.try_recv() {
                self.obey(command);
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Refresh { request, whole } => {
                self.requests.last = request;
                if whole {
                    self.held = None;
                }
                if whole && self.whole == Whole::No {
                    self.whole = Whole::UntilAnswered;
                }
                self.refresh.requested(now);
            }
            Command::Retry => {
                self.held = None;
                self.refresh.requested(now);
            }
            Command::Check => {
                self.whole = Whole::UntilSent;
                self.held = None;
                self.refresh.requested(now);
            }
            Command::InForce(serial) => {
                self.ours = serial;
                self.report(None);
            }
            Command::Notified(serial) => {
                self.refresh.notified(serial, self.ours, now);
            }
        }
    }

    /// Asks the primaries one after the other, until one has the newest version.
    async fn fetch(&mut self) {
        let is_refused = |primary: &Primary| primary.fault() == Some(Fault::Refused);
        for index in order(&self.primaries, Instant::now()) {
            self.compiles = false;
            let mut whole = self.whole != Whole::No;
            let mut asked = self.ask(index, whole).await;
            if self.whole == Whole::UntilSent && is_refused(&self.primaries[index]) {
                whole = false;
                asked = self.ask(index, whole).await;
            }
            // After changes that do not fit, the same primary is asked for the whole zone. If too much differs in it, it is
            // transferred again.
            for _ in 0..2 {
                if let Asked::Inapplicable = asked {
                    whole = true;
                    asked = self.ask(index, whole).await;
                }
            }
            if let Asked::Current(fetched) = asked {
                let timers = Timers::from(&fetched.soa);
                let random = rand::random();
                self.refresh.succeeded(timers, random, Instant::now());
                self.confirm(&fetched).await;
                if whole {
                    self.whole = Whole::No;
                }
                return;
            }
        }
        if self.whole == Whole::UntilAnswered && self.primaries.iter().any(is_refused) {
            self.whole = Whole::No;
        }
        self.refresh.failed(rand::random(), Instant::now());
    }

    /// Remembers when the newest version was confirmed.
    async fn confirm(&mut self, fetched: &Fetched) {
        let (serial, is_transfer) = (fetched.soa.serial, fetched.kind != Kind::UpToDate);
        if is_transfer || self.ours != Some(serial) {
            return self.confirmed.add(is_transfer);
        }
        let validity = self.refresh.validity().unwrap_or_default();
        self.confirmed.confirm(serial, validity).await;
    }

    async fn ask(&mut self, index: usize, whole: bool) -> Asked {
        let primary = self.feed.primaries[index].address.current(|_| None);
        let (key, tls) = match self.credentials(index) {
            Ok(credentials) => credentials,
            Err((fault, text)) => {
                self.fail(index, fault, text);
                return Asked::Failed;
            }
        };
        let progress = Arc::new(Progress::default());
        let mut sink = Receiving::new(
            &self.feed.name,
            primary,
            self.folder.clone(),
            self.links.deliveries.clone(),
            self.links
                .comparable
                .borrow()
                .clone()
                .filter(|_| !self.compiles),
        );
        let zone = self.feed.zone.clone();
        let limits = self.feed.limits;
        let fetch = Fetch {
            zone: &zone,
            primary,
            tls: tls.as_ref(),
            key: key.as_ref(),
            ours: self.ours,
            known: self.held_serial(),
            whole,
            limits: Limits {
                records: limits.records,
                bytes: limits.bytes,
                total: limits.time,
                idle: IDLE,
            },
            progress: &progress,
        };
        let since = Timestamp::now();
        let fetched = {
            let run = fetch.run(&mut sink);
            tokio::pin!(run);
            loop {
                tokio::select! {
                    fetched = &mut run => break fetched,
                    () = tokio::time::sleep(REPORT) => self.report(Some(TransferReport {
                        primary,
                        since,
                        records: progress.records(),
                        bytes: progress.bytes(),
                    })),
                }
            }
        };
        match fetched {
            Ok(fetched) => {
                self.primaries[index].succeeded(fetched.latency);
                self.faults[index] = None;
                if fetched.is_whole_for_changes {
                    self.counts.add(Fault::WholeZone);
                }
                let outcome = sink.outcome().await;
                self.accept(&fetched, primary, outcome)
            }
            Err(FetchError::Primary(fault)) => {
                let text = fault.to_string();
                let PrimaryFault { fault, .. } = fault;
                self.fail(index, fault, text);
                match fault {
                    Fault::BrokenChanges => Asked::Inapplicable,
                    _ => Asked::Failed,
                }
            }
            Err(FetchError::Sink(ReceiveError::Comparison(error))) => {
                let feed = &*self.feed.name;
                tracing::info!(feed, %primary, %error, "the zone is transferred again, and compiled");
                self.compiles = true;
                Asked::Inapplicable
            }
            Err(FetchError::Sink(ReceiveError::TooManyChanges)) => Asked::Inapplicable,
            Err(FetchError::Sink(error)) => {
                let feed = &*self.feed.name;
                tracing::error!(feed, %primary, %error, "transfer failed");
                self.faults[index] = Some(error.to_string());
                Asked::Failed
            }
        }
    }

    /// Takes what became of a transfer that succeeded.
    fn accept(
        &mut self,
        fetched: &Fetched,
        primary: SocketAddr,
        outcome: Option<Result<(), Undelivered>>,
    ) -> Asked {
        let (feed, serial) = (&*self.feed.name, fetched.soa.serial);
        let (records, bytes) = (fetched.records, fetched.bytes);
        let took_ms = fetched.took.as_millis() as u64;
        match outcome {
            None => {}
            Some(Ok(())) => {
                let kind = match fetched.kind {
                    Kind::Whole => "whole zone",
                    Kind::Changes => "changes",
                    Kind::UpToDate => "nothing",
                };
                tracing::info!(feed, %primary, %serial, kind, records, bytes, took_ms, "zone transferred");
                self.ours = Some(serial);
                self.held = None;
            }
            Some(Err(Undelivered::Held(why))) if fetched.kind == Kind::Changes => {
                // The changes do not fit what is in force. The whole zone does, or is held itself.
                tracing::warn!(feed, %primary, %serial, why, "changes not applied");
                return Asked::Inapplicable;
            }
            Some(Err(Undelivered::Outdated)) => return Asked::Inapplicable,
            Some(Err(Undelivered::Held(why))) => {
                let serial = serial.0;
                self.held = Some(HeldVersion { serial, why });
            }
        }
        Asked::Current(Box::new(fetched.clone()))
    }

    fn held_serial(&self) -> Option<Serial> {
        self.held.as_ref().map(|held| Serial(held.serial))
    }

    fn fail(&mut self, index: usize, fault: Fault, text: String) {
        let feed = &*self.feed.name;
        // A primary that stays unreachable is logged once.
        if self.faults[index].as_ref() != Some(&text) {
            tracing::warn!(feed, fault = fault.name(), text, "feed not transferred");
        }
        self.counts.add(fault);
        self.primaries[index].failed(fault, rand::random(), Instant::now());
        self.faults[index] = Some(text);
    }

    /// The key and the TLS settings for a primary, read from their files.
    fn credentials(&self, index: usize) -> Result<(Option<Key>, Option<Tls>), (Fault, String)> {
        let key = self.feed.tsig.as_ref().map(key::of);
        let key = key.transpose();
        let known = key.as_ref().ok().and_then(Option::as_ref);
        remember(&self.links.keys, &self.feed.name, known);
        let key = key.map_err(|error| (Fault::TsigWrong, error.to_string()))?;
        let tls = self.feed.primaries[index].tls.as_ref();
        let tls = tls.map(|tls| Tls::new(&tls.name, tls.ca.as_deref()));
        let tls = tls.transpose();
        Ok((
            key,
            tls.map_err(|error| (Fault::TlsFailed, error.to_string()))?,
        ))
    }

    fn report(&self, transfer: Option<TransferReport>) {
        let primaries = self
            .feed
            .primaries
            .iter()
            .zip(&self.primaries)
            .zip(&self.faults);
        let primaries = primaries.map(|((config, state), text)| PrimaryReport {
            address: config.address.current(|_| None),
            fault: state.fault().map(|fault| fault.name().to_owned()),
            text: text.clone(),
            failures: state.failures(),
            latency_ms: state.latency().map(|latency| latency.as_millis() as u64),
        });
        let primaries = primaries.collect();
        let faults = self.counts.iter().filter(|(_, count)| *count > 0);
        let faults = faults.map(|(fault, count)| (fault.name().to_owned(), count));
        let faults = faults.collect();
        self.links.reports.send_replace(FeedReport {
            name: self.feed.name.clone(),
            zone: self.feed.zone.to_string(),
            serial: self.ours.map(|serial| serial.0),
            confirmed: self.confirmed.last().filter(|_| self.ours.is_some()),
            max_age_hours: self.feed.max_age_hours,
            is_expired: self.refresh.is_expired(),
            transfer,
            held: self.held.clone(),
            primaries,
            faults,
            notify: NotifyReport::default(),
            answered: self.requests.answered,
        });
    }
}
