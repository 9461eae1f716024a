//! Lists: from a file that changed to rules that are ready.
//!
//! ```text
//!                 event, request, sweep                  quiet long enough
//!   in force ----------------------------> due ----------------------------> being looked at
//!      ^  ^                                 ^                                  |          |
//!      |  |         another event           |                        unchanged |          | changed
//!      |  +---------------------------------+----------------------------------+          v
//!      |                                    |                             being read (small: here,
//!      |                                    | again later: it changed      large: by the compiler)
//!      |                                    | meanwhile, no room               |          |
//!      |                                    +----------- refused <-------------+          | ready
//!      |                                                (last good state serves)          v
//!      +---------------------------------------------------------------- joined with the others
//! ```

pub mod file;
pub mod load;
pub mod parse;
pub(crate) mod reading;
pub(crate) mod state;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

use self::load::Refusal;
use self::reading::{Done, Ready, log_load, start_load};
use self::state::{ListState, Tickets, has_load};
use super::files::{Files, look};
use super::pending::PendingConfig;
use super::watch::{Following, Touched};
use crate::config::shown::Show;
use crate::config::{Config, Content};
use crate::control::compile::job::{Wanted, want};
use crate::control::file_tasks::FileTasks;
use crate::control::guard::acceptance::aged;
use crate::control::guard::policy::GuardPolicy;

/// The lists of the configuration in force.
pub(crate) struct ListSources {
    pub(crate) active: Vec<ListState>,
    /// A new configuration whose lists are being read.
    pub(crate) pending: Option<PendingConfig>,
    /// Looks at their files, by directory.
    pub(crate) looks: FileTasks<PathBuf, Files>,
    /// Loads that ended.
    pub(crate) done: (mpsc::Sender<Done>, mpsc::Receiver<Done>),
}

impl ListSources {
    pub(crate) fn new(config: &Config) -> Self {
        let lists = config.lists.iter().cloned();
        Self {
            active: lists.map(ListState::new).collect(),
            pending: None,
            looks: FileTasks::new(),
            done: mpsc::channel(256),
        }
    }

    /// The lists in force, and those that a new configuration waits for.
    pub(crate) fn all(&mut self) -> impl Iterator<Item = &mut ListState> {
        let pending = self
            .pending
            .iter_mut()
            .flat_map(|pending| &mut pending.lists);
        self.active.iter_mut().chain(pending)
    }

    /// Takes an event of a file. Returns whether it is the file of a list.
    pub(crate) fn touch(&mut self, touched: &Touched, now: Instant) -> bool {
        let mut known = false;
        for list in self.all() {
            known |= list.touch(touched, now);
        }
        known
    }

    /// When the next list is to be read.
    pub(crate) fn due(&mut self) -> Option<Instant> {
        self.all().filter_map(|list| list.due()).min()
    }

    /// The files to be watched.
    pub(crate) fn files(&mut self) -> Vec<PathBuf> {
        let lists = self
            .all()
            .filter(|list| list.config.content == Content::File);
        lists.map(|list| list.path().to_owned()).collect()
    }

    /// Looks at the files of lists that are to be looked at, directory by directory.
    pub(crate) fn start_looking(&mut self) {
        let mut wanted: HashMap<PathBuf, Vec<PathBuf>> = HashMap::new();
        let pending = self
            .pending
            .iter_mut()
            .flat_map(|pending| &mut pending.lists);
        for list in self.active.iter_mut().chain(pending) {
            let folder = list.source.path.parent().unwrap_or(Path::new(""));
            if list.wants_look() && !self.looks.is_running(&folder.to_owned()) {
                let wanted = wanted.entry(folder.to_owned()).or_default();
                wanted.push(list.source.path.clone());
                list.start_look();
            }
        }
        for (folder, files) in wanted {
            let places = folder.shown().to_string();
            self.looks.start(folder, places, move || look(files));
        }
    }

    /// Takes the result of a look at the lists in a directory; `None` if it panicked.
    pub(crate) fn finish_looking(&mut self, folder: &Path, files: Option<&Files>) {
        let now = Instant::now();
        for list in self.all() {
            let found = match files {
                Some(files) => files.get(&list.source.path).copied(),
                None => (list.source.path.parent() == Some(folder)).then(|| list.looked()),
            };
            if let Some(file) = found {
                list.finish_look(file, now);
            }
        }
    }

    /// Takes the files that are watched now.
    pub(crate) fn finish_watching(&mut self, following: &Following) {
        for list in self.all() {
            if following.fresh {
                // It may have changed before it was watched.
                list.want_first_look();
            }
            list.target = following.targets.get(list.path()).cloned();
        }
    }

