//! Asks one primary of a feed, and takes what it sends.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{Asked, Runner, Whole};
use crate::config::shown::Show;
use crate::control::sources::feeds::delivery::Undelivered;
use crate::control::sources::feeds::fault::{Fault, PrimaryFault};
use crate::control::sources::feeds::fetch::{Fetch, FetchError, Fetched, Want};
use crate::control::sources::feeds::key;
use crate::control::sources::feeds::limits::{Limits, Progress};
use crate::control::sources::feeds::local::LocalProblem;
use crate::control::sources::feeds::notified::remember;
use crate::control::sources::feeds::receive::{ReceiveError, Receiving};
use crate::control::sources::feeds::refresh::Action;
use crate::control::sources::feeds::report::{Activity, HeldVersion, TransferReport};
use crate::control::sources::feeds::tls::Tls;
use crate::control::sources::lists::load::Refusal;
use crate::wire::name::Name;
use crate::wire::transfer::tsig::Key;
use crate::wire::transfer::{Kind, Serial};

/// The longest time without a message of a transfer.
const IDLE: Duration = Duration::from_secs(30);
/// The time without a message of a transfer after which the operator's request takes another primary.
const STALLED: Duration = Duration::from_secs(5);
/// How often the report of a transfer under way is renewed.
const REPORT: Duration = Duration::from_millis(500);
/// How often a transfer under way is logged.
const LOG: Duration = Duration::from_secs(60);

impl Runner {
    /// Asks one primary once.
    pub(super) async fn ask(&mut self, index: usize, want: Want) -> Asked {
        let primary = self.feed.primaries[index].address.current(|_| None);
        let Some((key, tls)) = self.credentials(index) else {
            return Asked::Failed;
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
                .filter(|_| !self.wanted.compiles),
        );
        let zone = self.feed.zone.clone();
        let limits = self.feed.limits;
        let fetch = Fetch {
            zone: &zone,
            primary,
            tls: tls.as_ref(),
            key: key.as_ref(),
            ours: self.in_force.serial,
            known: self.held_serial(),
            want,
            limits: Limits {
                records: limits.records,
                bytes: limits.bytes,
                total: limits.time,
                idle: IDLE,
            },
            progress: &progress,
        };
        let (since, mut logged) = (Timestamp::now(), Instant::now());
        let mut is_given_up = false;
        let fetched = {
            let run = fetch.run(&mut sink);
            tokio::pin!(run);
            loop {
                tokio::select! {
                    fetched = &mut run => break fetched,
                    () = tokio::time::sleep(REPORT) => {}
                }
                if self.gives_up(&progress) {
                    is_given_up = true;
                    break Err(FetchError::Primary(stalled(&zone, primary, &progress)));
                }
                if let Some(Action::Expire) = self.refresh.next(Instant::now()) {
                    self.expire();
                }
                let report = TransferReport {
                    primary,
                    since,
                    records: progress.records(),
                    bytes: progress.bytes(),
                };
                if logged.elapsed() >= LOG {
                    logged = Instant::now();
                    self.log(&report);
                }
                self.report(Activity::Transferring(report));
            }
        };
        let end = tls.and_then(|tls| tls.end.get());
        self.primaries[index].presented(end);
        match fetched {
            // It may have failed because the server ends, or because the feed was removed.
            Err(_) if self.links.commands.is_closed() => Asked::Failed,
            Ok(fetched) => {
                self.primaries[index].succeeded(fetched.latency);
                self.faults[index] = None;
                if fetched.is_whole_for_changes {
                    self.counts.add(Fault::WholeZone);
                }
                if fetched.kind != Kind::UpToDate {
                    self.report(Activity::Compiling(fetched.soa.serial));
                }
                let outcome = sink.outcome().await;
                if sink.has_written() || matches!(outcome, Some(Ok(()))) {
                    self.problems.local.solve(LocalProblem::NotWritten);
                }
                self.accept(&fetched, primary, outcome)
            }
            Err(FetchError::Primary(fault)) => {
                let text = fault.to_string();
                let PrimaryFault { fault, .. } = fault;
                self.fail(index, fault, text);
                match fault {
                    Fault::BrokenChanges => Asked::Inapplicable,
                    _ if is_given_up => Asked::GivenUp,
                    _ => Asked::Failed,
                }
            }
            Err(FetchError::Sink(ReceiveError::Comparison(error))) => {
                let feed = &*self.feed.name;
                tracing::info!(feed, %primary, %error, "the zone is transferred again, and compiled");
                self.wanted.compiles = true;
                Asked::Inapplicable
            }
            Err(FetchError::Sink(ReceiveError::TooManyChanges)) => Asked::Inapplicable,
            Err(FetchError::Sink(error @ ReceiveError::Spool(_))) => {
                let text = format!("{}: {error}", self.folder.shown());
                self.fail_here(LocalProblem::NotWritten, text);
                Asked::NotWritten
            }
            // There is nobody to report it to.
            Err(FetchError::Sink(ReceiveError::Ended)) => Asked::Failed,
        }
    }

