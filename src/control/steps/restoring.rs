//! A rollback that outlives a restart.

use std::path::Path;

use crate::config::List;
use crate::control::Control;
use crate::control::journal::past::{Moment, Past};
use crate::control::persist::durable;
use crate::control::persist::restore::{
    RestoredLists, loaded, not_held, read_and_compose, unrestored,
};
use crate::control::persist::rollback_file::{FILE, RollbackRecord};
use crate::policy::images::Images;

impl Control {
    /// What is to be in force at a start: `newest`, which is of that generation, or what is held. A
    /// rollback may have ended before what it put in force was kept.
    pub(crate) fn restore_held(&mut self, newest: Option<(Images, u64)>) -> Option<Images> {
        let dir = self.configuration.current.state.dir.clone()?;
        let hold = match RollbackRecord::read(&dir) {
            Ok(hold) => hold,
            Err(problem) => {
                self.hold_nothing(&dir, problem);
                None
            }
        };
        let Some(hold) = hold else {
            return newest.map(|(images, _)| images);
        };
        let journal = self.configuration.current.journal.clone();
        if let Some((images, _)) = newest.as_ref().filter(|(_, of)| *of >= hold.first) {
            // One that left the configuration meanwhile, and came back, is still held.
            let is_held =
                |name: &str| !images.gone.contains(name) || hold.lists.iter().any(|it| it == name);
            let images = images.clone().with_lists(is_held);
            self.hold_at_start(hold, journal.as_deref(), &images);
            return Some(images);
        }
        let in_force = newest.as_ref().map(|(images, _)| images.clone());
        let read = read_and_compose(
            &self.persist.store,
            (&dir, journal.as_deref()),
            hold.generation,
            &in_force.unwrap_or_default(),
            &self.configuration.current.lists,
        );
        match read {
            Ok(RestoredLists {
                images, base_file, ..
            }) => {
                base_file
                    .into_iter()
                    .for_each(|pair| self.persist.store.set_base_file(&images, pair));
                self.hold_at_start(hold, journal.as_deref(), &images);
                Some(images)
            }
            Err(error) => {
                let generation = hold.generation;
                let problem = format!(
                    "lists were to be held as in generation {generation}, which can't be read, so \
                     they follow their files: {error}"
                );
                self.hold_nothing(&dir, problem);
                newest.map(|(images, _)| images)
            }
        }
    }

    /// Holds what was held before the start. A running server refuses new lists of a configuration then, but a start
    /// has none to stay with: it reports what is not as it was.
    fn hold_at_start(&mut self, hold: RollbackRecord, journal: Option<&Path>, images: &Images) {
        let (generation, lists) = (hold.generation, &self.configuration.current.lists);
        let past = journal.and_then(|path| Past::read(path, Moment::Generation(generation)).ok());
        let is_held = |list: &List| {
            let is_held = hold.lists.contains(&list.source.name);
            is_held && loaded(images, list).is_some()
        };
        let others = lists.iter().filter(|list| !is_held(list));
        let others = others.map(|list| not_held(generation, list, images));
        let mut missing = unrestored(generation, past.flatten().as_ref(), images, lists, is_held);
        missing.extend(others);
        for problem in missing.iter().filter(|new| !hold.unrestored.contains(new)) {
            tracing::warn!(problem, "not held");
        }
        self.rollback.record = Some(RollbackRecord {
            unrestored: missing,
            ..hold
        });
    }

    /// A hold that can't be kept up must not come back later, when other images are in force.
    fn hold_nothing(&mut self, dir: &Path, problem: String) {
        tracing::error!(problem, "nothing is held");
        self.rollback.lost = Some(problem);
        let path = dir.join(FILE);
        if let Err(error) = durable::rename(&path, &path.with_extension("damaged")) {
            tracing::error!(%error, "it can't be moved away");
        }
    }
}
