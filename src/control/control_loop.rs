//! Owns the policy in force: the one holder of the publisher, who reads lists and publishes snapshots.
//! Refuses to wait while a list is read: that happens on other threads, and a small one overtakes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::admin::hits::Hits;
use super::admin::report;
use super::guard::policy::Rails;
use super::guard::release::Guards;
use super::journal::Journal;
use super::journal::entry::Cause;
use super::persist::keeper::Keeper;
use super::persist::rollback::Rolling;
use super::persist::rollback_file::Hold;
use super::publish::order_changes::OrderStates;
use super::publish::pending::Stage;
use super::publish::slots::Slots;
use super::sources::files::Files;
use super::sources::lists::state::ListState;
use super::sources::scheduler::Calendar;
use crate::config::{Config, Problems};
use crate::control::admin::preparing::{Newest, Prepared, Wish, Wishes};
use crate::control::admin::requests::{Request, Tickets, Waiting};
use crate::control::admin::status::{ReloadReport, ReloadRequest};
use crate::control::compile::job::{Compiled, NewBase, Wanted, is_large, want};
use crate::control::guard::guarding::{is_held, released};
use crate::control::publish::data_plane::{DataPlane, Following};
use crate::control::publish::delta::{Joined, Ready};
use crate::control::sources::errands::{Errand, Errands};
use crate::control::sources::lists::landing::{Done, start_load};
use crate::control::sources::watch::{OPEN_QUIET, Touches, Watch};
use crate::policy::current::{Publisher, Reader};
use crate::policy::images::Images;
use crate::policy::snapshot::Snapshot;

/// How often all files are looked at, for changes that the system told nothing of (network file
/// systems, links further up the path, events that were lost). A file that two sweeps find in the
/// same new state is as quiet as one that an open writer leaves alone.
const SWEEP: Duration = OPEN_QUIET;
/// How often to look whether a replaced snapshot is still in use.
const RECLAIM: Duration = Duration::from_millis(20);

/// Joined lists, or the loads of a joining that panicked.
type Joining = Result<Joined, Vec<u64>>;

/// The control plane.
pub struct Control {
    /// The configuration as it was at the start: what is not reloadable is compared with it.
    pub(super) boot: Config,
    pub(super) config: Config,
    /// What its lists are held against.
    pub(super) rails: Arc<Rails>,
    pub(super) lists: Vec<ListState>,
    pub(super) started_at: Timestamp,
    pub(super) published_at: Timestamp,
    /// What is wrong with the newest state of the configuration's file.
    pub(super) config_problems: Vec<String>,
    pub(super) unwatched: Vec<String>,
    /// Why some can't use the control socket who may.
    pub(super) socket_problem: Option<String>,
    /// The rules in force.
    pub(super) images: Images,
    /// Lists that were read and wait to be joined with the others.
    pub(super) ready: Vec<Ready>,
    /// Whether lists are being joined.
    pub(super) joining: bool,
    /// Whether a new configuration is joined with them: it is in no other place meanwhile, so what
    /// is asked for waits until it is in force.
    pub(super) stage_joining: bool,
    pub(super) joined: (mpsc::Sender<Joining>, mpsc::Receiver<Joining>),
    /// Large lists that wait for the compiler.
    pub(super) wanted: Vec<Wanted>,
    /// Whether it is to move lists of the delta into the base.
    pub(super) delta_is_full: bool,
    /// How many rules the delta had when that failed, and why.
    pub(super) overfull: Option<(u64, String)>,
    /// Whether it runs.
    pub(super) compiling: bool,
    pub(super) compiled: (mpsc::Sender<Compiled>, mpsc::Receiver<Compiled>),
    /// What it made, until that is in force.
    pub(super) base: Option<NewBase>,
    /// The file of a base that is in force and not kept yet.
    pub(super) base_file: Option<PathBuf>,
    pub(super) keeper: Keeper,
    /// Whether what is in force is being kept; and whether it is another one than is kept.
    pub(super) keeping: bool,
    pub(super) unkept: bool,
    /// Whether that could be kept.
    pub(super) kept: (mpsc::Sender<bool>, mpsc::Receiver<bool>),
    /// When to try again, if not; the next generation tries earlier.
    pub(super) keep_again: Option<Instant>,
    /// The generation since which the images are in force.
    pub(super) imaged: u64,
    /// How often lists and orders blocked.
    pub(super) hits: Hits,
    /// Whether newer states of lists don't count; and why they do although somebody wanted that.
    pub(super) held: Option<Hold>,
    pub(super) unheld: Option<String>,
    /// The rollback or release under way.
    pub(super) rolling: Option<Rolling>,
    /// Counts rollbacks up: what began before one is too new when it ends.
    pub(super) epoch: u64,
    pub(super) joining_since: u64,
    pub(super) compiling_since: u64,
    /// The generation that comes next.
    pub(super) next: u64,
    pub(super) publisher: Publisher,
    pub(super) watch: Watch,
    /// Why there is no watch.
    pub(super) no_watch: Option<String>,
    /// Other files may count than are watched.
    pub(super) unfollowed: bool,
    touches: Touches,
    /// Work on files, which happens on other threads.
    pub(super) errands: Errands,
    /// Who waits for the files of orders and exceptions that are being read.
    pub(super) reading: Vec<u64>,
    /// Reloads and rollbacks that wait for their files.
    pub(super) wishes: Wishes,
    pub(super) done: (mpsc::Sender<Done>, mpsc::Receiver<Done>),
    pub(super) tickets: Tickets,
    pub(super) stage: Option<Stage>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) unpublished: bool,
    /// Why.
    pub(super) causes: Vec<Cause>,
    pub(super) journal: Journal,
    /// Which version of the book the journal was told last.
    pub(super) paged: u64,
    /// What it was told that is wrong with files of orders.
    pub(super) told_problems: Vec<String>,
    /// The states of orders that were logged.
    pub(super) order_states: OrderStates,
    /// Where hits of lists are counted.
    pub(super) slots: Slots,
    pub(super) calendar: Calendar,
    pub(super) plane: Following,
}

