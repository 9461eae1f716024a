//! The control loop: it waits for events and timers, and routes each to the component that it concerns.
//!
//! ```text
//!               +---------------------------------------------------------------------+
//!               v                                                                     |
//!   next_turn: wait for one event ----> route: give it to its component ----> proceed: let every component
//!               |                                                             start what it is ready for
//!               +--> stop
//! ```
//!
//! Files are read and written on other threads, so that no turn takes long. Between turns, the components and the
//! timers hold all state.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Control;
use super::admin::preparing::{PreparedRequest, QueuedRequest};
use super::admin::requests::{Answering, Request};
use super::compile::job::Compiled;
use super::event::Event;
use super::file_tasks::Lateness;
use super::journal::entry::Cause;
use super::sources::lists::state::ListState;
use super::sources::orders::reading::RegistryRead;
use super::sources::watch::{Followed, OPEN_QUIET, Touched};
use super::zones::leftovers;
use crate::control::data_plane::{DataPlane, Following};
use crate::control::steps::status;

/// How often all files are looked at. Some changes cause no event (network file systems, links further up the path,
/// lost events). The interval equals the time for which a file that is open for writing must be quiet before it is
/// read. So a file that two sweeps find in the same new state has been quiet for long enough.
const SWEEP: Duration = OPEN_QUIET;
/// How often to look whether a replaced snapshot is still in use.
const RECLAIM: Duration = Duration::from_millis(20);
/// How often the figures for monitoring are published, besides each generation.
const FIGURES: Duration = Duration::from_secs(1);

/// Events from outside of the control plane, and timers.
struct Outside {
    requests: mpsc::Receiver<Request>,
    hangups: mpsc::Receiver<()>,
    stop: CancellationToken,
    sweep: Interval,
    /// When to publish the figures for monitoring.
    figures: Interval,
    /// When to look whether replaced snapshots are unused.
    reclaim: Option<Instant>,
}

/// The reason for a turn of the control loop.
enum Turn {
    Stop,
    /// The figures for monitoring are due.
    Figures,
    /// Replaced snapshots may be unused now.
    Reclaim,
    Event(Event),
}

impl Control {
    /// Routes events of files, requests and dates until `stop`, and applies changes of the configuration to `plane`.
    pub async fn run(
        mut self,
        requests: mpsc::Receiver<Request>,
        hangups: mpsc::Receiver<()>,
        plane: Arc<dyn DataPlane>,
        stop: CancellationToken,
    ) {
        self.publication.plane = Following::new(plane);
        self.follow_feeds();
        self.downloads.follow(&self.configuration.current);
        let config = &self.configuration.current;
        tokio::task::block_in_place(|| leftovers::remove(config));
        self.follow_zones();
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut figures = interval(FIGURES);
        figures.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.publish_figures();
        let mut outside = Outside {
            requests,
            hangups,
            stop,
            sweep,
            figures,
            reclaim: Some(Instant::now()),
        };
        loop {
            // Each event needs a bounded amount of work and no call that may block for long, so that an order begins or
            // ends at most one turn late.
            match self.next_turn(&mut outside).await {
                Turn::Stop => break,
                Turn::Figures => {
                    self.publish_figures();
                    continue;
                }
                Turn::Reclaim => {
                    outside.reclaim = self.publication.reclaim().then(|| Instant::now() + RECLAIM);
                }
                Turn::Event(event) => self.route(event),
            }
            if self.proceed() {
                outside.reclaim = Some(Instant::now() + RECLAIM);
                self.publish_figures();
            }
            self.vitals.turn(self.requests.are_reloading());
            let Outside { requests, stop, .. } = &mut outside;
            if self.park_if_wanted(requests, stop).await {
                // The other process has the journal. The server ends soon.
                return stop.cancelled().await;
            }
        }
        self.downloads.end();
        self.feeds.end();
        let generation = self.generation();
        let gauges = self.publication.plane.gauges();
        self.hits.write_last(&gauges, &self.publication.slots).await;
        tokio::task::block_in_place(|| self.record.journal.close(generation));
    }

