//! Writes each version of a published zone to a file, for servers that read zones from files.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::attempt;
use super::report::{ExportReport, ZoneReport};
use super::text;
use crate::config::shown::Show;
use crate::policy::served_zones::ZoneVersion;
use crate::wire::name::Name;

/// Writes the versions of one zone to its file.
pub(super) struct Exporter {
    pub(super) zone: Name,
    pub(super) path: PathBuf,
    pub(super) versions: watch::Receiver<Option<Arc<ZoneVersion>>>,
    pub(super) reports: watch::Sender<ZoneReport>,
    /// Set when the zone is no longer published.
    pub(super) stop: Arc<AtomicBool>,
}

impl Exporter {
    /// Writes the file for each new serial, until there are no more versions. A failed attempt is made again.
    pub(super) async fn run(mut self) {
        let (mut written, mut has_failed) = (None, false);
        loop {
            let version = self.versions.borrow_and_update().clone();
            let serial = version.as_ref().map(|version| version.soa.serial);
            if let Some(version) = version.filter(|_| serial != written) {
                has_failed = !self.write(version).await;
            }
            if !has_failed {
                written = serial;
            }
            if attempt::next(&mut self.versions, has_failed).await.is_err() {
                return;
            }
        }
    }

    /// Returns whether the file was written.
    async fn write(&self, version: Arc<ZoneVersion>) -> bool {
        let serial = version.soa.serial.0;
        let (zone, path) = (self.zone.clone(), self.path.clone());
        let stop = Arc::clone(&self.stop);
        let write = move || {
            let goes_on = || !stop.load(Ordering::Relaxed);
            text::write_file(&path, &zone, &version, goes_on).map_err(|error| error.to_string())
        };
        let written = attempt::run(write).await;
        let written =
            written.unwrap_or_else(|error| Err(format!("the zone is not exported: {error}")));
        let problem = written.err().map(attempt::problem);
        let path = self.path.shown().to_string();
        self.reports.send_modify(|report| {
            let before = report.export.take().unwrap_or_default();
            if let Some(problem) = problem
                .as_ref()
                .filter(|problem| before.problem.as_ref() != Some(*problem))
            {
                tracing::error!(zone = %self.zone, problem, "not exported");
            }
            report.export = Some(ExportReport {
                path,
                serial: problem.is_none().then_some(serial).or(before.serial),
                problem: problem.clone(),
            });
        });
        problem.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::zones::attempt::RETRY;
    use crate::policy::published::{PublishedZone, Selection};
    use crate::policy::snapshot::Snapshot;
    use crate::wire::transfer::{Serial, Soa};

    #[tokio::test(start_paused = true)]
    async fn a_file_that_could_not_be_written_is_written_as_soon_as_it_can_be() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("exports").join("zone");
        let zone = Name::from_text("rpz.test").expect("a name");
        let version = ZoneVersion {
            soa: Soa {
                mname: zone.clone(),
                rname: zone.clone(),
                serial: Serial(7),
                refresh: 1,
                retry: 1,
                expire: 1,
                minimum: 1,
            },
            name_server: zone.clone(),
            ttl_secs: 1,
            contents: Some(PublishedZone::new(
                &Snapshot::default(),
                &Selection::All,
                &zone,
            )),
            records: 0,
            bytes: 0,
            history: Vec::new(),
        };
        let (reports, mut seen) = watch::channel(ZoneReport::default());
        let (_versions, new_versions) = watch::channel(Some(Arc::new(version)));
        let exporter = Exporter {
            zone,
            path: path.clone(),
            versions: new_versions,
            reports,
            stop: Arc::default(),
        };
        let export = |report: &ZoneReport| report.export.clone().unwrap_or_default();
        let task = tokio::spawn(exporter.run());
        let failed = seen.wait_for(|report| report.export.is_some()).await;
        let problem = export(&failed.expect("a report")).problem;
        let problem = problem.expect("there is no directory");
        assert!(problem.contains("tried again every 10 s"), "{problem}");
        std::fs::create_dir(path.parent().expect("a directory")).expect("made");
        let written = seen.wait_for(|report| export(report).serial.is_some());
        let written = tokio::time::timeout(RETRY * 2, written).await;
        let written = export(&written.expect("tried again").expect("a report"));
        assert_eq!(written.problem, None);
        assert!(path.exists());
        task.abort();
    }
}
