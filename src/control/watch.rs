//! Owns noticing that a file may have changed, and whether its writer is done.
//! Refuses to read files: it only says where to look, and when.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// How long a file must be quiet after its writer closed or renamed it.
const CLOSED_QUIET: Duration = Duration::from_millis(100);
/// How long it must be quiet while somebody seems to have it open for writing.
pub(super) const OPEN_QUIET: Duration = Duration::from_secs(2);
/// How long it must be quiet when somebody asks for its newest state: enough for the system to
/// tell of a writer.
pub(super) const REQUESTED_QUIET: Duration = Duration::from_millis(20);

/// Something happened to a file, or to its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// The file.
    pub path: PathBuf,
    /// For how long nothing more may happen before it counts as written.
    pub quiet: Duration,
}

/// Watches the directories of files, so that files may vanish, return and be replaced.
#[derive(Debug)]
pub struct Watch {
    watcher: RecommendedWatcher,
    /// The directories of files: what happens in them and to them is told, and nothing else of
    /// the directories above, which may be as busy as the temporary folder.
    parents: Arc<Mutex<HashSet<PathBuf>>>,
    /// With device and inode: the system watches those, and a path may come to mean others.
    directories: HashMap<PathBuf, (u64, u64)>,
}

impl Watch {
    /// Starts; what happens is sent to `touched`. When that is full, events are lost: the owner
    /// looks at its files from time to time anyway.
    ///
    /// # Errors
    /// When the system has no watches left.
    pub fn start(touched: mpsc::Sender<Touched>) -> notify::Result<Self> {
        let parents = Arc::new(Mutex::new(HashSet::<PathBuf>::new()));
        let told = Arc::clone(&parents);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            let Some(quiet) = quiet(&event.kind) else {
                return;
            };
            for path in event.paths {
                let parents = told.lock().unwrap_or_else(PoisonError::into_inner);
                let within = path.parent().is_some_and(|parent| parents.contains(parent));
                if within || parents.contains(&path) {
                    // Full: see above.
                    let _ = touched.try_send(Touched { path, quiet });
                }
            }
        })?;
        Ok(Self {
            watcher,
            parents,
            directories: HashMap::new(),
        })
    }

    /// Watches the directories of these files (absolute paths), the directories that those are in,
    /// and those of what symbolic links lead to; no others any more. Returns the directories of
    /// files that can't be watched.
    pub fn follow<'p>(&mut self, files: impl Iterator<Item = &'p Path>) -> Vec<PathBuf> {
        let mut parents = HashSet::new();
        let mut needed = HashSet::new();
        for file in files {
            let target = file.canonicalize().ok();
            let target = target.as_deref().and_then(Path::parent);
            parents.extend(file.parent().into_iter().chain(target).map(Path::to_owned));
            needed.extend(file.parent().map(Path::to_owned));
        }
        let above = parents.iter().filter_map(|path| path.parent());
        let wanted: HashSet<_> = above
            .map(Path::to_owned)
            .chain(parents.iter().cloned())
            .collect();
        *self.parents.lock().unwrap_or_else(PoisonError::into_inner) = parents;
        let ids = wanted.into_iter().map(|path| {
            let id = std::fs::metadata(&path)
                .ok()
                .map(|meta| (meta.dev(), meta.ino()));
            (path, id)
        });
        let ids: HashMap<_, _> = ids.collect();
        let (watcher, directories) = (&mut self.watcher, &mut self.directories);
        let mut cut = HashSet::new();
        directories.retain(|path, id| {
            let stays = ids.get(path) == Some(&Some(*id));
            if !stays {
                // It may be gone from the system, too.
                let _ = watcher.unwatch(path);
                cut.insert(*id);
            }
            stays
        });
        // The system has one watch for all paths to a directory, and that is gone now.
        directories.retain(|_, id| !cut.contains(id));
        for (path, id) in ids {
            if let Some(id) = id
                && !directories.contains_key(&path)
                && watcher.watch(&path, RecursiveMode::NonRecursive).is_ok()
            {
                directories.insert(path, id);
            }
        }
        needed.retain(|path| !directories.contains_key(path));
        needed.into_iter().collect()
    }
}

/// How long to wait after such an event; nothing when it changes no content.
fn quiet(kind: &EventKind) -> Option<Duration> {
    match kind {
        EventKind::Modify(ModifyKind::Data(_)) => Some(OPEN_QUIET),
        // Owner, mode and times may change while a writer is at work, and must not cut its time.
        EventKind::Modify(ModifyKind::Metadata(_)) => None,
        // A link is whole when it is there; what writes to a new file is heard of at once.
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

    use super::*;

    async fn next(events: &mut mpsc::Receiver<Touched>, path: &Path) -> Duration {
        loop {
            let touched = events.recv().await.expect("an event");
            if touched.path == path {
                return touched.quiet;
            }
        }
    }

    #[tokio::test]
    async fn an_open_writer_is_waited_for_and_a_rename_is_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("list");
        fs::write(&file, "a\n").expect("written");
        let (sender, mut events) = mpsc::channel(64);
        let mut watch = Watch::start(sender).expect("watches");
        assert_eq!(watch.follow([&*file].into_iter()), [] as [PathBuf; 0]);

        fs::write(&file, "b\n").expect("written");
        assert_eq!(next(&mut events, &file).await, OPEN_QUIET);
        while next(&mut events, &file).await != CLOSED_QUIET {}

        let other = dir.path().join("new");
        fs::write(&other, "c\n").expect("written");
        fs::rename(&other, &file).expect("renamed");
        assert_eq!(next(&mut events, &file).await, CLOSED_QUIET);
    }

    #[tokio::test]
    async fn what_happens_to_the_file_that_a_link_leads_to_is_noticed_without_a_sweep() {
        let dir = tempfile::tempdir().expect("a folder");
        let (links, targets) = (dir.path().join("links"), dir.path().join("targets"));
        for folder in [&links, &targets] {
            fs::create_dir(folder).expect("made");
        }
        let (link, target) = (links.join("list"), targets.join("list"));
        fs::write(&target, "a\n").expect("written");
        std::os::unix::fs::symlink(&target, &link).expect("linked");
        let (sender, mut events) = mpsc::channel(64);
        let mut watch = Watch::start(sender).expect("watches");
        assert_eq!(watch.follow([&*link].into_iter()), [] as [PathBuf; 0]);
        let patience = Duration::from_secs(10);
        fs::write(&target, "b\n").expect("written");
        let heard = async { while next(&mut events, &target).await != CLOSED_QUIET {} };
        let heard = tokio::time::timeout(patience, heard).await;
        heard.expect("the target's folder is watched");
        let new = targets.join("new");
        fs::write(&new, "c\n").expect("written");
        fs::rename(&new, &target).expect("renamed");
        let heard = tokio::time::timeout(patience, next(&mut events, &target)).await;
        heard.expect("a replaced target is noticed");
    }

    #[tokio::test]
    async fn a_directory_that_is_not_there_is_told() {
        let (sender, _events) = mpsc::channel(64);
        let mut watch = Watch::start(sender).expect("watches");
        let missing = Path::new("/nowhere-at-all/list");
        assert_eq!(
            watch.follow([missing].into_iter()),
            [PathBuf::from("/nowhere-at-all")]
        );
    }
}
