//! A directory of files that people edit while they are followed: the last good state of each file, and why a newer one
//! is refused.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use jiff::Timestamp;
use tokio::time::Instant;

use super::blocked_paths::BlockedPaths;
use crate::config::Problems;
use crate::config::shown::Show;
use crate::control::sources::deadline;
use crate::control::sources::deadline::{DEADLINE, Unanswered};
use crate::control::sources::orders::file::{
    FileRead, FileState, Parse, ReadResult, read_file, refused, state_of,
};
use crate::control::sources::settling::{FollowedFile, Pauses, ReadEnd};
use crate::control::sources::watch::{Touched, is_toml};

/// How many files one sweep looks at: looking at thousands of files would delay the beginning or end of an order too
/// much.
const SWEPT: usize = 1000;
/// When to read a file again that changed while it was read.
pub(crate) const RETRY: Duration = Duration::from_millis(100);
const RETRIES: Pauses = Pauses {
    first: RETRY,
    last: RETRY,
};

/// The files of a directory whose names end in `.toml` and don't start with a dot.
#[derive(Debug)]
pub(super) struct FollowedDirectory<T> {
    /// Its path as configured, and the absolute one, by which the watch reports its events.
    pub(super) dir: Option<(PathBuf, PathBuf)>,
    pub(super) files: BTreeMap<PathBuf, TrackedFile<T>>,
    /// When to read each file. Also has paths at which a new file may be.
    followed: BTreeMap<PathBuf, FollowedFile<FileState>>,
    /// No file is due before this instant. It is stored because the control loop needs it at each turn, and there may
    /// be 65,535 files.
    next_due: Option<Instant>,
    /// Why the directory can't be listed.
    pub(super) problem: Option<String>,
    /// Whether it was listed before.
    pub(super) was_listed: bool,
    /// The last file that the last sweep looked at; `None` if that was the last file of all.
    swept: Option<PathBuf>,
    blocked: BlockedPaths,
    /// How long to wait for one file, or for the directory.
    deadline: Duration,
}

/// The content of one file.
#[derive(Debug)]
pub(super) struct TrackedFile<T> {
    /// The last good content, and the text that it was parsed from.
    pub(super) good: Option<(Arc<T>, Arc<str>)>,
    /// The problems of the newest state, and since when they are known.
    pub(super) refused: Option<(Arc<Problems>, Timestamp)>,
    /// The good content is from before the start: the file has not been read since.
    pub(super) is_recalled: bool,
}

impl<T> Clone for TrackedFile<T> {
    fn clone(&self) -> Self {
        Self {
            good: self.good.clone(),
            refused: self.refused.clone(),
            is_recalled: self.is_recalled,
        }
    }
}

impl<T> Default for TrackedFile<T> {
    fn default() -> Self {
        Self {
            good: None,
            refused: None,
            is_recalled: false,
        }
    }
}

/// Cheap: clones share the content of files.
impl<T> Clone for FollowedDirectory<T> {
    fn clone(&self) -> Self {
        Self {
            dir: self.dir.clone(),
            files: self.files.clone(),
            followed: self.followed.clone(),
            next_due: self.next_due,
            problem: self.problem.clone(),
            was_listed: self.was_listed,
            swept: self.swept.clone(),
            blocked: self.blocked.clone(),
            deadline: self.deadline,
        }
    }
}

impl<T> Default for FollowedDirectory<T> {
    fn default() -> Self {
        Self {
            dir: None,
            files: BTreeMap::new(),
            followed: BTreeMap::new(),
            next_due: None,
            problem: None,
            was_listed: false,
            swept: None,
            blocked: BlockedPaths::default(),
            deadline: DEADLINE,
        }
    }
}

impl<T> FollowedDirectory<T> {
    /// Follows another directory; nothing is known of its files yet. Returns `false` if it is the same one.
    pub(super) fn set(&mut self, dir: Option<&Path>) -> bool {
        if self.dir.as_ref().map(|(dir, _)| &**dir) == dir {
            return false;
        }
        let absolute = |dir: &Path| std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        *self = Self {
            dir: dir.map(|dir| (dir.to_owned(), absolute(dir))),
            ..Self::default()
        };
        true
    }

