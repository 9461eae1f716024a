//! The published zones of the configuration: the tasks of each, and the reports.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::export::Exporter;
use super::history::HistoryFiles;
use super::missing::Missing;
use super::notifier::Notifier;
use super::report::{ExportReport, NotifiedReport, SecondaryReport, ZoneReport};
use super::serial::{self, StoredVersion};
use super::task::{Input, ZoneTask, read_key};
use crate::config::Config;
use crate::config::publish::Publish;
use crate::config::shown::Show;
use crate::policy::served_zones::{ServedZone, ServedZones, ZoneAccess};
use crate::policy::snapshot::Snapshot;

/// The published zones.
#[derive(Default)]
pub(crate) struct Zones {
    /// By name.
    running: BTreeMap<String, Running>,
    served: ServedZones,
    /// The sources without a version.
    missing: Arc<[Missing]>,
}

/// The tasks of one zone. They end when this is dropped.
struct Running {
    publish: Arc<Publish>,
    zone: Arc<ServedZone>,
    inputs: watch::Sender<Input>,
    /// Has a new value when the key is to be read again.
    reloads: watch::Sender<()>,
    reports: watch::Receiver<ZoneReport>,
    stored: watch::Receiver<Option<StoredVersion>>,
    _tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Threads can't be aborted.
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Zones {
    /// The zones, for the data plane.
    pub(crate) fn served(&self) -> ServedZones {
        self.served.clone()
    }

    /// The sources that had no version at the last call of [`follow`](Self::follow).
    pub(crate) fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// Reads all keys again.
    pub(crate) fn read_keys(&self) {
        let running = self.running.values();
        running.for_each(|running| running.reloads.send_replace(()));
    }

    /// Publishes the snapshot in force by the zones of this configuration. Zones with sources that are `missing` stay as they
    /// are. Must be called within the tokio runtime.
    pub(crate) fn follow(
        &mut self,
        config: &Config,
        snapshot: &Arc<Snapshot>,
        missing: Vec<Missing>,
    ) {
        self.missing = missing.into();
        let input = Input {
            snapshot: Arc::clone(snapshot),
            missing: Arc::clone(&self.missing),
        };
        let mut before = std::mem::take(&mut self.running);
        let mut is_same = before.len() == config.publish.len();
        for publish in &config.publish {
            let name = publish.zone.to_string();
            let old = before.remove(&name);
            let running = match old {
                Some(old) if *old.publish == *publish => {
                    old.inputs.send_replace(input.clone());
                    old
                }
                old => {
                    is_same = false;
                    start(config, publish, input.clone(), old.as_ref())
                }
            };
            self.running.insert(name, running);
        }
        if !is_same {
            let running = self.running.values();
            let zones = running.map(|running| Arc::clone(&running.zone));
            self.served.replace(zones.collect());
        }
    }

    /// The states of all zones, by name.
    pub(crate) fn reports(&self) -> Vec<ZoneReport> {
        self.running.values().map(Running::report).collect()
    }
}

impl Running {
    fn report(&self) -> ZoneReport {
        let log = &self.zone.transfers;
        let (counts, last_busy) = (log.counts(), log.last_busy());
        let secondaries = log.last().into_iter().filter_map(|(address, last)| {
            Some(SecondaryReport {
                address,
                at: Timestamp::try_from(last.at).ok()?,
                serial: last.serial.0,
                is_whole: last.is_whole,
            })
        });
        ZoneReport {
            whole_transfers: counts.whole,
            incremental_transfers: counts.incremental,
            refused: counts.refused,
            busy: counts.busy,
            last_busy: last_busy
                .and_then(|(secondary, at)| Some((secondary, Timestamp::try_from(at).ok()?))),
            secondaries: secondaries.collect(),
            ..self.reports.borrow().clone()
        }
    }
}

/// Starts to publish a zone. Until its first version is made, the last version under the settings before is served. The record of
/// its transfers goes on.
fn start(config: &Config, publish: &Publish, input: Input, before: Option<&Running>) -> Running {
    let publish = Arc::new(publish.clone());
    // The same key stays in use while its file is read again.
    let before_same = before.filter(|before| before.publish.tsig == publish.tsig);
    let key = before_same.and_then(|before| before.zone.access.key.load_full());
    let (is_key_known, key_known) = watch::channel(publish.tsig.is_none() || key.is_some());
    let zone = Arc::new(ServedZone {
        name: publish.zone.clone(),
        access: ZoneAccess {
            networks: publish
                .allow_transfer
                .as_ref()
                .map(|it| it.iter().collect()),
            is_signed: publish.tsig.is_some(),
            key: ArcSwapOption::new(key),
        },
        version: ArcSwapOption::new(before.and_then(|before| before.zone.version.load_full())),
        transfers: before.map_or_else(Arc::default, |before| Arc::clone(&before.zone.transfers)),
    });
    let stop = Arc::<AtomicBool>::default();
    let (inputs, new_inputs) = watch::channel(input);
    let (reloads, new_reloads) = watch::channel(());
    let (versions, new_versions) = watch::channel(None);
    let (reports, new_reports) = watch::channel(first_report(&publish));
    let known = before.and_then(|before| before.stored.borrow().clone());
    let (stored, last_stored) = watch::channel(known);
    let mut tasks = JoinSet::new();
    let dir = config.state.dir.as_deref();
    tasks.spawn(read_key(
        Arc::clone(&publish),
        Arc::clone(&zone),
        is_key_known,
        reports.clone(),
        new_reloads,
    ));
    for (index, secondary) in publish.notify.iter().enumerate() {
        let notifier = Notifier {
            zone: Arc::clone(&zone),
            secondary: *secondary,
            index,
            versions: new_versions.clone(),
            is_key_known: key_known.clone(),
            reports: reports.clone(),
        };
        tasks.spawn(notifier.run());
    }
    if let Some(path) = &publish.export {
        let exporter = Exporter {
            zone: publish.zone.clone(),
            path: path.clone(),
            versions: new_versions,
            reports: reports.clone(),
            stop: Arc::clone(&stop),
        };
        tasks.spawn(exporter.run());
    }
    let task = ZoneTask {
        path: dir.map(|dir| serial::path(dir, &publish.zone)),
        files: dir.map(|dir| HistoryFiles::of(dir, &publish.zone)),
        publish: Arc::clone(&publish),
        zone: Arc::clone(&zone),
        inputs: new_inputs,
        versions,
        reports,
        stored,
        is_stored: before.is_none_or(|before| before.reports.borrow().store_problem.is_none()),
        stop: Arc::clone(&stop),
    };
    tasks.spawn(task.run());
    Running {
        publish,
        zone,
        inputs,
        reloads,
        reports: new_reports,
        stored: last_stored,
        _tasks: tasks,
        stop,
    }
}

/// The report before the first version.
fn first_report(publish: &Publish) -> ZoneReport {
    let notify = publish.notify.iter().copied();
    ZoneReport {
        zone: publish.zone.to_string(),
        notify: notify.map(NotifiedReport::new).collect(),
        export: publish.export.as_ref().map(|path| ExportReport {
            path: path.shown().to_string(),
            serial: None,
            problem: None,
        }),
        ..ZoneReport::default()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::Path;

    use super::super::version::tests::snapshot;
    use super::*;

    #[tokio::test]
    async fn the_last_version_its_changes_and_the_transfers_stay_when_other_settings_change() {
        let config = |more: &str| {
            let text = format!(
                "[[publish]]\nzone = \"rpz.test\"\nallow-transfer = [\"192.0.2.1\"]\n{more}"
            );
            Config::parse(&text, Path::new("tapis.toml")).expect("valid")
        };
        let first = Arc::new(snapshot(&["a.test"]));
        let second = Arc::new(snapshot(&["a.test", "b.test"]));
        let mut zones = Zones::default();
        let serial = |zones: &Zones| zones.reports()[0].serial;
        zones.follow(&config(""), &first, Vec::new());
        while serial(&zones).is_none() {
            tokio::task::yield_now().await;
        }
        let before = serial(&zones);
        zones.follow(&config(""), &second, Vec::new());
        while serial(&zones) == before {
            tokio::task::yield_now().await;
        }
        let zone = |zones: &Zones| Arc::clone(&zones.served.load()[0]);
        let last = serial(&zones);
        zone(&zones).transfers.refuse();
        let later = "history-changes = 7\n";
        zones.follow(&config(later), &second, Vec::new());
        // No other task runs between these lines.
        let version = zone(&zones).version.load_full().expect("the last version");
        assert_eq!(Some(version.soa.serial.0), last);
        assert_eq!(serial(&zones), None);
        assert_eq!(zones.reports()[0].refused, 1);
        while serial(&zones).is_none() {
            tokio::task::yield_now().await;
        }
        // Its records are those of the last version.
        assert_eq!(serial(&zones), last);
        assert_eq!(zones.reports()[0].history, before.as_slice());
    }

    #[tokio::test]
    async fn a_key_stays_in_use_when_other_settings_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let secret = folder.path().join("secret");
        let mut options = std::fs::OpenOptions::new();
        let file = options
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&secret);
        let text = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
        std::io::Write::write_all(&mut file.expect("made"), text.as_bytes()).expect("written");
        let config = |key: &str, more: &str| {
            let text = format!(
                "[[publish]]\nzone = \"rpz.test\"\ntsig = {{ name = \"{key}\", secret-file = {secret:?} }}\n{more}"
            );
            Config::parse(&text, Path::new("tapis.toml")).expect("valid")
        };
        let snapshot = Arc::<Snapshot>::default();
        let mut zones = Zones::default();
        zones.follow(&config("key", ""), &snapshot, Vec::new());
        let has_key = |zones: &Zones| zones.served.load()[0].access.key.load().is_some();
        while !has_key(&zones) {
            tokio::task::yield_now().await;
        }
        // No other task runs between these lines, so the file is not read again.
        zones.follow(&config("key", "refresh-secs = 60\n"), &snapshot, Vec::new());
        assert!(has_key(&zones));
        zones.follow(&config("other", ""), &snapshot, Vec::new());
        assert!(!has_key(&zones));
    }
}
