//! Rollbacks: all lists are held as they were in an earlier generation, until the operator releases them.
//! Orders and exceptions are not rolled back.
//!
//! ```text
//!            requested          generation read,           lists restored
//!   none ---------------> running  record written  ----------------------> in force
//!    ^                      |  ^                |                              |
//!    |   failed: the record |  +----------------+                              | released:
//!    |   is as before       |   lists changed meanwhile:                       | record removed
//!    +----------------------+   composed again, while no list may change       |
//!    +-------------------------------------------------------------------------+
//! ```
//!
//! The record is on the disk before the lists change, so that a rollback that was reported outlives a restart.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::config::shown::Show;
use crate::config::{Config, List};
use crate::control::file_tasks::FileTasks;
use crate::control::guard::acceptance::InForce;
use crate::control::journal::past::{Moment, Past};
use crate::control::persist::durable;
use crate::control::persist::image_store::ImageStore;
use crate::control::rollback::record::{FILE, RollbackRecord, remove};
use crate::control::rollback::restore::{self, RestoredLists};
use crate::policy::images::Images;

/// The images of a rollback whose record is on the disk.
pub(crate) struct PreparedRollback {
    pub(crate) images: Images,
    /// The images in force when they were composed.
    pub(crate) in_force: Images,
    pub(crate) record: RollbackRecord,
}

/// The rollback or release under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Idle,
    /// A generation is read and composed.
    Composing,
    /// Lists changed while a generation was composed. So it is composed a second time, now or soon. No list may change
    /// until that has ended.
    ComposingAgain {
        generation: u64,
    },
    /// The record is being removed.
    Releasing,
}

/// The rollback in force, and the one under way.
pub(crate) struct Rollback {
    /// The lists that are held, and the generation.
    pub(crate) record: Option<RollbackRecord>,
    /// Why a rollback could not be restored after a restart.
    pub(crate) lost: Option<String>,
    progress: Progress,
    /// The number of rollbacks. A join or compilation that began before the last one is outdated when it ends.
    pub(crate) epoch: u64,
    /// Reads a generation and writes the record, or removes it.
    pub(crate) tasks: FileTasks<(), RollbackFiles>,
}

/// The result of reading and writing a rollback's files.
pub(crate) enum RollbackFiles {
    Written(Result<Box<PreparedRollback>, String>),
    Released(Result<(), String>),
}

/// The inputs of a rollback from other components.
pub(crate) struct Composition {
    pub(crate) dir: PathBuf,
    pub(crate) journal: Option<PathBuf>,
    pub(crate) store: ImageStore,
    pub(crate) lists: Vec<List>,
    /// For each list, the state that was accepted before the rollback.
    pub(crate) accepted: BTreeMap<String, InForce>,
    pub(crate) in_force: Images,
    /// A lower bound for the number of the generation that will put the rollback in force: orders may publish others
    /// first.
    pub(crate) first: u64,
}

impl Rollback {
    pub(crate) fn new() -> Self {
        Self {
            record: None,
            lost: None,
            progress: Progress::Idle,
            epoch: 0,
            tasks: FileTasks::new(),
        }
    }

    /// Whether a rollback or a release is under way.
    pub(crate) fn is_running(&self) -> bool {
        self.progress != Progress::Idle
    }

    /// Whether lists may come into force: not while the images of a rollback are composed again.
    pub(crate) fn allows_changes(&self) -> bool {
        !matches!(self.progress, Progress::ComposingAgain { .. })
    }

    /// The generation whose lists are held.
    pub(crate) fn held_as(&self) -> Option<u64> {
        self.record.as_ref().map(|record| record.generation)
    }

    /// Puts a rollback in force. Joins and compilations that began before are outdated.
    pub(crate) fn adopt(&mut self, record: RollbackRecord) {
        self.record = Some(record);
        self.lost = None;
        self.epoch += 1;
    }

    /// Ends the rollback in force, and returns its record.
    pub(crate) fn release(&mut self) -> Option<RollbackRecord> {
        self.record.take()
    }

    /// The generation to compose again; `None` if there is none, or while a task on a rollback's files runs.
    pub(crate) fn due_again(&self) -> Option<u64> {
        match self.progress {
            Progress::ComposingAgain { generation } => {
                (!self.tasks.is_running(&())).then_some(generation)
            }
            _ => None,
        }
    }

    /// Reads a generation and writes the record, on another thread.
    pub(crate) fn start(&mut self, generation: u64, composition: Composition) {
        self.progress = Progress::Composing;
        self.compose(generation, composition, false);
    }

    /// Composes a generation a second time, once [`due_again`](Self::due_again) returns it.
    pub(crate) fn start_again(&mut self, generation: u64, composition: Composition) {
        self.compose(generation, composition, true);
    }

    /// Records that lists changed during the composition, which is to be done a second time.
    pub(crate) fn want_again(&mut self, generation: u64) {
        self.progress = Progress::ComposingAgain { generation };
    }

    /// Ends the rollback or release under way.
    pub(crate) fn finish(&mut self) {
        self.progress = Progress::Idle;
    }

