//! Writes each version of a published zone to a file, for servers that read zones from files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::report::{ExportReport, ZoneReport};
use super::text::{self, ExportError};
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
    /// Writes the file for each new serial, until there are no more versions.
    pub(super) async fn run(mut self) {
        let mut written = None;
        loop {
            let version = self.versions.borrow_and_update().clone();
            match version {
                Some(version) if written != Some(version.soa.serial) => {
                    written = Some(version.soa.serial);
                    self.write(version).await;
                }
                _ if self.versions.changed().await.is_err() => return,
                _ => {}
            }
        }
    }

    async fn write(&self, version: Arc<ZoneVersion>) {
        let serial = version.soa.serial.0;
        let (zone, path) = (self.zone.clone(), self.path.clone());
        let stop = Arc::clone(&self.stop);
        let write = move || write(&path, &zone, &version, &stop);
        let Ok(written) = tokio::task::spawn_blocking(write).await else {
            return;
        };
        let path = self.path.shown().to_string();
        let zone = &self.zone;
        if let Err(error) = &written {
            tracing::error!(%zone, %error, "not exported");
        }
        self.reports.send_modify(|report| {
            let before = report.export.as_ref().and_then(|export| export.serial);
            report.export = Some(ExportReport {
                path,
                serial: written.is_ok().then_some(serial).or(before),
                problem: written.err().map(|error| error.to_string()),
            });
        });
    }
}

fn write(
    path: &Path,
    zone: &Name,
    version: &ZoneVersion,
    stop: &AtomicBool,
) -> Result<(), ExportError> {
    text::write_file(path, zone, version, || !stop.load(Ordering::Relaxed))
}
