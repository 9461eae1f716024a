//! Owns the policy in force: the one holder of the publisher, who reads lists and publishes snapshots.
//! Refuses to wait while a list is read: that happens on other threads, and a small one overtakes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Control;
use super::admin::preparing::{Newest, Prepared, Wish};
use super::admin::report;
use super::admin::requests::{Request, Waiting};
use super::admin::status::{ReloadReport, ReloadRequest};
use super::compile::job::is_large;
use super::compile::queue::want;
use super::event::Event;
use super::guard::guarding::{is_held, released};
use super::guard::release::Guards;
use super::journal::entry::Cause;
use super::publish::data_plane::{DataPlane, Following};
use super::publish::pending::Stage;
use super::sources::files::Files;
use super::sources::lists::landing::start_load;
use super::sources::lists::state::ListState;
use super::sources::watch::OPEN_QUIET;
use crate::config::Problems;

/// How often all files are looked at, for changes that the system told nothing of (network file
/// systems, links further up the path, events that were lost). A file that two sweeps find in the
/// same new state is as quiet as one that an open writer leaves alone.
const SWEEP: Duration = OPEN_QUIET;
/// How often to look whether a replaced snapshot is still in use.
const RECLAIM: Duration = Duration::from_millis(20);

/// Events from outside of the control plane, and timers.
struct Outside {
    requests: mpsc::Receiver<Request>,
    hangups: mpsc::Receiver<()>,
    stop: CancellationToken,
    sweep: Interval,
    /// When to look whether replaced snapshots are unused.
    reclaim: Option<Instant>,
}

/// The reason for a turn of the control loop.
enum Turn {
    Stop,
    /// Replaced snapshots may be unused now.
    Reclaim,
    Event(Event),
}

impl Control {
    /// Routes what happens to files, requests and dates until `stop`, and has `plane` follow the configuration.
    pub async fn run(
        mut self,
        requests: mpsc::Receiver<Request>,
        hangups: mpsc::Receiver<()>,
        plane: Arc<dyn DataPlane>,
        stop: CancellationToken,
    ) {
        self.publication.plane = Following::new(plane);
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut outside = Outside {
            requests,
            hangups,
            stop,
            sweep,
            reclaim: Some(Instant::now()),
        };
        loop {
            // Each event needs a bounded amount of work and no call that may block for long, so that a date is at
            // most one turn late.
            match self.next_turn(&mut outside).await {
                Turn::Stop => break,
                Turn::Reclaim => {
                    outside.reclaim = self.reclaim().then(|| Instant::now() + RECLAIM);
                }
                Turn::Event(event) => self.route(event),
            }
            if self.proceed() {
                outside.reclaim = Some(Instant::now() + RECLAIM);
            }
        }
        let generation = self.generation();
        self.keep_counts().await;
        tokio::task::block_in_place(|| self.record.journal.close(generation));
    }

    async fn next_turn(&mut self, outside: &mut Outside) -> Turn {
        let far = Instant::now() + Duration::from_secs(3600);
        let due = self.due().unwrap_or(far);
        let (reclaim, reclaims) = (outside.reclaim.unwrap_or(far), outside.reclaim.is_some());
        let date = self.calendar.wait();
        let event = tokio::select! {
            () = outside.stop.cancelled() => return Turn::Stop,
            () = sleep_until(reclaim), if reclaims => return Turn::Reclaim,
            Some(request) = outside.requests.recv() => Event::Request(request),
            Some(()) = outside.hangups.recv() => Event::HangUp,
            touched = self.files.touches.next() => Event::Touched(touched),
            () = sleep_until(due) => Event::Due,
            () = date => Event::Date,
            _ = outside.sweep.tick() => Event::Sweep,
            Some(done) = self.lists.done.1.recv() => Event::Loaded(Box::new(done)),
            Some(joined) = self.delta.joined.1.recv() => Event::Joined(Box::new(joined)),
            Some(compiled) = self.compiler.compiled.1.recv() => Event::Compiled(Box::new(compiled)),
            Some(kept) = self.persist.kept.1.recv() => Event::Kept(kept),
            (_, read) = self.calendar.tasks.next() => Event::OrdersRead(read),
            (folder, files) = self.lists.looks.next() => Event::Looked(folder, files),
            (_, following) = self.files.tasks.next() => Event::Followed(following),
            (_, prepared) = self.requests.queue.tasks.next() => Event::Prepared(prepared),
            (_, configured) = self.configuration.orders.next() => Event::Configured(configured),
            (_, files) = self.rollback.tasks.next() => Event::RollbackFiles(files),
            (_, counted) = self.hits.tasks.next() => Event::Counted(counted),
        };
        Turn::Event(event)
    }

