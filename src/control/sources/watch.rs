//! Reports files that may have changed (inotify), with an estimate of whether their writers are done.
//!
//! Directories are watched, as files vanish, return and are replaced. A directory may be as busy as `/tmp`, so events
//! are filtered by their paths on the watcher's own thread, without a system call, and coalesced by path before the
//! control loop receives them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::links::PathResolver;

/// How long a file must be quiet after its writer closed or renamed it.
pub(crate) const CLOSED_QUIET: Duration = Duration::from_millis(100);
/// How long it must be quiet while a process seems to have it open for writing.
pub(crate) const OPEN_QUIET: Duration = Duration::from_secs(2);
/// How long it must be quiet if a client waits for its newest state: enough for an event of a writer to arrive.
pub(crate) const REQUESTED_QUIET: Duration = Duration::from_millis(20);
/// The most paths whose events wait for the control loop. Events of further paths are lost, and the sweep finds the
/// changes.
const WAITING_MAX: usize = 4096;
/// The most paths that the control loop takes at a time, so that other work is not delayed.
const PORTION: usize = 256;

/// An event of a file, or of its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// Its absolute path, as it was given to [`Watch::follow`].
    pub path: PathBuf,
    /// How long it must be without another event before it counts as written.
    pub quiet: Duration,
}

/// The paths by which the watch reports events of one file.
#[derive(Debug)]
pub(crate) struct WatchedPath {
    absolute: PathBuf,
    /// The path that it leads to through symbolic links, if that is another one.
    target: Option<PathBuf>,
}

impl WatchedPath {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            // Without a working directory the path stays relative, and sweeps find the file's changes.
            absolute: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            target: None,
        }
    }

    pub(crate) fn absolute(&self) -> &Path {
        &self.absolute
    }

    pub(crate) fn set_target(&mut self, target: Option<PathBuf>) {
        self.target = target;
    }

    /// Whether an event of this path is one of the file.
    pub(crate) fn is(&self, path: &Path) -> bool {
        path == self.absolute || self.target.as_deref() == Some(path)
    }
}

/// The paths whose events are reported.
#[derive(Debug, Default)]
struct Interest {
    /// Files, the targets of their symbolic links, and all directories and links on their paths.
    paths: HashSet<PathBuf>,
    /// Directories whose `.toml` files are followed.
    folders: HashSet<PathBuf>,
}

impl Interest {
    fn counts(&self, path: &Path) -> bool {
        self.paths.contains(path)
            || (is_toml(path)
                && path
                    .parent()
                    .is_some_and(|parent| self.folders.contains(parent)))
    }
}

/// Whether a file of this name is read in a directory of orders or exceptions.
pub(crate) fn is_toml(path: &Path) -> bool {
    let hidden = path
        .file_name()
        .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden
        && path
            .extension()
            .is_some_and(|extension| extension == "toml")
}

/// Events that wait for the control loop, only the newest of each path.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    order: VecDeque<PathBuf>,
    quiet: HashMap<PathBuf, Duration>,
}

impl Queue {
    fn push(&self, path: PathBuf, quiet: Duration) {
        let mut waiting = lock(&self.waiting);
        if let Some(known) = waiting.quiet.get_mut(&path) {
            *known = quiet;
            return;
        }
        if waiting.order.len() == WAITING_MAX {
            return;
        }
        waiting.order.push_back(path.clone());
        waiting.quiet.insert(path, quiet);
        drop(waiting);
        self.filled.notify_one();
    }

    fn take(&self) -> Vec<Touched> {
        let mut waiting = lock(&self.waiting);
        let Waiting { order, quiet } = &mut *waiting;
        let count = order.len().min(PORTION);
        let taken = order.drain(..count).map(|path| {
            let quiet = quiet.remove(&path).unwrap_or(CLOSED_QUIET);
            Touched { path, quiet }
        });
        let taken = taken.collect();
        if !order.is_empty() {
            self.filled.notify_one();
        }
        taken
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Receives the events of a [`Watch`].
#[derive(Debug)]
pub struct Touches(Arc<Queue>);

impl Touches {
    /// Waits for events. Returns at most 256, one for each path.
    pub async fn next(&mut self) -> Vec<Touched> {
        loop {
            let taken = self.0.take();
            if !taken.is_empty() {
                return taken;
            }
            self.0.filled.notified().await;
        }
    }
}

/// Watches the directories of files. Clones share one watch.
#[derive(Clone, Debug)]
pub struct Watch {
    interest: Arc<Mutex<Interest>>,
    /// `None` where the system has no watches.
    watcher: Arc<Mutex<Option<Directories>>>,
}

#[derive(Debug)]
struct Directories {
    watcher: RecommendedWatcher,
    /// Each path with the device and inode of its directory: the system watches these, and the path may lead to another
    /// directory later.
    watched: HashMap<PathBuf, (u64, u64)>,
}

/// The files and directories to watch.
#[derive(Clone, Debug, Default)]
pub struct Followed {
    /// Files by their absolute paths.
    pub files: Vec<PathBuf>,
    /// Directories of `.toml` files, by their absolute paths.
    pub folders: Vec<PathBuf>,
}

/// The result of [`Watch::follow`].
#[derive(Debug, Default)]
pub struct Following {
    /// The path that each file's path leads to through symbolic links, if that is another one.
    pub targets: HashMap<PathBuf, PathBuf>,
    /// Directories of these files that can't be watched.
    pub unwatched: Vec<PathBuf>,
    /// Some directories were not watched before, so their files may have changed unnoticed.
    pub fresh: bool,
    /// Nothing was watched before: the server starts.
    pub first: bool,
}

impl Watch {
    /// Starts a watch of nothing, and its thread.
    ///
    /// # Errors
    /// If the user has no inotify instance left.
    pub fn start() -> notify::Result<(Self, Touches)> {
        let queue = Arc::new(Queue::default());
        let interest = Arc::new(Mutex::new(Interest::default()));
        let (filled, known) = (Arc::clone(&queue), Arc::clone(&interest));
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            let Some(quiet) = quiet(&event.kind) else {
                return;
            };
            for path in event.paths {
                let counts = lock(&known).counts(&path);
                if counts {
                    filled.push(path, quiet);
                }
            }
        })?;
        let directories = Directories {
            watcher,
            watched: HashMap::new(),
        };
        let watch = Self {
            interest,
            watcher: Arc::new(Mutex::new(Some(directories))),
        };
        Ok((watch, Touches(queue)))
    }

