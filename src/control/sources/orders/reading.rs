//! Reads files of orders and exceptions on another thread, and takes what they say when that ends.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Config;
use crate::control::guard::policy::Rails;
use crate::control::journal::entry::Cause;
use crate::control::sources::orders::registry::Book;
use crate::control::sources::watch::Touched;

/// What is asked of the files of orders and exceptions.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// Files that changed, with the instant of the newest event.
    pub(crate) touched: HashMap<PathBuf, (Touched, Instant)>,
    /// Changes are looked for that nothing reported.
    pub(crate) sweep: bool,
    /// All files that changed are read, whoever writes them.
    pub(crate) refresh: bool,
    /// The operator, who could see that orders are gone, says that it is right.
    pub(crate) confirms_loss: bool,
    /// Files that somebody changed and waits for.
    pub(crate) wished: Vec<Wished>,
    /// Who waits for all files.
    pub(crate) tickets: Vec<u64>,
}

/// A file that somebody changed and waits for.
#[derive(Debug)]
pub(crate) struct Wished {
    pub(crate) path: PathBuf,
    pub(crate) cause: Cause,
    pub(crate) ticket: u64,
    /// When it is to be read: its writer is done, whatever events of it arrive later.
    pub(crate) at: Instant,
}

impl Wished {
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

impl Asked {
    /// When to start.
    pub(crate) fn due(&self) -> Option<Instant> {
        if self.sweep || self.refresh {
            return Some(Instant::now());
        }
        let touched = self.touched.values();
        let touched = touched.map(|(touched, at)| *at + touched.quiet);
        let wished = self.wished.iter().map(|wished| wished.at);
        touched.chain(wished).min()
    }

    /// Does it, with a copy of what is known.
    pub(crate) fn read(
        self,
        known: &Book,
        (configured, config): (u64, Option<&Config>),
        rails: &Arc<Rails>,
    ) -> BookRead {
        let mut book = known.clone();
        for (touched, at) in self.touched.values() {
            book.touch(touched, *at);
        }
        if self.confirms_loss {
            // Before anything is read: what else is gone then could not be seen.
            book.confirm_loss();
        }
        let now = Instant::now();
        if self.sweep {
            book.sweep(now);
        }
        for wished in &self.wished {
            let (path, quiet) = (wished.path.clone(), Duration::ZERO);
            book.touch(&Touched { path, quiet }, now);
        }
        let due = book.read_due(now).into_iter().map(|path| (path, false));
        let mut changed: Vec<_> = due.collect();
        let elsewhere = |wished: &&Wished| !book.concerns(&wished.path);
        let others: Vec<_> = self
            .wished
            .iter()
            .filter(elsewhere)
            .map(|wished| wished.ticket)
            .collect();
        if self.refresh || !others.is_empty() {
            let refreshed = book.refresh().into_iter();
            changed.extend(refreshed.map(|path| (path, self.refresh)));
        }
        let changed = changed.into_iter().map(|(path, is_refreshed)| {
            let by = self.wished.iter();
            let by = by.filter(|wished| wished.is(&path, others.contains(&wished.ticket)));
            Changed {
                causes: by.map(|wished| wished.cause.clone()).collect(),
                path,
                is_refreshed,
            }
        });
        let mut changed: Vec<_> = changed.collect();
        if let Some(config) = config
            && let Some(journal) = &config.journal
            && book.recall_late(config)
        {
            changed.push(Changed {
                path: journal.clone(),
                causes: Vec::new(),
                is_refreshed: false,
            });
        }
        book.check(rails);
        BookRead {
            book,
            changed,
            configured,
            wished: self.wished,
            tickets: self.tickets,
        }
    }
}

/// What reading came to.
pub(crate) struct BookRead {
    pub(crate) book: Book,
    pub(crate) changed: Vec<Changed>,
    /// Which configuration it is of.
    pub(crate) configured: u64,
    pub(crate) wished: Vec<Wished>,
    pub(crate) tickets: Vec<u64>,
}
