//! Owns what is known of each list: its configuration, its last good state, why a newer one was refused.
//! Refuses to start loads or to publish.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use super::load::{Loaded, Refusal, Signature};
use crate::config::{Content, List};
use crate::policy::rule::Source;
use crate::policy::snapshot::Layer;

/// One list.
#[derive(Debug)]
pub(super) struct ListState {
    pub(super) config: List,
    pub(super) source: Arc<Source>,
    pub(super) loaded: Option<Arc<Loaded>>,
    /// Why the newest state of the file was not taken, and since when it stands so.
    pub(super) refused: Option<(Refusal, Timestamp)>,
    /// The state of the file that was looked at last, taken or refused.
    pub(super) seen: Option<Signature>,
    /// When to read the file, if it changed.
    pub(super) due: Option<Instant>,
    /// A load is under way; its number, so that an outdated one is known.
    pub(super) loading: Option<u64>,
}

impl ListState {
    pub(super) fn new(config: List) -> Self {
        Self {
            source: Arc::new(config.source.clone()),
            config,
            loaded: None,
            refused: None,
            seen: None,
            due: None,
            loading: None,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.source.name
    }

    pub(super) fn path(&self) -> &Path {
        &self.source.path
    }

    /// Takes over a new configuration of the same list. Returns whether its rules must be read
    /// again, for they come from another file or mean something else.
    pub(super) fn reconfigure(&mut self, config: List) -> bool {
        let same = self.config.source.path == config.source.path
            && self.config.format == config.format
            && self.config.scope == config.scope
            && self.config.content == config.content;
        self.source = Arc::new(config.source.clone());
        self.config = config;
        !same
    }

    /// Whether the file is another one than was looked at last. One that can't be looked at is:
    /// reading it will tell why.
    pub(super) fn changed(&self) -> bool {
        match self.config.content {
            Content::Embedded(_) => false,
            Content::File => Signature::of(self.path()).ok() != self.seen,
        }
    }

    /// Its rules, if it ever had any.
    pub(super) fn layer(&self) -> Option<Layer> {
        self.loaded.as_ref().map(|loaded| Layer {
            source: Arc::clone(&self.source),
            rules: Arc::clone(&loaded.rules),
        })
    }
}