    /// The next end of work on files.
    #[cfg(test)]
    pub(crate) async fn next_file_event(&mut self) -> Event {
        tokio::select! {
            (_, read) = self.calendar.tasks.next() => Event::OrdersRead(read),
            (folder, files) = self.lists.looks.next() => Event::Looked(folder, files),
            (_, following) = self.files.tasks.next() => Event::Followed(following),
            (_, prepared) = self.requests.queue.tasks.next() => Event::Prepared(prepared),
            (_, configured) = self.configuration.orders.next() => Event::Configured(configured),
            (_, files) = self.rollback.tasks.next() => Event::RollbackFiles(files),
            (_, counted) = self.hits.tasks.next() => Event::Counted(counted),
        }
    }

    /// Logs work on files that has become late.
    pub(crate) fn log_late_files(&mut self) {
        self.calendar.tasks.log_late();
        self.lists.looks.log_late();
        self.files.tasks.log_late();
        self.requests.queue.tasks.log_late();
        self.configuration.orders.log_late();
        self.rollback.tasks.log_late();
        self.hits.tasks.log_late();
    }

    /// The work on files that is late, a sentence each.
    pub(crate) fn late_files(&self) -> Vec<String> {
        let mut late = self.calendar.tasks.problems();
        late.extend(self.lists.looks.problems());
        late.extend(self.files.tasks.problems());
        late.extend(self.requests.queue.tasks.problems());
        late.extend(self.configuration.orders.problems());
        late.extend(self.rollback.tasks.problems());
        late.extend(self.hits.tasks.problems());
        late.sort();
        late
    }

    /// When the next file is to be read.
    fn due(&mut self) -> Option<Instant> {
        let idle = !self.calendar.tasks.is_running(&()) && !self.delta.stage_joining;
        let orders = self.calendar.due().filter(|_| idle);
        let lists = self.all_lists().filter_map(|list| list.due());
        lists.chain(orders).min()
    }

    /// Gives an event to the component that it concerns.
    pub(crate) fn route(&mut self, event: Event) {
        match event {
            Event::Request(request) => self.take_request(request),
            Event::HangUp => self.hang_up(),
            Event::Touched(touched) => self.touch(&touched),
            Event::Due => self.load_due(),
            Event::Date => self.look_at_the_clock(),
            Event::Sweep => self.sweep(),
            Event::Loaded(done) => self.land(*done),
            Event::Joined(joined) => self.land_joined(*joined),
            Event::Compiled(compiled) => self.land_compiled(*compiled),
            Event::Kept(kept) => self.land_kept(kept),
            Event::OrdersRead(Some(read)) => self.land_book(*read),
            Event::OrdersRead(None) => self.break_off_reading(),
            Event::Looked(folder, files) => self.land_looked(&folder, files),
            Event::Followed(Some(following)) => self.land_followed(&following),
            Event::Prepared(prepared) => self.land_prepared(prepared),
            Event::Configured(configured) => self.land_configured(configured.map(|it| *it)),
            Event::RollbackFiles(files) => self.land_rollback(files),
            Event::Counted(Some(counted)) => self.land_counted(counted),
            // The next sweep has the files watched again, and the next minute has the hits written.
            Event::Followed(None) | Event::Counted(None) => {}
        }
    }

    /// Starts all that the components are ready for. Returns whether a new snapshot was published.
    fn proceed(&mut self) -> bool {
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
        let publishes = self.publication.is_due;
        if publishes {
            self.publish();
        }
        self.publication.plane.follow();
        self.start_keeping();
        self.start_counting();
        self.start_compiling();
        self.answer_waiting();
        publishes
    }

    fn take_request(&mut self, request: Request) {
        match request {
            Request::Status(reply) => {
                // The client may have left.
                let _ = reply.send(report::status(self, self.publication.plane.gauges()));
            }
            Request::KnownOrders(reply) => _ = reply.send(report::known_orders(self)),
            Request::Reload(wish, user, reply) => {
                let cause = wish.cause(user);
                self.wish(Wish::Reload(wish, cause, Some(reply)));
            }
            Request::Rollback(wish, user, reply) => {
                let cause = wish.cause(user);
                self.wish(Wish::Rollback(wish, cause, reply));
            }
            Request::Orders(wish, user, reply) => self.look_at_order(&wish, user, reply),
        }
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