    /// Adds a file whose text is from elsewhere: from the program, or from the journal.
    pub(super) fn embed(&mut self, path: &Path, text: &str, parse: Parse<T>) {
        let mut file = TrackedFile::default();
        match parse(text, path) {
            Ok(value) => file.good = Some((Arc::new(value), text.into())),
            Err(problems) => file.refused = Some((Arc::new(problems), Timestamp::now())),
        }
        self.files.insert(path.to_owned(), file);
    }

    /// The directory's absolute path.
    pub(super) fn path(&self) -> Option<&Path> {
        self.dir.as_ref().map(|(_, absolute)| &**absolute)
    }

    /// Whether a path is the directory, or may be one of its files.
    pub(super) fn concerns(&self, path: &Path) -> bool {
        self.path()
            .is_some_and(|dir| path == dir || (path.parent() == Some(dir) && is_toml(path)))
    }

    /// The files by their paths.
    pub(super) fn files(&self) -> &BTreeMap<PathBuf, TrackedFile<T>> {
        &self.files
    }

    /// Why the directory can't be listed, and which of its files are in force. `what` is their kind.
    pub(super) fn problem(&self, what: &str) -> Option<String> {
        let problem = self.problem.as_ref()?;
        let is_known = self.files.values().any(|file| file.good.is_some());
        let in_force = match is_known {
            true => format!("its {what} that were read before stay in force"),
            false => format!("none of its {what} are in force"),
        };
        Some(format!("{problem}; {in_force}"))
    }

    /// Whether the file with this absolute path is to be read.
    pub(super) fn is_due(&self, path: &Path) -> bool {
        let dir = self.dir.as_ref();
        let dir = dir.filter(|(_, absolute)| path.parent() == Some(absolute));
        let known = dir
            .zip(path.file_name())
            .map(|((dir, _), file)| dir.join(file));
        known.is_some_and(|path| self.is_to_be_read(&path))
    }

    fn is_to_be_read(&self, path: &Path) -> bool {
        let file = self.followed.get(path);
        file.is_some_and(FollowedFile::is_to_be_read)
    }

    /// The earliest instant at which a file is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.next_due
    }

    /// Finds the earliest instant at which a file is due.
    fn update_due(&mut self) {
        self.next_due = self.followed.values().filter_map(FollowedFile::due).min();
    }

    /// Takes the result of listing the directory.
    fn finish_listing(&mut self, listed: io::Result<Vec<PathBuf>>) -> Option<Vec<PathBuf>> {
        let (dir, _) = self.dir.as_ref()?;
        match listed {
            Ok(found) => {
                (self.problem, self.was_listed) = (None, true);
                Some(found)
            }
            Err(error) => {
                let problem = format!("{}: cannot be listed: {error}", dir.shown());
                if self.problem.as_ref() != Some(&problem) {
                    tracing::error!(problem, "directory refused");
                }
                self.problem = Some(problem);
                None
            }
        }
    }

    /// Takes the result of reading a file. Returns whether its content or its problems have changed.
    fn finish_reading(&mut self, path: &Path, read: FileRead<T>, now: Instant) -> bool {
        let parsed = match read.result {
            ReadResult::Changing => {
                let followed = self.followed.entry(path.to_owned()).or_default();
                followed.finished(ReadEnd::Again(RETRIES), now);
                return false;
            }
            ReadResult::Gone { is_listed: true } => return self.remove(path),
            // The whole directory is gone, for example because it is no longer mounted. Last good states stay.
            ReadResult::Gone { is_listed: false } => {
                if !self.files.contains_key(path) {
                    self.followed.remove(path);
                }
                return false;
            }
            ReadResult::Parsed(parsed) => parsed,
        };
        let followed = self.followed.entry(path.to_owned()).or_default();
        followed.finished(ReadEnd::Known(read.state), now);
        let file = self.files.entry(path.to_owned()).or_default();
        match parsed {
            Ok(good) => {
                let same = file.good.as_ref().is_some_and(|(_, text)| *text == good.1);
                let was_refused = file.refused.take().is_some();
                file.is_recalled = false;
                file.good = Some(good);
                !same || was_refused
            }
            Err(problems) => {
                let before = file.refused.as_ref();
                if before.is_some_and(|(before, _)| **before == problems) {
                    return false;
                }
                tracing::error!(%problems, kept = file.good.is_some(), "file rejected");
                file.refused = Some((Arc::new(problems), Timestamp::now()));
                true
            }
        }
    }

    /// Removes a file that is gone, and its content. Returns whether it had any, or problems.
    fn remove(&mut self, path: &Path) -> bool {
        self.followed.remove(path);
        let gone = self.files.remove(path);
        gone.is_some_and(|file| file.good.is_some() || file.refused.is_some())
    }
}

