//! Owns a new configuration until all its new lists are read: then it is taken whole, or not at all.
//! Refuses to touch what is in force before that.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::following::Files;
use super::guard::rails::Rails;
use super::state::ListState;
use crate::config::shown::Show;
use crate::config::{Config, List};

/// How long a new configuration waits for files that are being written.
const MOST_STAGED: Duration = Duration::from_secs(30);

/// A configuration that waits.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) config: Config,
    pub(super) rails: Arc<Rails>,
    since: Instant,
    /// Its lists whose rules are not in force yet: new ones, and those that come from another file
    /// or mean something else.
    pub(super) fresh: Vec<ListState>,
}

impl Stage {
    /// A configuration with its guard rails, given the files of its lists as they are now.
    pub(super) fn new(
        config: Config,
        rails: Arc<Rails>,
        active: &[ListState],
        files: &Files,
    ) -> Self {
        let known = |list: &&List| active.iter().any(|state| is(state, list));
        let fresh = config.lists.iter().filter(|list| !known(list));
        let fresh = fresh.cloned().map(|list| {
            let mut list = ListState::new(list);
            list.set_looked(files);
            list
        });
        let fresh = fresh.collect();
        Self {
            config,
            rails,
            since: Instant::now(),
            fresh,
        }
    }

    /// Whether all is read that can be. A file that never comes to rest is not waited for longer
    /// than [`MOST_STAGED`].
    pub(super) fn is_ready(&self) -> bool {
        let late = self.since.elapsed() > MOST_STAGED;
        let rests = |list: &ListState| late || (list.due().is_none() && !list.is_looked_for());
        let ready = |list: &ListState| list.loading.is_none() && rests(list);
        self.fresh.iter().all(ready)
    }

    /// Why it can't be taken.
    pub(super) fn problems(&self) -> Vec<String> {
        let told = self.fresh.iter().filter_map(|list| {
            let name = list.name();
            match (&list.refused, &list.loaded) {
                (Some((refusal, _)), _) => {
                    Some(format!("configuration not taken, {name}: {refusal}"))
                }
                (None, None) => {
                    let path = list.source.path.shown();
                    Some(format!(
                        "configuration not taken, {name}: {path} is still being written, or its file system does not answer"
                    ))
                }
                (None, Some(_)) => None,
            }
        });
        told.collect()
    }

    /// The configuration with its lists, in its own order; those that go on keep all they know.
    /// Last come those that end.
    pub(super) fn merge(
        self,
        mut active: Vec<ListState>,
    ) -> (Config, Vec<ListState>, Vec<ListState>) {
        let mut fresh = self.fresh;
        let mut lists = Vec::new();
        for config in &self.config.lists {
            let named = |state: &ListState| state.name() == config.source.name;
            let state = match (
                fresh.iter().position(named),
                active.iter().position(|s| is(s, config)),
            ) {
                (Some(place), _) => Some(fresh.swap_remove(place).without_rules()),
                (None, Some(place)) => {
                    let mut state = active.swap_remove(place);
                    state.reconfigure(config.clone());
                    Some(state)
                }
                (None, None) => None,
            };
            lists.extend(state);
        }
        (self.config, lists, active)
    }
}

/// Whether a list goes on as the same one.
fn is(state: &ListState, list: &List) -> bool {
    state.name() == list.source.name && state.reads_as(list)
}
