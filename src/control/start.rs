//! Owns the first reading of all lists, before anybody is served.
//! Refuses to follow them: that is `reload`'s.

use std::io;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::compiling::{is_large, want};
use super::compose;
use super::guard::rails::Rails;
use super::guard::release::Guards;
use super::journal::Journal;
use super::keep::Keeper;
use super::load::{Fresh, Refusal, load};
use super::notes;
use super::reload::Control;
use super::report;
use super::state::ListState;
use super::store::StoreError;
use super::wall::Wall;
use super::watch::OPEN_QUIET;
use crate::config::{Config, List, Origin};
use crate::policy::image::provenance::ImageSource;
use crate::policy::image::{Image, TooLarge};

/// Lists that are read at a time at the start.
const READERS: usize = 32;
/// How often a required list is read at the start that changes while it is read.
const START_TRIES: u32 = 10;

/// Why there is no first generation.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A list that must be there is not.
    #[error("list `{name}` is required, but {source}")]
    RequiredListMissing {
        /// The list.
        name: String,
        /// Why not.
        source: Refusal,
    },
    /// The state directory is another process's.
    #[error(transparent)]
    State(#[from] StoreError),
    /// All lists together are too many rules.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

impl Control {
    /// Puts a first generation in force. What was in force before a restart, and was kept, is at
    /// once: files that changed since are read later. All other lists are read now, the small ones
    /// some at a time, the large ones by the compiler; blocks until they are. Lists that can't be
    /// read are left out, and `status` says so. Runs inside a runtime, on a thread that may block.
    ///
    /// # Errors
    /// [`StartError`] when a required list can't be read, all together are too much, or another
    /// process has the state directory.
    pub fn start(config: Config, wall: Arc<dyn Wall>) -> Result<Self, StartError> {
        let keeper = Keeper::open(&config.state)?;
        // It watches them already: a change while they are read is noticed.
        let mut control = Self::empty(config, keeper, wall);
        control.tell_guard();
        control.restore();
        control.open_journal();
        let restored = |list: &&ListState| list.loaded.is_some();
        let restored = control.lists.iter().filter(restored);
        let restored: Vec<_> = restored.map(|list| list.name().to_owned()).collect();
        let fresh = control.read_missing()?;
        let held = control.lists.iter_mut().filter(|list| list.frozen);
        held.for_each(ListState::look_now);
        control.refuse_the_held();
        // What the delta has of others would stand before what was read of them now.
        let stays = |name: &str| restored.iter().any(|restored| restored == name);
        let delta = control.images.delta.as_deref();
        let sources = delta.map(|delta| &delta.provenance().sources);
        let whole = sources.is_some_and(|all| all.iter().all(|source| stays(&source.name)));
        if !fresh.is_empty() || !whole {
            let fresh = fresh.iter().map(|(image, source)| (image, source.clone()));
            let delta = compose::join(delta, stays, fresh)?;
            control.images.delta = Some(delta.into());
            control.unkept = true;
        }
        control.weigh_delta();
        control.publish();
        control.tell_what_is_refused();
        Ok(control)
    }

    /// Opens the journal, while lists are read.
    fn open_journal(&mut self) {
        let Some(path) = &self.config.journal else {
            return;
        };
        let config = match &self.config.origin {
            Origin::BuiltIn => None,
            Origin::File(path) => Some(notes::legible(path)),
        };
        let key = self.config.journal_key.clone();
        self.journal = Journal::open(path, key, config);
    }

    /// Takes the images that were kept, and what they tell of the lists.
    fn restore(&mut self) {
        let newest = self.keeper.restore();
        let generation = newest.as_ref().map_or(0, |(_, generation)| *generation);
        let Some(images) = self.restore_held(newest) else {
            return;
        };
        self.put_back(images);
        let known = self
            .lists
            .iter()
            .filter(|list| list.loaded.is_some())
            .count();
        tracing::info!(generation, lists = known, "kept images are in force");
        // With another configuration it may be another policy: it gets a number of its own, and the
        // record is to have that.
        self.next = generation + 1;
        self.unkept = true;
    }

    /// Reads the lists of which nothing is known; returns the rules of the small ones.
    fn read_missing(&mut self) -> Result<Vec<(Image, ImageSource)>, StartError> {
        let lists = self.lists.iter_mut().enumerate();
        let mut missing: Vec<_> = lists.filter(|(_, list)| list.loaded.is_none()).collect();
        missing.iter_mut().for_each(|(_, list)| list.look_now());
        let missing = missing.into_iter();
        let (large, mut small): (Vec<_>, Vec<_>) = missing.partition(|(_, list)| is_large(list));
        let large: Vec<_> = large
            .into_iter()
            .map(|(at, list)| want(list, at as u64, false))
            .collect();
        let mut images = Vec::new();
        for (list, end) in read_all(&mut small, &self.rails) {
            report::log_load(list, end.as_ref().map(|fresh| &fresh.loaded));
            let loaded = end.map(|fresh| {
                let source = notes::source(&list.config, &fresh.loaded);
                images.push((fresh.image, source));
                fresh.loaded
            });
            list.settle(loaded, Instant::now());
        }
        if !large.is_empty() {
            let job = self.job(large);
            let compiled = Handle::current().block_on(job.run());
            self.land_compiled(compiled);
            if let Some(base) = self.base.take() {
                self.take_base(base);
                self.unkept = true;
            }
        }
        let required = |list: &&mut ListState| list.config.required && list.loaded.is_none();
        if let Some(list) = self.lists.iter_mut().find(required)
            && let Some((source, _)) = list.refused.take()
        {
            let name = list.name().to_owned();
            return Err(StartError::RequiredListMissing { name, source });
        }
        Ok(images)
    }
}

/// Reads lists, some at a time, and tells what each came to.
fn read_all<'l>(
    lists: &'l mut [(usize, &mut ListState)],
    rails: &Rails,
) -> impl Iterator<Item = (&'l mut ListState, Result<Fresh, Refusal>)> {
    let mut ends = Vec::new();
    for lists in lists.chunks_mut(READERS) {
        let some: Vec<_> = std::thread::scope(|scope| {
            let threads = lists.iter_mut().map(|(at, list)| {
                list.start(*at as u64);
                let list = &**list;
                let thread = std::thread::Builder::new();
                (
                    list,
                    thread.spawn_scoped(scope, || read(&list.config, rails)),
                )
            });
            let threads: Vec<_> = threads.collect();
            let ends = threads.into_iter().map(|(list, thread)| match thread {
                Ok(thread) => thread.join().unwrap_or_else(|_| Err(broken(list))),
                // The system has no thread more.
                Err(_) => read(&list.config, rails),
            });
            ends.collect()
        });
        ends.extend(lists.iter_mut().map(|(_, list)| &mut **list).zip(some));
    }
    ends.into_iter()
}

/// Reads a list; a required one again, if it changes meanwhile.
fn read(list: &List, rails: &Rails) -> Result<Fresh, Refusal> {
    let tries = if list.required { START_TRIES } else { 1 };
    let mut result = load(list, rails, None, Guards::NONE);
    for _ in 1..tries {
        if !matches!(&result, Err(refusal) if refusal.transient()) {
            break;
        }
        std::thread::sleep(OPEN_QUIET / START_TRIES);
        result = load(list, rails, None, Guards::NONE);
    }
    result
}

/// Why a load that panicked made nothing.
pub(super) fn broken(list: &ListState) -> Refusal {
    Refusal::Unreadable {
        path: list.source.path.clone(),
        source: io::Error::other(
            "reading it broke off inside tapis, which is a bug; please report it",
        ),
    }
}
