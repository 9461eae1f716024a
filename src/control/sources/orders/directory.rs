//! Owns a directory of files that people edit while it is followed: each file's last good state, and why a newer one is not taken.
//! Refuses to take a file while somebody writes it, and to know what the files say.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use jiff::Timestamp;
use tokio::time::Instant;

use super::blocked_paths::PendingReads;
use crate::config::Problems;
use crate::config::shown::Show;
use crate::control::sources::deadline;
use crate::control::sources::deadline::{DEADLINE, Unanswered};
use crate::control::sources::orders::file::{
    Content, FileState, Looked, Parse, look, refused, state_of,
};
use crate::control::sources::watch::{Touched, is_toml};

/// Files that one sweep looks at: looking at thousands takes longer than a date may wait.
const SWEPT: usize = 1000;
/// When to read a file again that changed while it was read.
pub(crate) const RETRY: Duration = Duration::from_millis(100);

/// The files of a directory whose names end in `.toml` and don't start with a dot.
#[derive(Debug)]
pub(super) struct Folder<T> {
    /// As it is configured, and as the watch tells it: absolute.
    pub(super) dir: Option<(PathBuf, PathBuf)>,
    pub(super) files: BTreeMap<PathBuf, TrackedFile<T>>,
    /// Why it can't be listed.
    pub(super) problem: Option<String>,
    /// Files that are to be read, and when: their writers may not be done.
    due: HashMap<PathBuf, Instant>,
    /// Up to which file the last sweep came; nothing when it came to the end.
    swept: Option<PathBuf>,
    /// Paths that threads are waiting for, those left behind by a deadline included.
    asked: PendingReads,
    /// How long to wait for one file, or for the directory.
    patience: Duration,
}

/// One file.
#[derive(Debug)]
pub(super) struct TrackedFile<T> {
    /// What it says: its last good state, and the text that this was read from.
    pub(super) good: Option<(Arc<T>, Arc<str>)>,
    /// What is wrong with its newest state, and since when that is known.
    pub(super) refused: Option<(Arc<Problems>, Timestamp)>,
    /// The state that was read or refused last; none before the first time.
    seen: Option<FileState>,
    /// The state that the last sweep found, if that was a new one.
    last_sweep: Option<FileState>,
    /// The good state is that before the start: the file was not read since.
    pub(super) is_recalled: bool,
}

impl<T> Clone for TrackedFile<T> {
    fn clone(&self) -> Self {
        Self {
            good: self.good.clone(),
            refused: self.refused.clone(),
            seen: self.seen,
            last_sweep: self.last_sweep,
            is_recalled: self.is_recalled,
        }
    }
}

impl<T> Default for TrackedFile<T> {
    fn default() -> Self {
        Self {
            good: None,
            refused: None,
            seen: None,
            last_sweep: None,
            is_recalled: false,
        }
    }
}

/// Cheap: what files say is shared.
impl<T> Clone for Folder<T> {
    fn clone(&self) -> Self {
        Self {
            dir: self.dir.clone(),
            files: self.files.clone(),
            problem: self.problem.clone(),
            due: self.due.clone(),
            swept: self.swept.clone(),
            asked: self.asked.clone(),
            patience: self.patience,
        }
    }
}

impl<T> Default for Folder<T> {
    fn default() -> Self {
        Self {
            dir: None,
            files: BTreeMap::new(),
            problem: None,
            due: HashMap::new(),
            swept: None,
            asked: PendingReads::default(),
            patience: DEADLINE,
        }
    }
}

impl<T> Folder<T> {
    /// Its directory from now on, if it is another one; then nothing is known of its files.
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

