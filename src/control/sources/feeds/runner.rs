//! The task of one feed: asks its primaries when that is due, and delivers what they send.

mod asking;
mod reporting;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::announced::Announced;
use super::confirmed::{Confirmations, age};
use super::delivery::Delivery;
use super::demands::Demands;
use super::fault::{Fault, FaultCounts};
use super::fetch::{Fetched, Want};
use super::local::LocalProblems;
use super::notified::Keys;
use super::primary::{Primary, first_resumed, order};
use super::refresh::{Action, Overrides, Refresh, Timers};
use super::repeats::Repeats;
use super::report::{Activity, FeedReport, HeldVersion};
use crate::config::feed::Feed;
use crate::control::sources::lists::comparison::Comparable;
use crate::wire::transfer::{Kind, Serial};

/// What a runner can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// This version is in force, by another way than a delivery: a rollback, or a start.
    InForce(InForce),
    /// A primary may have a newer version, perhaps with this serial. The sender is known to be authentic only then.
    Notified {
        from: IpAddr,
        serial: Option<Serial>,
    },
}

/// The version in force, as the control loop knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InForce {
    /// Its serial; `None` before the first transfer.
    pub(crate) serial: Option<Serial>,
    /// The generation in which a rollback holds it.
    pub(crate) held_as: Option<u64>,
}

/// What connects a runner with the rest of the server.
pub(super) struct Links {
    pub(super) deliveries: mpsc::Sender<Delivery>,
    pub(super) commands: mpsc::Receiver<Command>,
    /// All demands so far, also those that wait for the end of a transfer.
    pub(super) demands: watch::Receiver<Demands>,
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
    /// The version in force, and a version that was not accepted. While a rollback holds the one in force, nothing is
    /// transferred.
    in_force: InForce,
    held: Option<HeldVersion>,
    refresh: Refresh,
    announced: Announced,
    primaries: Vec<Primary>,
    faults: Vec<Option<String>>,
    counts: FaultCounts,
    problems: Problems,
    /// When a primary last sent or confirmed the newest version.
    confirmed: Confirmations,
    wanted: Wanted,
    taken: Taken,
}

/// Problems that were logged.
#[derive(Default)]
struct Problems {
    local: LocalProblems,
    /// The faults of each primary.
    of_primaries: Repeats<(usize, Fault)>,
}

/// The demands that were taken.
struct Taken {
    demands: Demands,
    /// The operator's last request whose result is known.
    answered: u64,
}

/// How the zone is to be transferred.
struct Wanted {
    whole: Whole,
    /// The operator wants the whole zone even if its serial has gone back.
    accepts_older: bool,
    /// The next transfer is compiled without a comparison.
    compiles: bool,
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
    /// What it sent can't be written here.
    NotWritten,
    Failed,
    /// It stopped sending, and the operator requested the zone: the primaries are asked again, the others first.
    GivenUp,
}

impl Runner {
    /// `before` is the last report of a task that had the same zone.
    pub(super) fn new(
        feed: Feed,
        state_dir: Option<PathBuf>,
        links: Links,
        in_force: Option<(Serial, Timers, Timestamp)>,
        held_as: Option<u64>,
        before: &FeedReport,
    ) -> Self {
        let overrides = Overrides::from(&feed);
        let now = Instant::now();
        let mut confirmed = Confirmations::new(&feed, state_dir.as_deref());
        let in_force = in_force.map(|(serial, timers, transferred)| {
            let known = before.confirmed.filter(|_| before.serial == Some(serial.0));
            let at = confirmed.restore(serial, transferred, known);
            (serial, timers, at)
        });
        let refresh = match in_force {
            Some((_, timers, at)) => Refresh::restored(overrides, timers, age(at), now),
            None => Refresh::new(overrides, now),
        };
        Self {
            primaries: vec![Primary::default(); feed.primaries.len()],
            faults: vec![None; feed.primaries.len()],
            counts: FaultCounts::reported(&before.faults),
            problems: Problems::default(),
            feed,
            folder: state_dir.unwrap_or_else(std::env::temp_dir),
            links,
            in_force: InForce {
                serial: in_force.map(|(serial, ..)| serial),
                held_as,
            },
            held: None,
            confirmed,
            refresh,
            announced: Announced::default(),
            wanted: Wanted {
                whole: Whole::No,
                accepts_older: false,
                compiles: false,
            },
            taken: Taken {
                demands: Demands::answered(before.answered),
                answered: before.answered,
            },
        }
    }

