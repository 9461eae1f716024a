//! The task of one published zone: makes a version of each policy that comes into force.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use tokio::sync::watch;

use super::attempt;
use super::history::{HistoryFiles, Limits};
use super::missing::{self, Missing};
use super::notifier::seconds;
use super::report::{ZoneReport, inexpressible};
use super::serial::{self, StoredVersion};
use super::version::{Made, Maker, NoVersion};
use crate::config::publish::{Publish, PublishedSources};
use crate::config::shown::Show;
use crate::control::sources::feeds::key;
use crate::policy::published::{PublishedZone, Selection};
use crate::policy::rule::Source;
use crate::policy::served_zones::{ServedZone, ZoneChange, ZoneVersion};
use crate::policy::snapshot::Snapshot;

/// What a zone is made of.
#[derive(Clone)]
pub(super) struct Input {
    /// The policy in force.
    pub(super) snapshot: Arc<Snapshot>,
    /// The sources without a version.
    pub(super) missing: Arc<[Missing]>,
}

/// The task of one zone.
pub(super) struct ZoneTask {
    pub(super) publish: Arc<Publish>,
    pub(super) zone: Arc<ServedZone>,
    pub(super) inputs: watch::Receiver<Input>,
    pub(super) versions: watch::Sender<Option<Arc<ZoneVersion>>>,
    pub(super) reports: watch::Sender<ZoneReport>,
    /// The last version before this task.
    pub(super) stored: watch::Sender<Option<StoredVersion>>,
    /// Whether the state directory has the last version.
    pub(super) is_stored: bool,
    /// The file that serials are stored in.
    pub(super) path: Option<PathBuf>,
    /// The files of changes.
    pub(super) files: Option<HistoryFiles>,
    /// Set when the zone is no longer published.
    pub(super) stop: Arc<AtomicBool>,
}

impl ZoneTask {
    /// Makes versions until there is no more input. What fails is tried again.
    pub(super) async fn run(mut self) {
        self.read_stored();
        let mut history = self.read_history();
        let (mut last, mut is_due): (Option<Arc<Made>>, _) = (None, true);
        loop {
            if is_due {
                let input = self.inputs.borrow_and_update().clone();
                is_due = false;
                if let Some(problem) = self.incomplete(&input, &history) {
                    self.fail(problem);
                } else {
                    let next = self.next(last.clone(), history.clone(), input.snapshot);
                    match next.await {
                        // The version has the history.
                        Some(made) => (last, history) = (Some(made), Arc::default()),
                        None => is_due = true,
                    }
                }
            } else if let Some(last) = last.as_ref().filter(|_| !self.is_stored) {
                self.store(&Arc::clone(last)).await;
            }
            let has_failed = is_due || !self.is_stored;
            match attempt::next(&mut self.inputs, has_failed).await {
                Ok(is_new) => is_due |= is_new,
                Err(_) => return,
            }
        }
    }

    /// Why there is no new version, if sources of the zone have none. The last version stays: that of this process, or that of
    /// an earlier one.
    fn incomplete(&self, input: &Input, history: &[Arc<ZoneChange>]) -> Option<String> {
        let selection = selection(self.publish.sources.as_ref());
        let problem = missing::problem(&input.missing, &selection)?;
        let stored = self.stored.borrow();
        if self.zone.version.load().is_none()
            && let Some(stored) = stored.as_ref()
        {
            let maker = Maker {
                publish: &self.publish,
                stored: Some(stored),
                history,
                served: None,
                now: seconds(),
                stop: &self.stop,
            };
            let last = maker.last(stored);
            self.zone.version.store(Some(Arc::new(last)));
        }
        Some(problem)
    }

    /// Reads the last version of an earlier process. Without it, the first version gets a serial by the clock.
    fn read_stored(&self) {
        let Some(path) = self
            .path
            .as_ref()
            .filter(|_| self.stored.borrow().is_none())
        else {
            return;
        };
        match tokio::task::block_in_place(|| serial::read(path)) {
            Ok(stored) => _ = self.stored.send_replace(stored),
            Err(error) => {
                let (path, zone) = (path.shown(), &self.zone.name);
                tracing::warn!(%path, %zone, %error, "serial not read; the next one is taken from the clock");
            }
        }
    }

