//! The start: reads all lists and publishes the first generation, before any client is served.

use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::Control;
use super::guard::acceptance::InForce;
use super::guard::policy::GuardPolicy;
use super::guard::release::Guards;
use super::journal::Journal;
use super::local_names::LocalSources;
use super::persist::image_store::ImageStore;
use super::persist::store::StoreError;
use super::publish::compose::{self, Fitting};
use super::sources::lists::provenance;
use super::sources::lists::state::ListState;
use super::sources::orders::registry::OrderRegistry;
use super::sources::scheduler::Scheduler;
use super::sources::wall_clock::WallClock;
use super::sources::watch::OPEN_QUIET;
use crate::config::paths;
use crate::config::{Config, Content, List, Origin, regular};
use crate::control::compile::queue::CompileInputs;
use crate::control::data_plane::Hosts;
use crate::control::list_file::signature::Signature;
use crate::control::rollback::restore;
use crate::control::rollback::restore::loaded;
use crate::control::sources::deadline;
use crate::control::sources::deadline::{DEADLINE, Unanswered};
use crate::control::sources::downloads::start as downloads;
use crate::control::sources::lists::large::want;
use crate::control::sources::lists::load::{LoadedRules, Refusal, load};
use crate::control::sources::lists::reading::{broken, log_load, log_refusal};
use crate::control::sources::lists::state::is_large_file;
use crate::policy::image::provenance::ImageSource;
use crate::policy::image::{Image, TooLarge};

/// How often the start tries to read a required list that changes while it is read.
const START_TRIES: u32 = 10;