    async fn next_turn(&mut self, outside: &mut Outside) -> Turn {
        let far = Instant::now() + Duration::from_secs(3600);
        let due = self.due().unwrap_or(far);
        let (reclaim, reclaims) = (outside.reclaim.unwrap_or(far), outside.reclaim.is_some());
        let date = self.scheduler.wait(self.lists.pauses.next_end());
        let event = tokio::select! {
            () = outside.stop.cancelled() => return Turn::Stop,
            () = sleep_until(reclaim), if reclaims => return Turn::Reclaim,
            Some(request) = outside.requests.recv() => Event::Request(request),
            Some(()) = outside.hangups.recv() => Event::HangUp,
            () = sleep_until(due) => Event::Due,
            _ = outside.figures.tick(), if self.is_monitored() => return Turn::Figures,
            () = date => Event::Date,
            _ = outside.sweep.tick() => Event::Sweep,
            event = self.component_event() => event,
        };
        Turn::Event(event)
    }

    /// The next event of a component. Cancel safe.
    pub(crate) async fn component_event(&mut self) -> Event {
        tokio::select! {
            touched = self.files.touches.next() => Event::Touched(touched),
            Some(replaced) = self.downloads.replaced.1.recv() => Event::Downloaded(replaced),
            Some(delivery) = self.feeds.deliveries.1.recv() => Event::Delivered(Box::new(delivery)),
            Some(notified) = self.feeds.notified.1.recv() => Event::Notified(notified),
            Some(done) = self.lists.done.1.recv() => Event::Loaded(Box::new(done)),
            Some(joined) = self.delta.joined.1.recv() => Event::Joined(Box::new(joined)),
            Some(compiled) = self.compiler.compiled.1.recv() => Event::Compiled(Box::new(compiled)),
            Some(kept) = self.persist.written.1.recv() => Event::ImagesWritten(kept),
            (_, read) = self.scheduler.tasks.next() => Event::OrdersRead(read),
            (folder, files) = self.lists.looks.next() => Event::Looked(folder, files),
            (_, following) = self.files.tasks.next() => Event::Followed(following),
            (_, prepared) = self.requests.queue.tasks.next() => Event::Prepared(prepared),
            (_, configured) = self.configuration.orders.next() => Event::ConfiguredOrders(configured),
            (_, files) = self.rollback.tasks.next() => Event::RollbackFiles(files),
            (_, written) = self.lists.pauses.tasks.next() => Event::PausesWritten(written),
            (_, counted) = self.hits.tasks.next() => Event::Counted(counted),
        }
    }

    /// The work on files of all components.
    fn file_tasks(&self) -> [&dyn Lateness; 8] {
        [
            &self.scheduler.tasks,
            &self.lists.looks,
            &self.files.tasks,
            &self.requests.queue.tasks,
            &self.configuration.orders,
            &self.rollback.tasks,
            &self.lists.pauses.tasks,
            &self.hits.tasks,
        ]
    }

    /// Logs work on files that has become late.
    pub(crate) fn log_late_files(&self) {
        self.file_tasks().into_iter().for_each(Lateness::log_late);
    }

    /// The work on files that is late, a sentence each.
    pub(crate) fn late_files(&self) -> Vec<String> {
        let mut late = self.file_tasks().map(Lateness::problems).concat();
        late.sort();
        late
    }

    /// Writes the images in force, if they are not stored yet.
    pub(crate) fn persist_images(&mut self) {
        let is_rolling = self.rollback.is_running();
        self.persist.start(self.publication.images(), is_rolling);
    }

    /// Writes the hits of lists and orders, if that is due.
    pub(crate) fn write_hits(&mut self) {
        let gauges = || self.publication.plane.gauges();
        self.hits.start_writing(gauges, &self.publication.slots);
    }

    /// When the next file is to be read.
    fn due(&mut self) -> Option<Instant> {
        let orders = self.scheduler.due();
        // While the lists of a new configuration are being joined, no orders are read, as its own orders are not in
        // force yet.
        let orders = orders.filter(|_| !self.delta.has_configuration());
        self.lists.due().into_iter().chain(orders).min()
    }