impl Control {
    /// A control plane that has read nothing yet. Nobody may ask, until the first generation.
    pub(super) fn empty(
        config: Config,
        keeper: Keeper,
        rails: Arc<Rails>,
        calendar: Calendar,
    ) -> Self {
        let hits = Hits::read(config.state.dir.as_deref());
        let mut no_watch = None;
        let (watch, touches) = Watch::start().unwrap_or_else(|error| {
            no_watch = Some(format!("files can't be watched ({error})"));
            Watch::none()
        });
        let mut control = Self {
            lists: config.lists.iter().cloned().map(ListState::new).collect(),
            calendar,
            rails,
            boot: config.clone(),
            config,
            started_at: Timestamp::now(),
            published_at: Timestamp::now(),
            config_problems: Vec::new(),
            unwatched: no_watch.iter().cloned().collect(),
            socket_problem: None,
            images: Images::default(),
            ready: Vec::new(),
            joining: false,
            stage_joining: false,
            joined: mpsc::channel(1),
            wanted: Vec::new(),
            delta_is_full: false,
            overfull: None,
            compiling: false,
            compiled: mpsc::channel(1),
            base: None,
            base_file: None,
            keeper,
            keeping: false,
            unkept: false,
            kept: mpsc::channel(1),
            keep_again: None,
            imaged: 0,
            hits,
            held: None,
            unheld: None,
            rolling: None,
            epoch: 0,
            joining_since: 0,
            compiling_since: 0,
            next: 1,
            publisher: Publisher::new(Snapshot::default()),
            watch,
            no_watch,
            unfollowed: true,
            touches,
            errands: Errands::new(),
            reading: Vec::new(),
            wishes: Wishes::default(),
            done: mpsc::channel(256),
            tickets: Tickets::default(),
            stage: None,
            waiting: Vec::new(),
            unpublished: true,
            causes: vec![Cause::Start],
            journal: Journal::default(),
            paged: 0,
            told_problems: Vec::new(),
            order_states: OrderStates::default(),
            slots: Slots::default(),
            plane: Following::default(),
        };
        control.start_following();
        control
    }

    /// A reader of the snapshot in force.
    pub fn reader(&self) -> Reader {
        self.publisher.reader()
    }

    /// The generation in force.
    pub fn generation(&self) -> u64 {
        self.publisher.current().generation
    }

