//! The feeds of the configuration: a task for each, the deliveries that wait for their end, and the reports.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::delivery::{Delivery, Undelivered};
use super::demands::Demands;
use super::notified::{Keys, Notified, WAITING, remember};
use super::refresh::Timers;
use super::report::{FeedReport, NotifyReport};
use super::runner::{Command, InForce, Links, Runner};
use crate::config::feed::Feed;
use crate::config::{Config, Content};
use crate::control::guard::policy::GuardPolicy;
use crate::control::sources::lists::ListSources;
use crate::control::sources::lists::comparison::Comparable;
use crate::control::sources::lists::state::{ListState, NextTransfer};
use crate::policy::images::Images;
use crate::wire::transfer::{Serial, Soa};

/// Commands that wait for a feed that is transferring.
const COMMANDS: usize = 16;
/// Those of them that may be caused by NOTIFY, so that a flood during a transfer leaves room for others. Further ones are
/// lost: they would all ask for the same.
const NOTIFIED: usize = 8;

/// The feeds.
pub(crate) struct Feeds {
    running: BTreeMap<String, Running>,
    pub(crate) deliveries: (mpsc::Sender<Delivery>, mpsc::Receiver<Delivery>),
    pub(crate) notified: (mpsc::Sender<Notified>, mpsc::Receiver<Notified>),
    pub(crate) keys: Keys,
    /// By the ticket of the load.
    waiting: HashMap<u64, Waiting>,
    /// The operator's requests so far.
    requests: u64,
}

/// A delivery that is being loaded.
pub(crate) struct Waiting {
    pub(crate) primary: SocketAddr,
    pub(crate) serial: Serial,
    /// Who waits for its end.
    pub(crate) outcome: oneshot::Sender<Result<(), Undelivered>>,
}

/// The task of one feed. It ends when this is dropped.
struct Running {
    feed: Feed,
    commands: mpsc::Sender<Command>,
    demands: watch::Sender<Demands>,
    /// Identifies the protected names that its rules are to be checked against; `None` if they were.
    unchecked: Option<String>,
    reports: watch::Receiver<FeedReport>,
    /// The rules in force that a whole zone is compared with.
    comparable: watch::Sender<Option<Comparable>>,
    task: JoinHandle<()>,
    /// What the task knows of the version in force.
    known: InForce,
    notify: NotifyReport,
}

/// What a feed whose configuration changes keeps, if its zone is the same.
struct Before {
    /// The operator's last requests.
    demands: Demands,
    report: FeedReport,
    notify: NotifyReport,
}

impl Running {
    fn to_before(&self) -> Before {
        Before {
            demands: *self.demands.borrow(),
            report: self.reports.borrow().clone(),
            notify: self.notify.clone(),
        }
    }