    /// Takes a file's text that lies elsewhere: in the program, or in the journal.
    pub(super) fn embed(&mut self, path: &Path, text: &str, parse: Parse<T>) {
        let mut sheet = TrackedFile::default();
        match parse(text, path) {
            Ok(value) => sheet.good = Some((Arc::new(value), text.into())),
            Err(problems) => sheet.refused = Some((Arc::new(problems), Timestamp::now())),
        }
        self.files.insert(path.to_owned(), sheet);
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

    /// Why the directory can't be listed, and what is in force of its files, which are `what`.
    pub(super) fn problem(&self, what: &str) -> Option<String> {
        let problem = self.problem.as_ref()?;
        let is_known = self.files.values().any(|sheet| sheet.good.is_some());
        let in_force = match is_known {
            true => format!("what is known of its {what} stays"),
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
        known.is_some_and(|path| self.due.contains_key(&path))
    }

    /// When a file is to be read.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.values().min().copied()
    }

    fn listed(&mut self, listed: io::Result<Vec<PathBuf>>) -> Option<Vec<PathBuf>> {
        let (dir, _) = self.dir.as_ref()?;
        match listed {
            Ok(found) => {
                self.problem = None;
                Some(found)
            }
            Err(error) => {
                let told = format!("{}: cannot be listed: {error}", dir.shown());
                if self.problem.as_ref() != Some(&told) {
                    tracing::error!(problem = told, "directory refused");
                }
                self.problem = Some(told);
                None
            }
        }
    }

    /// Takes what reading a file returned. Returns whether something else is known now.
    fn take(&mut self, path: &Path, read: Looked<T>, now: Instant) -> bool {
        let parsed = match read.content {
            Content::Changing => {
                self.due.insert(path.to_owned(), now + RETRY);
                return false;
            }
            // Unless the whole directory is.
            Content::Gone { listed } => return listed && self.remove(path),
            Content::Parsed(parsed) => parsed,
        };
        let sheet = self.files.entry(path.to_owned()).or_default();
        sheet.seen = read.state;
        sheet.last_sweep = None;
        match parsed {
            Ok(good) => {
                let same = sheet.good.as_ref().is_some_and(|(_, text)| *text == good.1);
                let was_refused = sheet.refused.take().is_some();
                sheet.is_recalled = false;
                sheet.good = Some(good);
                !same || was_refused
            }
            Err(problems) => {
                let before = sheet.refused.as_ref();
                if before.is_some_and(|(before, _)| **before == problems) {
                    return false;
                }
                tracing::error!(%problems, kept = sheet.good.is_some(), "file refused");
                sheet.refused = Some((Arc::new(problems), Timestamp::now()));
                true
            }
        }
    }

    /// A file is gone, and with it what it said.
    fn remove(&mut self, path: &Path) -> bool {
        let gone = self.files.remove(path);
        gone.is_some_and(|sheet| sheet.good.is_some() || sheet.refused.is_some())
    }
}

impl<T: Send + Sync + 'static> Folder<T> {
    /// Something happened: a file of it is to be read once it is quiet, all if it was the directory.
    pub(super) fn touch(&mut self, touched: &Touched, now: Instant) {
        let Some((dir, absolute)) = self.dir.clone() else {
            return;
        };
        let at = now + touched.quiet;
        let file = touched.path.file_name();
        if touched.path.parent() == Some(&*absolute)
            && let Some(path) = file.map(|file| dir.join(file))
            && is_toml(&path)
        {
            self.due.insert(path, at);
        } else if touched.path == absolute {
            let names = self.list().unwrap_or_default();
            let known = self.files.keys().cloned();
            for path in known.chain(names) {
                self.due.entry(path).or_insert(at);
            }
        }
    }

    /// Reads the files whose time has come. Returns those of which something else is known now.
    pub(super) fn read_due(&mut self, now: Instant, parse: Parse<T>) -> Vec<PathBuf> {
        let due: Vec<_> = self.due.extract_if(|_, at| *at <= now).collect();
        let paths = due.into_iter().map(|(path, _)| path).collect();
        let read = self.ask(paths, move |path| Some(look(path, parse)));
        self.take_all(read, now)
    }

    /// Reads all files that are there, whoever writes them: at the start, or when asked to. Returns
    /// those of which something else is known now.
    pub(super) fn read_all(&mut self, parse: Parse<T>) -> Vec<PathBuf> {
        let Some(found) = self.list() else {
            return Vec::new();
        };
        let gone = self
            .files
            .keys()
            .filter(|path| found.binary_search(path).is_err());
        let paths: Vec<_> = gone.cloned().collect();
        let seen = self.files.iter();
        let seen: HashMap<_, _> = seen
            .map(|(path, sheet)| (path.clone(), sheet.seen))
            .collect();
        let paths = paths.into_iter().chain(found).collect();
        let read = self.ask(paths, move |path| {
            let seen = seen.get(path).copied().flatten();
            let same = seen.is_some_and(|seen| seen == state_of(path));
            (!same).then(|| look(path, parse))
        });
        self.take_all(read, Instant::now())
    }

