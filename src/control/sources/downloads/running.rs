//! The downloaded lists of the configuration: a task for each, and their reports.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{block_in_place, spawn_blocking};
use tokio_util::task::AbortOnDropHandle;

use super::attempts::Attempts;
use super::directory;
use super::fetch::{Fetcher, Slots};
use super::report::DownloadReport;
use super::runner::{Links, Runner};
use super::verdict::{Replaced, Verdict};
use crate::config::download::Downloads as Settings;
use crate::config::{Config, List};
use crate::control::data_plane::Hosts;

/// The downloaded lists.
pub(crate) struct Downloads {
    hosts: Arc<dyn Hosts>,
    slots: Arc<Slots>,
    running: BTreeMap<String, Running>,
    /// The names of the files that belong to the lists.
    files: Arc<Mutex<HashSet<OsString>>>,
    /// The copies that were replaced.
    pub(crate) replaced: (mpsc::Sender<Replaced>, mpsc::Receiver<Replaced>),
    /// The tasks that wait until their copy was read, by the ticket of the load.
    waiting: HashMap<u64, oneshot::Sender<Verdict>>,
    /// The operator's requests so far.
    requests: u64,
}

/// The task of one list. It ends when this is dropped.
struct Running {
    list: List,
    settings: Settings,
    fetchers: watch::Sender<Fetcher>,
    requests: watch::Sender<u64>,
    verdicts: watch::Sender<Option<Verdict>>,
    reports: watch::Receiver<DownloadReport>,
    attempts: Attempts,
    _task: AbortOnDropHandle<()>,
}

impl Running {
    /// Uses a new configuration of the list, which has the same copy.
    fn follow(&mut self, list: &List, settings: &Settings, fetcher: Fetcher) {
        if self.list.download != list.download || self.settings != *settings {
            self.fetchers.send_replace(fetcher);
        }
        if self.list != *list {
            // It may have to be read in another way.
            self.verdicts.send_replace(None);
        }
        (self.list, self.settings) = (list.clone(), settings.clone());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The copy may be removed next, so no other thread may replace it any more.
        self.attempts.begin();
    }
}

impl Downloads {
    pub(crate) fn new(hosts: Arc<dyn Hosts>) -> Self {
        Self {
            hosts,
            slots: Arc::default(),
            running: BTreeMap::new(),
            files: Arc::default(),
            replaced: mpsc::channel(64),
            waiting: HashMap::new(),
            requests: 0,
        }
    }

    /// Starts the downloads of a configuration that do not run yet, and ends those that are not configured any more, whose
    /// copies are removed.
    pub(crate) fn follow(&mut self, config: &Config) {
        let settings = &config.downloads;
        let wanted = || config.lists.iter().filter(|list| list.download.is_some());
        let before = self.running.len();
        self.running.retain(|name, running| {
            let path = &running.list.source.path;
            wanted().any(|list| list.source.name == *name && list.source.path == *path)
        });
        let mut is_changed = self.running.len() < before;
        // Before the tasks of new lists start, so that an earlier removal does not affect their files.
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = directory::names(config);
        for list in wanted() {
            let Some(fetcher) = Fetcher::new(list, settings, &self.hosts, &self.slots) else {
                continue;
            };
            if let Some(running) = self.running.get_mut(&list.source.name) {
                running.follow(list, settings, fetcher);
                continue;
            }
            let running = self.start(list, settings, fetcher);
            self.running.insert(list.source.name.clone(), running);
            is_changed = true;
        }
        if is_changed {
            // The tasks of new lists report it if they can't write there.
            let _ = block_in_place(|| directory::create_directory(config));
            let (config, files) = (config.clone(), Arc::clone(&self.files));
            spawn_blocking(move || directory::remove_others(&config, &files, false));
        }
    }

    /// Ends all downloads.
    pub(crate) fn end(&mut self) {
        self.running.clear();
    }

    /// Asks the mirrors of a list, or of all lists, because the operator wants it. Returns the lists, each with the number
    /// of the request, after which the list's report says when it is answered.
    pub(crate) fn refresh(&mut self, list: Option<&str>) -> Vec<(String, u64)> {
        self.requests += 1;
        let number = self.requests;
        let wanted = |name: &&String| list.is_none_or(|list| list == **name);
        let chosen: Vec<_> = self.running.keys().filter(wanted).cloned().collect();
        for name in &chosen {
            self.running[name].requests.send_replace(number);
        }
        chosen.into_iter().map(|name| (name, number)).collect()
    }

    /// Remembers a load of a copy that was replaced.
    pub(crate) fn wait(&mut self, ticket: u64, done: oneshot::Sender<Verdict>) {
        self.waiting.insert(ticket, done);
    }

    /// A load of a list has ended.
    pub(crate) fn finish(&mut self, ticket: u64, list: &str, verdict: Verdict) {
        if let Some(done) = self.waiting.remove(&ticket) {
            // The task may have ended.
            let _ = done.send(verdict);
        } else if let Some(running) = self.running.get(list) {
            running.verdicts.send_replace(Some(verdict));
        }
    }

    /// A load was not needed, as the copy is in force.
    pub(crate) fn finish_unneeded(&mut self, ticket: u64) {
        if let Some(done) = self.waiting.remove(&ticket) {
            let _ = done.send(Verdict::InForce);
        }
    }

    /// A load has ended without a result.
    pub(crate) fn drop_load(&mut self, ticket: u64) {
        // Dropping the sender informs the task.
        self.waiting.remove(&ticket);
    }

    /// The state of a list; `None` if it is not downloaded.
    pub(crate) fn report(&self, list: &str) -> Option<DownloadReport> {
        let running = self.running.get(list)?;
        Some(running.reports.borrow().clone())
    }

    /// The URL that the copy of a list came from; `None` if it is not downloaded.
    pub(crate) fn source(&self, list: &str) -> Option<String> {
        self.running.get(list)?.reports.borrow().source.clone()
    }

    fn start(&self, list: &List, settings: &Settings, fetcher: Fetcher) -> Running {
        let (fetchers, fetcher) = watch::channel(fetcher);
        let (requests, requested) = watch::channel(self.requests);
        let (verdicts, verdict) = watch::channel(None);
        let (reporter, reports) = watch::channel(DownloadReport::default());
        let links = Links {
            replaced: self.replaced.0.clone(),
            fetchers: fetcher,
            requests: requested,
            verdicts: verdict,
            reports: reporter,
        };
        let attempts = Attempts::default();
        let runner = Runner::new(links, attempts.clone(), self.requests);
        Running {
            list: list.clone(),
            settings: settings.clone(),
            fetchers,
            requests,
            verdicts,
            reports,
            attempts,
            _task: AbortOnDropHandle::new(tokio::spawn(runner.run())),
        }
    }
}
