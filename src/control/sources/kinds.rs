//! Kinds of sources that fetch lists and write them to files, for example by download. Feeds are not such a kind, because
//! their changes come as a stream: see [`feeds`](super::feeds).
//!
//! A kind only fetches its sources. After that, each of them is a list: guards, compiler, journal, rollback and
//! `status` treat it like the lists of the configuration.
//!
//! ```text
//!   kind: fetched, complete on the disk -- Changed --> list: looked at, read, checked, in force
//!   kind: no longer wanted -------------- Removed --> list: no longer in force
//! ```

use std::collections::HashSet;
use std::pin::Pin;

use futures_util::future::select_all;

use crate::config::{Config, List};

/// A kind of source. It is registered with [`Control::register`](crate::control::Control::register).
pub trait SourceKind: Send {
    /// The next change of one of its sources. Must be cancel safe: the future is dropped whenever another event occurs. It
    /// never completes if there are no further changes.
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Update> + Send + '_>>;
}

/// A change of a source.
#[derive(Debug)]
pub enum Update {
    /// A source is new, its file has changed, or it blocks in another way, for example with another action. The file is
    /// complete, and is replaced by renaming, never written in place. If a source gets another file, or its file is to
    /// be read in another way, for example in another format, the source is removed first.
    Changed(Box<List>),
    /// The source of this name no longer exists.
    Removed(String),
}

/// The registered kinds, and the names of their sources.
#[derive(Default)]
pub(crate) struct Kinds {
    all: Vec<Box<dyn SourceKind>>,
    names: HashSet<String>,
}

impl Kinds {
    pub(crate) fn register(&mut self, kind: Box<dyn SourceKind>) {
        self.all.push(kind);
    }

    /// The next change of a source of any kind. Cancel safe.
    pub(crate) async fn next(&mut self) -> Update {
        if self.all.is_empty() {
            return std::future::pending().await;
        }
        let (update, ..) = select_all(self.all.iter_mut().map(|kind| kind.next())).await;
        update
    }

    /// Whether a list of this name is a source of one of these kinds.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    pub(super) fn add(&mut self, name: &str) {
        self.names.insert(name.to_owned());
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.names.remove(name);
    }

    /// Removes the lists of a configuration from the names of sources: they now belong to the configuration, and not to
    /// a kind.
    pub(crate) fn give_up(&mut self, config: &Config) {
        for list in &config.lists {
            self.names.remove(&list.source.name);
        }
    }
}
