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

mod amended_counts;
mod amendment;
pub(crate) mod comparison;
pub mod edit;
pub(crate) mod held;
pub(crate) mod large;
pub mod load;
pub(crate) mod provenance;
pub(crate) mod reading;
pub(crate) mod releases;
pub(crate) mod state;
pub(crate) mod transferred;
mod zone_load;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

use self::load::{Loaded, Refusal};
use self::reading::{
    FinishedLoad, ReadyList, log_load, log_refusal, log_refused_version, start_load,
};
use self::state::{ListState, NextTransfer, Tickets, has_load};
use super::files::{Files, look_at_files};
use super::pauses::Pauses;
use super::pending::PendingConfig;
use super::watch::{Following, Touched};
use crate::config::shown::Show;
use crate::config::{Config, Content};
use crate::control::file_tasks::FileTasks;
use crate::control::guard::acceptance::aged;
use crate::control::guard::policy::GuardPolicy;
use crate::control::guard::release::Guards;
use crate::control::sources::lists::large::{Wanted, want};
use crate::control::sources::lists::releases::{is_held, released};
use crate::policy::image::TooLarge;
use crate::policy::rule::Source;

/// The lists of the configuration in force.
pub(crate) struct ListSources {
    pub(crate) active: Vec<ListState>,
    /// A new configuration whose lists are being read.
    pub(crate) pending: Option<PendingConfig>,
    /// Looks at their files, by directory.
    pub(crate) looks: FileTasks<PathBuf, Files>,
    /// Those that the operator has paused.
    pub(crate) pauses: Pauses,
    /// Loads that ended.
    pub(crate) done: (mpsc::Sender<FinishedLoad>, mpsc::Receiver<FinishedLoad>),
}

impl ListSources {
    pub(crate) fn new(config: &Config) -> Self {
        let lists = config.lists.iter().cloned();
        Self {
            active: lists.map(ListState::new).collect(),
            pending: None,
            looks: FileTasks::new(),
            pauses: Pauses::new(config.state.dir.as_deref()),
            done: mpsc::channel(256),
        }
    }

    /// The lists in force, and those that a new configuration waits for.
    pub(crate) fn all(&mut self) -> impl Iterator<Item = &mut ListState> {
        let pending = self.pending.iter_mut();
        let pending = pending.flat_map(|pending| &mut pending.lists);
        self.active.iter_mut().chain(pending)
    }

    /// The lists that a new configuration waits for.
    pub(crate) fn pending_lists(&mut self) -> impl Iterator<Item = &mut ListState> {
        let pending = self.pending.iter_mut();
        pending.flat_map(|pending| &mut pending.lists)
    }

    /// The labels of all lists and feeds.
    pub(crate) fn labels(&self) -> BTreeSet<String> {
        self.active.iter().map(ListState::label).collect()
    }

    /// The sources that have rules in force; those that are paused are marked.
    pub(crate) fn sources(&self) -> impl Iterator<Item = Arc<Source>> {
        let lists = self.in_force();
        lists.map(|list| self.pauses.applied(&list.label(), &list.source))
    }

    /// The lists that have rules in force.
    pub(crate) fn in_force(&self) -> impl Iterator<Item = &ListState> {
        self.active.iter().filter(|list| list.loaded.is_some())
    }

