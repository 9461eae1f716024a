//! Owns the policy in force: the one holder of the publisher, who reads lists and publishes snapshots.
//! Refuses to wait while a list is read: that happens on other threads, and a small one overtakes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::admin::hits::Hits;
use super::admin::preparing::{Newest, Prepared, Wish};
use super::admin::report;
use super::admin::requests::{Request, Requests, Waiting};
use super::admin::status::{ReloadReport, ReloadRequest};
use super::compile::job::{CompileQueue, is_large, want};
use super::configuration::Configuration;
use super::guard::guarding::{is_held, released};
use super::guard::policy::Rails;
use super::guard::release::Guards;
use super::journal::entry::Cause;
use super::persist::keeper::{Keeper, Persistence};
use super::persist::rollback::Rollback;
use super::publish::causes::Record;
use super::publish::data_plane::{DataPlane, Following};
use super::publish::delta::DeltaJoin;
use super::publish::pending::Stage;
use super::publish::publishing::Publication;
use super::sources::errands::{Errand, Errands};
use super::sources::files::{Files, FollowedFiles};
use super::sources::lists::ListSources;
use super::sources::lists::landing::start_load;
use super::sources::lists::state::ListState;
use super::sources::scheduler::Calendar;
use super::sources::watch::OPEN_QUIET;
use crate::config::{Config, Problems};
use crate::policy::current::Reader;

/// How often all files are looked at, for changes that the system told nothing of (network file
/// systems, links further up the path, events that were lost). A file that two sweeps find in the
/// same new state is as quiet as one that an open writer leaves alone.
const SWEEP: Duration = OPEN_QUIET;
/// How often to look whether a replaced snapshot is still in use.
const RECLAIM: Duration = Duration::from_millis(20);

/// The control plane: its components, between which [`run`](Self::run) routes what happens.
pub struct Control {
    pub(crate) configuration: Configuration,
    /// What lists are checked against.
    pub(crate) rails: Arc<Rails>,
    pub(crate) lists: ListSources,
    pub(crate) calendar: Calendar,
    /// A new configuration whose lists are being read.
    pub(crate) stage: Option<Stage>,
    pub(crate) files: FollowedFiles,
    /// Work on files, which happens on other threads.
    pub(crate) errands: Errands,
    pub(crate) requests: Requests,
    pub(crate) compiler: CompileQueue,
    pub(crate) delta: DeltaJoin,
    pub(crate) publication: Publication,
    pub(crate) persist: Persistence,
    pub(crate) rollback: Rollback,
    pub(crate) record: Record,
    /// How often lists and orders blocked.
    pub(crate) hits: Hits,
}

impl Control {
    /// A control plane that has read nothing yet. It refuses all clients until the first generation.
    pub(crate) fn empty(
        config: Config,
        keeper: Keeper,
        rails: Arc<Rails>,
        calendar: Calendar,
    ) -> Self {
        let hits = Hits::read(config.state.dir.as_deref());
        let mut control = Self {
            lists: ListSources::new(&config),
            configuration: Configuration::new(config),
            rails,
            calendar,
            stage: None,
            files: FollowedFiles::start(),
            errands: Errands::new(),
            requests: Requests::default(),
            compiler: CompileQueue::new(),
            delta: DeltaJoin::new(),
            publication: Publication::new(),
            persist: Persistence::new(keeper),
            rollback: Rollback::default(),
            record: Record::default(),
            hits,
        };
        control.start_following();
        control
    }

    /// A reader of the snapshot in force.
    pub fn reader(&self) -> Reader {
        self.publication.publisher.reader()
    }

    /// The generation in force.
    pub fn generation(&self) -> u64 {
        self.publication.publisher.current().generation
    }

