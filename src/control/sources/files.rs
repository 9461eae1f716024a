//! Looks at the files of lists, orders and exceptions, and watches them for changes.
//!
//! ```text
//!            a list or a directory came or went,              no other task runs
//!            a link may lead elsewhere
//!   watched ------------------------------------> outdated ------------------------> being watched by a task
//!    ^                                               ^                                 |          |
//!    |                                               |  outdated again meanwhile       |          |
//!    |                                               +---------------------------------+          |
//!    +--------------------------------------------------------------------------------------------+
//! ```

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use super::watch::{Followed, Following, Touches, Watch};
use crate::config::shown::Show;
use crate::control::file_tasks::FileTasks;
use crate::control::list_file::signature::Signature;

/// The signatures of files; `None` for a file that can't be looked at.
pub(crate) type Files = HashMap<PathBuf, Option<Signature>>;

/// Looks at files. This blocks while a network file system does not answer.
pub(crate) fn look_at_files(paths: impl IntoIterator<Item = PathBuf>) -> Files {
    let files = paths.into_iter().map(|path| {
        let file = Signature::of(&path).ok();
        (path, file)
    });
    files.collect()
}

/// The files that are watched for changes.
pub(crate) struct WatchedFiles {
    watch: Watch,
    pub(crate) touches: Touches,
    /// Why there is no watch, as an alarm.
    no_watch: Option<String>,
    /// Directories that can't be watched, one alarm each.
    pub(crate) unwatched: Vec<String>,
    /// Whether the set of files to watch may have changed.
    unfollowed: bool,
    /// The tasks that start to watch directories.
    pub(crate) tasks: FileTasks<(), Following>,
}

impl WatchedFiles {
    pub(crate) fn start() -> Self {
        let mut no_watch = None;
        let (watch, touches) = Watch::start().unwrap_or_else(|error| {
            no_watch = Some(format!("files can't be watched ({error})"));
            Watch::none()
        });
        Self {
            watch,
            touches,
            unwatched: no_watch.iter().cloned().collect(),
            no_watch,
            unfollowed: true,
            tasks: FileTasks::new(),
        }
    }

    /// Makes the control loop determine again which files to watch, at its next turn.
    pub(crate) fn refresh(&mut self) {
        self.unfollowed = true;
    }

    /// Starts to watch the files and directories that `followed` returns, if their set may have changed.
    pub(crate) fn start_following(&mut self, followed: impl FnOnce() -> Followed) {
        if !self.unfollowed || self.tasks.is_running(&()) {
            return;
        }
        self.unfollowed = false;
        let followed = followed();
        let files = followed.files.iter().filter_map(|file| file.parent());
        let folders = followed.folders.iter().map(|folder| &**folder);
        let places: BTreeSet<_> = files.chain(folders).collect();
        let places: Vec<_> = places.iter().map(|it| it.shown().to_string()).collect();
        let watch = self.watch.clone();
        let work = move || watch.follow(&followed);
        self.tasks.start((), places.join(", "), work);
    }

    /// Takes the result of watching.
    pub(crate) fn finish_watching(&mut self, following: &Following) {
        let text = |path: &PathBuf| {
            format!(
                "{}: can't be watched; looked at every two seconds",
                path.shown()
            )
        };
        let unwatched = following.unwatched.iter().map(text);
        self.unwatched = self.no_watch.iter().cloned().chain(unwatched).collect();
    }
}