    /// Follows files, requests and hang-ups until `stop`, and has `plane` follow the configuration.
    pub async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut hangups: mpsc::Receiver<()>,
        plane: Arc<dyn DataPlane>,
        stop: CancellationToken,
    ) {
        self.plane = Following::new(plane);
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reclaim: Option<Instant> = Some(Instant::now());
        let far = Duration::from_secs(3600);
        loop {
            let now = Instant::now();
            let lists = self.all_lists().filter_map(|list| list.due()).min();
            let idle = !self.errands.is_running(&Errand::Book) && !self.stage_joining;
            let book = self.calendar.due().filter(|_| idle);
            let due = lists.into_iter().chain(book).min();
            // Every arm does a bounded amount of work and makes no call that may block for long, so that
            // a date is at most one turn late.
            tokio::select! {
                () = stop.cancelled() => break,
                Some(request) = requests.recv() => match request {
                    Request::Status(reply) => {
                        // Who asked may have left.
                        let _ = reply.send(report::status(&self, self.plane.gauges()));
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
                touched = self.touches.next() => self.touch(&touched),
                Some((errand, landed)) = self.errands.next() => self.land_errand(&errand, landed),
                Some(done) = self.done.1.recv() => self.land(done),
                Some(joined) = self.joined.1.recv() => self.land_joined(joined),
                Some(compiled) = self.compiled.1.recv() => self.land_compiled(compiled),
                Some(kept) = self.kept.1.recv() => self.land_kept(kept),
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
            if self.unpublished {
                self.publish();
                reclaim = Some(Instant::now() + RECLAIM);
            }
            self.plane.follow();
            self.start_keeping();
            self.start_counting();
            self.start_compiling();
            self.answer_waiting();
        }
        let generation = self.generation();
        self.keep_counts().await;
        tokio::task::block_in_place(|| self.journal.close(generation));
    }

    pub(super) fn look_at_the_clock(&mut self) {
        if let Some(cause) = self.calendar.ring() {
            self.change(cause);
        }
    }

    /// The lists in force, and those that a new configuration waits for.
    pub(super) fn all_lists(&mut self) -> impl Iterator<Item = &mut ListState> {
        let staged = self.stage.iter_mut().flat_map(|stage| &mut stage.fresh);
        self.lists.iter_mut().chain(staged)
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
        let active = self.lists.iter_mut().map(|list| (list, false));
        for (list, staged) in active.chain(staged.map(|list| (list, true))) {
            if !list.take_at_rest() {
                continue;
            }
            let rails = next.as_ref().filter(|_| staged).unwrap_or(&self.rails);
            let wanted = list.loaded.is_none() || list.refused.is_some() || list.is_outdated(rails);
            if wanted || !list.released.is_empty() || list.changed() {
                let ticket = self.tickets.next();
                if is_large(list) {
                    self.wanted.push(want(list, ticket, staged));
                } else {
                    start_load(list, rails, ticket, &self.done.0);
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
        for list in &mut self.lists {
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
                list.request(self.tickets.next(), free, now)
            } else {
                continue;
            };
            waiting.tickets.insert(ticket);
        }
        self.waiting.push(waiting);
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
                self.config_problems = problems.0.iter().map(ToString::to_string).collect();
                self.tell_refused("configuration".to_owned(), self.config_problems.clone());
                let refused = &mut waiting.report.problems;
                refused.extend(self.config_problems.iter().cloned());
                tracing::error!(%problems, "configuration refused, the old one stays");
                return;
            }
        };
        if !problems.is_empty() && config != self.config {
            return self.refuse_configuration(waiting, problems);
        }
        let change = change.filter(|_| config != self.config);
        let next = change.as_ref().map(|change| change.restart.as_slice());
        let plane = next.unwrap_or(self.plane.restart());
        waiting.report.restart = report::needs_restart(&self.boot, &config, plane);
        let (config, problem) = match &self.held {
            Some(hold) => self.without_held(config, hold),
            None => (config, None),
        };
        waiting.report.problems.extend(problem.clone());
        self.tell_held_back(problem);
        if config == self.config && self.stage.is_none() {
            return;
        }
        waiting.staged = true;
        let is_other = |stage: &Stage| stage.config != config;
        if self.stage.as_ref().is_none_or(is_other) {
            // One that waited is outdated; who waited for it waits for this one.
            let rails = rails.map_or_else(|| Arc::clone(&self.rails), Arc::new);
            self.stage = Some(Stage::new(config, rails, change, &self.lists, files));
            self.base.take_if(|base| base.staged);
            self.follow();
        }
        let now = Instant::now();
        for list in self.stage.iter_mut().flat_map(|stage| &mut stage.fresh) {
            let free = released(wish, list.name());
            if list.loading.is_none() && (!free.is_empty() || list.loaded.is_none()) {
                list.request_unwatched(self.tickets.next(), free, now);
            }
        }
    }
}

pub(super) fn carries(list: &ListState, ticket: u64) -> bool {
    list.loading.is_some_and(|loading| loading.ticket == ticket)
}
