//! Owns the policy in force: the one holder of the publisher, who reads lists and publishes snapshots.
//! Refuses to wait while a list is read: that happens on other threads, and a small one overtakes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::compose;
use super::load::{Loaded, Refusal, Signature, load};
use super::report;
use super::state::ListState;
use super::status::{Gauges, ReloadReport, ReloadRequest, Status};
use super::watch::{Touched, Watch};
use crate::config::{Config, List, Origin};
use crate::policy::current::{Publisher, Reader};
use crate::policy::snapshot::Snapshot;

/// How often all files are looked at, for changes that the system told nothing of (network file
/// systems, links further up the path, events that were lost).
const SWEEP: Duration = Duration::from_secs(2);
/// When to read a file again that changed while it was read, or that a sweep found changed.
const RETRY: Duration = Duration::from_millis(300);
/// How often to look whether a replaced snapshot is still in use.
const RECLAIM: Duration = Duration::from_millis(20);

/// What others may ask of the control plane.
#[derive(Debug)]
pub enum Request {
    /// Tell how things are.
    Status(oneshot::Sender<Status>),
    /// Read the configuration and all changed lists again.
    Reload(ReloadRequest, oneshot::Sender<ReloadReport>),
}

/// Tells about the data plane, of which the control plane knows nothing.
pub type Probe = Box<dyn Fn() -> Gauges + Send>;

/// A load that ended.
struct Done {
    ticket: u64,
    looked_at: Option<Signature>,
    result: Result<Loaded, Refusal>,
}

/// A reload that waits for its loads.
struct Waiting {
    tickets: HashSet<u64>,
    report: ReloadReport,
    reply: Option<oneshot::Sender<ReloadReport>>,
}

/// The control plane.
pub struct Control {
    /// The configuration as it was at the start: what is not reloadable is compared with it.
    pub(super) boot: Config,
    pub(super) config: Config,
    pub(super) lists: Vec<ListState>,
    pub(super) started_at: Timestamp,
    pub(super) published_at: Timestamp,
    /// What is wrong with the newest state of the configuration's file.
    pub(super) config_problems: Vec<String>,
    pub(super) unwatched: Vec<String>,
    publisher: Publisher,
    watch: Option<Watch>,
    touched: mpsc::Receiver<Touched>,
    done: (mpsc::Sender<Done>, mpsc::Receiver<Done>),
    tickets: u64,
    /// Loads without which a new configuration would be in force by halves.
    held_for: HashSet<u64>,
    waiting: Vec<Waiting>,
    unpublished: bool,
}

/// A list that must be there is not.
#[derive(Debug, thiserror::Error)]
#[error("list `{name}` is required, but {source}")]
pub struct RequiredListMissing {
    name: String,
    source: Refusal,
}

impl Control {
    /// Reads all lists, on a thread each, and puts the first generation in force. Blocks until
    /// they are read. Lists that can't be read are left out, and `status` says so.
    ///
    /// # Errors
    /// [`RequiredListMissing`] when one of those is required.
    pub fn start(config: Config) -> Result<Self, RequiredListMissing> {
        let (sender, touched) = mpsc::channel(1024);
        let mut unwatched = Vec::new();
        let watch = Watch::start(sender)
            .map_err(|error| unwatched.push(format!("files can't be watched ({error})")))
            .ok();
        let mut control = Self {
            lists: config.lists.iter().cloned().map(ListState::new).collect(),
            boot: config.clone(),
            config,
            started_at: Timestamp::now(),
            published_at: Timestamp::now(),
            config_problems: Vec::new(),
            unwatched,
            publisher: Publisher::new(Snapshot::default()),
            watch,
            touched,
            done: mpsc::channel(256),
            tickets: 0,
            held_for: HashSet::new(),
            waiting: Vec::new(),
            unpublished: true,
        };
        // Watched before they are read: a change in between is noticed.
        control.follow();
        let loads = std::thread::scope(|scope| {
            let start = |list: &ListState| {
                let list = list.config.clone();
                scope.spawn(move || look_and_load(&list, None, false))
            };
            let threads: Vec<_> = control.lists.iter().map(start).collect();
            let ends: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
            ends
        });
        for (index, load) in loads.into_iter().enumerate() {
            let (looked_at, result) = load.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let list = &control.lists[index];
            match result {
                Err(source) if list.config.required => {
                    let name = list.name().to_owned();
                    return Err(RequiredListMissing { name, source });
                }
                result => control.settle(index, looked_at, result),
            }
        }
        control.publish();
        Ok(control)
    }

    /// A reader of the snapshot in force.
    pub fn reader(&self) -> Reader {
        self.publisher.reader()
    }

    /// The generation in force.
    pub fn generation(&self) -> u64 {
        self.publisher.current().generation
    }