    /// Reads small lists whose files were looked at for that, if they changed. Reports the large ones, and the numbers
    /// of loads that are not needed.
    pub(crate) fn start_loads(
        &mut self,
        guard_policy: &Arc<GuardPolicy>,
        tickets: &mut Tickets,
    ) -> Loads {
        let mut loads = Loads::default();
        let next = self
            .pending
            .as_ref()
            .map(|pending| Arc::clone(&pending.guard_policy));
        let pending = self
            .pending
            .iter_mut()
            .flat_map(|pending| &mut pending.lists);
        let active = self.active.iter_mut().map(|list| (list, false));
        for (list, staged) in active.chain(pending.map(|list| (list, true))) {
            if !list.take_settled() {
                continue;
            }
            let guard_policy = next.as_ref().filter(|_| staged).unwrap_or(guard_policy);
            let wanted =
                list.loaded.is_none() || list.refused.is_some() || list.is_outdated(guard_policy);
            if !wanted && list.released.is_empty() && !list.changed() {
                loads.unneeded.extend(list.promised.take());
            } else if list.is_large() {
                loads.large.push(want(list, tickets.next(), staged));
            } else {
                start_load(list, guard_policy, tickets.next(), &self.done.0);
            }
        }
        loads
    }

    /// Takes a load that ended.
    pub(crate) fn land(&mut self, done: Done) -> Landed {
        let Done { ticket, result } = done;
        let is_active = self.active.iter().any(|list| has_load(list, ticket));
        let Some(list) = self.all().find(|list| has_load(list, ticket)) else {
            return Landed::Gone(ticket);
        };
        let fresh = match result {
            Ok(fresh) => fresh,
            Err(refusal) => return Landed::Refused(ticket, refusal),
        };
        log_load(list, Ok(&fresh.loaded));
        if is_active {
            let config = list.config.clone();
            return Landed::Ready(Box::new(Ready {
                ticket,
                config,
                fresh,
            }));
        }
        let name = list.name().to_owned();
        list.rules = Some(fresh.image);
        list.settle(Ok(fresh.loaded), Instant::now());
        Landed::Pending { ticket, name }
    }

    /// Keeps the last good state of a list whose newest one is refused; `None` if no list has that load.
    pub(crate) fn refuse(&mut self, ticket: u64, refusal: Refusal) -> Option<Refused> {
        let list = self.all().find(|list| has_load(list, ticket))?;
        log_load(list, Err(&refusal));
        // It is read again until it is quiet; one record is enough.
        let known = match refusal.waits_for_room() {
            true => list.is_refused_alike(&refusal),
            false => refusal.transient() && list.refused.is_some(),
        };
        let refused = Refused {
            list: list.name().to_owned(),
            why: refusal.to_string(),
            is_new: !known,
        };
        list.settle(Err(refusal), Instant::now());
        Some(refused)
    }

    /// Has lists read again whose rules were checked against other protected names.
    pub(crate) fn follow_guard(&mut self, guard_policy: &GuardPolicy) {
        if !guard_policy.is_complete() {
            return;
        }
        let now = Instant::now();
        for list in self.active.iter_mut().filter(|list| !list.frozen) {
            list.follow(guard_policy, now);
        }
    }

    /// Logs the lists in force that have become too old.
    pub(crate) fn log_aged(&mut self, guard_policy: &GuardPolicy) {
        for list in &mut self.active {
            if let Some(since) = list.ages(guard_policy) {
                let name = list.name();
                let told = aged(name, &list.source.path, guard_policy.limits(), since);
                tracing::error!(list = name, %told, "list in force is too old");
            }
        }
    }
}

/// Loads that the control plane starts, or need not wait for.
#[derive(Default)]
pub(crate) struct Loads {
    pub(crate) large: Vec<Wanted>,
    pub(crate) unneeded: Vec<u64>,
}

/// The end of a load.
pub(crate) enum Landed {
    /// The list is gone, or a newer load of it is under way.
    Gone(u64),
    Refused(u64, Refusal),
    /// It comes into force when it is joined with the others.
    Ready(Box<Ready>),
    /// Its configuration waits for other lists.
    Pending {
        ticket: u64,
        name: String,
    },
}

/// A list whose newest state is not in force.
pub(crate) struct Refused {
    pub(crate) list: String,
    pub(crate) why: String,
    /// It is not refused for the same reason already.
    pub(crate) is_new: bool,
}
