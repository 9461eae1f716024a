//! The published zones follow the policy in force, once all of their sources have a first version.

use crate::config::paths::section;
use crate::control::Control;
use crate::control::sources::lists::state::ListState;
use crate::control::zones::missing::Missing;

impl Control {
    /// Publishes the snapshot in force by the zones of the configuration.
    pub(crate) fn follow_zones(&mut self) {
        let missing = self.missing();
        let snapshot = self.publication.publisher.current();
        self.zones
            .follow(&self.configuration.current, &snapshot, missing);
    }

    /// The same, if other sources have no version now. The first version of a source may have no rules, and then there is no new
    /// generation.
    pub(crate) fn follow_missing(&mut self) {
        if self.missing() != self.zones.missing() {
            self.follow_zones();
        }
    }

    /// The sources without a first version. A list that a rollback left out is none of them: it did not exist then.
    fn missing(&self) -> Vec<Missing> {
        let is_missing = |list: &&ListState| {
            list.loaded.is_none() && !list.is_frozen() && !list.source.is_disabled()
        };
        let lists = self.lists.active.iter().filter(is_missing);
        let lists = lists.map(|list| Missing::Source {
            what: section(&list.source.path),
            name: list.name().to_owned(),
        });
        let unknown = self.scheduler.registry.unknown().map(Missing::All);
        unknown.chain(lists).collect()
    }
}