    /// Looks for changes that nobody told: a new state is read when two looks found the same one.
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
        let paths: Vec<_> = files.map(|(path, _)| path.clone()).collect();
        if paths.len() == SWEPT {
            self.swept = paths.last().cloned();
        }
        let paths = paths.into_iter();
        let paths = paths.filter(|path| !self.due.contains_key(path)).collect();
        for (path, state) in self.ask(paths, state_of) {
            let Some(sheet) = self.files.get_mut(&path) else {
                continue;
            };
            match state {
                Ok(state) if sheet.seen == Some(state) => sheet.last_sweep = None,
                Ok(state) if sheet.last_sweep.replace(state) != Some(state) => {}
                // One that does not answer is reported when it is read.
                Ok(_) | Err(_) => _ = self.due.insert(path, now),
            }
        }
    }

    /// Does the same for files, each with a deadline. Those that hang are not tried.
    fn ask<O: Send + 'static>(
        &self,
        paths: Vec<PathBuf>,
        work: impl Fn(&Path) -> O + Send + Sync + 'static,
    ) -> Answers<O> {
        let (hung, free): (Vec<_>, Vec<_>) =
            paths.into_iter().partition(|path| self.asked.hangs(path));
        let folder = |path: &PathBuf| path.parent().map(Path::to_owned).unwrap_or_default();
        let asked = self.asked.clone();
        let answers = deadline::each(self.patience, free.clone(), folder, move |path| {
            let _waiting = asked.wait(path);
            work(path)
        });
        for (path, answer) in free.iter().zip(&answers) {
            if matches!(answer, Err(Unanswered::Late)) {
                self.asked.leave_behind(path);
            }
        }
        let hung = hung.into_iter().map(|path| (path, Err(Unanswered::Late)));
        free.into_iter().zip(answers).chain(hung).collect()
    }

    /// Takes what was read of files; `None` where nothing changed. Returns those of which something else
    /// is known now.
    fn take_all(&mut self, all: Answers<Option<Looked<T>>>, now: Instant) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        for (path, read) in all {
            let read = match read {
                Ok(Some(read)) => read,
                Ok(None) => continue,
                Err(why) => self.unanswered(&path, why),
            };
            if self.take(&path, read, now) {
                changed.push(path);
            }
        }
        changed
    }

    /// Why a file is not read.
    fn unanswered(&self, path: &Path, why: Unanswered) -> Looked<T> {
        let known = self.files.get(path);
        let message = match known.is_some_and(|sheet| sheet.good.is_some()) {
            true => why.to_string(),
            false => unanswered(why),
        };
        let content = refused(path, message);
        Looked {
            state: None,
            content,
        }
    }

    /// What lies in the directory; nothing if it can't be told.
    fn list(&mut self) -> Option<Vec<PathBuf>> {
        let (dir, _) = self.dir.clone()?;
        let listed = match self.asked.hangs(&dir) {
            true => Err(Unanswered::Late),
            false => {
                let (waiting, listing) = (self.asked.wait(&dir), dir.clone());
                let listed = deadline::start(self.patience, move || {
                    let _waiting = waiting;
                    list(&listing)
                });
                listed.wait()
            }
        };
        if matches!(listed, Err(Unanswered::Late)) {
            self.asked.leave_behind(&dir);
        }
        let listed = listed.unwrap_or_else(|why| Err(io::Error::other(why)));
        self.listed(listed)
    }

    /// Reads all files at the start. Returns whether the file system answered each time before the
    /// deadline: what it did not answer for is a problem, and not in force.
    pub(super) fn read_at_start(&mut self, parse: Parse<T>, deadline: Duration) -> bool {
        let Some((dir, _)) = self.dir.clone() else {
            return true;
        };
        let listing = dir.clone();
        let listed = deadline::start(deadline, move || list(&listing)).wait();
        let found = match listed.map(|listed| self.listed(listed)) {
            Ok(Some(found)) => found,
            Ok(None) => return true,
            Err(why) => {
                let problem = format!("{}: {}", dir.shown(), unanswered(why));
                tracing::error!(problem, "directory refused");
                self.problem = Some(problem);
                return false;
            }
        };
        let folder = move |_: &PathBuf| dir.clone();
        let read = deadline::each(deadline, found.clone(), folder, move |path| {
            look(path, parse)
        });
        let (now, mut all) = (Instant::now(), true);
        for (path, read) in found.into_iter().zip(read) {
            let read = read.unwrap_or_else(|why| {
                all = false;
                self.unanswered(&path, why)
            });
            // Nothing is known of a file that is gone.
            if !matches!(read.content, Content::Gone { .. }) {
                self.take(&path, read, now);
            }
        }
        all
    }
}

