//! Reads files of orders and exceptions on another thread, into a copy of the registry.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Config;
use crate::control::guard::policy::GuardPolicy;
use crate::control::journal::entry::Cause;
use crate::control::sources::orders::registry::OrderRegistry;
use crate::control::sources::watch::Touched;

/// The files of orders and exceptions that are to be read, and the requests that wait for that.
#[derive(Debug, Default)]
pub(crate) struct PendingReads {
    /// Files with events: the newest event of each, and its instant.
    pub(crate) touched: HashMap<PathBuf, (Touched, Instant)>,
    /// Whether to look for changes that no event reported.
    pub(crate) sweep: bool,
    /// Whether to read all files that have changed, even those that are being written.
    pub(crate) refresh: bool,
    /// Whether the operator confirms that orders are gone on purpose.
    pub(crate) confirms_loss: bool,
    /// Files that a client has changed and waits for.
    pub(crate) requested: Vec<RequestedFile>,
    /// Requests that wait for all files.
    pub(crate) tickets: Vec<u64>,
}

/// A file that a client has changed and waits for.
#[derive(Debug)]
pub(crate) struct RequestedFile {
    pub(crate) path: PathBuf,
    pub(crate) cause: Cause,
    pub(crate) ticket: u64,
    /// When to read it. Its writer is done, so events that arrive later do not postpone this.
    pub(crate) at: Instant,
}

impl RequestedFile {
    /// Whether `path` is this file. `is_elsewhere`: its own path is not in a followed directory, but may lead there.
    fn is(&self, path: &Path, is_elsewhere: bool) -> bool {
        let absolute = std::path::absolute(path);
        absolute.is_ok_and(|path| path == self.path)
            || (is_elsewhere && real(path) == real(&self.path))
    }
}

/// The path without symbolic links. Only its directory must exist.
fn real(path: &Path) -> Option<PathBuf> {
    let file = path.canonicalize().ok();
    file.or_else(|| Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?)))
}

/// A file whose content or problems have changed.
pub(crate) struct Changed {
    pub(crate) path: PathBuf,
    /// The requests that changed it.
    pub(crate) causes: Vec<Cause>,
    /// It was read as part of a request for all files.
    pub(crate) is_refreshed: bool,
}

impl PendingReads {
    /// When to start reading.
    pub(crate) fn due(&self) -> Option<Instant> {
        if self.sweep || self.refresh {
            return Some(Instant::now());
        }
        let touched = self.touched.values();
        let touched = touched.map(|(touched, at)| *at + touched.quiet);
        let requested = self.requested.iter().map(|requested| requested.at);
        touched.chain(requested).min()
    }

    /// Reads the files, into a copy of `known`.
    pub(crate) fn read(
        self,
        known: &OrderRegistry,
        (configured, config): (u64, Option<&Config>),
        guard_policy: &Arc<GuardPolicy>,
    ) -> RegistryRead {
        let mut registry = known.clone();
        for (touched, at) in self.touched.values() {
            registry.touch(touched, *at);
        }
        if self.confirms_loss {
            // Before anything is read: the operator does not confirm a loss that this read finds.
            registry.confirm_loss();
        }
        let now = Instant::now();
        if self.sweep {
            registry.sweep(now);
        }
        for requested in &self.requested {
            let (path, quiet) = (requested.path.clone(), Duration::ZERO);
            registry.touch(&Touched { path, quiet }, now);
        }
        let due = registry.read_due(now).into_iter().map(|path| (path, false));
        let mut changed: Vec<_> = due.collect();
        let elsewhere = |requested: &&RequestedFile| !registry.concerns(&requested.path);
        let others: Vec<_> = self
            .requested
            .iter()
            .filter(elsewhere)
            .map(|requested| requested.ticket)
            .collect();
        if self.refresh || !others.is_empty() {
            let refreshed = registry.refresh().into_iter();
            changed.extend(refreshed.map(|path| (path, self.refresh)));
        }
        let changed = changed.into_iter().map(|(path, is_refreshed)| {
            let by = self.requested.iter();
            let by = by.filter(|requested| requested.is(&path, others.contains(&requested.ticket)));
            Changed {
                causes: by.map(|requested| requested.cause.clone()).collect(),
                path,
                is_refreshed,
            }
        });
        let mut changed: Vec<_> = changed.collect();
        if let Some(config) = config
            && let Some(journal) = &config.journal.path
            && registry.recall_late(config)
        {
            changed.push(Changed {
                path: journal.clone(),
                causes: Vec::new(),
                is_refreshed: false,
            });
        }
        registry.check(guard_policy);
        RegistryRead {
            registry,
            changed,
            configured,
            requested: self.requested,
            tickets: self.tickets,
        }
    }
}

/// The result of reading.
pub(crate) struct RegistryRead {
    pub(crate) registry: OrderRegistry,
    pub(crate) changed: Vec<Changed>,
    /// The number of the configuration whose directories were read.
    pub(crate) configured: u64,
    pub(crate) requested: Vec<RequestedFile>,
    pub(crate) tickets: Vec<u64>,
}
