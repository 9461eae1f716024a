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
use super::load::{Loaded, Refusal};
use super::notes;
use super::preparing::Prepared;
use super::reload::{Control, carries};
use super::state::ListState;
use super::status::{ReloadReport, ReloadRequest, RollbackRequest};
use super::wishes::Waiting;
use crate::policy::images::Images;

/// The file in the state directory that makes it outlive the server.
const FILE: &str = "held";

/// What is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hold {
    /// The generation whose lists are in force.
    pub(super) generation: u64,
    /// Since when.
    pub(super) since: Timestamp,
    /// The generation that put them in force: images of that or a later one are what is held.
    pub(super) first: u64,
    /// The lists: of others that generation had nothing.
    pub(super) lists: Vec<String>,
}

impl Hold {
    /// What a state directory tells; nothing if no lists are held.
    fn read(dir: &Path) -> Result<Option<Self>, String> {
        let path = dir.join(FILE);
        let bad = |error: &dyn std::fmt::Display| {
            let path = path.display();
            format!(
                "{path}: can't be read, so no list is held: {error}; roll back again, or remove it"
            )
        };
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| bad(&error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(bad(&error)),
        }
    }

    fn write(&self, dir: &Path) -> io::Result<()> {
        let text = serde_json::to_string(&self).expect("numbers and times have a JSON form");
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        io::Write::write_all(&mut file, text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(dir.join(FILE)).map_err(io::Error::from)?;
        Ok(())
    }

    /// As an alarm.
    pub(super) fn told(&self) -> String {
        let (generation, since) = (self.generation, self.since);
        format!(
            "lists are held as they were in generation {generation}, since {since:.0}; to follow \
             their files again: tapis rollback --release"
        )
    }
}

/// The generation whose lists the server with that state directory holds, if it can be told.
pub fn held(dir: &Path) -> Option<u64> {
    let hold = Hold::read(dir).ok()?;
    hold.map(|hold| hold.generation)
}

impl Control {
    /// What is to be in force at a start: `newest`, which is of that generation, or what is held. A
    /// rollback may have ended before what it put in force was kept.
    pub(super) fn restore_held(&mut self, newest: Option<(Images, u64)>) -> Option<Images> {
        let dir = self.config.state.dir.clone()?;
        let hold = match Hold::read(&dir) {
            Ok(hold) => hold,
            Err(problem) => {
                self.hold_nothing(&dir, problem);
                None
            }
        };
        let Some(hold) = hold else {
            return newest.map(|(images, _)| images);
        };
        if let Some((images, _)) = newest.as_ref().filter(|(_, of)| *of >= hold.first) {
            self.held = Some(hold);
            return Some(images.clone());
        }
        let journal = self.config.journal.clone();
        let read = self
            .keeper
            .read_generation(&dir, journal.as_deref(), hold.generation);
        match read {
            Ok((images, pair)) => {
                self.keeper.adopt(&images, pair);
                self.held = Some(hold);
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

    /// A hold that can't be kept up must not come back later, when other images are in force.
    fn hold_nothing(&mut self, dir: &Path, problem: String) {
        tracing::error!(problem, "nothing is held");
        self.unheld = Some(problem);
        let path = dir.join(FILE);
        if let Err(error) = fs::rename(&path, path.with_extension("damaged")) {
            tracing::error!(path = %path.display(), %error, "it can't be moved away");
        }
    }

    /// Puts the lists of an earlier generation in force and holds them, or lets them go.
    pub(super) fn roll_back(
        &mut self,
        wish: RollbackRequest,
        cause: Cause,
        reply: oneshot::Sender<ReloadReport>,
        prepared: Prepared,
    ) {
        let mut waiting = Waiting::new(cause, Some(reply));
        let result = match wish.generation {
            Some(generation) => self.hold(generation, &mut waiting),
            None => self.release(&mut waiting, prepared),
        };
        waiting.report.problems.extend(result.err());
        self.waiting.push(waiting);
    }

    fn state_dir(&self) -> Result<PathBuf, String> {
        let dir = self.boot.state.dir.clone();
        dir.ok_or_else(|| "no generation is kept without a `dir` in [state]".to_owned())
    }

    fn hold(&mut self, generation: u64, waiting: &mut Waiting) -> Result<(), String> {
        let dir = self.state_dir()?;
        let (keeper, journal) = (self.keeper.clone(), self.boot.journal.clone());
        let (images, pair) = tokio::task::block_in_place(|| {
            keeper.read_generation(&dir, journal.as_deref(), generation)
        })?;
        let hold = Hold {
            generation,
            since: Timestamp::now(),
            first: self.next_generation(),
            lists: self.known_in(&images),
        };
        hold.write(&dir)
            .map_err(|error| format!("{}: can't be written: {error}", dir.join(FILE).display()))?;
        keeper.adopt(&images, pair);
        self.drop_the_newer(&hold);
        self.held = Some(hold);
        self.unheld = None;
        self.put_back(images);
        self.refuse_the_held();
        self.follow_the_others(generation, waiting);
        self.unkept = true;
        self.change(waiting.cause.clone());
        tracing::warn!(generation, "lists are held");
        Ok(())
    }

    /// Leaves what is on its way into force; what joins or compiles now is dropped when it ends.
    fn drop_the_newer(&mut self, hold: &Hold) {
        self.epoch += 1;
        if self.stage.take().is_some() {
            self.leave_stage(vec![format!("configuration not taken: {}", hold.told())]);
        }
        let wanted = std::mem::take(&mut self.wanted).into_iter();
        let based = self.base.take().into_iter().flat_map(|base| base.wanted);
        let ready = std::mem::take(&mut self.ready).into_iter();
        let tickets: Vec<_> = wanted
            .chain(based)
            .map(|wanted| wanted.ticket)
            .chain(ready.map(|ready| ready.ticket))
            .collect();
        // Those of lists that are held are refused, which tells why.
        let carried = |ticket: &u64| self.lists.iter().any(|list| carries(list, *ticket));
        let gone: Vec<_> = tickets
            .into_iter()
            .filter(|ticket| !carried(ticket))
            .collect();
        for ticket in gone {
            self.no_longer_awaited(ticket);
        }
        // Its file belongs to a base that is not in force any more.
        self.base_file = None;
        self.delta_is_full = false;
    }

    /// Has lists read that the generation has nothing of: what is not there can't be held.
    fn follow_the_others(&mut self, generation: u64, waiting: &mut Waiting) {
        let now = Instant::now();
        let mut gone = Vec::new();
        for list in self.lists.iter_mut().filter(|list| !list.frozen) {
            gone.extend(list.loading.take().map(|loading| loading.ticket));
            self.tickets += 1;
            let ticket = list.request(self.tickets, Guards::NONE, now);
            waiting.tickets.insert(ticket);
            waiting.report.problems.push(format!(
                "{}: generation {generation} has nothing of it as it is configured now, so it is \
                 not held: it follows its file",
                list.name()
            ));
        }
        for ticket in gone {
            self.no_longer_awaited(ticket);
        }
    }

    /// Takes images that were kept, and what they tell of the lists.
    pub(super) fn put_back(&mut self, images: Images) {
        let held = self.held.as_ref().map_or(&[][..], |hold| &hold.lists);
        for list in &mut self.lists {
            let loaded = loaded(&images, list);
            list.frozen = loaded.is_some() && held.iter().any(|name| name == list.name());
            list.restore(loaded);
        }
        self.images = images;
    }

    /// The lists of which images tell something that counts.
    fn known_in(&self, images: &Images) -> Vec<String> {
        let known = self
            .lists
            .iter()
            .filter(|list| loaded(images, list).is_some());
        known.map(|list| list.name().to_owned()).collect()
    }

    /// Lists whose files are newer than what is held: that is told of each, and nobody waits for them.
    pub(super) fn refuse_the_held(&mut self) {
        let Some(generation) = self.held.as_ref().map(|hold| hold.generation) else {
            return;
        };
        let now = Instant::now();
        let mut refused = Vec::new();
        for list in self.lists.iter_mut().filter(|list| list.frozen) {
            let rests = list.take_at_rest();
            let due = list.take_due(now) || rests || list.loading.is_some();
            if due || list.changed() {
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
            self.refuse(ticket, Refusal::RolledBack { generation });
        }
    }

    fn release(&mut self, waiting: &mut Waiting, prepared: Prepared) -> Result<(), String> {
        let Some(generation) = self.held.as_ref().map(|hold| hold.generation) else {
            return Err("no lists are held".to_owned());
        };
        let file = self.state_dir()?.join(FILE);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(format!("{}: can't be removed: {error}", file.display()));
            }
            _ => self.held = None,
        }
        tracing::info!(generation, "lists follow their files again");
        let now = Instant::now();
        for list in &mut self.lists {
            list.frozen = false;
            if list.refused.is_some() || list.changed() || list.is_outdated(&self.rails) {
                self.tickets += 1;
                let ticket = list.request(self.tickets, Guards::NONE, now);
                waiting.tickets.insert(ticket);
            }
        }
        self.change(waiting.cause.clone());
        // A new configuration was not taken meanwhile.
        let Prepared { newest, files, .. } = prepared;
        self.reconfigure(&ReloadRequest::default(), waiting, newest, &files);
        Ok(())
    }
}

/// What images tell of a list.
fn loaded(images: &Images, list: &ListState) -> Option<Loaded> {
    let image = match images.is_in_delta(list.name()) {
        true => &images.delta,
        false => &images.base,
    };
    let mut sources = image.iter().flat_map(|image| &image.provenance().sources);
    let source = sources.find(|source| source.name == list.name())?;
    notes::loaded(source, &list.config)
}