impl<T: Send + Sync + 'static> FollowedDirectory<T> {
    /// Takes an event of the watch: one of a file, or one of the directory, which may concern each file.
    pub(super) fn touch(&mut self, touched: &Touched, now: Instant) {
        let Some((dir, absolute)) = self.dir.clone() else {
            return;
        };
        let file = touched.path.file_name();
        let mut paths = Vec::new();
        if touched.path.parent() == Some(&*absolute)
            && let Some(path) = file.map(|file| dir.join(file))
            && is_toml(&path)
        {
            paths.push(path);
        } else if touched.path == absolute {
            let listed = self.list().unwrap_or_default();
            paths.extend(self.files.keys().cloned().chain(listed));
            // An event of the file itself is more specific.
            paths.retain(|path| !self.is_to_be_read(path));
        }
        for path in paths {
            let file = self.followed.entry(path).or_default();
            file.touched(touched.quiet, false, now);
            self.next_due = self.next_due.into_iter().chain(file.due()).min();
        }
    }

    /// Reads the files that are due. Returns those whose content or problems have changed.
    pub(super) fn read_due(&mut self, now: Instant, parse: Parse<T>) -> Vec<PathBuf> {
        if self.next_due.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let followed = self.followed.iter_mut();
        let due = followed.filter_map(|(path, file)| file.take_due(now).then(|| path.clone()));
        let paths = due.collect();
        let read = self.ask(paths, move |path| Some(read_file(path, parse)));
        self.take_all(read, now)
    }

    /// Reads all files that have changed, even those that are being written: at the start, or at a request. Returns those
    /// whose content or problems have changed.
    pub(super) fn read_all(&mut self, parse: Parse<T>) -> Vec<PathBuf> {
        let Some(found) = self.list() else {
            return Vec::new();
        };
        let gone = self
            .files
            .keys()
            .filter(|path| found.binary_search(path).is_err());
        let paths: Vec<_> = gone.cloned().collect();
        let seen = self.followed.iter();
        let seen: HashMap<_, _> = seen
            .map(|(path, file)| (path.clone(), file.seen()))
            .collect();
        let paths = paths.into_iter().chain(found).collect();
        let read = self.ask(paths, move |path| {
            let seen = seen.get(path).copied().flatten();
            let same = seen.is_some_and(|seen| seen == state_of(path));
            (!same).then(|| read_file(path, parse))
        });
        self.take_all(read, Instant::now())
    }

    /// Looks for changes that no event reported, in a part of the files.
    pub(super) fn sweep(&mut self, now: Instant) {
        let Some(found) = self.list() else { return };
        for path in found {
            self.files.entry(path).or_default();
        }
        let from = match self.swept.take() {
            Some(last) => Bound::Excluded(last),
            None => Bound::Unbounded,
        };
        let files = self.files.range((from, Bound::Unbounded)).take(SWEPT);
        let mut paths: Vec<_> = files.map(|(path, _)| path.clone()).collect();
        if paths.len() == SWEPT {
            self.swept = paths.last().cloned();
        }
        paths.retain(|path| !self.is_to_be_read(path));
        for (path, state) in self.ask(paths, state_of) {
            let file = self.followed.entry(path).or_default();
            match state {
                Ok(state) => file.swept(Some(state), now),
                // Reading it reports why there is no answer.
                Err(_) => file.set_due(now),
            }
        }
        self.update_due();
    }

    /// Does the same work for each path, with a deadline for each. Blocked paths are not tried.
    fn ask<O: Send + 'static>(
        &self,
        paths: Vec<PathBuf>,
        work: impl Fn(&Path) -> O + Send + Sync + 'static,
    ) -> Answers<O> {
        let is_blocked = |path: &PathBuf| self.blocked.is_blocked(path);
        let (blocked, free): (Vec<_>, Vec<_>) = paths.into_iter().partition(is_blocked);
        let directory = |path: &PathBuf| path.parent().map(Path::to_owned).unwrap_or_default();
        let record = self.blocked.clone();
        let answers = deadline::each(self.deadline, free.clone(), directory, move |path| {
            let _waiting = record.wait(path);
            work(path)
        });
        for (path, answer) in free.iter().zip(&answers) {
            if matches!(answer, Err(Unanswered::Late)) {
                self.blocked.mark_blocked(path);
            }
        }
        let late = |path| (path, Err(Unanswered::Late));
        let blocked = blocked.into_iter().map(late);
        free.into_iter().zip(answers).chain(blocked).collect()
    }

    /// Takes the results of reading files; `None` where the file has not changed. Returns the files whose content or
    /// problems have changed.
    fn take_all(&mut self, all: Answers<Option<FileRead<T>>>, now: Instant) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        for (path, read) in all {
            let read = match read {
                Ok(Some(read)) => read,
                Ok(None) => continue,
                Err(why) => self.unanswered(&path, why),
            };
            if self.finish_reading(&path, read, now) {
                changed.push(path);
            }
        }
        self.update_due();
        changed
    }

    /// The result for a file that could not be read.
    fn unanswered(&self, path: &Path, why: Unanswered) -> FileRead<T> {
        let known = self.files.get(path);
        let message = match known.is_some_and(|file| file.good.is_some()) {
            true => why.to_string(),
            false => unanswered(why),
        };
        FileRead {
            state: None,
            result: refused(path, message),
        }
    }

    /// The files that are in the directory, sorted; `None` if it can't be listed.
    fn list(&mut self) -> Option<Vec<PathBuf>> {
        let (dir, _) = self.dir.clone()?;
        let listed = match self.blocked.is_blocked(&dir) {
            true => Err(Unanswered::Late),
            false => {
                let (waiting, listing) = (self.blocked.wait(&dir), dir.clone());
                let listed = deadline::start(self.deadline, move || {
                    let _waiting = waiting;
                    list(&listing)
                });
                listed.wait()
            }
        };
        if matches!(listed, Err(Unanswered::Late)) {
            self.blocked.mark_blocked(&dir);
        }
        let listed = listed.unwrap_or_else(|why| Err(io::Error::other(why)));
        self.finish_listing(listed)
    }

    /// Reads all files at the start. Returns whether the file system answered each time before the deadline. A file for
    /// which it did not answer in time is reported as a problem, and is not in force.
    pub(super) fn read_at_start(&mut self, parse: Parse<T>, deadline: Duration) -> bool {
        let Some((dir, _)) = self.dir.clone() else {
            return true;
        };
        let listing = dir.clone();
        let listed = deadline::start(deadline, move || list(&listing)).wait();
        let found = match listed.map(|listed| self.finish_listing(listed)) {
            Ok(Some(found)) => found,
            Ok(None) => return true,
            Err(why) => {
                let problem = format!("{}: {}", dir.shown(), unanswered(why));
                tracing::error!(problem, "directory refused");
                self.problem = Some(problem);
                return false;
            }
        };
        let directory = move |_: &PathBuf| dir.clone();
        let read = deadline::each(deadline, found.clone(), directory, move |path| {
            read_file(path, parse)
        });
        let (now, mut all) = (Instant::now(), true);
        for (path, read) in found.into_iter().zip(read) {
            let read = read.unwrap_or_else(|why| {
                all = false;
                self.unanswered(&path, why)
            });
            // A file that was removed after the listing has no content yet that could be kept or removed.
            if !matches!(read.result, ReadResult::Gone { .. }) {
                self.finish_reading(&path, read, now);
            }
        }
        self.update_due();
        all
    }
}