    fn compose(&mut self, generation: u64, composition: Composition, again: bool) {
        let places = [Some(&composition.dir), composition.journal.as_ref()];
        let places = places.into_iter().flatten();
        let places: Vec<_> = places.map(|path| path.shown().to_string()).collect();
        // The first composition wrote the record. If this one fails, that record must not count after a restart.
        let before = again.then(|| self.record.clone());
        let work = move || {
            let dir = composition.dir.clone();
            let held = composition.read(generation);
            let held = held.map_err(|problem| match before {
                Some(before) => undo(&dir, before, problem),
                None => problem,
            });
            RollbackFiles::Written(held.map(Box::new))
        };
        self.tasks.start((), places.join(", "), work);
    }

    /// Removes the record, on another thread.
    pub(crate) fn start_release(&mut self, dir: PathBuf) {
        self.progress = Progress::Releasing;
        let places = dir.join(FILE).shown().to_string();
        let work = move || RollbackFiles::Released(remove(&dir));
        self.tasks.start((), places, work);
    }

    /// The images to put in force at a start: `newest`, which are the newest images with their generation. If the
    /// server ended before it had written the images of the recorded rollback, these are composed again and returned
    /// instead.
    pub(crate) fn restore(
        &mut self,
        store: &ImageStore,
        config: &Config,
        newest: Option<(Images, u64)>,
    ) -> Option<Images> {
        let dir = config.state.dir.as_ref()?;
        let record = match RollbackRecord::read(dir) {
            Ok(record) => record,
            Err(problem) => {
                self.give_up(dir, problem);
                None
            }
        };
        let Some(record) = record else {
            return newest.map(|(images, _)| images);
        };
        if let Some((images, _)) = newest.as_ref().filter(|(_, of)| *of >= record.first) {
            // A list that left the configuration and came back is still held.
            let is_held = |name: &str| {
                !images.gone.contains(name) || record.lists.iter().any(|it| it == name)
            };
            let images = images.clone().with_lists(is_held);
            self.adopt_at_start(record, config, &images);
            return Some(images);
        }
        let in_force = newest.as_ref().map(|(images, _)| images.clone());
        let read = restore::read_and_compose(
            store,
            (dir, config.journal.path.as_deref()),
            record.generation,
            &in_force.unwrap_or_default(),
            &config.lists,
        );
        match read {
            Ok(RestoredLists {
                images, base_file, ..
            }) => {
                base_file
                    .into_iter()
                    .for_each(|pair| store.set_base_file(&images, pair));
                self.adopt_at_start(record, config, &images);
                Some(images)
            }
            Err(error) => {
                let generation = record.generation;
                let problem = format!(
                    "lists were to be held as in generation {generation}, which can't be read, so \
                     they follow their files: {error}"
                );
                self.give_up(dir, problem);
                newest.map(|(images, _)| images)
            }
        }
    }

    /// Goes on with a recorded rollback. While the server runs, a configuration with other lists is rejected. At a
    /// start, the server can only report which lists are not as they were.
    fn adopt_at_start(&mut self, record: RollbackRecord, config: &Config, images: &Images) {
        let (generation, lists) = (record.generation, &config.lists);
        let past = |path: &PathBuf| Past::read(path, Moment::Generation(generation)).ok();
        let past = config.journal.path.as_ref().and_then(past).flatten();
        let is_held = |list: &List| {
            let is_held = record.lists.contains(&list.source.name);
            is_held && restore::loaded(images, list).is_some()
        };
        let others = lists.iter().filter(|list| !is_held(list));
        let others = others.map(|list| restore::not_held(generation, list, images));
        let mut missing = restore::unrestored(generation, past.as_ref(), images, lists, is_held);
        missing.extend(others);
        for problem in missing
            .iter()
            .filter(|new| !record.unrestored.contains(new))
        {
            tracing::warn!(problem, "not restored by the rollback");
        }
        self.record = Some(RollbackRecord {
            unrestored: missing,
            ..record
        });
    }

    /// Moves away the record of a rollback that can't be restored, so that it does not count after a later restart,
    /// when other images are in force.
    fn give_up(&mut self, dir: &Path, problem: String) {
        tracing::error!(problem, "the rollback can't be restored; no list is held");
        self.lost = Some(problem);
        let path = dir.join(FILE);
        if let Err(error) = durable::rename(&path, &path.with_extension("damaged")) {
            tracing::error!(%error, "the record of the rollback can't be renamed");
        }
    }
}

impl Composition {
    /// Reads a generation, and writes the record before its lists come into force.
    fn read(mut self, generation: u64) -> Result<PreparedRollback, String> {
        let places = (&*self.dir, self.journal.as_deref());
        let read = restore::read_and_compose(
            &self.store,
            places,
            generation,
            &self.in_force,
            &self.lists,
        )?;
        self.accepted.retain(|name, _| read.lists.contains(name));
        let record = RollbackRecord {
            generation,
            since: Timestamp::now(),
            first: self.first,
            lists: read.lists,
            accepted: self.accepted,
            unrestored: read.unrestored,
        };
        record.write(&self.dir)?;
        let images = read.images;
        read.base_file
            .into_iter()
            .for_each(|pair| self.store.set_base_file(&images, pair));
        Ok(PreparedRollback {
            images,
            in_force: self.in_force,
            record,
        })
    }
}

/// After a rollback that failed, restores the record that was there before it, or removes the record if there was none.
/// Returns the problem to report.
fn undo(dir: &Path, before: Option<RollbackRecord>, problem: String) -> String {
    let undone = match before {
        Some(before) => before.write(dir),
        None => remove(dir),
    };
    match undone {
        Ok(()) => problem,
        Err(undoing) => format!("{problem}; this rollback may count after a restart: {undoing}"),
    }
}
