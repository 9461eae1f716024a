//! Follows the files of lists, orders and exceptions: which are watched, and what is known of them without reading them.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use tokio::time::Instant;

use super::lists::load::Signature;
use super::lists::state::ListState;
use crate::config::Content;
use crate::config::shown::Show;
use crate::control::Control;
use crate::control::file_tasks::FileTasks;
use crate::control::journal::entry::Cause;
use crate::control::sources::watch::{Followed, Following, Touched, Touches, Watch};

/// Files as they were when they were looked at; `None` where that is not possible.
pub(crate) type Files = HashMap<PathBuf, Option<Signature>>;

/// Looks at files.
pub(crate) fn look(paths: impl IntoIterator<Item = PathBuf>) -> Files {
    let looked = paths.into_iter().map(|path| {
        let file = Signature::of(&path).ok();
        (path, file)
    });
    looked.collect()
}

/// The files that are watched for changes.
pub(crate) struct FollowedFiles {
    watch: Watch,
    pub(crate) touches: Touches,
    /// Why there is no watch.
    no_watch: Option<String>,
    /// Directories that can't be watched, a sentence each.
    pub(crate) unwatched: Vec<String>,
    /// Other files may count than are watched.
    unfollowed: bool,
    /// Watches directories.
    pub(crate) tasks: FileTasks<(), Following>,
}

impl FollowedFiles {
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
}

impl Control {
    /// Something happened to some files, or on the way to some. Makes no system call.
    pub(crate) fn touch(&mut self, touched: &[Touched]) {
        let now = Instant::now();
        for touched in touched {
            let mut known = self.calendar.touch(touched, now);
            for list in self.all_lists() {
                known |= list.touch(touched, now);
            }
            if !known {
                // On the way to some file: it may lead elsewhere now.
                self.all_lists().for_each(ListState::want_look);
                self.follow();
            }
        }
    }

    /// Looks at all files.
    pub(crate) fn sweep(&mut self) {
        self.log_late_files();
        self.give_up_preparing();
        self.all_lists().for_each(ListState::want_sweep);
        self.tell_aged();
        self.calendar.asked.sweep = true;
        self.look_at_the_clock();
        if self.record.journal.known() > self.generation() {
            // It was opened late: what is in force gets a number that comes after those in it.
            self.change(Cause::Start);
            // So do images that could not be kept yet.
            self.persist.unkept |= self.persist.keep_again.take().is_some();
        }
        self.follow();
    }

    /// Has the lists looked at that are to be, directory by directory.
    pub(crate) fn start_looking(&mut self) {
        let mut wanted: HashMap<PathBuf, Vec<PathBuf>> = HashMap::new();
        let staged = self.stage.iter_mut().flat_map(|stage| &mut stage.fresh);
        for list in self.lists.active.iter_mut().chain(staged) {
            let folder = list.source.path.parent().unwrap_or(Path::new(""));
            if list.wants_look() && !self.lists.looks.is_running(&folder.to_owned()) {
                let wanted = wanted.entry(folder.to_owned()).or_default();
                wanted.push(list.source.path.clone());
                list.start_look();
            }
        }
        for (folder, files) in wanted {
            let places = folder.shown().to_string();
            self.lists.looks.start(folder, places, move || look(files));
        }
    }

    /// Takes what a look at the lists in a directory found; `None` if it broke off.
    pub(crate) fn land_looked(&mut self, folder: &Path, files: Option<Files>) {
        let now = Instant::now();
        for list in self.all_lists() {
            let found = match &files {
                Some(files) => files.get(&list.source.path).copied(),
                None => (list.source.path.parent() == Some(folder)).then(|| list.looked()),
            };
            if let Some(file) = found {
                list.land_look(file, now);
            }
        }
        self.load_looked();
    }

    /// Has the files watched that count now.
    pub(crate) fn follow(&mut self) {
        self.files.unfollowed = true;
    }

    /// Starts to watch the files that count now, if others may count than do.
    pub(crate) fn start_following(&mut self) {
        if !self.files.unfollowed || self.files.tasks.is_running(&()) {
            return;
        }
        self.files.unfollowed = false;
        let files = self
            .all_lists()
            .filter(|list| list.config.content == Content::File)
            .map(|list| list.path().to_owned())
            .collect();
        let followed = Followed {
            files,
            folders: self.calendar.book.folders().map(Path::to_owned).collect(),
        };
        let folders: HashSet<_> = followed
            .files
            .iter()
            .filter_map(|file| file.parent())
            .collect();
        let folders = folders
            .into_iter()
            .chain(followed.folders.iter().map(|folder| &**folder));
        let mut folders: Vec<_> = folders.map(|folder| folder.shown().to_string()).collect();
        folders.sort();
        folders.dedup();
        let watch = self.files.watch.clone();
        let work = move || watch.follow(&followed);
        self.files.tasks.start((), folders.join(", "), work);
    }

    /// Takes what watching came to.
    pub(crate) fn land_followed(&mut self, following: &Following) {
        for list in self.all_lists() {
            if following.fresh {
                // It may have changed before it was watched.
                list.want_first_look();
            }
            list.target = following.targets.get(list.path()).cloned();
        }
        let text = |path: &PathBuf| {
            format!(
                "{}: can't be watched; looked at every two seconds",
                path.shown()
            )
        };
        let unwatched = following.unwatched.iter().map(text);
        self.files.unwatched = self
            .files
            .no_watch
            .iter()
            .cloned()
            .chain(unwatched)
            .collect();
    }
}