    /// The changes that lead to the last version before this task.
    fn read_history(&self) -> Arc<[Arc<ZoneChange>]> {
        let stored = self.stored.borrow();
        let Some(last) = stored.as_ref().map(|stored| stored.serial) else {
            return Arc::default();
        };
        // After a reload with other settings, they are in memory.
        let before = self.zone.version.load();
        if let Some(before) = before.as_ref().filter(|before| before.soa.serial == last) {
            return before.history.as_slice().into();
        }
        let Some(files) = &self.files else {
            return Arc::default();
        };
        let limits = Limits::of(&self.publish);
        tokio::task::block_in_place(|| files.read(last, limits)).into()
    }

    /// Makes a version of the zone, and serves it. `history` is that of the last version before this task.
    async fn next(
        &mut self,
        last: Option<Arc<Made>>,
        history: Arc<[Arc<ZoneChange>]>,
        snapshot: Arc<Snapshot>,
    ) -> Option<Arc<Made>> {
        let (publish, stored) = (Arc::clone(&self.publish), self.stored.borrow().clone());
        let (zone, stop) = (Arc::clone(&self.zone), Arc::clone(&self.stop));
        let make = move || {
            let selection = selection(publish.sources.as_ref());
            let contents = PublishedZone::new(&snapshot, &selection, &publish.zone);
            drop(snapshot);
            let served = zone.version.load();
            let maker = Maker {
                publish: &publish,
                stored: stored.as_ref(),
                history: &history,
                served: served.as_ref().map(|served| served.soa.serial),
                now: seconds(),
                stop: &stop,
            };
            if served.is_none() {
                zone.version.store(Some(Arc::new(maker.early(&contents))));
            }
            maker.make(last.as_deref(), contents)
        };
        let error = match attempt::run(make).await {
            Ok(Ok(made)) => return self.serve(made).await,
            Ok(Err(NoVersion::Stopped)) => return None,
            Ok(Err(error)) => error.to_string(),
            Err(panicked) => format!("the newest policy is not published: {panicked}"),
        };
        self.fail(attempt::problem(error));
        None
    }

    /// Stores the serial of a version, and then serves it.
    async fn serve(&mut self, made: Made) -> Option<Arc<Made>> {
        self.store(&made).await;
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let version = &made.version;
        self.zone.version.store(Some(Arc::clone(version)));
        self.report(&made);
        self.versions.send_replace(Some(Arc::clone(version)));
        Some(Arc::new(made))
    }

    /// Stores a version, unless it is stored.
    async fn store(&mut self, made: &Made) {
        let stored = StoredVersion {
            zone: self.zone.name.to_string(),
            serial: made.version.soa.serial,
            digest: made.digest,
        };
        let is_same = self.stored.borrow().as_ref() == Some(&stored);
        if let (Some(path), Some(files), false) =
            (&self.path, &self.files, is_same && self.is_stored)
        {
            let (path, files) = (path.clone(), files.clone());
            let (stored, version) = (stored.clone(), Arc::clone(&made.version));
            // After a failure, older changes may be missing, too.
            let changes = match self.is_stored {
                true => 1,
                false => version.history.len(),
            };
            let store = move || store(&path, &files, &stored, &version, changes);
            let problem = match attempt::run(store).await {
                Ok(problem) => problem,
                Err(panicked) => Some(panicked.to_string()),
            };
            self.is_stored = problem.is_none();
            self.report_store(problem);
        }
        self.stored.send_replace(Some(stored));
    }

    fn report(&self, made: &Made) {
        let version = &made.version;
        let (serial, generation) = (version.soa.serial, made.contents.generation());
        self.reports.send_modify(|report| {
            if report.serial != Some(serial.0) {
                let zone = &self.zone.name;
                report.changed_at = Some(Timestamp::now());
                tracing::info!(%zone, %serial, generation, records = version.records, "zone published");
            }
            report.serial = Some(serial.0);
            report.generation = generation;
            report.records = version.records;
            report.history = version.history.iter().map(|change| change.from.0).collect();
            report.inexpressible = inexpressible(&made.inexpressible);
            report.problem = None;
        });
    }