    /// A watch that reports nothing, for systems without inotify.
    pub(crate) fn none() -> (Self, Touches) {
        let watch = Self {
            interest: Arc::default(),
            watcher: Arc::default(),
        };
        (watch, Touches(Arc::default()))
    }

    /// Watches the directories of the followed files, the followed directories, the parents of all these directories,
    /// and the directories of symbolic links on the paths. Stops watching all others. Makes many system calls, which
    /// block while a network file system does not answer.
    pub fn follow(&self, followed: &Followed) -> Following {
        let mut resolver = PathResolver::default();
        let mut following = Following::default();
        let mut parents = HashSet::new();
        let mut needed = HashSet::new();
        for file in &followed.files {
            let target = resolver.resolve(file);
            let above = target.as_deref().and_then(Path::parent);
            parents.extend(file.parent().into_iter().chain(above).map(Path::to_owned));
            needed.extend(file.parent().map(Path::to_owned));
            if let Some(target) = target.filter(|target| target != file) {
                following.targets.insert(file.clone(), target);
            }
        }
        for folder in &followed.folders {
            // Events have this path, not the one that it may lead to.
            resolver.resolve(folder);
            parents.insert(folder.clone());
            needed.insert(folder.clone());
        }
        let above = parents.iter().filter_map(|path| path.parent());
        let mut wanted: HashSet<_> = above
            .map(Path::to_owned)
            .chain(parents.iter().cloned())
            .collect();
        let links = resolver.links.iter().filter_map(|link| link.parent());
        wanted.extend(links.map(Path::to_owned));
        *lock(&self.interest) = Interest {
            paths: resolver.paths.into_iter().chain(parents).collect(),
            folders: followed.folders.iter().cloned().collect(),
        };
        if let Some(directories) = &mut *lock(&self.watcher) {
            following.first = directories.watched.is_empty();
            following.fresh = directories.watch(wanted);
            needed.retain(|path| !directories.watched.contains_key(path));
            following.unwatched = needed.into_iter().collect();
        }
        following
    }
}

impl Directories {
    /// Watches these directories, and no others. Returns whether some were not watched before.
    fn watch(&mut self, wanted: HashSet<PathBuf>) -> bool {
        let mut fresh = false;
        let ids = wanted.into_iter().map(|path| {
            let id = std::fs::metadata(&path)
                .ok()
                .map(|meta| (meta.dev(), meta.ino()));
            (path, id)
        });
        let ids: HashMap<_, _> = ids.collect();
        let (watcher, directories) = (&mut self.watcher, &mut self.watched);
        let mut cut = HashSet::new();
        directories.retain(|path, id| {
            let stays = ids.get(path) == Some(&Some(*id));
            if !stays {
                // The system may have removed the watch, with the directory.
                let _ = watcher.unwatch(path);
                cut.insert(*id);
            }
            stays
        });
        // The system has one watch for all paths to a directory, and it has just been removed.
        directories.retain(|_, id| !cut.contains(id));
        for (path, id) in ids {
            if let Some(id) = id
                && !directories.contains_key(&path)
                && watcher.watch(&path, RecursiveMode::NonRecursive).is_ok()
            {
                directories.insert(path, id);
                fresh = true;
            }
        }
        fresh
    }
}