    /// Demands that the rules are checked against these protected names, unless that is known. `None` if they were.
    fn set_unchecked(&mut self, unchecked: Option<String>) {
        if self.unchecked == unchecked {
            return;
        }
        self.demands.send_modify(|demands| {
            demands.checks += u64::from(unchecked.is_some());
            demands.is_unchecked = unchecked.is_some();
        });
        self.unchecked = unchecked;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Feeds {
    pub(crate) fn new() -> Self {
        Self {
            running: BTreeMap::new(),
            deliveries: mpsc::channel(1),
            notified: mpsc::channel(WAITING),
            keys: Keys::default(),
            waiting: HashMap::new(),
            requests: 0,
        }
    }

    /// Starts the feeds of a configuration that do not run yet, ends those that are not configured any more, and tells
    /// all of them which version is in force, and whether its rules must be checked again. A feed whose list is not active
    /// yet starts later: while a rollback holds the lists, those of a new configuration wait for its release.
    pub(crate) fn follow(
        &mut self,
        config: &Config,
        lists: &ListSources,
        (images, guard_policy): (&Images, &Arc<GuardPolicy>),
        held_as: Option<u64>,
    ) {
        let mut ended = self.end_others(config);
        let known = self.keys.load();
        let removed = known
            .keys()
            .filter(|feed| !self.running.contains_key(*feed));
        removed.for_each(|feed| remember(&self.keys, feed, None));
        for feed in &config.feeds {
            let Some(list) = list_of(feed, lists) else {
                continue;
            };
            let soa = soa_of(list);
            let known = InForce {
                serial: soa.as_ref().map(|soa| soa.serial),
                held_as: held_as.filter(|_| list.is_frozen()),
            };
            match self.running.get_mut(&feed.name) {
                None => {
                    let transferred = list.loaded.as_ref().map(|loaded| loaded.at);
                    let in_force = soa.zip(transferred);
                    let in_force = in_force.map(|(soa, at)| (soa.serial, Timers::from(&soa), at));
                    let before = ended.remove(&feed.name);
                    let mut before = before.unwrap_or_else(|| self.nothing_before(feed));
                    let unchecked = unchecked(Some(list), guard_policy);
                    let is_released = !list.next.released.is_empty();
                    before.demands = Demands {
                        request: before.demands.request,
                        whole: before.demands.whole,
                        retries: 0,
                        checks: u64::from(is_released || unchecked.is_some()),
                        is_unchecked: unchecked.is_some(),
                    };
                    let dir = config.state.dir.clone();
                    let running = self.start(feed, dir, in_force, known, (before, unchecked));
                    self.running.insert(feed.name.clone(), running);
                }
                Some(running) if running.known != known => {
                    // If many commands wait, this one is sent at the next generation.
                    let sent = running.commands.try_send(Command::InForce(known));
                    if sent.is_ok() {
                        running.known = known;
                    }
                }
                Some(_) => {}
            }
            if let Some(running) = self.running.get_mut(&feed.name) {
                let comparable = comparable(list, images, guard_policy);
                running.comparable.send_replace(comparable);
                // A whole zone that arrives for the check is compared with the new protected names.
                running.set_unchecked(unchecked(Some(list), guard_policy));
            }
        }
    }

    /// Ends all feeds. What fails because the server ends is no fault of a primary.
    pub(crate) fn end(&mut self) {
        self.running.clear();
    }

    /// Whether the rules of a feed must be checked against other protected names than it knows.
    pub(crate) fn miss_a_check(&self, lists: &ListSources, guard_policy: &GuardPolicy) -> bool {
        self.running.values().any(|running| {
            let list = list_of(&running.feed, lists);
            running.unchecked != unchecked(list, guard_policy)
        })
    }

    /// Ends the feeds that a configuration does not have, or has otherwise. Returns those whose zone stays.
    fn end_others(&mut self, config: &Config) -> HashMap<String, Before> {
        let is_other = |running: &Running| !config.feeds.contains(&running.feed);
        let running = self.running.iter();
        let others = running.filter(|(_, running)| is_other(running));
        let stays = |(name, running): &(&String, &Running)| {
            let mut feeds = config.feeds.iter();
            feeds.any(|feed| feed.name == **name && feed.zone == running.feed.zone)
        };
        let others = others.filter(stays);
        let staying = others.map(|(name, running)| (name.clone(), running.to_before()));
        let staying = staying.collect();
        self.running.retain(|_, running| !is_other(running));
        staying
    }

    /// A feed that starts now has no requests to answer.
    fn nothing_before(&self, feed: &Feed) -> Before {
        Before {
            demands: Demands::answered(self.requests),
            report: FeedReport {
                name: feed.name.clone(),
                zone: feed.zone.to_string(),
                answered: self.requests,
                ..FeedReport::default()
            },
            notify: NotifyReport::default(),
        }
    }

    /// Makes a feed transfer the version that was not accepted again, or the whole zone, if it exists.
    pub(crate) fn transfer(&self, transfer: &NextTransfer) {
        if let Some(running) = self.running.get(&transfer.feed) {
            running.demands.send_modify(|demands| {
                let times = match transfer.whole {
                    true => &mut demands.checks,
                    false => &mut demands.retries,
                };
                *times += 1;
            });
        }
    }

    /// Asks the primaries of a feed, because the operator wants it. Returns the number of the request, after which the
    /// feed's report says when it is answered. `None` if there is no such feed.
    pub(crate) fn refresh(&mut self, feed: &str, whole: bool) -> Option<u64> {
        let running = self.running.get(feed)?;
        if running.demands.is_closed() {
            return None;
        }
        self.requests += 1;
        running.demands.send_modify(|demands| {
            demands.request = self.requests;
            if whole {
                demands.whole = self.requests;
            }
        });
        Some(self.requests)
    }

    /// Counts a NOTIFY, and makes its feed ask the primaries if it was accepted.
    pub(crate) fn notified(&mut self, notified: &Notified) {
        let Some(running) = self.running.get_mut(&notified.feed) else {
            // The feed was removed meanwhile.
            return;
        };
        let why = notified.verdict.err();
        running.notify.add(
            notified.from,
            notified.count,
            why.map(|why| why.to_string()),
        );
        let has_room = running.commands.capacity() > COMMANDS - NOTIFIED;
        if let Ok(serial) = notified.verdict
            && has_room
        {
            // It fails only if the task has ended.
            let from = notified.from;
            let _ = running
                .commands
                .try_send(Command::Notified { from, serial });
        }
    }

    /// Remembers a delivery whose load has started.
    pub(crate) fn wait(&mut self, ticket: u64, waiting: Waiting) {
        self.waiting.insert(ticket, waiting);
    }

    /// The delivery that is loaded with this ticket.
    pub(crate) fn waiting(&self, ticket: u64) -> Option<&Waiting> {
        self.waiting.get(&ticket)
    }

    /// A load has ended: its rules are in force, or it was refused.
    pub(crate) fn finish(&mut self, ticket: u64, outcome: Result<(), Undelivered>) {
        if let Some(waiting) = self.waiting.remove(&ticket) {
            // The feed may have been removed meanwhile.
            let _ = waiting.outcome.send(outcome);
        }
    }

    /// The load of a delivery is dropped, as something else has come into force meanwhile.
    pub(crate) fn drop_delivery(&mut self, ticket: u64) {
        if let Some(waiting) = self.waiting.remove(&ticket) {
            let _ = waiting.outcome.send(Err(Undelivered::Outdated));
        }
    }

    /// The states of all feeds, by name.
    pub(crate) fn reports(&self) -> Vec<FeedReport> {
        let running = self.running.values();
        running
            .map(|running| FeedReport {
                notify: running.notify.clone(),
                ..running.reports.borrow().clone()
            })
            .collect()
    }

    fn start(
        &self,
        feed: &Feed,
        state_dir: Option<PathBuf>,
        in_force: Option<(Serial, Timers, Timestamp)>,
        known: InForce,
        (before, unchecked): (Before, Option<String>),
    ) -> Running {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let (demands, demanded) = watch::channel(before.demands);
        let (reporter, reports) = watch::channel(before.report.clone());
        let (comparable, compared) = watch::channel(None);
        let links = Links {
            deliveries: self.deliveries.0.clone(),
            commands: receiver,
            demands: demanded,
            reports: reporter,
            keys: Keys::clone(&self.keys),
            comparable: compared,
        };
        let (of_feed, report) = (feed.clone(), before.report);
        let run = async move {
            let runner = Runner::new(of_feed, state_dir, links, in_force, known.held_as, &report);
            runner.run().await;
        };
        Running {
            feed: feed.clone(),
            commands,
            demands,
            unchecked,
            reports,
            comparable,
            task: tokio::spawn(run),
            known,
            notify: before.notify,
        }
    }
}

/// Identifies the protected names that the rules in force of a feed must be checked against; `None` if they were.
fn unchecked(list: Option<&ListState>, guard_policy: &GuardPolicy) -> Option<String> {
    let unchecked = list?.unchecked(guard_policy)?;
    Some(unchecked.into_owned())
}

/// The list of a feed. `None` if it is not active, or another zone or a file has its name until a rollback ends.
fn list_of<'l>(feed: &Feed, lists: &'l ListSources) -> Option<&'l ListState> {
    let list = lists.active.iter().find(|list| list.name() == feed.name)?;
    let is_own = list.config.apex() == Some(&feed.zone);
    (is_own && list.config.content == Content::Transferred).then_some(list)
}

/// The SOA record of the rules in force.
fn soa_of(list: &ListState) -> Option<Soa> {
    let facts = list.loaded.as_ref()?.tally.zone.as_ref()?;
    Soa::parse(&facts.data, 0, facts.data.len())
}

/// The rules in force of a feed, if a whole zone can be compared with them.
fn comparable(
    list: &ListState,
    images: &Images,
    guard_policy: &Arc<GuardPolicy>,
) -> Option<Comparable> {
    let loaded = list.loaded.as_ref()?;
    images.is_in_base(list.name()).then(|| Comparable {
        images: images.clone(),
        list: list.name().to_owned(),
        digest: loaded.digest.clone(),
        guard_policy: Arc::clone(guard_policy),
        guarded: (&list.config).into(),
    })
}