/// Why there is no first generation.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A required list can't be read.
    #[error("list `{name}` is required, but {}", .source.without_server())]
    RequiredListMissing {
        /// The list.
        name: String,
        /// The reason.
        source: Refusal,
    },
    /// There is no copy of a required list, and it can't be downloaded.
    #[error("list `{name}` is required, but it can't be downloaded: {why}")]
    NotDownloaded {
        /// The list.
        name: String,
        /// The reason, with the remedy.
        why: String,
    },
    /// The state directory can't be opened; another process may use it.
    #[error(transparent)]
    State(#[from] StoreError),
    /// The file of a local zone can't be read completely. Without it, the names of the zone would be sent upstream.
    #[error("{}", .0.join("\n"))]
    LocalZone(Vec<String>),
    /// All lists together have too many rules.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

impl Control {
    /// Sets a permanent alarm that the members of the configured group can't use the control socket.
    #[must_use]
    pub fn with_socket_problem(mut self, problem: Option<String>) -> Self {
        self.configuration.socket_problem = problem;
        self
    }

    /// Puts a first generation in force. Lists that are in stored images of an earlier process come into force at once;
    /// if their files have changed since, they are read later. All other lists are read now: small ones in parallel,
    /// large ones by the compiler. Blocks until all are read. Lists that can't be read, or whose file system does not
    /// answer within 10 s, are left out and reported by `status`. Must be called within a runtime, on a thread that may
    /// block.
    ///
    /// # Errors
    /// [`StartError`] if a required list can't be read, if all lists together have too many rules, or if another
    /// process uses the state directory.
    pub fn start(
        config: Config,
        wall_clock: Arc<dyn WallClock>,
        hosts: Arc<dyn Hosts>,
    ) -> Result<Self, StartError> {
        let store = ImageStore::open(&config.state)?;
        downloads::prepare(&config);
        let (guard_policy, local, scheduler) = read_files(&config, wall_clock);
        if !local.missing().is_empty() {
            return Err(StartError::LocalZone(local.missing().to_vec()));
        }
        // This starts to watch the files, so that a change while lists are read is noticed.
        let components = (guard_policy, local);
        let mut control = Self::empty(config, store, components, scheduler, Arc::clone(&hosts));
        control.guard_policy.log_problems();
        control.restore();
        control.open_journal();
        control.drop_unusable();
        let unread = |list: &ListState| list.loaded.is_none() || list.is_kept_otherwise();
        let restored = control.lists.active.iter().filter(|list| !unread(list));
        let mut restored: Vec<_> = restored.map(|list| list.name().to_owned()).collect();
        control.fetch_required(&hosts)?;
        let fresh = control.read_missing(unread)?;
        let held = control
            .lists
            .active
            .iter()
            .filter(|list| list.is_kept_otherwise());
        restored.extend(held.map(|list| list.name().to_owned()));
        control.look_at_held_files();
        control.refuse_updates_of_held_lists();
        let left = control
            .lists
            .active
            .iter()
            .filter(|list| list.refused.is_some());
        let left = left.filter(|list| list.loaded.is_some());
        let left = left.map(|list| list.name().to_owned());
        let restored: HashSet<_> = restored.into_iter().chain(left).collect();
        // The rules of all lists that are not in `restored` are removed from the delta: they would take precedence over
        // the rules just read.
        let stays = |name: &str| restored.contains(name);
        let delta = control.publication.images().delta.as_deref();
        let sources = delta.map(|delta| &delta.provenance().sources);
        let whole = sources.is_some_and(|all| all.iter().all(|source| stays(&source.name)));
        if !fresh.is_empty() || !whole {
            let fresh = fresh.iter().map(|(image, source)| (image, source.clone()));
            let Fitting { joined, left_out } =
                compose::join_fitting(delta, stays, fresh.collect(), |_| true);
            control.publication.set_delta(joined?);
            control.persist.mark_dirty();
            for (name, error) in left_out {
                control.lists.withdraw(&name, error);
            }
            control.check_required()?;
        }
        let delta = control.publication.images().delta.as_deref();
        control.compiler.weigh_delta(delta);
        control.publish();
        control.record.refused_at_start(&control.lists.active);
        let problems = control.scheduler.registry.problems();
        control.record.order_problems(problems);
        Ok(control)
    }

    /// Makes the last good versions of downloaded lists the copies again, where no rules are in force.
    fn drop_unusable(&self) {
        let lists = self.lists.active.iter();
        let downloaded =
            lists.filter(|list| list.config.download.is_some() && list.loaded.is_none());
        downloaded.for_each(|list| downloads::drop_unusable(&list.config));
    }

    /// Downloads the required lists that are not in force, and of which there is no copy.
    fn fetch_required(&self, hosts: &Arc<dyn Hosts>) -> Result<(), StartError> {
        let lists = self.lists.active.iter();
        let missing = |list: &&ListState| {
            let is_downloaded = list.config.required && list.config.download.is_some();
            is_downloaded && list.loaded.is_none() && !list.source.path.exists()
        };
        let missing: Vec<_> = lists.filter(missing).map(|list| &list.config).collect();
        if missing.is_empty() {
            return Ok(());
        }
        // An error message in place of a list is small. A large list is read once, by the compiler.
        let judge = |list: &List| match is_large_file(Signature::of(&list.source.path).ok()) {
            true => Ok(()),
            false => load(list, &self.guard_policy, &[], Guards::NONE)
                .map(drop)
                .map_err(|refusal| refusal.without_server()),
        };
        let settings = &self.configuration.current.downloads;
        let fetching = downloads::fetch_required(&missing, settings, hosts, &judge);
        let fetched = Handle::current().block_on(fetching);
        fetched.map_err(|(name, why)| StartError::NotDownloaded { name, why })
    }

    /// Looks at the files of held lists, so that files that are newer can be reported.
    fn look_at_held_files(&mut self) {
        let held: Vec<_> = self
            .lists
            .active
            .iter_mut()
            .filter(|list| list.is_frozen())
            .collect();
        let configs = held.iter().map(|list| list.config.clone()).collect();
        let look = |list: &List| Signature::of(&list.source.path).ok();
        let looks = deadline::each(DEADLINE, configs, folder, look);
        for (list, look) in held.into_iter().zip(looks) {
            if let Ok(file) = look {
                list.set_look(file);
            }
        }
    }

    /// Opens the journal in the background.
    pub(crate) fn open_journal(&mut self) {
        let Some(path) = &self.configuration.current.journal.path else {
            return;
        };
        let config = match &self.configuration.current.origin {
            Origin::BuiltIn => None,
            Origin::File(path) => Some(paths::legible(path)),
        };
        let key = self.configuration.current.journal.key.clone();
        self.record.journal = Journal::open_with(
            path,
            key,
            config,
            self.configuration.current.state.dir.as_deref(),
        );
    }

    /// Restores the stored images, and the facts about lists in them.
    fn restore(&mut self) {
        let newest = self.persist.store.read_newest();
        let generation = newest.as_ref().map_or(0, |(_, generation)| *generation);
        let (store, config) = (&self.persist.store, &self.configuration.current);
        let Some(images) = self.rollback.restore(store, config, newest) else {
            return;
        };
        self.restore_images(images);
        for list in self
            .lists
            .active
            .iter_mut()
            .filter(|list| list.loaded.is_none())
        {
            // For the guards, a list with the same name is the same list, whatever its file. A list without rules is
            // not in force.
            let kept = restore::last_loaded(self.publication.images(), &list.config);
            let Some((read, loaded)) = kept.filter(|(_, loaded)| loaded.rules > 0) else {
                continue;
            };
            let is_other = read.source.path != paths::recorded(&list.config.source.path);
            if list.config.download.is_some() && is_other {
                // Another URL, digest or key makes another list, also in a reload. It has no rules before its download.
                list.earlier.before = vec![InForce {
                    released: Guards::NONE,
                    ..loaded.in_force()
                }];
            } else {
                list.serve_kept((read, loaded));
            }
        }
        let known = self
            .lists
            .active
            .iter()
            .filter(|list| list.loaded.is_some())
            .count();
        tracing::info!(generation, lists = known, "kept images are in force");
        // If the configuration has changed, the same images may give another policy. The policy therefore gets a new
        // generation number, and the images are stored again with it.
        self.publication.continue_after(generation);
        self.persist.mark_dirty();
    }

    /// Reads the lists that `unread` selects: they are not in force, or not as they are configured now. Returns the
    /// rules of the small ones.
    fn read_missing(
        &mut self,
        unread: impl Fn(&ListState) -> bool,
    ) -> Result<Vec<(Arc<Image>, ImageSource)>, StartError> {
        let lists = self.lists.active.iter_mut().enumerate();
        let missing: Vec<_> = lists.filter(|(_, list)| unread(list)).collect();
        let configs = missing.iter();
        let configs = configs.map(|(_, list)| (list.config.clone(), list.in_force()));
        let guard_policy = Arc::clone(&self.guard_policy);
        let read =
            move |(list, before): &(List, Vec<InForce>)| read_first(list, before, &guard_policy);
        let of = |(list, _): &(List, Vec<InForce>)| folder(list);
        let reads = deadline::each(DEADLINE, configs.collect(), of, read);
        let (mut images, mut large) = (Vec::new(), Vec::new());
        for ((at, list), read) in missing.into_iter().zip(reads) {
            let ticket = at as u64;
            let end = match read {
                Ok((file, small)) => {
                    list.set_look(file);
                    let Some(end) = small else {
                        large.push(want(list, ticket, false));
                        continue;
                    };
                    end
                }
                Err(Unanswered::Late) => Err(Refusal::Unanswered(list.source.path.clone())),
                Err(Unanswered::Failed) => Err(broken(list)),
            };
            list.start(ticket);
            match &end {
                Ok(fresh) => log_load(list, &fresh.loaded),
                Err(refusal) => log_refusal(list, refusal),
            }
            let loaded = end.map(|fresh| {
                let source = provenance::source(&list.config, &fresh.loaded);
                images.push((fresh.image, source));
                fresh.loaded
            });
            list.finish_load(loaded, Instant::now());
        }
        // The compiler carries over only lists that are in force.
        self.keep_what_is_left();
        if !large.is_empty() {
            let inputs = CompileInputs {
                images: self.publication.images(),
                guard_policy: &self.guard_policy,
                store: &self.persist.store,
                deadline: self.configuration.boot.state.deadline,
                epoch: self.rollback.epoch,
            };
            let job = self.compiler.job(&self.lists, large, &inputs);
            let compiled = Handle::current().block_on(job.run());
            self.finish_compiling(compiled);
            if let Some(base) = self.compiler.base.take() {
                self.adopt_base(base);
                self.persist.mark_dirty();
            }
        }
        self.keep_what_is_left();
        self.check_required()?;
        Ok(images)
    }

    /// Fails if a required list has no rules in force.
    fn check_required(&mut self) -> Result<(), StartError> {
        let required = |list: &&mut ListState| list.config.required && list.loaded.is_none();
        if let Some(list) = self.lists.active.iter_mut().find(required)
            && let Some((source, _)) = list.refused.take()
        {
            let name = list.name().to_owned();
            return Err(StartError::RequiredListMissing { name, source });
        }
        Ok(())
    }

    /// Puts stored rules in force for required lists that can't be read now. The images may still have rules of a list
    /// that the last configuration did not have, marked as not in force. For a required list, such a last good state is
    /// better than none.
    fn keep_what_is_left(&mut self) {
        let left = self.publication.images().clone().with_lists(|_| true);
        let lists = self.lists.active.iter_mut();
        for list in lists.filter(|list| list.config.required && list.loaded.is_none()) {
            if list.refused.is_some() {
                list.restore(loaded(&left, &list.config));
            }
        }
    }
}

/// Reads the files of the guard, of local zones, of orders and of exceptions, all at the same time.
fn read_files(
    config: &Config,
    wall_clock: Arc<dyn WallClock>,
) -> (Arc<GuardPolicy>, LocalSources, Scheduler) {
    let (guard, of_zones) = (config.clone(), config.clone());
    let guard_policy = deadline::start(DEADLINE, move || GuardPolicy::read(&guard));
    let local = deadline::start(DEADLINE, move || LocalSources::read(&of_zones));
    let (mut registry, all) = OrderRegistry::read_at_start(config, DEADLINE);
    registry.recall_unconfigured(config);
    let guard_policy = guard_policy.wait();
    let guard_policy =
        Arc::new(guard_policy.unwrap_or_else(|why| GuardPolicy::without_files(config, why)));
    registry.check(&guard_policy);
    let local = local.wait();
    let local = local.unwrap_or_else(|why| LocalSources::without_files(config, why));
    (
        guard_policy,
        local,
        Scheduler::new(registry, all, wall_clock),
    )
}

/// The directory of a list's file.
fn folder(list: &List) -> PathBuf {
    let folder = list.source.path.parent();
    folder.map(Path::to_owned).unwrap_or_default()
}

/// Looks at a list's file, and reads it unless it is large: the compiler reads large files.
fn read_first(
    list: &List,
    before: &[InForce],
    guard_policy: &GuardPolicy,
) -> (Option<Signature>, Option<Result<LoadedRules, Refusal>>) {
    let path = &list.source.path;
    let file = match list.content {
        Content::Embedded(_) | Content::Transferred => None,
        Content::File => Signature::of(path).ok(),
    };
    if !is_large_file(file) {
        return (file, Some(read(list, before, guard_policy)));
    }
    // Reads one byte within the deadline of the start: a file system may report metadata and then hang on reads, and
    // the compiler's deadline is usually much longer. The compiler reports all other errors.
    if let Ok((mut file, _)) = regular::open(path) {
        let _ = file.read(&mut [0]);
    }
    (file, None)
}

/// Reads a list. If a required list changes meanwhile, reads it again.
fn read(
    list: &List,
    before: &[InForce],
    guard_policy: &GuardPolicy,
) -> Result<LoadedRules, Refusal> {
    let tries = if list.required { START_TRIES } else { 1 };
    let mut result = load(list, guard_policy, before, Guards::NONE);
    for _ in 1..tries {
        if !matches!(&result, Err(refusal) if refusal.transient()) {
            break;
        }
        std::thread::sleep(OPEN_QUIET / START_TRIES);
        result = load(list, guard_policy, before, Guards::NONE);
    }
    result
}
