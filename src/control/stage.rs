//! Owns a new configuration until all its new lists are read: then it is taken whole, or not at all.
//! Refuses to touch what is in force before that.

use super::state::ListState;
use crate::config::Config;

/// A configuration that waits.
#[derive(Debug)]
pub(super) struct Stage {
    config: Config,
    /// Its lists whose rules are not in force yet: new ones, and those that come from another file
    /// or mean something else.
    pub(super) fresh: Vec<ListState>,
}

impl Stage {
    pub(super) fn new(config: Config, active: &[ListState]) -> Self {
        let known = |list: &&crate::config::List| active.iter().any(|state| is(state, list));
        let fresh = config.lists.iter().filter(|list| !known(list));
        let fresh = fresh.cloned().map(ListState::new).collect();
        Self { config, fresh }
    }

    /// Whether all is read that can be.
    pub(super) fn is_ready(&self) -> bool {
        let ready = |list: &ListState| list.loading.is_none() && list.due().is_none();
        self.fresh.iter().all(ready)
    }

    /// Why it can't be taken.
    pub(super) fn problems(&self) -> Vec<String> {
        let told = self.fresh.iter().filter_map(|list| {
            let (refusal, _) = list.refused.as_ref()?;
            Some(format!(
                "configuration not taken, {}: {refusal}",
                list.name()
            ))
        });
        told.collect()
    }

    /// The configuration with its lists, in its own order; those that go on keep all they know.
    pub(super) fn merge(self, mut active: Vec<ListState>) -> (Config, Vec<ListState>) {
        let mut fresh = self.fresh.into_iter();
        let mut lists = Vec::new();
        for config in &self.config.lists {
            let state = match active.iter().position(|state| is(state, config)) {
                Some(place) => {
                    let mut state = active.swap_remove(place);
                    state.reconfigure(config.clone());
                    Some(state)
                }
                // In the order in which `new` took them.
                None => fresh.next(),
            };
            lists.extend(state);
        }
        (self.config, lists)
    }
}

/// Whether a list goes on as the same one.
fn is(state: &ListState, list: &crate::config::List) -> bool {
    state.name() == list.source.name && state.reads_as(list)
}