    /// Reports why a version was not stored.
    fn report_store(&self, problem: Option<String>) {
        let problem = problem.map(|problem| {
            format!(
                "the newest version is not stored: {problem}; after a restart, secondaries transfer the whole zone (tried again every \
                 {} s)",
                attempt::RETRY.as_secs()
            )
        });
        self.reports.send_modify(|report| {
            if let Some(problem) = problem.as_ref().filter(|_| report.store_problem != problem) {
                tracing::error!(zone = %self.zone.name, problem, "zone not stored");
            }
            report.store_problem = problem;
        });
    }

    fn fail(&self, problem: String) {
        self.reports.send_modify(|report| {
            if report.problem.as_ref() != Some(&problem) {
                tracing::error!(zone = %self.zone.name, problem, "zone not published");
            }
            report.problem = Some(problem);
        });
    }
}

/// Stores a version: its newest changes before its serial, so that the changes always lead to the serial that is stored. A version is
/// served all the same if this fails: serials follow the clock, and secondaries can transfer the whole zone. Returns the first
/// problem.
fn store(
    path: &Path,
    files: &HistoryFiles,
    stored: &StoredVersion,
    version: &ZoneVersion,
    changes: usize,
) -> Option<String> {
    let mut newest = version.history.iter().rev().take(changes).rev();
    let changes = newest.try_for_each(|change| files.store(change));
    let serial = serial::store(path, stored);
    files.retain(&version.history);
    let problem = changes.and(serial).err();
    problem.map(|error| error.to_string())
}

/// Reads the key of a zone, again and again until it can be read, and again at each value of `reloads`. `is_known` shows the
/// notifiers whether there is one.
pub(super) async fn read_key(
    publish: Arc<Publish>,
    zone: Arc<ServedZone>,
    is_known: watch::Sender<bool>,
    reports: watch::Sender<ZoneReport>,
    mut reloads: watch::Receiver<()>,
) {
    let Some(tsig) = publish.tsig.clone() else {
        return;
    };
    loop {
        reloads.mark_unchanged();
        let tsig = tsig.clone();
        let read = attempt::run(move || key::of(&tsig).map_err(|error| error.to_string())).await;
        let read = read.unwrap_or_else(|panicked| Err(format!("the key is not read: {panicked}")));
        let has_failed = read.is_err();
        // A key whose file is now exposed must not be used any more.
        let key = read.as_ref().ok().cloned().map(Arc::new);
        zone.access.key.store(key);
        is_known.send_replace(!has_failed);
        let problem = read
            .err()
            .map(|error| attempt::problem(format_args!("no transfer is possible: {error}")));
        reports.send_modify(|report| {
            if let Some(error) = problem.as_ref().filter(|_| report.key_problem != problem) {
                tracing::error!(zone = %zone.name, error, "key not read");
            }
            report.key_problem = problem;
        });
        if attempt::next(&mut reloads, has_failed).await.is_err() {
            return;
        }
    }
}

/// The sources of the policy that are published.
fn selection(sources: Option<&PublishedSources>) -> Selection {
    let Some(sources) = sources else {
        return Selection::All;
    };
    let all = |prefix: &str, is_wanted: bool| is_wanted.then(|| format!("{prefix}*"));
    let lists = sources.lists.iter().cloned();
    let orders = all(Source::ORDER, sources.orders);
    let exceptions = all(Source::EXCEPTION, sources.exceptions);
    Selection::Named(lists.chain(orders).chain(exceptions).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_exceptions_are_published_if_they_are_selected() {
        assert_eq!(selection(None), Selection::All);
        let sources = |orders, exceptions| PublishedSources {
            lists: vec!["ads".to_owned()],
            orders,
            exceptions,
        };
        for (orders, exceptions, expected) in [
            (false, false, &["ads"][..]),
            (true, false, &["ads", Selection::ALL_ORDERS]),
            (false, true, &["ads", Selection::ALL_EXCEPTIONS]),
        ] {
            let expected = expected.iter().map(|name| (*name).to_owned());
            let found = selection(Some(&sources(orders, exceptions)));
            assert_eq!(found, Selection::Named(expected.collect()));
        }
    }
}