    /// Runs until there are no more commands.
    pub(super) async fn run(mut self) {
        self.take_demands();
        self.report(Activity::None);
        loop {
            match self.refresh.next(Instant::now()) {
                Some(Action::Fetch) => {
                    self.fetch().await;
                    self.taken.answered = self.taken.demands.request;
                    self.report(Activity::None);
                }
                Some(Action::Expire) => {
                    self.expire();
                    self.report(Activity::None);
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
                        changed = self.links.demands.changed() => if changed.is_err() {
                            return;
                        },
                    }
                }
            }
            while let Ok(command) = self.links.commands.try_recv() {
                self.obey(command);
            }
            self.take_demands();
        }
    }

    fn expire(&mut self) {
        self.counts.add(Fault::Expired);
        let feed = &*self.feed.name;
        tracing::error!(
            feed,
            "no primary has confirmed the zone for too long; its rules stay in force"
        );
    }

    /// Takes the demands that are new.
    fn take_demands(&mut self) {
        let demands = *self.links.demands.borrow_and_update();
        let new = demands.since(&self.taken.demands);
        self.taken.demands = demands;
        if !new.any() {
            return;
        }
        if new.wants_whole {
            self.wanted.accepts_older = true;
            self.announced.forget();
            if self.wanted.whole == Whole::No {
                self.wanted.whole = Whole::UntilAnswered;
            }
        }
        if new.checks {
            self.wanted.whole = Whole::UntilSent;
        }
        if new.wants_whole || new.retries || new.checks {
            self.held = None;
        }
        self.request(Instant::now());
    }

    fn obey(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::InForce(in_force) => {
                let was_held = self.in_force.held_as.is_some();
                self.in_force = in_force;
                if was_held && in_force.held_as.is_none() {
                    self.held = None;
                    self.request(now);
                }
                self.report(Activity::None);
            }
            Command::Notified { from, serial } => self.notified(from, serial, now),
        }
    }

    /// Makes a fetch due at once, from all primaries.
    fn request(&mut self, now: Instant) {
        self.primaries.iter_mut().for_each(Primary::resume);
        self.refresh.requested(now);
    }

    fn notified(&mut self, from: IpAddr, serial: Option<Serial>, now: Instant) {
        if !self.refresh.notified(serial, self.in_force.serial, now) {
            return;
        }
        self.announced.add(from, serial);
        for (primary, config) in self.primaries.iter_mut().zip(&self.feed.primaries) {
            // The sender is up. An authentic one may be the server that all primaries transfer from.
            if serial.is_some() || config.has_address(from) {
                primary.resume();
            }
        }
    }

    /// Asks the primaries one after the other, until one has sent a newer version. One that has none may only be behind the
    /// others, so these are asked, too.
    async fn fetch(&mut self) {
        let mut order = order(&self.primaries, Instant::now());
        if let Some(from) = self.announced.take_sender() {
            // The other primaries may not have the version yet.
            order.sort_by_key(|&index| !self.feed.primaries[index].has_address(from));
        }
        let mut newest: Option<Box<Fetched>> = None;
        let mut is_unwritten = false;
        for index in order {
            let fetched = match self.ask_fully(index).await {
                Asked::Current(fetched) => fetched,
                Asked::NotWritten => {
                    // What the others send can't be written, either.
                    is_unwritten = true;
                    break;
                }
                Asked::GivenUp => break,
                Asked::Inapplicable | Asked::Failed => continue,
            };
            let ends = fetched.kind != Kind::UpToDate;
            let serial = fetched.soa.serial;
            let known = newest.as_ref().map(|newest| newest.soa.serial);
            if ends || known.is_none_or(|known| serial.is_newer_than(known)) {
                newest = Some(fetched);
            }
            if ends {
                break;
            }
        }
        let is_refused = |primary: &Primary| primary.fault() == Some(Fault::Refused);
        if self.wanted.whole == Whole::UntilAnswered && self.primaries.iter().any(is_refused) {
            self.end_whole();
        }
        let all_answered =
            self.faults.iter().all(Option::is_none) && self.problems.local.is_empty();
        let serial = newest.as_ref().map(|newest| newest.soa.serial);
        let is_missed = self.announced.is_missed(serial, all_answered);
        let newest = newest.filter(|_| !is_missed && !is_unwritten);
        match newest {
            Some(newest) => {
                let timers = Timers::from(&newest.soa);
                self.refresh
                    .succeeded(timers, rand::random(), Instant::now());
                self.confirm(&newest).await;
                if newest.kind == Kind::Changes && self.wanted.whole == Whole::UntilSent {
                    self.request(Instant::now());
                }
            }
            None => self.fail_all(),
        }
    }

    /// No primary has the newest version.
    fn fail_all(&mut self) {
        let now = Instant::now();
        self.refresh.failed(rand::random(), now);
        if let Some(until) = first_resumed(&self.primaries, now) {
            self.refresh.defer(until);
        }
    }

    /// What a primary is asked for.
    fn want(&self) -> Want {
        match self.wanted.whole {
            _ if self.in_force.held_as.is_some() => Want::Serial,
            Whole::No => Want::Newer,
            Whole::UntilAnswered | Whole::UntilSent => self.want_whole(),
        }
    }

    fn want_whole(&self) -> Want {
        match self.wanted.accepts_older {
            true => Want::WholeOfAnySerial,
            false => Want::Whole,
        }
    }

    fn end_whole(&mut self) {
        (self.wanted.whole, self.wanted.accepts_older) = (Whole::No, false);
    }

    /// Asks one primary, again if it has to be asked in another way.
    async fn ask_fully(&mut self, index: usize) -> Asked {
        self.wanted.compiles = false;
        let mut want = self.want();
        let mut asked = self.ask(index, want).await;
        let is_refused = self.primaries[index].fault() == Some(Fault::Refused);
        if self.wanted.whole == Whole::UntilSent && want.is_whole() && is_refused {
            want = Want::Newer;
            asked = self.ask(index, want).await;
        }
        // After changes that do not fit, the same primary is asked for the whole zone. If too much differs in it, it is
        // transferred again.
        for _ in 0..2 {
            if let Asked::Inapplicable = asked {
                want = self.want_whole();
                asked = self.ask(index, want).await;
            }
        }
        if want.is_whole() && matches!(asked, Asked::Current(_)) {
            self.end_whole();
        }
        asked
    }

    /// Remembers when the newest version was confirmed.
    async fn confirm(&mut self, fetched: &Fetched) {
        let (serial, is_transfer) = (fetched.soa.serial, fetched.kind != Kind::UpToDate);
        if is_transfer || self.in_force.serial != Some(serial) {
            return self.confirmed.add(is_transfer);
        }
        let validity = self.refresh.validity().unwrap_or_default();
        self.confirmed.confirm(serial, validity).await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    #[tokio::test]
    async fn a_fetch_that_fails_when_the_feed_has_ended_is_no_fault_of_the_primary() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let primary = listener.local_addr().expect("bound");
        drop(listener);
        let text =
            format!("[[feed]]\nname = \"f\"\nzone = \"f.test\"\nprimaries = [\"{primary}\"]\n");
        let config = Config::parse(&text, Path::new("/c.toml")).expect("a configuration");
        let (commands, receiver) = mpsc::channel(1);
        let (reporter, reports) = watch::channel(FeedReport::default());
        let (_demands, demands) = watch::channel(Demands::default());
        let links = Links {
            deliveries: mpsc::channel(1).0,
            commands: receiver,
            reports: reporter,
            keys: Keys::default(),
            comparable: watch::channel(None).1,
            demands,
        };
        let runner = Runner::new(
            config.feeds[0].clone(),
            None,
            links,
            None,
            None,
            &FeedReport::default(),
        );
        drop(commands);
        runner.run().await;
        let report = reports.borrow();
        assert_eq!(report.is_current, Some(false), "it was asked");
        assert_eq!(report.primaries[0].fault, None);
        assert_eq!(report.faults, []);
    }
}