    /// The lists in force, and those that a new configuration waits for.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &ListState> {
        let pending = self.pending.iter();
        let pending = pending.flat_map(|pending| &pending.lists);
        self.active.iter().chain(pending)
    }

    /// The list of the configuration in force that has this load.
    pub(crate) fn with_load(&self, ticket: u64) -> Option<&ListState> {
        self.active.iter().find(|list| has_load(list, ticket))
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

    /// Starts to look at the files of the lists that want a look, with one task per directory.
    pub(crate) fn start_looking(&mut self) {
        let mut wanted: HashMap<PathBuf, Vec<PathBuf>> = HashMap::new();
        let pending = self.pending.iter_mut();
        let pending = pending.flat_map(|pending| &mut pending.lists);
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
            self.looks
                .start(folder, places, move || look_at_files(files));
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
            // It may have changed before it was watched.
            list.want_look_of(following);
            let target = following.targets.get(list.path()).cloned();
            list.set_target(target);
        }
    }

    /// Handles the lists for which the look before reading has ended: starts to read the small ones that have changed.
    /// Returns the large ones that have changed, and the numbers of loads that are not needed.
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
        let pending = self.pending.iter_mut();
        let pending = pending.flat_map(|pending| &mut pending.lists);
        let active = self.active.iter_mut().map(|list| (list, false));
        for (list, for_pending) in active.chain(pending.map(|list| (list, true))) {
            if !list.take_settled() {
                continue;
            }
            let guard_policy = next
                .as_ref()
                .filter(|_| for_pending)
                .unwrap_or(guard_policy);
            let wanted =
                list.loaded.is_none() || list.refused.is_some() || list.is_outdated(guard_policy);
            // Only a transfer brings another state of a feed. Before the first one, the list is refused.
            let is_transferred = list.config.content == Content::Transferred
                && (list.loaded.is_some() || list.refused.is_some());
            if is_transferred {
                loads.transfers.extend(list.next_transfer());
                if list.next.released.is_empty() {
                    // Nobody waits for a primary, unless it was asked because of a release.
                    loads.unneeded.extend(list.next.ticket.take());
                }
            } else if !wanted && list.next.released.is_empty() && !list.changed() {
                loads.unneeded.extend(list.next.ticket.take());
            } else if list.is_large() {
                loads.large.push(want(list, tickets.next(), for_pending));
            } else {
                start_load(list, guard_policy, tickets.next(), &self.done.0);
            }
        }
        loads
    }

    /// Takes the result of a load.
    pub(crate) fn finish_load(&mut self, done: FinishedLoad) -> LoadResult {
        let FinishedLoad { ticket, result } = done;
        let is_active = self.active.iter().any(|list| has_load(list, ticket));
        let Some(list) = self.all().find(|list| has_load(list, ticket)) else {
            return LoadResult::Gone(ticket);
        };
        let fresh = match result {
            Ok(fresh) => fresh,
            Err(refusal) => return LoadResult::Refused(ticket, refusal),
        };
        log_load(list, &fresh.loaded);
        if is_active {
            let config = list.config.clone();
            return LoadResult::Ready(Box::new(ReadyList {
                ticket,
                config,
                rules: fresh,
            }));
        }
        let name = list.name().to_owned();
        list.rules = Some(fresh.image);
        list.finish_load(Ok(fresh.loaded), Instant::now());
        LoadResult::Pending { ticket, name }
    }

    /// Refuses the newest state of a list, so that the last good one stays. `None` if no list has that load.
    pub(crate) fn refuse(&mut self, ticket: u64, refusal: Refusal) -> Option<Refused> {
        let list = self.all().find(|list| has_load(list, ticket))?;
        if let Refusal::TransferFailed(_) = refusal {
            // The feed reports the fault of the primary.
            list.abandon_load();
            return None;
        }
        let (name, label, why) = (list.name().to_owned(), list.label(), refusal.to_string());
        let record = match list.config.content {
            Content::Transferred => report_version(list, &refusal),
            Content::File | Content::Embedded(_) => {
                log_refusal(list, &refusal);
                // A file that changes while it is read is read again until it is quiet, and that is recorded only once.
                let known = match refusal.waits_for_room() {
                    true => list.is_refused_alike(&refusal),
                    false => refusal.transient() && list.refused.is_some(),
                };
                (!known && !refusal.is_first()).then(|| why.clone())
            }
        };
        list.finish_load(Err(refusal), Instant::now());
        Some(Refused {
            list: name,
            label,
            why,
            record,
        })
    }

    /// Refuses a list that was read at the start: there is no room for its rules. It is not in force.
    pub(crate) fn withdraw(&mut self, name: &str, source: TooLarge) {
        let mut active = self.active.iter_mut();
        if let Some(list) = active.find(|list| list.name() == name) {
            let path = list.source.path.clone();
            let refusal = Refusal::TooLarge { path, source };
            log_refusal(list, &refusal);
            list.loaded = None;
            list.finish_load(Err(refusal), Instant::now());
        }
    }

    /// Ends a load whose rules come into force. Does nothing if no list has that load any more.
    pub(crate) fn adopt(&mut self, ticket: u64, loaded: Loaded) {
        let mut active = self.active.iter_mut();
        if let Some(list) = active.find(|list| has_load(list, ticket)) {
            list.finish_load(Ok(loaded), Instant::now());
        }
    }

    /// Requests a load of each list in force that changed, that was refused, or for which `accept` releases guards.
    /// `is_reguarded`: the protected names have changed, so loads under way do not suffice. `has_pending`: a
    /// configuration is pending. Returns the tickets of these loads.
    pub(crate) fn request_reload(
        &mut self,
        accept: &[String],
        (is_reguarded, has_pending): (bool, bool),
        guard_policy: &GuardPolicy,
        tickets: &mut Tickets,
    ) -> Vec<u64> {
        let now = Instant::now();
        let mut requested = Vec::new();
        let fresh: HashSet<String> = self
            .pending_lists()
            .map(|list| list.name().to_owned())
            .collect();
        for list in &mut self.active {
            // If the configuration changes the list, the release is for its new file.
            let free = match fresh.contains(list.name()) {
                true => Guards::NONE,
                false => released(accept, list.name()),
            };
            // Nobody waits for a transfer, which may take an hour.
            let is_file = list.config.content != Content::Transferred;
            let under_way = list
                .load_of_newest()
                .filter(|_| is_file)
                .filter(|loading| !is_reguarded && loading.released.cover(free));
            // The list is requested later, when the guard policy of the pending configuration comes into force.
            let is_later = has_pending && is_held(list);
            let is_wanted = !free.is_empty()
                || (list.refused.is_some() && !is_later)
                || list.changed()
                || (!list.is_frozen() && list.is_outdated(guard_policy));
            if let Some(loading) = under_way {
                requested.push(loading.ticket);
            } else if is_wanted {
                requested.push(list.request(tickets.next(), free, now));
            }
        }
        requested
    }

    /// Requests the lists of a pending configuration that are not read, or for which `accept` releases guards.
    pub(crate) fn request_pending(&mut self, accept: &[String], tickets: &mut Tickets) {
        let now = Instant::now();
        for list in self.pending_lists() {
            let free = released(accept, list.name());
            if list.loading.is_none() && (!free.is_empty() || list.loaded.is_none()) {
                list.request_unwatched(tickets.next(), free, now);
            }
        }
    }

    /// Requests the lists that a new guard policy must check again: those whose newest state a guard rejected, and
    /// those that were checked against other protected names. Returns the tickets of these loads.
    pub(crate) fn request_reguarded(
        &mut self,
        guard_policy: &GuardPolicy,
        tickets: &mut Tickets,
    ) -> Vec<u64> {
        let now = Instant::now();
        let lists = self.active.iter_mut().filter(|list| !list.is_frozen());
        let lists = lists.filter(|list| is_held(list) || list.is_outdated(guard_policy));
        let requested = lists.map(|list| list.request(tickets.next(), Guards::NONE, now));
        requested.collect()
    }

    /// Requests another read of the lists whose rules were checked against other protected names.
    pub(crate) fn follow_guard(&mut self, guard_policy: &GuardPolicy) {
        if !guard_policy.is_complete() {
            return;
        }
        let now = Instant::now();
        for list in self.active.iter_mut().filter(|list| !list.is_frozen()) {
            list.follow(guard_policy, now);
        }
    }

    /// Logs the lists in force that have become too old.
    pub(crate) fn log_aged(&mut self, guard_policy: &GuardPolicy) {
        for list in &mut self.active {
            if let Some(since) = list.ages(guard_policy) {
                let name = list.name();
                let reported = aged(name, &list.source.path, guard_policy.limits(), since);
                tracing::error!(list = name, %reported, "list in force is too old");
            }
        }
    }
}

