//! The downloaded lists of the configuration: a task for each, and their reports.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{block_in_place, spawn_blocking};
use tokio_util::task::AbortOnDropHandle;

use super::copy;
use super::fetch::Fetcher;
use super::report::DownloadReport;
use super::runner::{Links, Replaced, Runner};
use crate::config::download::Downloads as Settings;
use crate::config::{Config, List};
use crate::control::data_plane::Hosts;

/// The downloaded lists.
pub(crate) struct Downloads {
    hosts: Arc<dyn Hosts>,
    running: BTreeMap<String, Running>,
    /// The copies that were replaced.
    pub(crate) replaced: (mpsc::Sender<Replaced>, mpsc::Receiver<Replaced>),
    /// The tasks that wait until their copy was read, by the ticket of the load.
    waiting: HashMap<u64, oneshot::Sender<()>>,
    /// The operator's requests so far.
    requests: u64,
}

/// The task of one list. It ends when this is dropped.
struct Running {
    list: List,
    settings: Settings,
    requests: watch::Sender<u64>,
    reports: watch::Receiver<DownloadReport>,
    _task: AbortOnDropHandle<()>,
}

impl Running {
    /// Whether it downloads this list in this way.
    fn is_of(&self, list: &List, settings: &Settings) -> bool {
        self.list.download == list.download
            && self.list.source.path == list.source.path
            && self.settings == *settings
    }
}

impl Downloads {
    pub(crate) fn new(hosts: Arc<dyn Hosts>) -> Self {
        Self {
            hosts,
            running: BTreeMap::new(),
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
            let mut wanted = wanted();
            wanted.any(|list| list.source.name == *name && running.is_of(list, settings))
        });
        let mut is_changed = self.running.len() < before;
        for list in wanted() {
            if self.running.contains_key(&list.source.name) {
                continue;
            }
            if let Some(fetcher) = Fetcher::new(list, settings, &self.hosts) {
                let running = self.start(list, settings, fetcher);
                self.running.insert(list.source.name.clone(), running);
                is_changed = true;
            }
        }
        if is_changed {
            // The tasks of new lists report it if they can't write there.
            let _ = block_in_place(|| copy::create_directory(config));
            let config = config.clone();
            spawn_blocking(move || {
                if let Err(error) = copy::remove_others(&config, false) {
                    tracing::warn!(%error, "copies of lists that are not configured any more stay");
                }
            });
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
    pub(crate) fn wait(&mut self, ticket: u64, done: oneshot::Sender<()>) {
        self.waiting.insert(ticket, done);
    }

    /// A load has ended: its rules are in force, it was refused, or was not needed.
    pub(crate) fn finish(&mut self, ticket: u64) {
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
        // Requests before the start are answered.
        let (requests, requested) = watch::channel(self.requests);
        let (reporter, reports) = watch::channel(DownloadReport::default());
        let links = Links {
            replaced: self.replaced.0.clone(),
            requests: requested,
            reports: reporter,
        };
        let run = async move { Runner::new(fetcher, links).await.run().await };
        Running {
            list: list.clone(),
            settings: settings.clone(),
            requests,
            reports,
            _task: AbortOnDropHandle::new(tokio::spawn(run)),
        }
    }
}
