//! Owns noticing that a file may have changed, and whether its writer is done.
//! Refuses to read files: it only says where to look, and when.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// How long a file must be quiet after its writer closed or renamed it.
const CLOSED_QUIET: Duration = Duration::from_millis(100);
/// How long it must be quiet while somebody seems to have it open for writing.
const OPEN_QUIET: Duration = Duration::from_secs(2);

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
    directories: HashSet<PathBuf>,
}

impl Watch {
    /// Starts; what happens is sent to `touched`. When that is full, events are lost: the owner
    /// looks at its files from time to time anyway.
    ///
    /// # Errors
    /// When the system has no watches left.
    pub fn start(touched: mpsc::Sender<Touched>) -> notify::Result<Self> {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            let Some(quiet) = quiet(&event.kind) else {
                return;
            };
            for path in event.paths {
                // Full: see above.
                let _ = touched.try_send(Touched { path, quiet });
            }
        })?;
        Ok(Self {
            watcher,
            directories: HashSet::new(),
        })
    }

    /// Watches the directories of these files, and of what symbolic links among them lead to; no
    /// others any more. Returns those that can't be watched.
    pub fn follow<'p>(&mut self, files: impl Iterator<Item = &'p Path>) -> Vec<PathBuf> {
        let mut wanted = HashSet::new();
        for file in files {
            let target = file.canonicalize().ok();
            for path in [Some(file), target.as_deref()].into_iter().flatten() {
                wanted.extend(path.parent().map(directory));
            }
        }
        for gone in self.directories.difference(&wanted) {
            // It may be gone from the system, too.
            let _ = self.watcher.unwatch(gone);
        }
        self.directories.retain(|old| wanted.contains(old));
        let mut failed = Vec::new();
        for new in wanted {
            if self.directories.contains(&new) {
                continue;
            }
            match self.watcher.watch(&new, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.directories.insert(new)),
                Err(_) => failed.push(new),
            }
        }
        failed
    }
}

/// The directory of a bare file name is `.`.
fn directory(parent: &Path) -> PathBuf {
    match parent.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => parent.to_owned(),
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
