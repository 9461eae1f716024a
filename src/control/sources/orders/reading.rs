//! Reads files of orders and exceptions on another thread, and takes what they say when that ends.

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

/// What is asked of the files of orders and exceptions.
#[derive(Debug, Default)]
pub(crate) struct PendingReads {
    /// Files that changed, with the instant of the newest event.
    pub(crate) touched: HashMap<PathBuf, (Touched, Instant)>,
    /// Changes are looked for that nothing reported.
    pub(crate) sweep: bool,
    /// All files that changed are read, whoever writes them.
    pub(crate) refresh: bool,
    /// The operator, who could see that orders are gone, says that it is right.
    pub(crate) confirms_loss: bool,
    /// Files that somebody changed and waits for.
    pub(crate) requested: Vec<RequestedFile>,
    /// Who waits for all files.
    pub(crate) tickets: Vec<u64>,
}

/// A file that somebody changed and waits for.
#[derive(Debug)]
pub(crate) struct RequestedFile {
    pub(crate) path: PathBuf,
    pub(crate) cause: Cause,
    pub(crate) ticket: u64,
    /// When it is to be read: its writer is done, whatever events of it arrive later.
    pub(crate) at: Instant,
}

impl RequestedFile {
    /// Whether it is this file. `elsewhere`: its path is not one of the directories'.
    fn is(&self, path: &Path, elsewhere: bool) -> bool {
        let absolute = std::path::absolute(path);
        absolute.is_ok_and(|path| path == self.path)
            || (elsewhere && real(path) == real(&self.path))
    }
}

/// Where a path leads to, whether the file is there or not.
fn real(path: &Path) -> Option<PathBuf> {
    let file = path.canonicalize().ok();
    file.or_else(|| Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?)))
}

/// A file of which something else is known.
pub(crate) struct Changed {
    pub(crate) path: PathBuf,
    /// Who changed it, if they said so.
    pub(crate) causes: Vec<Cause>,
    /// It was read because somebody asked for all files.
    pub(crate) is_refreshed: bool,
}

impl PendingReads {
    /// When to start.
    pub(crate) fn due(&self) -> Option<Instant> {
        if self.sweep || self.refresh {
            return Some(Instant::now());
        }
        let touched = self.touched.values();
        let touched = touched.map(|(touched, at)| *at + touched.quiet);
        let requested = self.requested.iter().map(|requested| requested.at);
        touched.chain(requested).min()
    }

    /// Does it, with a copy of what is known.
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
            // Before anything is read: what else is gone then could not be seen.
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
            && let Some(journal) = &config.journal
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

/// What reading came to.
pub(crate) struct RegistryRead {
    pub(crate) registry: OrderRegistry,
    pub(crate) changed: Vec<Changed>,
    /// Which configuration it is of.
    pub(crate) configured: u64,
    pub(crate) requested: Vec<RequestedFile>,
    pub(crate) tickets: Vec<u64>,
}