/// Why something is not in force yet.
fn unanswered(why: Unanswered) -> String {
    format!("{why}; it is read when it answers")
}

/// What was done with files.
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

    fn plain(text: &str, _: &Path) -> Result<String, Problems> {
        Ok(text.to_owned())
    }

    #[test]
    fn links_to_nothing_are_left_alone_and_what_is_no_file_is_told() {
        let dir = tempfile::tempdir().expect("a folder");
        symlink("missing", dir.path().join("a.toml")).expect("linked");
        let mut folder = Folder::default();
        folder.set(Some(dir.path()));
        assert!(folder.read_all(plain).is_empty());
        let now = Instant::now();
        folder.sweep(now);
        folder.sweep(now);
        assert!(folder.read_due(now, plain).is_empty(), "nothing changed");
        fs::create_dir(dir.path().join("b.toml")).expect("made");
        // Reading a pipe would wait for its writer.
        let pipe = dir.path().join("c.toml");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.expect("mkfifo runs").success());
        assert_eq!(folder.read_all(plain), [dir.path().join("b.toml"), pipe]);
        let sheets = folder.files().values();
        let refused = sheets.filter_map(|sheet| sheet.refused.as_ref());
        let told: Vec<_> = refused.map(|(problems, _)| problems.to_string()).collect();
        assert_eq!(told.len(), 2);
        assert!(
            told.iter()
                .all(|told| told.contains(".toml: is not a regular file")),
            "{told:?}"
        );
    }

    #[test]
    fn a_file_that_can_not_be_looked_at_is_reported_once_until_something_changes() {
        let dir = tempfile::tempdir().expect("a folder");
        let (looped, below) = (dir.path().join("loop.toml"), dir.path().join("below.toml"));
        symlink("loop.toml", &looped).expect("linked");
        fs::write(dir.path().join("file"), "").expect("written");
        symlink("file/below", &below).expect("linked");
        let mut folder = Folder::default();
        folder.set(Some(dir.path()));
        assert_eq!(folder.read_all(plain), [below.clone(), looped.clone()]);
        let now = Instant::now();
        for _ in 0..6 {
            folder.sweep(now);
            assert_eq!(folder.read_due(now, plain), [""; 0].map(PathBuf::from));
        }
        assert!(folder.read_all(plain).is_empty(), "a reload, too");
        // The reason is another one.
        fs::remove_file(&looped).expect("removed");
        symlink("file/other", &looped).expect("linked");
        folder.sweep(now);
        folder.sweep(now);
        assert_eq!(folder.read_due(now, plain), std::slice::from_ref(&looped));
        fs::remove_file(&looped).expect("removed");
        fs::write(&looped, "good").expect("written");
        folder.sweep(now);
        folder.sweep(now);
        assert_eq!(folder.read_due(now, plain), [looped]);
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
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.toml");
        let mut folder = Folder::default();
        folder.set(Some(dir.path()));
        fs::write(&path, "bad").expect("written");
        assert_eq!(folder.read_all(strict), std::slice::from_ref(&path));
        let since = folder.files()[&path].refused.clone();
        fs::write(&path, "bad again").expect("written");
        assert!(folder.read_all(strict).is_empty());
        assert_eq!(folder.files()[&path].refused, since, "and since then");
        assert_eq!(
            folder.read_all(plain),
            [""; 0].map(PathBuf::from),
            "read already"
        );
        fs::write(&path, "good at last").expect("written");
        assert_eq!(folder.read_all(plain), [path]);
    }

    #[test]
    fn sweeps_come_to_every_file_of_thousands() {
        let dir = tempfile::tempdir().expect("a folder");
        for number in 0..SWEPT + 10 {
            fs::write(dir.path().join(format!("{number:05}.toml")), "one").expect("written");
        }
        let mut folder = Folder::default();
        folder.set(Some(dir.path()));
        assert_eq!(folder.read_all(plain).len(), SWEPT + 10);
        let last = dir.path().join(format!("{:05}.toml", SWEPT + 9));
        fs::write(&last, "two, at last").expect("written");
        let now = Instant::now();
        // Two parts, twice.
        (0..4).for_each(|_| folder.sweep(now));
        assert_eq!(folder.read_due(now, plain), [last]);
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
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.toml");
        let mut folder = Folder::default();
        folder.set(Some(dir.path()));
        let says = |folder: &Folder<String>| {
            let sheet = folder.files().values().next()?;
            Some((sheet.good.as_ref()?.0.to_string(), sheet.refused.is_some()))
        };
        for (content, said) in [
            ("one", ("one", false)),
            ("bad!", ("bad!", false)),
            ("bad", ("bad!", true)),
        ] {
            fs::write(&path, content).expect("written");
            assert_eq!(
                folder.read_all(strict),
                std::slice::from_ref(&path),
                "{content}"
            );
            assert_eq!(says(&folder), Some((said.0.to_owned(), said.1)));
        }
        fs::write(dir.path().join(".hidden.toml"), "x").expect("written");
        fs::write(dir.path().join("a.toml~"), "x").expect("written");
        assert!(folder.read_all(strict).is_empty(), "not ours");
        fs::remove_file(&path).expect("removed");
        assert_eq!(folder.read_all(strict), [path]);
        assert!(folder.files().is_empty());
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
    fn a_file_that_does_not_answer_holds_up_no_other_and_leaves_one_thread_behind() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name);
        let mut folder = Folder::default();
        folder.set(Some(dir.path()));
        folder.patience = Duration::from_secs(1);
        fs::write(path("kept.toml"), "one").expect("written");
        assert_eq!(folder.read_all(hanging).len(), 1);
        let closed = HANGING.lock().expect("whole");
        for (name, text) in [
            ("kept.toml", "hang"),
            ("new.toml", "hang"),
            ("other.toml", "two"),
        ] {
            fs::write(path(name), text).expect("written");
        }
        assert_eq!(folder.read_all(hanging).len(), 3);
        let told = |folder: &Folder<String>, name: &str| {
            let sheet = &folder.files()[&path(name)];
            let refused = sheet
                .refused
                .as_ref()
                .map(|(problems, _)| problems.to_string());
            (
                sheet.good.as_ref().map(|(text, _)| text.to_string()),
                refused,
            )
        };
        assert_eq!(told(&folder, "other.toml"), (Some("two".to_owned()), None));
        let (good, refused) = told(&folder, "kept.toml");
        assert_eq!(good.as_deref(), Some("one"), "its last good state");
        assert!(!refused.expect("a problem").contains("not in force"));
        let (good, refused) = told(&folder, "new.toml");
        let refused = refused.expect("a problem");
        assert!(
            good.is_none() && refused.contains("it is read when it answers"),
            "{refused}"
        );
        // They are not tried again while the threads wait; the others are.
        assert_eq!(folder.asked.len(), 2);
        fs::write(path("other.toml"), "three").expect("written");
        assert_eq!(folder.read_all(hanging), [path("other.toml")]);
        let now = Instant::now();
        folder.sweep(now);
        folder.sweep(now);
        assert!(folder.read_due(now, hanging).is_empty(), "nothing is new");
        drop(closed);
        while folder.asked.len() > 0 {
            std::thread::yield_now();
        }
        assert_eq!(folder.read_all(hanging).len(), 2);
        assert_eq!(told(&folder, "new.toml"), (Some("hang".to_owned()), None));
    }

    #[test]
    fn a_directory_that_is_not_listed_is_not_asked_again_until_it_answers() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut folder = Folder::default();
        folder.set(Some(dir.path()));
        fs::write(dir.path().join("a.toml"), "one").expect("written");
        assert_eq!(folder.read_all(plain).len(), 1);
        let waiting = folder.asked.wait(dir.path());
        folder.asked.leave_behind(dir.path());
        fs::write(dir.path().join("b.toml"), "two").expect("written");
        assert!(folder.read_all(plain).is_empty());
        let problem = folder.problem("files").expect("an alarm");
        assert!(
            problem.contains("no answer from the file system"),
            "{problem}"
        );
        assert_eq!(folder.files().len(), 1, "what was read stays");
        drop(waiting);
        assert_eq!(folder.read_all(plain).len(), 1);
        assert_eq!(folder.problem("files"), None);
    }

    #[test]
    fn what_others_read_at_the_same_time_is_read_all_the_same() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("a.toml");
        fs::write(&file, "a").expect("written");
        let mut folder = Folder::default();
        folder.set(Some(dir.path()));
        let others = [dir.path(), &file].map(|path| folder.asked.wait(path));
        assert_eq!(folder.read_all(plain), [file]);
        drop(others);
        assert_eq!(folder.asked.len(), 0);
    }
}
