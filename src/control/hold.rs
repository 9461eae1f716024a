//! Owns holding all lists as they were in a generation: until somebody releases them, no newer state of them counts.
//! Refuses to hold orders and exceptions: an authority's word goes on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::guard::release::Guards;
use super::journal::entry::Cause;
use super::load::Refusal;
use super::notes;
use super::reload::Control;
use super::status::{ReloadReport, RollbackRequest};
use super::wishes::Waiting;
use crate::policy::images::Images;

/// The file in the state directory that makes it outlive the server.
const FILE: &str = "held";

/// What is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hold {
    /// The generation whose lists are in force.
    pub(super) generation: u64,
    /// Since when.
    pub(super) since: Timestamp,
}

impl Hold {
    /// What a state directory tells; nothing if no lists are held.
    pub(super) fn read(dir: Option<&Path>) -> Option<Self> {
        let text = fs::read(dir?.join(FILE)).ok()?;
        let hold = serde_json::from_slice(&text);
        hold.inspect_err(|error| tracing::error!(%error, "what is held can't be read: nothing is"))
            .ok()
    }

    fn write(self, dir: &Path) -> io::Result<()> {
        let text = serde_json::to_string(&self).expect("numbers and times have a JSON form");
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        io::Write::write_all(&mut file, text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(dir.join(FILE)).map_err(io::Error::from)?;
        Ok(())
    }

    /// As an alarm.
    pub(super) fn told(self) -> String {
        let (generation, since) = (self.generation, self.since);
        format!(
            "lists are held as they were in generation {generation}, since {since:.0}; to follow \
             their files again: tapis rollback --release"
        )
    }
}

impl Control {
    /// Puts the lists of an earlier generation in force and holds them, or lets them go.
    pub(super) fn roll_back(
        &mut self,
        wish: RollbackRequest,
        cause: Cause,
        reply: oneshot::Sender<ReloadReport>,
    ) {
        let mut waiting = Waiting::new(cause, Some(reply));
        let result = match wish.generation {
            Some(generation) => self.hold(generation, &waiting.cause),
            None => self.release(&mut waiting),
        };
        waiting.report.problems.extend(result.err());
        self.waiting.push(waiting);
    }

    fn state_dir(&self) -> Result<PathBuf, String> {
        let dir = self.boot.state.dir.clone();
        dir.ok_or_else(|| "no generation is kept without a `dir` in [state]".to_owned())
    }

    fn hold(&mut self, generation: u64, cause: &Cause) -> Result<(), String> {
        let dir = self.state_dir()?;
        let (keeper, journal) = (self.keeper.clone(), self.boot.journal.clone());
        let images = tokio::task::block_in_place(|| {
            keeper.read_generation(&dir, journal.as_deref(), generation)
        })?;
        let hold = Hold {
            generation,
            since: Timestamp::now(),
        };
        hold.write(&dir)
            .map_err(|error| format!("{}: can't be written: {error}", dir.join(FILE).display()))?;
        self.held = Some(hold);
        if let Some(stage) = self.stage.take() {
            drop(stage);
            self.leave_stage(vec![format!("configuration not taken: {}", hold.told())]);
        }
        self.wanted.clear();
        self.ready.clear();
        self.base = None;
        self.delta_is_full = false;
        self.put_back(images);
        self.refuse_the_held();
        self.unkept = true;
        self.change(cause.clone());
        tracing::warn!(generation, "lists are held");
        Ok(())
    }

    /// Takes images that were kept, and what they tell of the lists.
    pub(super) fn put_back(&mut self, images: Images) {
        for list in &mut self.lists {
            let image = match images.is_in_delta(list.name()) {
                true => &images.delta,
                false => &images.base,
            };
            let sources = image.iter().flat_map(|image| &image.provenance().sources);
            let source = sources
                .into_iter()
                .find(|source| source.name == list.name());
            let loaded = source.and_then(|source| notes::loaded(source, &list.config));
            list.restore(loaded);
        }
        self.images = images;
    }

    /// Lists whose files are newer than what is held: that is told of each, and nobody waits for them.
    pub(super) fn refuse_the_held(&mut self) {
        let Some(hold) = self.held else { return };
        let now = Instant::now();
        let mut refused = Vec::new();
        for list in &mut self.lists {
            let due = list.take_due(now) || list.loading.is_some();
            let missing = list.loaded.is_none() && list.refused.is_none();
            if due || missing || list.changed() {
                let loading = match list.loading {
                    Some(loading) => loading,
                    None => {
                        self.tickets += 1;
                        list.start(self.tickets)
                    }
                };
                refused.push(loading.ticket);
            }
        }
        for ticket in refused {
            let generation = hold.generation;
            self.refuse(ticket, Refusal::RolledBack { generation });
        }
    }

    fn release(&mut self, waiting: &mut Waiting) -> Result<(), String> {
        let Some(hold) = self.held else {
            return Err("no lists are held".to_owned());
        };
        let file = self.state_dir()?.join(FILE);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(format!("{}: can't be removed: {error}", file.display()));
            }
            _ => self.held = None,
        }
        let generation = hold.generation;
        tracing::info!(generation, "lists follow their files again");
        let now = Instant::now();
        for list in &mut self.lists {
            if list.refused.is_some() || list.changed() {
                self.tickets += 1;
                waiting
                    .tickets
                    .insert(list.request(self.tickets, Guards::NONE, now));
            }
        }
        self.change(waiting.cause.clone());
        Ok(())
    }
}