/// Why a file or directory without a last good state is not in force.
fn unanswered(why: Unanswered) -> String {
    format!("{why}; it is read when the file system answers")
}

/// The result of the same work for each path.
type Answers<O> = Vec<(PathBuf, Result<O, Unanswered>)>;

fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<_> = paths.collect::<io::Result<_>>()?;
    paths.retain(|path| is_toml(path));
    paths.sort_unstable();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::Mutex;

    use super::*;
    use crate::config::Problem;
    use crate::control::sources::watch::{CLOSED_QUIET, OPEN_QUIET};

    fn plain(text: &str, _: &Path) -> Result<String, Problems> {
        Ok(text.to_owned())
    }

    #[test]
    fn broken_links_are_ignored_and_directories_and_pipes_are_reported() {
        let dir = tempfile::tempdir().expect("a directory");
        symlink("missing", dir.path().join("a.toml")).expect("linked");
        let mut followed = FollowedDirectory::default();
        followed.set(Some(dir.path()));
        assert!(followed.read_all(plain).is_empty());
        let now = Instant::now();
        followed.sweep(now);
        followed.sweep(now);
        assert!(followed.read_due(now, plain).is_empty(), "nothing changed");
        fs::create_dir(dir.path().join("b.toml")).expect("made");
        // Reading a pipe would wait for its writer.
        let pipe = dir.path().join("c.toml");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.expect("mkfifo runs").success());
        assert_eq!(followed.read_all(plain), [dir.path().join("b.toml"), pipe]);
        let files = followed.files().values();
        let refused = files.filter_map(|file| file.refused.as_ref());
        let reported: Vec<_> = refused.map(|(problems, _)| problems.to_string()).collect();
        assert_eq!(reported.len(), 2);
        assert!(
            reported
                .iter()
                .all(|problem| problem.contains(".toml: is not a regular file")),
            "{reported:?}"
        );
    }

    #[test]
    fn a_file_that_can_not_be_looked_at_is_reported_once_until_something_changes() {
        let dir = tempfile::tempdir().expect("a directory");
        let (looped, below) = (dir.path().join("loop.toml"), dir.path().join("below.toml"));
        symlink("loop.toml", &looped).expect("linked");
        fs::write(dir.path().join("file"), "").expect("written");
        symlink("file/below", &below).expect("linked");
        let mut followed = FollowedDirectory::default();
        followed.set(Some(dir.path()));
        assert_eq!(followed.read_all(plain), [below.clone(), looped.clone()]);
        let now = Instant::now();
        for _ in 0..6 {
            followed.sweep(now);
            assert_eq!(followed.read_due(now, plain), [""; 0].map(PathBuf::from));
        }
        assert!(followed.read_all(plain).is_empty(), "a reload, too");
        // The reason differs now.
        fs::remove_file(&looped).expect("removed");
        symlink("file/other", &looped).expect("linked");
        followed.sweep(now);
        followed.sweep(now);
        assert_eq!(followed.read_due(now, plain), std::slice::from_ref(&looped));
        fs::remove_file(&looped).expect("removed");
        fs::write(&looped, "good").expect("written");
        followed.sweep(now);
        followed.sweep(now);
        assert_eq!(followed.read_due(now, plain), [looped]);
    }

    #[test]
    fn the_same_refusal_again_is_no_change() {
        fn strict(_: &str, path: &Path) -> Result<String, Problems> {
            Err(Problems(vec![Problem {
                path: path.to_owned(),
                line: Some(1),
                message: "bad".to_owned(),
            }]))
        }
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.toml");
        let mut followed = FollowedDirectory::default();
        followed.set(Some(dir.path()));
        fs::write(&path, "bad").expect("written");
        assert_eq!(followed.read_all(strict), std::slice::from_ref(&path));
        let since = followed.files()[&path].refused.clone();
        fs::write(&path, "bad again").expect("written");
        assert!(followed.read_all(strict).is_empty());
        assert_eq!(followed.files()[&path].refused, since, "and since then");
        assert_eq!(
            followed.read_all(plain),
            [""; 0].map(PathBuf::from),
            "read already"
        );
        fs::write(&path, "good at last").expect("written");
        assert_eq!(followed.read_all(plain), [path]);
    }

    #[test]
    fn a_new_file_is_read_when_its_writer_is_done_unless_it_is_gone_by_then() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut followed = FollowedDirectory::default();
        followed.set(Some(dir.path()));
        let (path, gone) = (dir.path().join("a.toml"), dir.path().join("gone.toml"));
        fs::write(&path, "one").expect("written");
        let now = Instant::now();
        let touched = |path: &Path, quiet| Touched {
            path: path.to_owned(),
            quiet,
        };
        followed.touch(&touched(&path, OPEN_QUIET), now);
        assert_eq!(followed.due(), Some(now + OPEN_QUIET));
        // An event of the directory does not replace one of the file.
        followed.touch(&touched(dir.path(), CLOSED_QUIET), now);
        followed.touch(&touched(&gone, CLOSED_QUIET), now);
        let closed = now + CLOSED_QUIET;
        assert_eq!(followed.due(), Some(closed));
        assert!(followed.read_due(closed, plain).is_empty());
        assert!(followed.files().is_empty() && followed.is_due(&path) && !followed.is_due(&gone));
        assert_eq!(followed.due(), Some(now + OPEN_QUIET));
        followed.touch(&touched(&path, CLOSED_QUIET), closed);
        assert_eq!(followed.due(), Some(closed + CLOSED_QUIET));
        assert_eq!(followed.read_due(closed + CLOSED_QUIET, plain), [path]);
        assert_eq!((followed.due(), followed.followed.len()), (None, 1));
    }

    #[test]
    fn sweeps_reach_each_of_thousands_of_files() {
        let dir = tempfile::tempdir().expect("a directory");
        for number in 0..SWEPT + 10 {
            fs::write(dir.path().join(format!("{number:05}.toml")), "one").expect("written");
        }
        let mut followed = FollowedDirectory::default();
        followed.set(Some(dir.path()));
        assert_eq!(followed.read_all(plain).len(), SWEPT + 10);
        let last = dir.path().join(format!("{:05}.toml", SWEPT + 9));
        fs::write(&last, "two, at last").expect("written");
        let now = Instant::now();
        // Two sweeps reach all files, and each file must be reached twice.
        (0..4).for_each(|_| followed.sweep(now));
        assert_eq!(followed.read_due(now, plain), [last]);
    }

    #[test]
    fn a_file_keeps_its_last_good_state_until_it_is_gone() {
        fn strict(text: &str, path: &Path) -> Result<String, Problems> {
            match text {
                "bad" => Err(Problems(vec![Problem {
                    path: path.to_owned(),
                    line: Some(1),
                    message: "bad".to_owned(),
                }])),
                _ => Ok(text.to_owned()),
            }
        }
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.toml");
        let mut followed = FollowedDirectory::default();
        followed.set(Some(dir.path()));
        let state = |followed: &FollowedDirectory<String>| {
            let file = followed.files().values().next()?;
            Some((file.good.as_ref()?.0.to_string(), file.refused.is_some()))
        };
        for (content, said) in [
            ("one", ("one", false)),
            ("bad!", ("bad!", false)),
            ("bad", ("bad!", true)),
        ] {
            fs::write(&path, content).expect("written");
            assert_eq!(
                followed.read_all(strict),
                std::slice::from_ref(&path),
                "{content}"
            );
            assert_eq!(state(&followed), Some((said.0.to_owned(), said.1)));
        }
        fs::write(dir.path().join(".hidden.toml"), "x").expect("written");
        fs::write(dir.path().join("a.toml~"), "x").expect("written");
        assert!(followed.read_all(strict).is_empty(), "not ours");
        fs::remove_file(&path).expect("removed");
        assert_eq!(followed.read_all(strict), [path]);
        assert!(followed.files().is_empty());
    }

    /// Reading a file that says `hang` ends when this is unlocked.
    static HANGING: Mutex<()> = Mutex::new(());

    fn hanging(text: &str, _: &Path) -> Result<String, Problems> {
        if text == "hang" {
            drop(HANGING.lock());
        }
        Ok(text.to_owned())
    }

    #[test]
    fn a_file_that_does_not_answer_delays_no_other_and_blocks_one_thread() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        let mut followed = FollowedDirectory::default();
        followed.set(Some(dir.path()));
        followed.deadline = Duration::from_secs(1);
        fs::write(path("kept.toml"), "one").expect("written");
        assert_eq!(followed.read_all(hanging).len(), 1);
        let closed = HANGING.lock().expect("not poisoned");
        for (name, text) in [
            ("kept.toml", "hang"),
            ("new.toml", "hang"),
            ("other.toml", "two"),
        ] {
            fs::write(path(name), text).expect("written");
        }
        assert_eq!(followed.read_all(hanging).len(), 3);
        let state = |followed: &FollowedDirectory<String>, name: &str| {
            let file = &followed.files()[&path(name)];
            let refused = file
                .refused
                .as_ref()
                .map(|(problems, _)| problems.to_string());
            (
                file.good.as_ref().map(|(text, _)| text.to_string()),
                refused,
            )
        };
        assert_eq!(
            state(&followed, "other.toml"),
            (Some("two".to_owned()), None)
        );
        let (good, refused) = state(&followed, "kept.toml");
        assert_eq!(good.as_deref(), Some("one"), "its last good state");
        assert!(!refused.expect("a problem").contains("not in force"));
        let (good, refused) = state(&followed, "new.toml");
        let refused = refused.expect("a problem");
        assert!(
            good.is_none() && refused.contains("it is read when the file system answers"),
            "{refused}"
        );
        // They are not tried again while the threads wait; the others are.
        assert_eq!(followed.blocked.len(), 2);
        fs::write(path("other.toml"), "three").expect("written");
        assert_eq!(followed.read_all(hanging), [path("other.toml")]);
        let now = Instant::now();
        followed.sweep(now);
        followed.sweep(now);
        assert!(followed.read_due(now, hanging).is_empty(), "nothing is new");
        drop(closed);
        while followed.blocked.len() > 0 {
            std::thread::yield_now();
        }
        assert_eq!(followed.read_all(hanging).len(), 2);
        assert_eq!(
            state(&followed, "new.toml"),
            (Some("hang".to_owned()), None)
        );
    }

    #[test]
    fn a_blocked_directory_is_not_listed_again_until_it_answers() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut followed = FollowedDirectory::default();
        followed.set(Some(dir.path()));
        fs::write(dir.path().join("a.toml"), "one").expect("written");
        assert_eq!(followed.read_all(plain).len(), 1);
        let waiting = followed.blocked.wait(dir.path());
        followed.blocked.mark_blocked(dir.path());
        fs::write(dir.path().join("b.toml"), "two").expect("written");
        assert!(followed.read_all(plain).is_empty());
        let problem = followed.problem("files").expect("an alarm");
        assert!(
            problem.contains("no answer from the file system"),
            "{problem}"
        );
        assert_eq!(followed.files().len(), 1, "what was read stays");
        drop(waiting);
        assert_eq!(followed.read_all(plain).len(), 1);
        assert_eq!(followed.problem("files"), None);
    }

    #[test]
    fn paths_that_other_threads_read_at_the_same_time_are_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("a.toml");
        fs::write(&file, "a").expect("written");
        let mut followed = FollowedDirectory::default();
        followed.set(Some(dir.path()));
        let others = [dir.path(), &file].map(|path| followed.blocked.wait(path));
        assert_eq!(followed.read_all(plain), [file]);
        drop(others);
        assert_eq!(followed.blocked.len(), 0);
    }
}