    /// Gives an event to the component that it concerns.
    pub(crate) fn route(&mut self, event: Event) {
        match event {
            Event::Request(request) => self.receive(request),
            Event::HangUp => self.requests.push(QueuedRequest::hang_up()),
            Event::Touched(touched) => self.touch(&touched),
            Event::Due => self.load_due(),
            Event::Date => self.check_clock(),
            Event::Sweep => self.sweep(),
            Event::Downloaded(replaced) => self.take_download(replaced),
            Event::Delivered(delivery) => self.take_delivery(*delivery),
            Event::Notified(notified) => self.feeds.notified(&notified),
            Event::Loaded(done) => {
                let result = self.lists.finish_load(*done);
                self.finish_load(result);
            }
            Event::Joined(joined) => self.finish_joining(*joined),
            Event::Compiled(compiled) => self.finish_compiling(*compiled),
            Event::ImagesWritten(kept) => self.persist.finish(kept),
            Event::OrdersRead(read) => self.finish_reading_orders(read.map(|it| *it)),
            Event::Looked(folder, files) => {
                self.lists.finish_looking(&folder, files.as_ref());
                self.load_looked();
            }
            Event::Followed(Some(following)) => {
                self.lists.finish_watching(&following);
                self.files.finish_watching(&following);
            }
            Event::Prepared(prepared) => {
                if let Some(files) = self.requests.finish_preparing(prepared) {
                    let lists = self.lists.active.iter_mut();
                    lists.for_each(|list| list.set_looked(files));
                }
            }
            Event::ConfiguredOrders(configured) => {
                self.finish_reading_new_orders(configured.map(|it| *it));
            }
            Event::RollbackFiles(files) => self.finish_rollback_files(files),
            Event::PausesWritten(written) => self.lists.pauses.finish_writing(written),
            Event::Counted(Some(counted)) => self.hits.finish(counted),
            // Watching is tried again at the next sweep, and writing the hits in the next minute.
            Event::Followed(None) | Event::Counted(None) => {}
        }
    }

    /// Starts all work that the components are ready for. Returns whether a new snapshot was published.
    fn proceed(&mut self) -> bool {
        self.check_clock();
        self.next_request();
        self.finish_pending();
        self.start_reading_new_orders();
        self.lists.follow_guard(&self.guard_policy);
        self.lists.start_looking();
        self.start_reading_orders();
        self.start_following();
        self.roll_back_again();
        self.start_joining();
        let publishes = self.publication.is_due();
        if publishes {
            self.publish();
        }
        let (lists, guard_policy) = (&self.lists, &self.guard_policy);
        if publishes || self.feeds.miss_a_check(lists, guard_policy) {
            self.follow_feeds();
        }
        if publishes {
            self.downloads.follow(&self.configuration.current);
            self.follow_zones();
        }
        self.follow_missing();
        self.publication.plane.follow();
        self.persist_images();
        self.write_hits();
        self.lists.pauses.start_writing();
        self.start_compiling();
        self.answer_requests();
        self.answer_pauses();
        publishes
    }

    pub(crate) fn receive(&mut self, request: Request) {
        match request {
            Request::Status(reply) => {
                // The client may have disconnected.
                let _ = reply.send(status::status(self, self.publication.plane.gauges()));
            }
            Request::KnownOrders(reply) => _ = reply.send(status::known_orders(self)),
            Request::Feed(request, reply) => {
                _ = reply.send(self.feeds.refresh(&request.feed, request.whole));
            }
            Request::Download(request, reply) => {
                _ = reply.send(self.downloads.refresh(request.list.as_deref()));
            }
            Request::Reload(request, user, reply) => {
                let cause = request.cause(user);
                let queued = QueuedRequest::Reload(request, cause, Some(reply));
                self.requests.push(queued);
            }
            Request::Rollback(request, user, reply) => {
                let cause = request.cause(user);
                let queued = QueuedRequest::Rollback(request, cause, reply);
                self.requests.push(queued);
            }
            Request::Orders(request, user, reply) => self.read_order(request, user, reply),
            Request::Pause(request, user, reply) => self.pause(&request, user, reply),
            Request::Resume(request, user, reply) => self.resume(&request, user, reply),
            Request::Park(parking) => self.requests.parking = Some(parking),
        }
    }

    /// Carries out the next reload or rollback, or starts to read the files that it needs.
    pub(crate) fn next_request(&mut self) {
        // While the lists of a new configuration are being joined into a delta, it is neither pending nor in force. A
        // request would miss it then.
        if self.delta.has_configuration() || self.rollback.is_running() {
            return;
        }
        let in_force = &self.configuration.current;
        if let Some(prepared) = self.requests.queue.take_prepared(in_force) {
            self.carry_out(prepared);
        }
        if self.rollback.is_running() {
            return;
        }
        if let Some(request) = self.requests.queue.take_without_files() {
            return self.carry_out(request);
        }
        self.requests.queue.start_preparing(
            &self.configuration,
            &self.guard_policy,
            self.lists.pending.is_some(),
            self.publication.plane.plane(),
        );
    }

    fn carry_out(&mut self, request: PreparedRequest) {
        match request {
            PreparedRequest::Reload(request, cause, reply, prepared) => {
                self.reload(&request, cause, reply, *prepared);
            }
            PreparedRequest::Rollback(request, cause, reply, prepared) => {
                self.roll_back(request, cause, reply, prepared);
            }
        }
    }