/// How long a file must be quiet after such an event; `None` if the event changes no content.
fn quiet(kind: &EventKind) -> Option<Duration> {
    match kind {
        EventKind::Modify(ModifyKind::Data(_)) => Some(OPEN_QUIET),
        // Owner, mode and times may change while a process writes, and must not shorten its quiet time.
        EventKind::Modify(ModifyKind::Metadata(_)) => None,
        // A new link is complete; writes to a new file are events too.
        EventKind::Create(_)
        | EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(_)
        | EventKind::Remove(_) => Some(CLOSED_QUIET),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    async fn next(events: &mut Touches, path: &Path) -> Duration {
        loop {
            let touched = events.next().await.into_iter();
            if let Some(touched) = touched.rev().find(|touched| touched.path == path) {
                return touched.quiet;
            }
        }
    }

    fn followed(file: &Path) -> Followed {
        Followed {
            files: vec![file.to_owned()],
            folders: Vec::new(),
        }
    }

    #[tokio::test]
    async fn an_open_writer_is_waited_for_and_a_rename_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("list");
        fs::write(&file, "a\n").expect("written");
        let (watch, mut events) = Watch::start().expect("watches");
        assert_eq!(watch.follow(&followed(&file)).unwatched, [] as [PathBuf; 0]);

        let mut writer = fs::File::create(&file).expect("opened");
        writer.write_all(b"b\n").expect("written");
        assert_eq!(next(&mut events, &file).await, OPEN_QUIET);
        drop(writer);
        while next(&mut events, &file).await != CLOSED_QUIET {}

        let other = dir.path().join("new");
        fs::write(&other, "c\n").expect("written");
        fs::rename(&other, &file).expect("renamed");
        assert_eq!(next(&mut events, &file).await, CLOSED_QUIET);
    }

    #[tokio::test]
    async fn changes_of_the_target_of_a_link_are_noticed_without_a_sweep() {
        let dir = tempfile::tempdir().expect("a directory");
        let (links, targets) = (dir.path().join("links"), dir.path().join("targets"));
        for folder in [&links, &targets] {
            fs::create_dir(folder).expect("made");
        }
        let (link, target) = (links.join("list"), targets.join("list"));
        fs::write(&target, "a\n").expect("written");
        std::os::unix::fs::symlink(&target, &link).expect("linked");
        let (watch, mut events) = Watch::start().expect("watches");
        assert_eq!(watch.follow(&followed(&link)).unwatched, [] as [PathBuf; 0]);
        let patience = Duration::from_secs(10);
        fs::write(&target, "b\n").expect("written");
        let closed = async { while next(&mut events, &target).await != CLOSED_QUIET {} };
        let noticed = tokio::time::timeout(patience, closed).await;
        noticed.expect("the target's directory is watched");
        let new = targets.join("new");
        fs::write(&new, "c\n").expect("written");
        fs::rename(&new, &target).expect("renamed");
        let noticed = tokio::time::timeout(patience, next(&mut events, &target)).await;
        noticed.expect("a replaced target is noticed");
    }

    #[tokio::test]
    async fn a_directory_that_is_not_there_is_reported() {
        let (watch, _events) = Watch::start().expect("watches");
        let missing = Path::new("/nowhere-at-all/list");
        assert_eq!(
            watch.follow(&followed(missing)).unwatched,
            [PathBuf::from("/nowhere-at-all")]
        );
    }

    #[tokio::test]
    async fn unrelated_files_in_a_watched_directory_are_never_reported() {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = dir.path().join("orders");
        fs::create_dir(&folder).expect("made");
        let file = dir.path().join("list");
        let (watch, mut events) = Watch::start().expect("watches");
        watch.follow(&Followed {
            files: vec![file.clone()],
            folders: vec![folder.clone()],
        });
        for number in 0..1000 {
            let beside = [
                dir.path().join(format!("beside{number}")),
                folder.join(format!("beside{number}")),
                folder.join(format!(".hidden{number}.toml")),
            ];
            for path in beside {
                fs::write(&path, "x").expect("written");
                fs::remove_file(&path).expect("removed");
            }
        }
        let order = folder.join("order.toml");
        fs::write(&order, "x").expect("written");
        let mut seen = Vec::new();
        while !seen.contains(&order) {
            seen.extend(events.next().await.into_iter().map(|touched| touched.path));
        }
        assert!(seen.iter().all(|path| *path == order), "{seen:?}");
    }

    #[test]
    fn events_of_one_path_are_coalesced_and_batches_are_bounded() {
        let queue = Queue::default();
        for _ in 0..10_000 {
            queue.push("same".into(), OPEN_QUIET);
        }
        queue.push("same".into(), CLOSED_QUIET);
        let touched = queue.take();
        assert_eq!(touched.len(), 1);
        assert_eq!(touched[0].quiet, CLOSED_QUIET, "the newest counts");
        for number in 0..2 * WAITING_MAX {
            queue.push(number.to_string().into(), OPEN_QUIET);
        }
        let mut taken = 0;
        loop {
            let portion = queue.take();
            assert!(portion.len() <= PORTION);
            taken += portion.len();
            if portion.is_empty() {
                break;
            }
        }
        assert_eq!(taken, WAITING_MAX);
    }
}