/// Loads that the compiler is to make, and the numbers of loads that are not needed.
#[derive(Default)]
pub(crate) struct Loads {
    pub(crate) large: Vec<Wanted>,
    /// Feeds whose zone is to be transferred again, as it may be accepted now.
    pub(crate) transfers: Vec<NextTransfer>,
    pub(crate) unneeded: Vec<u64>,
}

/// The result of a load.
pub(crate) enum LoadResult {
    /// The list is gone, or a newer load of it is under way.
    Gone(u64),
    Refused(u64, Refusal),
    /// It comes into force when it has been joined with the others.
    Ready(Box<ReadyList>),
    /// It comes into force with its configuration.
    Pending {
        ticket: u64,
        name: String,
    },
}

/// A list whose newest state is not in force.
pub(crate) struct Refused {
    pub(crate) list: String,
    /// How it is shown, with its section.
    pub(crate) label: String,
    pub(crate) why: String,
    /// What to record: of refusals that are tried again by themselves, only the first one is recorded.
    pub(crate) record: Option<String>,
}

/// Logs that a version of a feed is refused, unless others were for the same reason a short time ago. Returns the text to
/// record.
fn report_version(list: &mut ListState, refusal: &Refusal) -> Option<String> {
    let unreported = list.reported.add(refusal.kind(), Instant::now())?;
    let unreported = Some(unreported).filter(|count| *count > 0);
    log_refused_version(list, refusal, unreported);
    if let Refusal::NoTransfer(_) = refusal {
        return None;
    }
    Some(match unreported {
        Some(count) => format!("{refusal}; {count} more since the last report"),
        None => refusal.to_string(),
    })
}