    /// Answers the requests whose work is done.
    pub(crate) fn answer_requests(&mut self) {
        self.requests.answer(&Answering {
            generation: self.publication.publisher.current().generation,
            held_as: self.rollback.held_as(),
            lists: &self.lists.active,
            config: &self.configuration.current,
        });
    }

    fn check_clock(&mut self) {
        if let Some(cause) = self.scheduler.check_clock() {
            self.publication.change(cause);
        }
        self.end_pauses();
    }

    pub(crate) fn start_reading_orders(&mut self) {
        if !self.delta.has_configuration() {
            let boot = &self.configuration.boot;
            self.scheduler.start_reading(boot, &self.guard_policy);
        }
    }

    /// Takes the orders and exceptions that were read; `None` if reading panicked.
    fn finish_reading_orders(&mut self, read: Option<RegistryRead>) {
        let Some(read) = read else {
            let problem = "orders and exceptions: reading them failed inside tapis, which is a bug; \
                           please report it";
            let tickets = self.scheduler.fail_reading();
            let problems = [problem.to_owned()];
            return self.requests.finish_reading(&tickets, &problems);
        };
        let refresher = self.requests.cause_of(&read.tickets);
        let is_joining = self.delta.has_configuration();
        let finished = self.scheduler.finish_reading(read, refresher, is_joining);
        let Some(finished) = finished else { return };
        for cause in finished.causes {
            self.publication.change(cause);
        }
        self.publication.change_files(finished.files);
        if let Some(problems) = finished.problems {
            self.record.order_problems(problems);
        }
        let problems = self.scheduler.registry.problems();
        self.requests.finish_reading(&finished.tickets, &problems);
    }

    pub(crate) fn finish_compiling(&mut self, compiled: Compiled) {
        let (epoch, rules) = (self.rollback.epoch, self.publication.delta_rules());
        let results = self
            .compiler
            .finish(compiled, epoch, &mut self.lists, rules);
        for result in results {
            self.finish_load(result);
        }
    }

    /// Starts looks at the files that are due, and loads lists that have no file.
    fn load_due(&mut self) {
        let now = Instant::now();
        self.lists.all().for_each(|list| list.look_if_due(now));
        self.load_looked();
    }

    /// Starts to load the lists that have changed. Each file is looked at before it is read, and the load starts once
    /// that look has ended.
    pub(crate) fn load_looked(&mut self) {
        self.refuse_updates_of_held_lists();
        let loads = self
            .lists
            .start_loads(&self.guard_policy, &mut self.requests.tickets);
        self.compiler.want(loads.large);
        for transfer in &loads.transfers {
            self.feeds.transfer(transfer);
        }
        for ticket in &loads.unneeded {
            self.downloads.finish_unneeded(*ticket);
        }
        self.dismiss_loads(loads.unneeded);
    }

    /// Takes events of files, and of directories and links on their paths. Makes no system call.
    pub(crate) fn touch(&mut self, touched: &[Touched]) {
        let now = Instant::now();
        for touched in touched {
            let is_order = self.scheduler.touch(touched, now);
            let is_list = self.lists.touch(touched, now);
            if !is_order && !is_list {
                // A link on the path of a file may lead elsewhere now.
                self.lists.all().for_each(ListState::want_look);
                self.files.refresh();
            }
        }
    }

    /// Looks for changes that no event reported.
    fn sweep(&mut self) {
        self.log_late_files();
        self.requests.give_up_late(self.rollback.tasks.age(&()));
        self.lists.all().for_each(ListState::want_sweep);
        self.lists.log_aged(&self.guard_policy);
        self.scheduler.sweep();
        self.lists.pauses.retry();
        self.check_clock();
        if self.record.journal.last_generation() > self.generation() {
            // The journal was opened late and has higher generation numbers. The sources in force get the number after
            // the last one in the journal.
            self.publication.change(Cause::Start);
            // Images that could not be stored yet are stored with that number.
            self.persist.retry();
        }
        self.files.refresh();
    }

    /// Starts to watch the current files, if they may differ from the watched ones.
    pub(crate) fn start_following(&mut self) {
        let (lists, orders) = (&mut self.lists, &self.scheduler.registry);
        self.files.start_following(|| Followed {
            files: lists.files(),
            folders: orders.folders().map(Path::to_owned).collect(),
        });
    }
}