    /// Whether the transfer stalls, another primary can be asked, and a request of the operator waits for that.
    fn gives_up(&self, progress: &Progress) -> bool {
        let is_awaited = self.links.demands.borrow().request > self.taken.demands.request;
        is_awaited && self.primaries.len() > 1 && progress.waited() >= STALLED
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
            None => self.check_held(serial),
            Some(Ok(())) => {
                let kind = match fetched.kind {
                    Kind::Whole => "whole zone",
                    Kind::Changes => "changes",
                    Kind::UpToDate => "nothing",
                };
                tracing::info!(feed, %primary, %serial, kind, records, bytes, took_ms, "zone transferred");
                self.in_force.serial = Some(serial);
                self.held = None;
                // A whole zone that was to be checked may have been held, and these changes come after it.
                if fetched.kind == Kind::Changes && self.links.demands.borrow().is_unchecked {
                    self.wanted.whole = Whole::UntilSent;
                }
            }
            Some(Err(Undelivered::Faulty(fault, _))) if fetched.kind == Kind::Changes => {
                // If only the changes are too large, the whole zone may not be.
                if fault == Fault::BrokenChanges {
                    self.counts.add(fault);
                }
                return Asked::Inapplicable;
            }
            // The changes do not fit what is in force. The whole zone does, or is held itself.
            Some(Err(Undelivered::Held(_))) if fetched.kind == Kind::Changes => {
                return Asked::Inapplicable;
            }
            Some(Err(Undelivered::Outdated)) => return Asked::Inapplicable,
            Some(Err(Undelivered::RolledBack(generation))) => {
                self.in_force.held_as = Some(generation);
                self.check_held(serial);
                let kind = Kind::UpToDate;
                return Asked::Current(Box::new(Fetched {
                    kind,
                    ..fetched.clone()
                }));
            }
            Some(Err(Undelivered::Faulty(fault, why))) => {
                self.counts.add(fault);
                let (serial, remedy) = (serial.0, fault.remedy());
                let why = format!("{fault}: {why}; {remedy}");
                self.held = Some(HeldVersion { serial, why });
            }
            Some(Err(Undelivered::Held(why))) => {
                let serial = serial.0;
                self.held = Some(HeldVersion { serial, why });
            }
        }
        Asked::Current(Box::new(fetched.clone()))
    }

    /// While a rollback holds the version in force, shows that a newer one waits.
    fn check_held(&mut self, serial: Serial) {
        let Some(generation) = self.in_force.held_as else {
            return;
        };
        let is_newer = self
            .in_force
            .serial
            .is_none_or(|ours| serial.is_newer_than(ours));
        self.held = is_newer.then(|| HeldVersion {
            serial: serial.0,
            why: Refusal::RolledBack { generation }.to_string(),
        });
    }

    /// Logs how far a long transfer has come.
    fn log(&self, report: &TransferReport) {
        let feed = &*self.feed.name;
        let TransferReport {
            primary,
            since,
            records,
            bytes,
        } = report;
        let secs = Timestamp::now().duration_since(*since).as_secs();
        tracing::info!(feed, %primary, records, bytes, secs, "zone is being transferred");
    }

    fn held_serial(&self) -> Option<Serial> {
        self.held.as_ref().map(|held| Serial(held.serial))
    }

    /// Remembers a problem of this server, and logs it once.
    fn fail_here(&mut self, problem: LocalProblem, text: String) {
        let feed = &*self.feed.name;
        if let Some(text) = self.problems.local.set(problem, text) {
            let problem = problem.name();
            tracing::error!(feed, problem, text, "feed not transferred");
        }
    }

    fn fail(&mut self, index: usize, fault: Fault, text: String) {
        let (feed, now) = (&*self.feed.name, Instant::now());
        // The texts of one fault differ in serials and times.
        if let Some(unreported) = self.problems.of_primaries.add((index, fault), now) {
            let unreported = Some(unreported).filter(|count| *count > 0);
            let fault = fault.name();
            tracing::warn!(feed, fault, text, unreported, "feed not transferred");
        }
        self.counts.add(fault);
        self.primaries[index].failed(fault, rand::random(), now);
        self.faults[index] = Some(text);
    }

    /// The key and the TLS settings for a primary, read from their files. `None` if that is not possible.
    fn credentials(&mut self, index: usize) -> Option<(Option<Key>, Option<Tls>)> {
        let key = self.feed.tsig.as_ref().map(key::of).transpose();
        let known = key.as_ref().ok().and_then(Option::as_ref);
        remember(&self.links.keys, &self.feed.name, known);
        let key = self.usable(LocalProblem::KeyUnusable, key)?;
        let tls = self.feed.primaries[index].tls.as_ref();
        let tls = tls.map(|tls| Tls::new(&tls.name, tls.ca.as_deref()));
        let problem = LocalProblem::TlsUnusable { primary: index };
        Some((key, self.usable(problem, tls.transpose())?))
    }

    /// Remembers whether there is a problem.
    fn usable<T>(&mut self, problem: LocalProblem, read: Result<T, impl Display>) -> Option<T> {
        match read {
            Ok(value) => {
                self.problems.local.solve(problem);
                Some(value)
            }
            Err(error) => {
                self.fail_here(problem, error.to_string());
                None
            }
        }
    }
}

/// The fault of a primary that is given up, as the operator asked for the zone.
fn stalled(zone: &Name, primary: SocketAddr, progress: &Progress) -> PrimaryFault {
    let (fault, detail) = progress.stage().stalled(STALLED);
    PrimaryFault {
        fault,
        zone: Box::new(zone.clone()),
        primary,
        detail: format!("{detail}, and the operator asked for the zone"),
    }
}