    /// Follows files, requests and hang-ups until `stop`, and has `plane` follow the configuration.
    pub async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut hangups: mpsc::Receiver<()>,
        plane: Arc<dyn DataPlane>,
        stop: CancellationToken,
    ) {
        self.publication.plane = Following::new(plane);
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reclaim: Option<Instant> = Some(Instant::now());
        let far = Duration::from_secs(3600);
        loop {
            let now = Instant::now();
            let lists = self.all_lists().filter_map(|list| list.due()).min();
            let idle = !self.errands.is_running(&Errand::Book) && !self.delta.stage_joining;
            let book = self.calendar.due().filter(|_| idle);
            let due = lists.into_iter().chain(book).min();
            // Every arm does a bounded amount of work and makes no call that may block for long, so that
            // a date is at most one turn late.
            tokio::select! {
                () = stop.cancelled() => break,
                Some(request) = requests.recv() => match request {
                    Request::Status(reply) => {
                        // Who asked may have left.
                        let _ = reply.send(report::status(&self, self.publication.plane.gauges()));
                    }
                    Request::KnownOrders(reply) => _ = reply.send(report::known_orders(&self)),
                    Request::Reload(wish, user, reply) => {
                        let cause = wish.cause(user);
                        self.wish(Wish::Reload(wish, cause, Some(reply)));
                    }
                    Request::Rollback(wish, user, reply) => {
                        let cause = wish.cause(user);
                        self.wish(Wish::Rollback(wish, cause, reply));
                    }
                    Request::Orders(wish, user, reply) => self.look_at_order(&wish, user, reply),
                },
                Some(()) = hangups.recv() => self.hang_up(),
                touched = self.files.touches.next() => self.touch(&touched),
                Some((errand, landed)) = self.errands.next() => self.land_errand(&errand, landed),
                Some(done) = self.lists.done.1.recv() => self.land(done),
                Some(joined) = self.delta.joined.1.recv() => self.land_joined(joined),
                Some(compiled) = self.compiler.compiled.1.recv() => self.land_compiled(compiled),
                Some(kept) = self.persist.kept.1.recv() => self.land_kept(kept),
                () = sleep_until(due.unwrap_or(now + far)) => self.load_due(),
                () = self.calendar.wait() => self.look_at_the_clock(),
                _ = sweep.tick() => self.sweep(),
                () = sleep_until(reclaim.unwrap_or(now + far)), if reclaim.is_some() => {
                    reclaim = self.reclaim().then(|| Instant::now() + RECLAIM);
                }
            }
            self.look_at_the_clock();
            self.prepare();
            self.finish_stage();
            self.start_configuring();
            self.follow_guard();
            self.start_looking();
            self.start_reading();
            self.start_following();
            self.roll_back_again();
            self.start_joining();
            if self.publication.is_due {
                self.publish();
                reclaim = Some(Instant::now() + RECLAIM);
            }
            self.publication.plane.follow();
            self.start_keeping();
            self.start_counting();
            self.start_compiling();
            self.answer_waiting();
        }
        let generation = self.generation();
        self.keep_counts().await;
        tokio::task::block_in_place(|| self.record.journal.close(generation));
    }

    pub(super) fn look_at_the_clock(&mut self) {
        if let Some(cause) = self.calendar.ring() {
            self.change(cause);
        }
    }

    /// The lists in force, and those that a new configuration waits for.
    pub(super) fn all_lists(&mut self) -> impl Iterator<Item = &mut ListState> {
        let staged = self.stage.iter_mut().flat_map(|stage| &mut stage.fresh);
        self.lists.active.iter_mut().chain(staged)
    }

    /// Has the files looked at that may be read, and reads lists that have none.
    fn load_due(&mut self) {
        let now = Instant::now();
        self.all_lists().for_each(|list| list.look_if_due(now));
        self.load_looked();
    }

    /// Has the files read that were looked at for that, if they changed.
    pub(super) fn load_looked(&mut self) {
        self.refuse_the_held();
        let mut kept = Vec::new();
        let next = self.stage.as_ref().map(|stage| Arc::clone(&stage.rails));
        let staged = self.stage.iter_mut().flat_map(|stage| &mut stage.fresh);
        let active = self.lists.active.iter_mut().map(|list| (list, false));
        for (list, staged) in active.chain(staged.map(|list| (list, true))) {
            if !list.take_at_rest() {
                continue;
            }
            let rails = next.as_ref().filter(|_| staged).unwrap_or(&self.rails);
            let wanted = list.loaded.is_none() || list.refused.is_some() || list.is_outdated(rails);
            if wanted || !list.released.is_empty() || list.changed() {
                let ticket = self.requests.tickets.next();
                if is_large(list) {
                    self.compiler.wanted.push(want(list, ticket, staged));
                } else {
                    start_load(list, rails, ticket, &self.lists.done.0);
                }
            } else {
                kept.extend(list.promised.take());
            }
        }
        for ticket in kept {
            self.no_longer_awaited(ticket);
        }
    }

    /// Reads the configuration again, and all lists that changed, were refused, or are accepted.
    pub(super) fn reload(
        &mut self,
        wish: &ReloadRequest,
        cause: Cause,
        reply: Option<oneshot::Sender<ReloadReport>>,
        prepared: Prepared,
    ) {
        let mut waiting = Waiting::new(cause, reply);
        waiting.is_reload = true;
        self.reconfigure(wish, &mut waiting, prepared.newest, &prepared.files);
        let reguarded = self.reguard(&mut waiting, &prepared.config, prepared.rails);
        self.refresh_book(&mut waiting);
        let same = !waiting.staged && !reguarded;
        let problems = self.misspelt(wish, same);
        waiting.report.problems.extend(problems);
        let now = Instant::now();
        let fresh = |name: &str| {
            let fresh = self.stage.iter().flat_map(|stage| &stage.fresh);
            fresh.into_iter().any(|list| list.name() == name)
        };
        for list in &mut self.lists.active {
            let mut free = released(wish, list.name());
            if fresh(list.name()) {
                // What is released of a list that comes anew is not its old file.
                free = Guards::NONE;
            }
            let under_way = list.loading.filter(|loading| {
                !reguarded && loading.of == list.looked() && loading.released.cover(free)
            });
            // What a guard holds is judged anew by the guard that a new configuration brings.
            let later = waiting.staged && is_held(list);
            let ticket = if let Some(loading) = under_way {
                loading.ticket
            } else if !free.is_empty()
                || (list.refused.is_some() && !later)
                || list.changed()
                || (!list.frozen && list.is_outdated(&self.rails))
            {
                list.request(self.requests.tickets.next(), free, now)
            } else {
                continue;
            };
            waiting.tickets.insert(ticket);
        }
        self.requests.waiting.push(waiting);
    }

    /// Takes in the configuration's reloadable parts, once the lists that they bring are read.
    pub(super) fn reconfigure(
        &mut self,
        wish: &ReloadRequest,
        waiting: &mut Waiting,
        newest: Option<Result<Newest, Problems>>,
        files: &Files,
    ) {
        let Some(newest) = newest else {
            return;
        };
        let Newest {
            config,
            problems,
            rails,
            change,
        } = match newest {
            Ok(newest) => newest,
            Err(problems) => {
                self.configuration.problems = problems.0.iter().map(ToString::to_string).collect();
                self.tell_refused(
                    "configuration".to_owned(),
                    self.configuration.problems.clone(),
                );
                let refused = &mut waiting.report.problems;
                refused.extend(self.configuration.problems.iter().cloned());
                tracing::error!(%problems, "configuration refused, the old one stays");
                return;
            }
        };
        if !problems.is_empty() && config != self.configuration.current {
            return self.refuse_configuration(waiting, problems);
        }
        let change = change.filter(|_| config != self.configuration.current);
        let next = change.as_ref().map(|change| change.restart.as_slice());
        let plane = next.unwrap_or(self.publication.plane.restart());
        waiting.report.restart = report::needs_restart(&self.configuration.boot, &config, plane);
        let (config, problem) = match &self.rollback.hold {
            Some(hold) => self.without_held(config, hold),
            None => (config, None),
        };
        waiting.report.problems.extend(problem.clone());
        self.tell_held_back(problem);
        if config == self.configuration.current && self.stage.is_none() {
            return;
        }
        waiting.staged = true;
        let is_other = |stage: &Stage| stage.config != config;
        if self.stage.as_ref().is_none_or(is_other) {
            // One that waited is outdated; who waited for it waits for this one.
            let rails = rails.map_or_else(|| Arc::clone(&self.rails), Arc::new);
            self.stage = Some(Stage::new(config, rails, change, &self.lists.active, files));
            self.compiler.base.take_if(|base| base.staged);
            self.follow();
        }
        let now = Instant::now();
        for list in self.stage.iter_mut().flat_map(|stage| &mut stage.fresh) {
            let free = released(wish, list.name());
            if list.loading.is_none() && (!free.is_empty() || list.loaded.is_none()) {
                list.request_unwatched(self.requests.tickets.next(), free, now);
            }
        }
    }
}

pub(super) fn carries(list: &ListState, ticket: u64) -> bool {
    list.loading.is_some_and(|loading| loading.ticket == ticket)
}