    /// Follows files, requests and hang-ups until `stop`.
    pub async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut hangups: mpsc::Receiver<()>,
        probe: Probe,
        stop: CancellationToken,
    ) {
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reclaim: Option<Instant> = Some(Instant::now());
        let far = Duration::from_secs(3600);
        loop {
            let now = Instant::now();
            let idle = self.lists.iter().filter(|list| list.loading.is_none());
            let due = idle.filter_map(|list| list.due).min().unwrap_or(now + far);
            tokio::select! {
                () = stop.cancelled() => return,
                Some(request) = requests.recv() => match request {
                    Request::Status(reply) => {
                        // Who asked may have left.
                        let _ = reply.send(report::status(&self, probe()));
                    }
                    Request::Reload(wish, reply) => self.reload(&wish, Some(reply)),
                },
                Some(()) = hangups.recv() => self.reload(&ReloadRequest::default(), None),
                Some(touched) = self.touched.recv() => self.touch(&touched),
                Some(done) = self.done.1.recv() => self.land(done),
                () = sleep_until(due) => self.load_due(Instant::now()),
                _ = sweep.tick() => self.sweep(Instant::now()),
                () = sleep_until(reclaim.unwrap_or(now + far)), if reclaim.is_some() => {
                    reclaim = self.reclaim().then(|| Instant::now() + RECLAIM);
                }
            }
            if self.unpublished && self.held_for.is_empty() {
                self.publish();
                reclaim = Some(Instant::now() + RECLAIM);
            }
            self.answer_waiting();
        }
    }

    /// Something happened in a directory: the lists there are looked at when it is quiet. Each
    /// event starts the quiet time anew, and the last one says how long it is.
    fn touch(&mut self, touched: &Touched) {
        let directory = touched.path.parent();
        for list in &mut self.lists {
            let target = list.path().canonicalize().ok();
            let is = |path: &std::path::Path| path == touched.path;
            let file = is(list.path()) || target.as_deref().is_some_and(is);
            // A link further up may have moved; looking costs next to nothing.
            if file || (list.path().parent() == directory && list.due.is_none() && list.changed()) {
                list.due = Some(Instant::now() + touched.quiet);
            }
        }
    }

    fn sweep(&mut self, now: Instant) {
        for list in &mut self.lists {
            if list.due.is_none() && list.loading.is_none() && list.changed() {
                list.due = Some(now + RETRY);
            }
        }
    }

    fn load_due(&mut self, now: Instant) {
        for index in 0..self.lists.len() {
            let list = &mut self.lists[index];
            if list.loading.is_none() && list.due.is_some_and(|due| due <= now) {
                list.due = None;
                if list.changed() {
                    self.start_load(index, false);
                }
            }
        }
    }

    /// Starts reading a list, in place of a load of it that is under way.
    fn start_load(&mut self, index: usize, accept: bool) -> u64 {
        self.tickets += 1;
        let ticket = self.tickets;
        let state = &mut self.lists[index];
        if let Some(outdated) = state.loading.replace(ticket) {
            let all = self.waiting.iter_mut().map(|waiting| &mut waiting.tickets);
            for tickets in all.chain([&mut self.held_for]) {
                if tickets.remove(&outdated) {
                    tickets.insert(ticket);
                }
            }
        }
        state.due = None;
        let before = state.loaded.as_ref().map(|loaded| loaded.rules.len());
        let (list, done) = (state.config.clone(), self.done.0.clone());
        tokio::task::spawn_blocking(move || {
            let (looked_at, result) = look_and_load(&list, before, accept);
            let end = Done {
                ticket,
                looked_at,
                result,
            };
            // Nobody waits when the server ends.
            let _ = done.blocking_send(end);
        });
        ticket
    }

    fn land(&mut self, done: Done) {
        self.held_for.remove(&done.ticket);
        let awaited = self.waiting.iter_mut().filter_map(|waiting| {
            waiting
                .tickets
                .remove(&done.ticket)
                .then_some(&mut waiting.report)
        });
        let loading = |list: &ListState| list.loading == Some(done.ticket);
        let Some(index) = self.lists.iter().position(loading) else {
            // The list is gone, or a newer load of it is under way.
            awaited.for_each(drop);
            return;
        };
        let list = &mut self.lists[index];
        list.loading = None;
        for report in awaited {
            match &done.result {
                Ok(_) => report.loaded.push(list.name().to_owned()),
                Err(refusal) => report.problems.push(format!("{}: {refusal}", list.name())),
            }
        }
        self.settle(index, done.looked_at, done.result);
    }

    /// Keeps what a load ended with.
    fn settle(
        &mut self,
        index: usize,
        looked_at: Option<Signature>,
        result: Result<Loaded, Refusal>,
    ) {
        let list = &mut self.lists[index];
        match result {
            Ok(loaded) => {
                report::log_loaded(list.name(), &loaded);
                list.seen = loaded.signature;
                list.loaded = Some(Arc::new(loaded));
                list.refused = None;
                self.unpublished = true;
            }
            Err(refusal) if refusal.transient() => {
                list.seen = None;
                list.due = Some(Instant::now() + RETRY);
            }
            Err(refusal) => {
                tracing::error!(list = list.name(), kept = list.loaded.is_some(), %refusal, "list refused");
                list.seen = looked_at;
                list.refused = Some((refusal, Timestamp::now()));
            }
        }
    }

    /// Reads the configuration again, and all lists that changed, were refused, or are accepted.
    fn reload(&mut self, wish: &ReloadRequest, reply: Option<oneshot::Sender<ReloadReport>>) {
        let mut report = ReloadReport::default();
        let mut tickets = self.reconfigure(&mut report);
        for name in &wish.accept {
            if !self.lists.iter().any(|list| list.name() == name) {
                report.problems.push(format!("there is no list `{name}`"));
            }
        }
        for index in 0..self.lists.len() {
            let list = &self.lists[index];
            let accept = wish.accept.iter().any(|name| name == list.name());
            let fresh = list.loading.is_some_and(|ticket| tickets.contains(&ticket));
            if accept || (!fresh && (list.refused.is_some() || list.changed())) {
                tickets.insert(self.start_load(index, accept));
            }
        }
        self.waiting.push(Waiting {
            tickets,
            report,
            reply,
        });
    }

    /// Takes in the configuration's reloadable parts. Returns the loads that this started.
    fn reconfigure(&mut self, report: &mut ReloadReport) -> HashSet<u64> {
        let mut tickets = HashSet::new();
        let Origin::File(path) = &self.config.origin else {
            return tickets;
        };
        let config = match Config::load(path) {
            Ok(config) => config.with_overrides(self.boot.overrides.clone()),
            Err(problems) => {
                self.config_problems = problems.0.iter().map(ToString::to_string).collect();
                report.problems.extend(self.config_problems.iter().cloned());
                tracing::error!(%problems, "configuration refused, the old one stays");
                return tickets;
            }
        };
        self.config_problems.clear();
        report.restart = report::needs_restart(&self.boot, &config);
        let mut old = std::mem::take(&mut self.lists);
        for list in &config.lists {
            let place = old
                .iter()
                .position(|state| state.name() == list.source.name);
            let (mut state, reread) = match place {
                Some(place) => {
                    let mut state = old.swap_remove(place);
                    let reread = state.reconfigure(list.clone());
                    (state, reread)
                }
                None => (ListState::new(list.clone()), true),
            };
            if reread {
                state.refused = None;
            }
            self.lists.push(state);
            if reread {
                let ticket = self.start_load(self.lists.len() - 1, false);
                tickets.insert(ticket);
                self.held_for.insert(ticket);
            }
        }
        self.unpublished |= self.config != config;
        self.config = config;
        self.follow();
        tickets
    }

    /// Answers reloads whose loads have ended and are in force.
    fn answer_waiting(&mut self) {
        if self.unpublished {
            return;
        }
        let generation = self.generation();
        for mut waiting in self
            .waiting
            .extract_if(.., |waiting| waiting.tickets.is_empty())
        {
            waiting.report.generation = generation;
            let failed = waiting.report.problems.len();
            tracing::info!(generation, failed, loaded = ?waiting.report.loaded, "reloaded");
            if let Some(reply) = waiting.reply {
                // Who asked may have left.
                let _ = reply.send(waiting.report);
            }
        }
    }

    /// Puts a snapshot of all that is known in force.
    fn publish(&mut self) {
        let layers = self.lists.iter().filter_map(ListState::layer).collect();
        let generation = self.generation() + 1;
        let next = compose::snapshot(&self.config, layers, generation);
        self.publisher.publish(next);
        self.published_at = Timestamp::now();
        self.unpublished = false;
        tracing::info!(generation, "published");
        self.follow();
    }

    /// Frees replaced snapshots that nobody uses, on a thread that no packet waits for. Returns
    /// whether some are still in use.
    fn reclaim(&mut self) -> bool {
        let (free, used) = self.publisher.reclaim();
        if !free.is_empty() {
            tokio::task::spawn_blocking(move || drop(free));
        }
        used > 0
    }

    fn follow(&mut self) {
        if let Some(watch) = &mut self.watch {
            let failed = watch.follow(self.lists.iter().map(ListState::path));
            let text = |path: &std::path::PathBuf| {
                format!(
                    "{}: can't be watched; looked at every two seconds",
                    path.display()
                )
            };
            self.unwatched = failed.iter().map(text).collect();
        }
    }
}

/// Loads a list, and says which state of its file was looked at.
fn look_and_load(
    list: &List,
    before: Option<usize>,
    accept: bool,
) -> (Option<Signature>, Result<Loaded, Refusal>) {
    let looked_at = Signature::of(&list.source.path).ok();
    (looked_at, load(list, before, accept))
}
